//! One sidecar: carries its workload's traffic in and out of the mesh.
//!
//! A request's way out: [`accept`] takes the connection, [`outbound::serve`] tells the protocol,
//! [`outbound::http::handle`] finds the route, [`outbound::attempt`] picks an endpoint and tries
//! again where that is safe, [`upstream`] holds the connections. Its way in: [`accept`],
//! [`inbound::serve`] (mutual TLS), [`inbound::http::handle`], [`upstream`] to the application.
//! [`sync`] keeps the Table and the certificate up to date, on a thread of its own.

pub mod accept;
pub mod admin;
pub mod allocator;
pub mod args;
pub mod body;
mod both_ways;
pub mod carried;
mod client_hello;
pub mod config;
mod descriptors;
pub mod drain;
pub mod edge;
pub mod error;
pub mod exchange;
mod farewell;
mod fill;
mod gather;
pub mod headers;
mod http1;
pub mod http2;
mod idle;
pub mod inbound;
mod layer;
pub mod memory;
pub mod mesh;
pub mod opaque;
mod original;
mod out;
pub mod outbound;
pub mod placed;
pub mod proof;
mod rarely;
pub mod received;
pub mod relay;
pub mod replay;
pub mod run;
pub mod server;
mod shown;
pub mod sniff;
mod soon;
pub mod streams;
mod switch;
pub mod sync;
pub mod target;
pub mod telemetry;
mod tls;
pub mod tunnel;
pub mod upgrade;
pub mod upload;
pub mod upstream;
pub mod worker;
