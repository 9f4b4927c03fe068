//! Small things around a connection: whom it reached, and the name to open it with.

use std::net::{IpAddr, Ipv4Addr};
use std::time::SystemTime;

use model::spiffe::SpiffeId;
use rustls::pki_types::{CertificateDer, ServerName};

use crate::clock;
use crate::svid;

/// Who is at the other end, from the certificates of a finished handshake (leaf first).
///
/// Only for a handshake that one of our verifiers has passed: nothing is checked here again.
/// `None` if there is no certificate.
pub fn peer_identity(certificates: &[CertificateDer<'_>]) -> Option<SpiffeId> {
    svid::id_of(certificates.first()?).ok()
}

/// When the certificate of whoever is at the other end runs out, under the same conditions.
pub fn peer_not_after(certificates: &[CertificateDer<'_>]) -> Option<SystemTime> {
    let leaf = svid::parse(certificates.first()?).ok()?;
    Some(clock::from_asn1(leaf.validity().not_after))
}

/// The server name to give to rustls, which wants one: peers are known by their identity, so
/// the name is neither sent (no SNI) nor checked.
pub fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into())
}
