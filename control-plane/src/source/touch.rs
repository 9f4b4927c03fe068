//! When a file that is being changed has come to rest.
//!
//! A file may be replaced by rename, or truncated and written anew, in one write or in several,
//! slowly. It is read when its writer has closed it, or, where nobody can tell, after a silence;
//! and a file that has lost objects is given longer, for that is how half a file looks.

use std::time::{Duration, Instant};

use super::listing::Stamp;

/// After the last of several changes in quick succession.
const SETTLE: Duration = Duration::from_millis(40);

/// Where the file system tells nothing of writers.
const SILENCE: Duration = Duration::from_millis(300);

/// After a write, when the writer does not close the file.
const OPEN: Duration = Duration::from_millis(600);

/// For a file that is gone, empty, or has lost objects.
const LOSS: Duration = Duration::from_millis(550);

/// What the file system told of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touch {
    /// It was written to; more may come.
    Written,
    /// Its writer has closed it, or it has been put there as a whole.
    Closed,
}

/// A file that differs from what was read of it, and may still be changing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unrest {
    /// The file as it was looked at last, if it was; the inner `None` is a file that is not there.
    stamp: Option<Option<Stamp>>,
    last: Instant,
    told: Option<Touch>,
}

impl Unrest {
    /// A file that was touched, or found changed, just now.
    pub(crate) fn new(now: Instant) -> Self {
        Self { stamp: None, last: now, told: None }
    }

    /// The file system told something of the file.
    pub(crate) fn touch(&mut self, touch: Touch, now: Instant) {
        *self = Self { stamp: None, last: now, told: Some(touch) };
    }

    /// The file was looked at. A change that the file system did not tell of begins the wait anew.
    pub(crate) fn seen(&mut self, stamp: Option<Stamp>, now: Instant) {
        let before = self.stamp.replace(stamp);
        if before.is_some_and(|before| before != stamp) {
            self.last = now;
        }
    }

    /// When the file may be read.
    pub(crate) fn readable_at(&self) -> Instant {
        self.last
            + match self.told {
                Some(Touch::Closed) => SETTLE,
                Some(Touch::Written) => OPEN,
                None => SILENCE,
            }
    }

    /// When the file is believed although objects are missing from it.
    pub(crate) fn believed_at(&self) -> Instant {
        self.last + LOSS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_file_settles_quickly_and_a_silent_one_slowly() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut unrest = Unrest::new(start);
        assert_eq!(unrest.readable_at(), at(300));
        unrest.touch(Touch::Closed, at(10));
        assert_eq!(unrest.readable_at(), at(50));
        unrest.touch(Touch::Written, at(20));
        assert_eq!(unrest.readable_at(), at(620));
        assert_eq!(unrest.believed_at(), at(570));
    }
}
