//! How old an object is: of two that contradict each other, the older one counts.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// When an object was created, as it says itself. Sorts the oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Age {
    /// `metadata.creationTimestamp`, in seconds since the epoch.
    Since(i64),
    /// It says nothing.
    Unknown,
}

impl Age {
    /// The age of an object with this creationTimestamp.
    pub(crate) fn of(written: Option<Time>) -> Self {
        written.map_or(Self::Unknown, |time| Self::Since(time.0.as_second()))
    }
}
