//! The harness of the end-to-end tests: real binaries on loopback addresses, test applications
//! and a load in the test's own process, and a receiver for what the mesh reports. What needs
//! redirected connections, and programs that know nothing of proxies, lives in a [`house`]: a
//! network namespace for each pod.
//!
//! A test starts a [`mesh::Mesh`], puts [`mesh::Pod`]s into it and sends requests through their
//! sidecars. Everything ends with the values that stand for it, also when a test panics: then the
//! processes' logs are printed. Nothing sleeps to assert: [`poll::until`] asks again until it
//! holds or a deadline has passed.

// A harness fails by panicking: that is what fails the test that uses it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::missing_panics_doc
)]

pub mod apiserver;
pub mod app;
pub mod bins;
pub mod body;
pub mod cgroup;
pub mod client;
pub mod cluster;
pub mod envoy;
pub mod frames;
pub mod grpc;
pub mod hole;
pub mod house;
mod kept;
pub mod link;
pub mod load;
pub mod mesh;
pub mod metrics;
pub mod net;
pub mod otlp;
pub mod pod;
pub mod poll;
pub mod process;
pub mod promql;
pub mod streams;
pub mod svid;
pub mod talk;
pub mod tools;
pub mod yaml;

#[cfg(test)]
mod selftest;
