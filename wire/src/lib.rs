//! The push protocol between the control plane and a sidecar: the generated types, and their
//! conversions to and from the mesh's vocabulary.
//!
//! One file per noun, `encode` mirroring `decode`. Decoding parses everything into types that
//! cannot hold a bad value; what is bad is named by its field ([`DecodeError`]), and that text is
//! what a sidecar refuses a resource with (NACK). Fields and enum values that this version does
//! not know are ignored where that is safe, so that neighbouring versions work together.

mod error;
pub mod inbound;
pub mod owner;
pub mod resource;
pub mod routes;
pub mod service;

pub use error::{DecodeError, Fault};
pub use resource::{Body, Encoded, Key, Kind, Resource};

/// The generated types and the gRPC service of `proto/mesh.proto`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, rust_2018_idioms, clippy::all)]
#[allow(clippy::use_self, clippy::or_fun_call, clippy::semicolon_if_nothing_returned)]
pub mod proto {
    tonic::include_proto!("pillion.mesh.v1");
}
