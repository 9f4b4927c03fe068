//! The mesh's vocabulary and every decision it takes, pure: no IO, no clock, no runtime.
//!
//! Time comes in as `now: Instant`, randomness as an rng argument, deadlines go out as values.
//! A test of the dependency tree holds this: neither tokio, hyper nor tonic is below this crate.

pub mod balance;
pub mod budget;
pub mod code;
pub mod duration;
pub mod endpoint;
pub mod grpc;
pub mod headers;
pub mod host;
pub mod inbound;
pub mod load;
pub mod name;
pub mod outlier;
pub mod owner;
pub mod retry;
pub mod route;
pub mod service;
pub mod spiffe;
pub mod table;
