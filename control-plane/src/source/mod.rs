//! Where objects come from: a directory of the documents that one would give to `kubectl apply`, or
//! the API server that they were given to.

pub mod directory;
pub mod document;
pub mod kubernetes;
mod listing;
mod touch;
pub mod watch;

use std::sync::Arc;

use crate::object::{Entry, Key};
use crate::problem::Problem;

/// One change of the objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An object is new, or has changed.
    Upsert(Arc<Entry>),
    /// An object is gone.
    Delete(Key),
    /// Everything that was there at the start has been told: from now on, what was not told of
    /// is not there.
    Synced,
}

/// What one reading of the source found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// What changed, in order. All of a batch belongs together.
    pub events: Vec<Event>,
    /// All problems there are now.
    pub problems: Vec<Problem>,
}
