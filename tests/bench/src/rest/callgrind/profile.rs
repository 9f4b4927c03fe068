//! What callgrind writes ("Callgrind Format Specification" of valgrind's manual), as far as it is of
//! use here: costs and calls by function.

use std::collections::HashMap;

use anyhow::{Context, ensure};

/// What was executed between two points, by function.
#[derive(Debug, Default)]
pub(crate) struct Profile {
    /// Instructions, of all functions.
    pub(crate) instructions: u64,
    /// By name, as the linker knows it.
    pub(crate) functions: HashMap<String, Function>,
}

/// One function's part.
#[derive(Debug, Default)]
pub(crate) struct Function {
    /// Instructions of its own, without what it calls.
    pub(crate) own: u64,
    /// What each caller has asked of it.
    pub(crate) callers: HashMap<String, Calls>,
}

/// One function's calls of another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    /// How many.
    pub(crate) count: u64,
    /// Instructions, with all that was called in turn.
    pub(crate) instructions: u64,
}

impl Profile {
    /// Reads a dump.
    ///
    /// # Errors
    /// When it is none, or its parts are not its sum.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut reader = Reader::default();
        for line in text.lines() {
            reader.line(line).with_context(|| format!("callgrind's line {line:?}"))?;
        }
        let profile = reader.profile;
        let sum: u64 = profile.functions.values().map(|function| function.own).sum();
        let total = profile.instructions;
        ensure!(sum == total, "callgrind says {total} instructions and lists {sum}");
        Ok(profile)
    }

    /// How often functions of these names were called.
    pub(crate) fn calls(&self, names: &[&str]) -> u64 {
        let functions = names.iter().filter_map(|name| self.functions.get(*name));
        functions.map(Function::calls).sum()
    }
}

impl Function {
    /// How often it was called.
    pub(crate) fn calls(&self) -> u64 {
        self.callers.values().map(|calls| calls.count).sum()
    }
}

#[derive(Default)]
struct Reader {
    profile: Profile,
    /// Names are written once, and then by their number.
    names: HashMap<String, String>,
    current: String,
    callee: String,
    /// The next line of costs is a callee's, and not the function's own.
    of_callee: bool,
}

impl Reader {
    fn line(&mut self, line: &str) -> anyhow::Result<()> {
        if let Some(name) = line.strip_prefix("fn=") {
            self.current = self.name(name)?;
        } else if let Some(name) = line.strip_prefix("cfn=") {
            self.callee = self.name(name)?;
        } else if let Some(calls) = line.strip_prefix("calls=") {
            self.call(first_number(calls)?);
        } else if let Some(total) = line.strip_prefix("totals:") {
            self.profile.instructions = total.trim().parse()?;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            self.cost(line)?;
        }
        Ok(())
    }

    fn call(&mut self, calls: u64) {
        let callee = self.profile.functions.entry(self.callee.clone()).or_default();
        callee.callers.entry(self.current.clone()).or_default().count += calls;
        self.of_callee = true;
    }

    /// A position, and the instructions there.
    fn cost(&mut self, line: &str) -> anyhow::Result<()> {
        let (_, cost) = line.split_once(' ').context("no cost")?;
        let of_callee = std::mem::take(&mut self.of_callee);
        let name = if of_callee { &self.callee } else { &self.current };
        let function = self.profile.functions.entry(name.clone()).or_default();
        let sum = if of_callee {
            &mut function.callers.entry(self.current.clone()).or_default().instructions
        } else {
            &mut function.own
        };
        *sum += first_number(cost)?;
        Ok(())
    }

    /// `(NUMBER) NAME` the first time, then `(NUMBER)`. A function that calls itself has a name with
    /// `'2` at the end for its inner calls, which are no function of their own here.
    fn name(&mut self, text: &str) -> anyhow::Result<String> {
        let (number, name) = text.split_once(')').context("a name has a number")?;
        if !name.is_empty() {
            let name = name.trim().trim_end_matches("'2").to_owned();
            self.names.insert(number.to_owned(), name);
        }
        self.names.get(number).cloned().context("a number without a name")
    }
}

fn first_number(text: &str) -> anyhow::Result<u64> {
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "\
# callgrind format
version: 1
positions: line
events: Ir
summary: 120

ob=(1) /bin/program
fl=(1) ???
fn=(1) main
0 10
cob=(2) /lib/libc.so
cfn=(2) malloc
calls=3 0
0 60
cfn=(3) walk
calls=1 0
* 50

fn=(2)
0 60

fn=(3)
+3 20
cfn=(4) walk'2
calls=2 0
0 30

fn=(4)
0 30

totals: 120
";

    #[test]
    fn a_functions_own_cost_is_told_from_its_callees() {
        let profile = Profile::parse(DUMP).unwrap();
        assert_eq!(profile.instructions, 120);
        let own = |name: &str| profile.functions[name].own;
        assert_eq!((own("main"), own("malloc"), own("walk")), (10, 60, 50));
        assert_eq!(profile.calls(&["malloc", "calloc"]), 3);
        let walk = &profile.functions["walk"].callers;
        assert_eq!(walk["main"], Calls { count: 1, instructions: 50 });
        assert_eq!(walk["walk"], Calls { count: 2, instructions: 30 });
    }

    #[test]
    fn a_dump_that_does_not_add_up_is_refused() {
        assert!(Profile::parse(&DUMP.replace("totals: 120", "totals: 121")).is_err());
    }
}
