//! Keys, certificates and trust: who signs, who is believed, and how two sidecars prove it.
//!
//! The control plane holds an [`Authority`] and signs; a sidecar makes a [`LeafKey`], sends its
//! CSR, and turns the answer into an [`Identity`]: a value that its owner
//! replaces with each renewal. Whoever opens or accepts a connection takes its TLS configuration from
//! it, and with it every rule of SPIFFE's X509-SVID, checked after webpki's path building on both
//! sides.
//!
//! Nothing here waits, reads a clock or spawns: time comes in as an argument (TLS handshakes
//! excepted, which rustls gives its own clock), and the one thing that touches the disk is the
//! control plane's state directory.
//!
//! All cryptography is aws-lc through [`provider`], passed explicitly; no process default is
//! read or set.

mod authority;
mod authority_error;
mod bundle;
mod ca;
mod clock;
mod csr;
mod failure;
mod fingerprint;
mod identity;
mod key;
mod material;
mod peer;
mod provider;
mod renewal;
mod service_account;
mod state;
mod svid;
mod token;
mod verify;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod handshakes;

pub use authority::{Authority, BACKDATE, SignedChain};
pub use authority_error::{AuthorityError, SignError};
pub use bundle::{BundleError, Roots, TrustBundle};
pub use csr::{CsrError, MAX_CSR};
pub use failure::{HandshakeFailure, classify};
pub use fingerprint::{Fingerprint, FingerprintError};
pub use identity::{
    ClientAuth, Identity, IdentityError, bundle_client_config, pinned_client_config,
};
pub use key::{KeyError, LeafKey};
pub use peer::{peer_identity, peer_not_after, server_name};
pub use provider::provider;
pub use renewal::{Renewal, Retry};
pub use service_account::{ServiceAccount, ServiceAccountError};
pub use state::{StateError, StateFiles};
pub use svid::{Side, SvidError};
pub use token::{MAX_TOKEN, TOKEN_LEEWAY, TokenError, TokenPin, TokenSigner, TokenVerifier};
pub use verify::{ClientVerifier, MAX_CHAIN, ServerVerifier, VerifyError};
