//! Where the newest identity stands, for all who open or accept connections.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::identity::Identity;

/// The newest [`Identity`] of this process: one task writes it, all others read it without a
/// lock. Connections that are open keep what they began with.
#[derive(Debug, Default)]
pub struct IdentityStore(ArcSwapOption<Identity>);

impl IdentityStore {
    /// A store with nothing in it yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The newest identity; `None` before the first one was issued.
    pub fn current(&self) -> Option<Arc<Identity>> {
        self.0.load_full()
    }

    /// Puts a newer identity in place and gives back the one that was there.
    pub fn swap(&self, identity: Arc<Identity>) -> Option<Arc<Identity>> {
        self.0.swap(Some(identity))
    }
}
