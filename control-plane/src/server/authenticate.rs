//! Who a sidecar is: proved before anything that it says is read.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use certs::{TokenError, TokenVerifier};
use model::name::Label;
use model::spiffe::{SpiffeId, SpiffeIdError, TrustDomain};
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::Peer;
use crate::cluster::tokens::{ReviewError, TokenReviews};
use crate::registry::Lease;

/// How often a failure of one address is logged.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// How many addresses are remembered for that.
const MOST_ADDRESSES: usize = 4096;

/// Tells who is at the other end of a stream.
pub struct Authenticator {
    tokens: Tokens,
    trust_domain: TrustDomain,
    logged: Mutex<HashMap<IpAddr, Instant>>,
}

/// Whose tokens are believed.
pub enum Tokens {
    /// Join tokens that this control plane signed.
    Join(TokenVerifier),
    /// Tokens of service accounts that an API server reviews.
    Reviewed(TokenReviews),
}

/// Who a sidecar proved to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proved {
    /// The identity.
    pub(super) identity: SpiffeId,
    /// Its namespace.
    pub(super) namespace: Label,
}

/// Why nobody is believed to be at the other end.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("neither a client certificate nor a token (authorization: Bearer TOKEN) was sent")]
    Nothing,
    #[error("the authorization is no Bearer token")]
    Scheme,
    #[error("the join token is not accepted: {0}")]
    Token(#[from] TokenError),
    #[error("{0}")]
    Review(#[from] ReviewError),
    #[error("the token names nobody of this mesh: {0}")]
    Account(#[from] SpiffeIdError),
    #[error("the identity {0} names no namespace and service account of {1}")]
    Foreign(SpiffeId, TrustDomain),
}

impl Authenticator {
    /// Believes these tokens, and certificates that the TLS handshake checked.
    pub fn new(tokens: Tokens, trust_domain: TrustDomain) -> Self {
        Self { tokens, trust_domain, logged: Mutex::default() }
    }

    /// The identity of a new stream: that of the client certificate, else that of the token.
    pub(super) async fn identify(
        &self,
        peer: &Peer,
        metadata: &MetadataMap,
    ) -> Result<Proved, Status> {
        self.prove(peer, metadata).await.map_err(|refused| self.refuse(peer, &refused))
    }

    /// Whether who has proved an identity may have another certificate for it.
    pub(super) async fn may_renew(&self, proved: &Proved, peer: &Peer) -> Result<(), Status> {
        let confirmed = self.confirm(&proved.identity, peer).await;
        confirmed.map_err(|refused| self.refuse(peer, &refused))
    }

    fn refuse(&self, peer: &Peer, refused: &Refused) -> Status {
        if self.is_news(peer.address.ip()) {
            tracing::warn!(peer = %peer.address, reason = %refused, "a sidecar is not let in");
        }
        match refused {
            Refused::Review(ReviewError::Unavailable(_)) => {
                Status::unavailable(refused.to_string())
            }
            _ => Status::unauthenticated(refused.to_string()),
        }
    }

    /// In a cluster the pod must be there still that a certificate was signed for.
    async fn confirm(&self, identity: &SpiffeId, peer: &Peer) -> Result<(), Refused> {
        match &self.tokens {
            Tokens::Join(_) => Ok(()),
            Tokens::Reviewed(reviews) => {
                Ok(reviews.confirm(identity, peer.address.ip().to_canonical()).await?)
            }
        }
    }

    async fn prove(&self, peer: &Peer, metadata: &MetadataMap) -> Result<Proved, Refused> {
        let identity = match &peer.identity {
            Some(identity) => {
                self.confirm(identity, peer).await?;
                identity.clone()
            }
            None => self.token_identity(peer, metadata).await?,
        };
        let foreign = || Refused::Foreign(identity.clone(), self.trust_domain.clone());
        if identity.trust_domain() != &self.trust_domain || identity.service_account().is_none() {
            return Err(foreign());
        }
        let namespace = identity.namespace().and_then(|namespace| namespace.parse().ok());
        Ok(Proved { namespace: namespace.ok_or_else(foreign)?, identity })
    }

    async fn token_identity(
        &self,
        peer: &Peer,
        metadata: &MetadataMap,
    ) -> Result<SpiffeId, Refused> {
        let header = metadata.get("authorization").ok_or(Refused::Nothing)?;
        let text = header.to_str().map_err(|_| Refused::Scheme)?;
        let (scheme, token) = text.split_once(' ').ok_or(Refused::Scheme)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Refused::Scheme);
        }
        let account = match &self.tokens {
            Tokens::Join(verifier) => verifier.verify(token.trim(), SystemTime::now())?,
            Tokens::Reviewed(reviews) => {
                let address = peer.address.ip().to_canonical();
                reviews.verify(token.trim(), address).await?
            }
        };
        Ok(account.spiffe_id(&self.trust_domain)?)
    }

    /// Whether a workload may register where it says that it is: at the address that it comes from, or
    /// it could change what another one lets in. In a cluster objects say who serves. On loopback
    /// anybody can have any address, and may have to come from another.
    pub(super) fn may_register(&self, lease: &Lease, peer: &Peer) -> Result<(), Status> {
        let from = peer.address.ip().to_canonical();
        let denied = |why: String| Err(Status::permission_denied(format!("registration: {why}")));
        match self.tokens {
            Tokens::Reviewed(_) => denied("Kubernetes says who serves; none is taken here".into()),
            Tokens::Join(_) if lease.address == from || lease.address.is_loopback() => Ok(()),
            Tokens::Join(_) => {
                denied(format!("of {}, but the connection comes from {from}", lease.address))
            }
        }
    }

    /// Whether this address was not heard of for a while: a sidecar with a bad token tries again
    /// and again, and fills no log with it.
    fn is_news(&self, address: IpAddr) -> bool {
        let now = Instant::now();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() >= MOST_ADDRESSES {
            logged.retain(|_, at| now.duration_since(*at) < LOG_EVERY);
        }
        let known = logged.get(&address).is_some_and(|at| now.duration_since(*at) < LOG_EVERY);
        if !known && logged.len() < MOST_ADDRESSES {
            logged.insert(address, now);
        }
        !known
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("trust_domain", &self.trust_domain)
            .finish_non_exhaustive()
    }
}
