//! The end-to-end tests: a file a topic, every name a sentence.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod apiserver;
mod bounds;
mod check_cluster;
mod dashboards;
mod demo;
mod drain;
mod faults;
mod flask;
mod grpc;
mod grpc_route;
mod hbone;
mod house;
mod http;
mod http_edges;
mod http_wrong;
mod inbound_policy;
mod injected;
mod invariants;
mod kubernetes;
mod kubernetes_rights;
mod kubernetes_writes;
mod machine;
mod manifests;
mod memory;
mod mtls;
mod peers;
mod promtool;
mod protocol_http1;
mod protocol_http2;
mod protocol_keepalive;
mod protocol_large;
mod protocol_tcp;
mod protocol_websocket;
mod push;
mod redirected;
mod resilience;
mod rolling;
mod roots;
mod rotation;
mod routes;
mod shop;
mod source;
mod tcp;
mod trace;
mod wrong_input;
mod wrong_objects;
