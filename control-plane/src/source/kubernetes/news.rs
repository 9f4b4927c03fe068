//! What the tasks that follow kinds tell.

use super::read::{Id, Read};
use crate::object::Known;

/// What is told of one kind.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) kind: Known,
    pub(super) news: News,
}

/// News of one kind.
#[derive(Debug)]
pub(super) enum News {
    /// These are all objects that there are.
    All(Vec<Read>),
    /// An object is new or has changed.
    Changed(Read),
    /// An object is gone.
    Gone(Id),
    /// The server has no such kind.
    Absent,
    /// It cannot be read now.
    Failed(String),
    /// It can be read again.
    Recovered,
}
