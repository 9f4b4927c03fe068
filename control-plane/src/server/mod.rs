//! The API for sidecars: gRPC over TLS 1.3.

mod api;
mod authenticate;
mod certificates;
mod hello;
mod own;
mod session;
mod stream;

pub use api::{Connections, Peer};
pub use authenticate::{Authenticator, Tokens};
pub use certificates::Certificates;
pub use own::{OwnError, OwnIdentity};
pub use stream::Streams;

/// Waits until the process is to end.
async fn ending(shutdown: &mut tokio::sync::watch::Receiver<bool>) {
    // Without a sender there is nobody left to end it in order.
    let _ = shutdown.wait_for(|down| *down).await;
}
