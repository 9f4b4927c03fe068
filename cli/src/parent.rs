//! Processes that end with the one that started them, however that one ends.

use std::io;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// Why a process that was to end with its parent cannot run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParentError {
    /// The kernel did not accept it.
    #[error("cannot ask the kernel to end this process with its parent: {0}")]
    Kernel(#[from] io::Error),
    /// It would never end: its parent has ended before it could ask.
    #[error("the parent process {0} has ended already")]
    Gone(u32),
}

/// Asks the kernel to end this process when `parent` ends, even by SIGKILL.
///
/// The kernel means the *thread* that started this process: it must live as long as the parent.
///
/// # Errors
/// When that cannot be, or `parent` is no longer this process's parent.
pub(crate) fn die_with(parent: u32) -> Result<(), ParentError> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)?;
    // Asked after the signal is set: a parent that ended before is seen here.
    let now = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if now == Some(parent) { Ok(()) } else { Err(ParentError::Gone(parent)) }
}
