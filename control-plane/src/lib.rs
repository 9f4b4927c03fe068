//! The control plane: objects in, snapshots and certificates out.
//!
//! [`source`] reads objects and tells of changes, [`world`] holds them, [`registry`] holds the
//! workloads that registered themselves, [`translate`] says what all of it means, [`publish`]
//! encodes what changed, and [`server`] pushes to each sidecar what it asked for; [`cluster`] is what it asks of Kubernetes. [`hub`] is
//! where they meet, and [`run`] names every room in order.

pub mod admin;
pub mod args;
pub mod check;
pub mod cluster;
pub mod crds;
pub mod hub;
pub mod metrics;
pub mod object;
pub mod problem;
pub mod problems;
pub mod publish;
pub mod registry;
pub mod run;
pub mod server;
pub mod source;
pub mod statement;
pub mod translate;
pub mod world;
