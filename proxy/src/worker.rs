//! One worker, as everything that serves on its thread sees it.

use std::sync::Arc;

use crate::mesh::Mesh;
use crate::upstream::Pool;

/// What everything that serves needs: the shared state, and its own worker's connections.
#[derive(Debug, Clone)]
pub struct Worker {
    /// Shared by all.
    pub mesh: Arc<Mesh>,
    /// This worker's connections.
    pub pool: Pool,
}
