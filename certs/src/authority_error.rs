//! What can be wrong with the authority, or with a request to it.

use std::path::PathBuf;
use std::time::SystemTime;

use model::spiffe::{SpiffeId, TrustDomain};

use crate::bundle::BundleError;
use crate::clock::show;
use crate::csr::CsrError;
use crate::failure::HandshakeFailure;
use crate::identity::IdentityError;
use crate::key::KeyError;
use crate::state::StateError;

/// Why the authority cannot be opened. The text names the file that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read, written or understood.
    #[error(transparent)]
    State(#[from] StateError),
    /// The keys and certificates of a new authority cannot be made.
    #[error("cannot make a new authority: {0}")]
    Make(#[from] rcgen::Error),
    /// A certificate cannot be used.
    #[error("{}: {reason}", path.display())]
    Certificate {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A key and a certificate do not belong together.
    #[error("{} is not the key of {}", key.display(), certificate.display())]
    KeyMismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// A certificate is of another trust domain.
    #[error("{} is of the trust domain {found}, not {expected}", path.display())]
    TrustDomain {
        /// The certificate's file.
        path: PathBuf,
        /// What stands in it.
        found: String,
        /// What the control plane is set to.
        expected: TrustDomain,
    },
    /// A certificate has expired, or is not valid yet.
    #[error(
        "{} is valid from {} to {}, and it is {}",
        path.display(), show(*not_before), show(*not_after), show(*now)
    )]
    NotValidNow {
        /// The certificate's file.
        path: PathBuf,
        /// The first second of its life.
        not_before: SystemTime,
        /// The last second of its life.
        not_after: SystemTime,
        /// The time that it was compared with.
        now: SystemTime,
    },
    /// The trust bundle is no list of roots.
    #[error("{}: {source}", path.display())]
    Bundle {
        /// The bundle's file.
        path: PathBuf,
        /// What is wrong with it.
        source: BundleError,
    },
    /// The trust bundle lacks our own root.
    #[error("{} does not hold the root of {}", bundle.display(), root.display())]
    RootNotInBundle {
        /// The bundle's file.
        bundle: PathBuf,
        /// The root's file.
        root: PathBuf,
    },
    /// What the issuer signs is not accepted by the root.
    #[error("{} is not signed by {}, or may not sign leaves: {reason}", issuer.display(), root.display())]
    Chain {
        /// The issuer's file.
        issuer: PathBuf,
        /// The root's file.
        root: PathBuf,
        /// Why a certificate made for trial was refused.
        reason: HandshakeFailure,
    },
    /// The issuer signs nothing.
    #[error("a certificate for trial cannot be signed: {0}")]
    Trial(#[from] SignError),
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The request is not acceptable.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// The identity is of another trust domain than the authority.
    #[error("{id} is not of the trust domain {ours}")]
    ForeignTrustDomain {
        /// The identity asked for.
        id: SpiffeId,
        /// The authority's trust domain.
        ours: TrustDomain,
    },
    /// The issuer is at its end.
    #[error("the issuer's certificate ends at {}; no more leaves can be signed", show(*.0))]
    IssuerExpired(SystemTime),
    /// No life was asked for.
    #[error("a certificate must live for at least a second")]
    NoLifetime,
    /// The certificate could not be made.
    #[error("cannot sign a certificate: {0}")]
    Sign(#[from] rcgen::Error),
    /// A key of our own could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What was signed for ourselves does not fit together.
    #[error(transparent)]
    Identity(#[from] Box<IdentityError>),
}

impl SignError {
    /// Whether it is the fault of whoever sent the request, and not ours.
    pub fn is_bad_request(&self) -> bool {
        matches!(self, Self::Csr(_))
    }
}
