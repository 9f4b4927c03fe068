//! How much memory a process holds.

use std::fmt;
use std::ops::Sub;

use anyhow::Context;

use crate::report::MIB;

/// What the kernel counts of one process (`/proc/PID/smaps_rollup`), in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Footprint {
    /// All that is in RAM, with the pages of the program and its libraries that were touched.
    pub(crate) resident: f64,
    /// What is the process's own and no file's: its heap and its stacks.
    pub(crate) anonymous: f64,
}

impl Footprint {
    /// Of the process `pid`, at this moment.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
            number.map(|kibibytes| kibibytes * 1024.0).with_context(|| format!("{name} in {path}"))
        };
        Ok(Self { resident: field("Rss:")?, anonymous: field("Anonymous:")? })
    }
}

impl Sub for Footprint {
    type Output = Self;

    fn sub(self, less: Self) -> Self {
        Self { resident: self.resident - less.resident, anonymous: self.anonymous - less.anonymous }
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (resident, anonymous) = (self.resident / MIB, self.anonymous / MIB);
        write!(f, "{resident:.1} MiB resident, {anonymous:.1} MiB anonymous")
    }
}
