//! What a failed handshake means for whoever wanted the connection.

use std::fmt;
use std::io;

use model::spiffe::SpiffeId;
use rustls::CertificateError;
use rustls::pki_types::UnixTime;

use crate::clock;
use crate::verify::VerifyError;

/// Why a handshake failed, as an operator tells failures apart. Its text says the details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// The server proved an identity, but not the expected one.
    IdentityMismatch {
        /// Whom we wanted.
        expected: SpiffeId,
        /// Who is there.
        found: SpiffeId,
    },
    /// A certificate that the peer shows has expired, or is not valid yet.
    Expired(String),
    /// The peer's certificates are not right, or not signed by a root that we believe.
    Untrusted(String),
    /// Anything else: the peer refused us, spoke no TLS 1.3, or the connection broke.
    Other(String),
}

/// Tells what kind of failure an error of a handshake is.
///
/// `error` is what tokio-rustls, or reading from a rustls stream, gives.
pub fn classify(error: &io::Error) -> HandshakeFailure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(inner) => inner.into(),
        None => HandshakeFailure::Other(error.to_string()),
    }
}

impl From<&rustls::Error> for HandshakeFailure {
    fn from(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(reason) => certificate(reason),
            rustls::Error::NoCertificatesPresented => {
                Self::Untrusted("the peer shows no certificate".into())
            }
            rustls::Error::AlertReceived(alert) => {
                Self::Other(format!("the peer refused the handshake: {alert:?}"))
            }
            other => Self::Other(other.to_string()),
        }
    }
}

fn certificate(reason: &CertificateError) -> HandshakeFailure {
    use CertificateError as C;
    match reason {
        C::ExpiredContext { not_after, .. } => {
            HandshakeFailure::Expired(format!("a certificate expired at {}", date(*not_after)))
        }
        C::NotValidYetContext { not_before, .. } => {
            let from = date(*not_before);
            HandshakeFailure::Expired(format!("a certificate is valid only from {from}"))
        }
        C::Expired | C::NotValidYet => HandshakeFailure::Expired(reason.to_string()),
        C::UnknownIssuer => {
            HandshakeFailure::Untrusted("no trusted root signed the peer's certificates".into())
        }
        C::BadSignature => HandshakeFailure::Untrusted("a signature is not by its key".into()),
        C::Other(other) => match other.0.downcast_ref() {
            Some(VerifyError::IdentityMismatch { expected, found }) => {
                let (expected, found) = (expected.clone(), found.clone());
                HandshakeFailure::IdentityMismatch { expected, found }
            }
            _ => HandshakeFailure::Untrusted(other.to_string()),
        },
        _ => HandshakeFailure::Untrusted(reason.to_string()),
    }
}

fn date(time: UnixTime) -> String {
    clock::show(clock::system(time.as_secs()))
}

impl fmt::Display for HandshakeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IdentityMismatch { expected, found } => {
                write!(f, "the peer is {found}, not {expected}")
            }
            Self::Expired(reason) | Self::Untrusted(reason) | Self::Other(reason) => {
                f.write_str(reason)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(error: rustls::Error) -> String {
        classify(&io::Error::other(error)).to_string()
    }

    #[test]
    fn a_failure_says_what_is_wrong_in_words() {
        let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let (time, end) = (at(1_700_000_001), at(1_700_000_000));
        let expired = CertificateError::ExpiredContext { time, not_after: end };
        assert_eq!(text(expired.into()), "a certificate expired at 2023-11-14T22:13:20Z");
        let early = CertificateError::NotValidYetContext { time: end, not_before: time };
        assert_eq!(text(early.into()), "a certificate is valid only from 2023-11-14T22:13:21Z");
        let (expected, found) =
            ("spiffe://td/a".parse().unwrap(), "spiffe://td/b".parse().unwrap());
        let mismatch = VerifyError::IdentityMismatch { expected, found };
        assert_eq!(text(mismatch.into()), "the peer is spiffe://td/b, not spiffe://td/a");
        let bundle = VerifyError::NoBundle("td".parse().unwrap());
        assert_eq!(text(bundle.into()), "there is no trust bundle for the peer's trust domain td");
    }

    #[test]
    fn an_error_that_is_not_of_tls_is_another() {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(classify(&reset), HandshakeFailure::Other(reset.to_string()));
        let eof = io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof");
        assert_eq!(classify(&eof), HandshakeFailure::Other("tls handshake eof".into()));
    }
}
