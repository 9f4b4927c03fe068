//! The gRPC service of the tests: the generated client and server.

#![allow(missing_docs, unreachable_pub, unused_qualifications, rust_2018_idioms, clippy::all)]
#![allow(clippy::use_self, clippy::or_fun_call, clippy::semicolon_if_nothing_returned)]

tonic::include_proto!("pillion.test.v1");
