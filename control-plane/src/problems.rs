//! The problems there are now: each is logged once when it appears and once when it is gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use crate::problem::{Problem, Severity};

/// The problems there are now. One writes, the admin server and who makes Events read.
#[derive(Debug, Default)]
pub struct Problems {
    now: watch::Sender<Arc<Vec<Problem>>>,
}

impl Problems {
    /// The problems there are now.
    pub fn now(&self) -> Arc<Vec<Problem>> {
        Arc::clone(&self.now.borrow())
    }

    /// The problems from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Vec<Problem>>> {
        self.now.subscribe()
    }

    /// Puts these in place of those before, and logs what came and what went.
    pub(crate) fn replace(&self, problems: Vec<Problem>) {
        if **self.now.borrow() == problems {
            return;
        }
        let next = Arc::new(problems);
        let before = self.now.send_replace(Arc::clone(&next));
        missing_in(&before, &next).for_each(log);
        for problem in missing_in(&next, &before) {
            tracing::info!("repaired: {problem}");
        }
    }
}

/// Those of `of` that are not in `known`.
fn missing_in<'p>(known: &[Problem], of: &'p [Problem]) -> impl Iterator<Item = &'p Problem> {
    let known: BTreeSet<_> = known.iter().map(Problem::identity).collect();
    let news: Vec<&Problem> = of.iter().filter(|p| !known.contains(&p.identity())).collect();
    news.into_iter()
}

fn log(problem: &Problem) {
    let cause = problem.cause.as_str();
    match problem.cause.severity() {
        Severity::Error => tracing::error!(cause, "{problem}"),
        Severity::Warning => tracing::warn!(cause, "{problem}"),
        Severity::Note => tracing::info!(cause, "{problem}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::{Cause, Origin};

    fn problem(line: u32, message: &str) -> Problem {
        Problem::of_file(Cause::Syntax, Origin::of_file("a.yaml", line), message)
    }

    #[test]
    fn a_problem_whose_line_moved_is_the_same() {
        let (before, after) = ([problem(1, "x"), problem(2, "y")], [problem(7, "x")]);
        assert_eq!(missing_in(&before, &after).count(), 0);
        let gone: Vec<_> = missing_in(&after, &before).map(|p| p.message.as_str()).collect();
        assert_eq!(gone, ["y"]);
    }

    #[test]
    fn what_is_replaced_is_seen() {
        let problems = Problems::default();
        problems.replace(vec![problem(1, "x")]);
        assert_eq!(problems.now().len(), 1);
        problems.replace(Vec::new());
        assert!(problems.now().is_empty());
    }
}
