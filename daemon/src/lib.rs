//! What both long-running binaries share and what is no part of a mesh: settings from flags and
//! the environment, logs, listening sockets, signals and the admin HTTP server.

pub mod admin;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod room;
pub mod settings;
pub mod signal;
