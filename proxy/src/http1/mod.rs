//! HTTP/1 on a connection (RFC 9112), as its server and as its client.
//!
//! Bytes are read once: [`head`] and [`decode`] judge what they parse by the letter of the RFC, so
//! that no two readers could take them for different messages, and what is written is framed anew
//! ([`encode`]). A connection is driven by whoever serves it or waits for its answer; there is no
//! task beside it.

mod client;
mod decode;
mod encode;
mod head;
mod lines;
pub(crate) mod pipe;
mod sending;
mod server;
mod upload;

pub(crate) use client::{Answer, Connection, Dialled, Download, Failure};
pub(crate) use head::BadHead;
pub(crate) use pipe::Piped;
pub(crate) use sending::Sending;
pub(crate) use server::{OnSwitch, Switched, serve};
