//! The redirect rules of one pod's network namespace, so that an application needs no setting to
//! use its sidecar: what it sends and what is sent to it goes to the sidecar's ports.
//!
//! The kernel is spoken to directly (nf_tables over netlink): an image that holds one static
//! binary has no program to call. `settings` say what is wanted, `rules` are that as plain data,
//! `text` and `expression` write the same data for a reader and for the kernel, and only `netlink`
//! and `probe` open a socket.

pub mod args;
mod attribute;
pub mod check;
mod command;
pub mod error;
mod expression;
mod message;
mod netlink;
mod probe;
pub mod rules;
pub mod settings;
pub mod subnet;
mod table;
pub mod text;

pub use check::check;
pub use command::main;
pub use table::{install, remove};
