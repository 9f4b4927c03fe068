//! The project's own sources, as the tests of its invariants read them.

use std::fs;
use std::path::{Path, PathBuf};

use tests::bins::workspace;

/// A source file without its tests.
pub(crate) struct Source {
    /// Relative to the workspace.
    pub(crate) path: PathBuf,
    /// The lines before `#[cfg(test)] mod tests`, which is last in every file.
    pub(crate) lines: Vec<String>,
}

/// The members of the workspace that end up in a binary.
pub(crate) const MEMBERS: [&str; 9] =
    ["model", "wire", "certs", "daemon", "redirect", "injector", "control-plane", "proxy", "cli"];

/// Every Rust file of a member's `src`, but for files that hold tests only.
pub(crate) fn sources(member: &str) -> Vec<Source> {
    let mut files = Vec::new();
    collect(&workspace().join(member).join("src"), &mut files);
    files.sort();
    files.into_iter().filter(|path| !is_test_file(path)).map(|path| read(&path)).collect()
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// A module that only tests compile, or one below such a module.
fn is_test_file(path: &Path) -> bool {
    let modules = path.ancestors().take_while(|part| !part.ends_with("src"));
    modules.into_iter().any(declared_for_tests)
}

/// Whether `#[cfg(test)]` stands before the declaration of the module in this file or directory.
fn declared_for_tests(module: &Path) -> bool {
    let (Some(name), Some(dir)) =
        (module.file_stem().and_then(|stem| stem.to_str()), module.parent())
    else {
        return false;
    };
    let parents =
        [dir.join("lib.rs"), dir.join("main.rs"), dir.join("mod.rs"), dir.with_extension("rs")];
    parents.iter().filter_map(|parent| fs::read_to_string(parent).ok()).any(|text| {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let declares = |line: &str| line.ends_with(&format!("mod {name};"));
        lines.windows(2).any(|pair| pair[0] == "#[cfg(test)]" && declares(pair[1]))
    })
}

fn read(path: &Path) -> Source {
    let text = fs::read_to_string(path).unwrap();
    let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0].trim() == "#[cfg(test)]" && pair[1].trim_end().ends_with("mod tests {")
    });
    lines.truncate(tests.unwrap_or(lines.len()));
    Source { path: path.strip_prefix(workspace()).unwrap().to_owned(), lines }
}
