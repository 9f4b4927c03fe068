//! The functions of the sidecar, as the linker names them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use ::tests::{process, tools};
use anyhow::ensure;
use regex::Regex;

use crate::callgrind::Profile;

/// Longest time for a list of all symbols.
const LIMIT: Duration = Duration::from_secs(60);

/// What is in the linker's names but differs between compilers, versions of crates or builds: the
/// hash of a crate in Rust's names, a version in aws-lc's, a module that link-time optimisation made.
const VARIES: [(&str, &str); 3] = [
    ("Cs[0-9a-zA-Z]+_", "Cs*_"),
    (r"aws_lc_\d+_\d+_\d+_", "aws_lc_*_"),
    (r"\.llvm\.\d+", ".llvm.*"),
];

/// Functions that ran, by patterns of their names, and the instructions of their own.
pub(super) type Ran = HashMap<String, u64>;

/// All functions of a program.
#[derive(Debug)]
pub(super) struct Symbols {
    /// By name the patterns of all that stand where it stands: of functions with the same code the
    /// compiler makes one, and callgrind names any of them.
    patterns: HashMap<String, Vec<String>>,
    /// By pattern the place among all functions, in the order of their addresses.
    places: HashMap<String, usize>,
}

impl Symbols {
    /// Reads them from the program's file.
    ///
    /// # Errors
    /// When there are none.
    pub(super) async fn of(program: &Path) -> anyhow::Result<Self> {
        let nm = tools::find("nm", "binutils");
        let args = ["--defined-only".as_ref(), program.as_os_str()];
        let output = process::run(&nm, args, &[], LIMIT).await;
        ensure!(output.code == Some(0), "nm: {}", output.stderr);
        Self::parse(&output.stdout)
    }

    fn parse(listed: &str) -> anyhow::Result<Self> {
        let mut at = BTreeMap::<_, Vec<_>>::new();
        for line in listed.lines() {
            if let [address, "t" | "T" | "w" | "W", name] = line.split(' ').collect::<Vec<_>>()[..]
            {
                at.entry(address).or_default().push(name);
            }
        }
        ensure!(!at.is_empty(), "the program has no symbols");
        let varies = VARIES
            .iter()
            .map(|(pattern, any)| Ok((Regex::new(pattern)?, *any)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let pattern = |name: &&str| {
            varies.iter().fold((*name).to_owned(), |name, (varying, any)| {
                varying.replace_all(&name, *any).into_owned()
            })
        };
        let (mut patterns, mut places) = (HashMap::new(), HashMap::new());
        for (place, names) in at.into_values().enumerate() {
            let all: Vec<_> = names.iter().map(pattern).collect();
            places.extend(all.iter().map(|name| (name.clone(), place)));
            patterns.extend(names.into_iter().map(|name| (name.to_owned(), all.clone())));
        }
        Ok(Self { patterns, places })
    }

    /// Over how many places most of these functions lie, of all but those that cannot be moved.
    pub(super) fn spread<'a>(&self, functions: impl Iterator<Item = &'a String>) -> usize {
        let mut places: Vec<_> = functions.filter_map(|name| self.places.get(name)).collect();
        places.sort();
        let most = places.len() * 8 / 10;
        places.first().zip(places.get(most)).map_or(0, |(first, last)| *last - *first)
    }

    /// Adds the functions of this program that are in `profile`.
    pub(super) fn add(&self, profile: &Profile, ran: &mut Ran) {
        for (name, function) in &profile.functions {
            for pattern in self.patterns.get(name).into_iter().flatten() {
                *ran.entry(pattern.clone()).or_default() += function.own;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callgrind::Function;

    const LISTED: &str = "\
0000000000000010 t _RNvNtCsaaVjFVWEnXt_4core3fmt5write.llvm.1234
0000000000000020 T aws_lc_0_47_0_SHA256_Init
0000000000000030 t one
0000000000000030 t same
0000000000000040 d data
                 w from_elsewhere
";

    #[test]
    fn names_are_the_same_after_another_build() {
        let cases: [(&str, &[&str]); 5] = [
            (
                "_RNvNtCsaaVjFVWEnXt_4core3fmt5write.llvm.1234",
                &["_RNvNtCs*_4core3fmt5write.llvm.*"],
            ),
            ("aws_lc_0_47_0_SHA256_Init", &["aws_lc_*_SHA256_Init"]),
            ("one", &["one", "same"]),
            ("data", &[]),
            ("from_elsewhere", &[]),
        ];
        let symbols = Symbols::parse(LISTED).unwrap();
        for (name, expected) in cases {
            let function = Function { own: 2, ..Function::default() };
            let functions = [(name.to_owned(), function)].into();
            let mut ran = Ran::new();
            symbols.add(&Profile { functions, ..Profile::default() }, &mut ran);
            let mut patterns: Vec<_> = ran.into_iter().collect();
            patterns.sort();
            let expected: Vec<_> = expected.iter().map(|name| ((*name).to_owned(), 2)).collect();
            assert_eq!(patterns, expected, "{name}");
        }
    }

    #[test]
    fn functions_that_lie_apart_are_told_from_neighbours() {
        let listed: String = (0..100).map(|place| format!("{place:016x} t f{place}\n")).collect();
        let symbols = Symbols::parse(&listed).unwrap();
        let spread = |places: &[usize]| {
            let names: Vec<_> = places.iter().map(|place| format!("f{place}")).collect();
            symbols.spread(names.iter())
        };
        assert_eq!(spread(&[7, 3, 4, 5, 6, 8, 9, 10, 11, 99]), 8, "one cannot be moved");
        assert_eq!(spread(&[0, 11, 22, 33, 44, 55, 66, 77, 88, 99]), 88);
        assert_eq!(spread(&[]), 0);
    }

    #[test]
    fn a_program_without_symbols_is_refused() {
        assert!(Symbols::parse("0000000000000040 d data\n").is_err());
    }
}
