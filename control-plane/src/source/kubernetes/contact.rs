//! When the API server was last heard of, for each kind.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::object::Known;

/// The last sign, for each kind, that what is known of it is what the API server has.
#[derive(Debug)]
pub struct Contacts {
    last: Mutex<BTreeMap<&'static str, Instant>>,
}

impl Default for Contacts {
    /// Nothing was heard yet, as of now.
    fn default() -> Self {
        let now = Instant::now();
        let last = Known::ALL.into_iter().map(|kind| (kind.as_str(), now)).collect();
        Self { last: Mutex::new(last) }
    }
}

impl Contacts {
    /// A kind was heard of just now.
    pub(super) fn heard(&self, kind: Known) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.insert(kind.as_str(), Instant::now());
    }

    /// How old what is known of each kind may be.
    pub fn staleness(&self) -> Vec<(&'static str, Duration)> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().map(|(kind, at)| (*kind, at.elapsed())).collect()
    }
}
