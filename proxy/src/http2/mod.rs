//! HTTP/2 on a connection (RFC 9113), as its server and as its client.
//!
//! One task drives a connection ([`Connection`]): it writes what there is, and takes up what comes
//! ([`receive`]). Whoever handles a stream has handles of it ([`SendStream`], [`RecvStream`]) and
//! shares one [`state`] with that task: a head or a piece of data is put into the bytes to be
//! written at once, or waits in its stream for a window or its turn. Fields stay what they are in
//! the table that compresses them ([`hpack`]); there is no list of frames on either way.
//!
//! What the other side can make us keep or do is bounded: by windows, by [`bounds`] on what moves
//! nothing, and by what a head may have ([`fields`]).

mod bounds;
mod connection;
mod error;
mod fields;
mod frame;
mod handles;
mod hpack;
mod open;
mod receive;
mod settings;
mod state;
mod stream;
mod window;
mod writer;

pub use bounds::Carries;
pub(crate) use connection::{Connection, Watch};
pub use error::Error;
pub(crate) use fields::Protocol;
pub(crate) use frame::HEAD;
pub use frame::Reason;
pub use handles::{RecvStream, SendStream};
pub(crate) use open::{Answer, Opener, Opening};
pub(crate) use settings::Settings;

/// Which side of a connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

#[cfg(test)]
mod tests;
