//! The rules in force: real sockets in network namespaces that each test makes for itself.
//!
//! Needs root, `ip` (package iproute2) and `nft` (package nftables).

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod check;
mod inbound;
mod outbound;
mod table;
mod world;
