//! The names of what a benchmark makes on the machine: by them the next one finds what a killed one
//! left.

use std::path::Path;

/// What every name of ours begins with; the id of the process that made it follows.
const PREFIX: &str = "pillion-bench-";

/// What the names begin with that this process makes.
pub(super) fn of_this_process() -> String {
    format!("{PREFIX}{}-", std::process::id())
}

/// Whether a name is of a process that is no more.
pub(super) fn is_of_the_dead(name: &str) -> bool {
    let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
    maker.is_some_and(|(pid, _)| !Path::new("/proc").join(pid).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_dead_processes_are_swept() {
        assert!(!is_of_the_dead(&format!("{}x", of_this_process())));
        // No process has an id above 2^22.
        assert!(is_of_the_dead("pillion-bench-99999999-x"));
        assert!(!is_of_the_dead("pillion-bench.lock"));
        assert!(!is_of_the_dead("pillion-99999999-x"));
    }
}
