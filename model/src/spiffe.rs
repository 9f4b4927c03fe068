//! SPIFFE identities as types that cannot hold an invalid value (SPIFFE-ID §2).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::name::Label;

/// The longest SPIFFE ID in bytes; a longer one is neither read nor made (SPIFFE-ID §2.3).
pub const MAX_ID: usize = 2048;

/// The longest trust domain name in bytes (SPIFFE-ID §2.3).
pub const MAX_TRUST_DOMAIN: usize = 255;

/// The scheme and what follows it (SPIFFE-ID §2).
const SCHEME: &str = "spiffe://";

/// A SPIFFE ID: the name of one workload, `spiffe://TRUST-DOMAIN/PATH`.
///
/// Scheme and trust domain are held in lower case, for they compare without regard to case; the
/// path is held and compared exactly (SPIFFE-ID §2.3).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    text: Arc<str>,
    trust_domain: TrustDomain,
}

/// A trust domain's name: 1 to 255 of `[a-z0-9.-_]` (SPIFFE-ID §2.1), held in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Arc<str>);

/// Why a text is no [`SpiffeId`]: the rule of SPIFFE-ID §2 that it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// It is longer than [`MAX_ID`].
    #[error("the SPIFFE ID is {0} bytes long, more than 2048")]
    TooLong(usize),
    /// It does not begin with `spiffe://`.
    #[error("the SPIFFE ID does not begin with spiffe://")]
    Scheme,
    /// It has a percent sign, so a percent-encoded character.
    #[error("the SPIFFE ID has a percent sign; percent-encoding is not allowed")]
    Percent,
    /// It has a query.
    #[error("the SPIFFE ID has a query (?)")]
    Query,
    /// It has a fragment.
    #[error("the SPIFFE ID has a fragment (#)")]
    Fragment,
    /// The trust domain is not right.
    #[error(transparent)]
    TrustDomain(#[from] TrustDomainError),
    /// There is no path, or it is only `/`: that names a trust domain, not a workload.
    #[error("the SPIFFE ID has no path, so it names no workload")]
    NoPath,
    /// The path ends with `/`.
    #[error("the path of the SPIFFE ID ends with '/'")]
    TrailingSlash,
    /// A segment of the path is empty.
    #[error("the path of the SPIFFE ID has an empty segment")]
    EmptySegment,
    /// A segment of the path is `.` or `..`.
    #[error("the path of the SPIFFE ID has a segment '.' or '..'")]
    DotSegment,
    /// The path has a character that is not one of `[a-zA-Z0-9.-_]`.
    #[error(
        "the path of the SPIFFE ID has {0:?}; only a-z, A-Z, 0-9, '.', '-' and '_' may be there"
    )]
    PathChar(char),
}

/// Why a text is no [`TrustDomain`]: the rule of SPIFFE-ID §2.1 that it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustDomainError {
    /// There is nothing.
    #[error("the trust domain is empty")]
    Empty,
    /// It is longer than [`MAX_TRUST_DOMAIN`].
    #[error("the trust domain is {0} bytes long, more than 255")]
    TooLong(usize),
    /// There is user information before it (`user@`).
    #[error("the trust domain has user information (@) before it")]
    UserInfo,
    /// There is a port after it.
    #[error("the trust domain has a port (:) after it")]
    Port,
    /// It has a character that is not one of `[a-z0-9.-_]`.
    #[error("the trust domain has {0:?}; only a-z, 0-9, '.', '-' and '_' may be there")]
    Char(char),
}

impl SpiffeId {
    /// The identity of a Kubernetes service account, `spiffe://TD/ns/NS/sa/SA`.
    pub fn workload(
        trust_domain: &TrustDomain,
        namespace: &Label,
        service_account: &str,
    ) -> Result<Self, SpiffeIdError> {
        check_segment(service_account)?;
        Self::assemble(trust_domain.clone(), &format!("/ns/{namespace}/sa/{service_account}"))
    }

    /// The identity of the mesh's own control plane, `spiffe://TD/ns/pillion/sa/control-plane`.
    pub fn control_plane(trust_domain: &TrustDomain) -> Self {
        let text = format!("{SCHEME}{trust_domain}/ns/pillion/sa/control-plane");
        Self { text: text.into(), trust_domain: trust_domain.clone() }
    }

    /// The whole ID, `spiffe://...`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain that vouches for it.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path with its leading `/`.
    pub fn path(&self) -> &str {
        &self.text[SCHEME.len() + self.trust_domain.0.len()..]
    }

    /// The namespace, where the path is `/ns/NS/sa/SA`.
    pub fn namespace(&self) -> Option<&str> {
        self.kubernetes().map(|(namespace, _)| namespace)
    }

    /// The service account, where the path is `/ns/NS/sa/SA`.
    pub fn service_account(&self) -> Option<&str> {
        self.kubernetes().map(|(_, account)| account)
    }

    fn kubernetes(&self) -> Option<(&str, &str)> {
        let (namespace, account) = self.path().strip_prefix("/ns/")?.split_once("/sa/")?;
        (!namespace.contains('/') && !account.contains('/')).then_some((namespace, account))
    }

    /// Joins a trust domain and a path whose segments are checked.
    fn assemble(trust_domain: TrustDomain, path: &str) -> Result<Self, SpiffeIdError> {
        let text = format!("{SCHEME}{trust_domain}{path}");
        if text.len() > MAX_ID {
            return Err(SpiffeIdError::TooLong(text.len()));
        }
        Ok(Self { text: text.into(), trust_domain })
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        if text.len() > MAX_ID {
            return Err(SpiffeIdError::TooLong(text.len()));
        }
        let rest = match text.split_at_checked(SCHEME.len()) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => rest,
            _ => return Err(SpiffeIdError::Scheme),
        };
        check_uri(rest)?;
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let trust_domain = domain.parse()?;
        check_path(path)?;
        Self::assemble(trust_domain, path)
    }
}

/// Refuses the parts of a URI that a SPIFFE ID never has (SPIFFE-ID §2), each by its name.
fn check_uri(rest: &str) -> Result<(), SpiffeIdError> {
    match rest.find(['%', '?', '#']).map(|at| rest.as_bytes()[at]) {
        Some(b'%') => Err(SpiffeIdError::Percent),
        Some(b'?') => Err(SpiffeIdError::Query),
        Some(_) => Err(SpiffeIdError::Fragment),
        None => Ok(()),
    }
}

fn check_path(path: &str) -> Result<(), SpiffeIdError> {
    let segments = match path.strip_prefix('/') {
        None | Some("") => return Err(SpiffeIdError::NoPath),
        Some(segments) => segments,
    };
    if segments.ends_with('/') {
        return Err(SpiffeIdError::TrailingSlash);
    }
    segments.split('/').try_for_each(check_segment)
}

fn check_segment(segment: &str) -> Result<(), SpiffeIdError> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match segment {
        "" => Err(SpiffeIdError::EmptySegment),
        "." | ".." => Err(SpiffeIdError::DotSegment),
        _ => match segment.chars().find(|c| !good(*c)) {
            Some(bad) => Err(SpiffeIdError::PathChar(bad)),
            None => Ok(()),
        },
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = SpiffeIdError;

    fn try_from(text: String) -> Result<Self, SpiffeIdError> {
        text.parse()
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> Self {
        id.text.as_ref().into()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl TrustDomain {
    /// The name alone, as in `example.org`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ID of the trust domain itself, `spiffe://example.org`: what a signing certificate
    /// carries (X509-SVID §3.2). It names no workload, so it is no [`SpiffeId`].
    pub fn uri(&self) -> String {
        format!("{SCHEME}{self}")
    }
}

impl FromStr for TrustDomain {
    type Err = TrustDomainError;

    fn from_str(text: &str) -> Result<Self, TrustDomainError> {
        if text.is_empty() {
            return Err(TrustDomainError::Empty);
        }
        if text.len() > MAX_TRUST_DOMAIN {
            return Err(TrustDomainError::TooLong(text.len()));
        }
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        match text.chars().find(|c| !good(*c)) {
            None => Ok(Self(text.to_ascii_lowercase().into())),
            Some('@') => Err(TrustDomainError::UserInfo),
            Some(':') => Err(colon_error(text)),
            Some(bad) => Err(TrustDomainError::Char(bad)),
        }
    }
}

/// Tells `user:password@host` from `host:port`.
fn colon_error(text: &str) -> TrustDomainError {
    if text.contains('@') { TrustDomainError::UserInfo } else { TrustDomainError::Port }
}

impl TryFrom<String> for TrustDomain {
    type Error = TrustDomainError;

    fn try_from(text: String) -> Result<Self, TrustDomainError> {
        text.parse()
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> Self {
        domain.0.as_ref().into()
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SpiffeId {
        text.parse().unwrap()
    }

    #[test]
    fn good_ids_are_kept_as_they_are() {
        for good in [
            "spiffe://example.org/a",
            "spiffe://example.org/ns/shop/sa/api",
            "spiffe://e_x-a.1/A/b.c/_-/...",
            &format!("spiffe://{}/x", "d".repeat(255)),
            &format!("spiffe://td/{}", "p".repeat(MAX_ID - 12)),
        ] {
            assert_eq!(id(good).as_str(), good);
        }
    }

    #[test]
    fn scheme_and_trust_domain_compare_without_case_and_the_path_exactly() {
        assert_eq!(id("SPIFFE://Example.ORG/ns/A"), id("spiffe://example.org/ns/A"));
        assert_ne!(id("spiffe://example.org/ns/A"), id("spiffe://example.org/ns/a"));
    }

    #[test]
    fn each_broken_rule_is_named() {
        use SpiffeIdError::*;
        use TrustDomainError as Td;
        let longest = format!("spiffe://td/{}", "p".repeat(MAX_ID - 11));
        let domain = format!("spiffe://{}/x", "d".repeat(256));
        for (bad, rule) in [
            ("", Scheme),
            ("spiffe:/td/a", Scheme),
            ("https://td/a", Scheme),
            ("spiffe", Scheme),
            ("spiffé://td/a", Scheme),
            (" spiffe://td/a", Scheme),
            ("spiffe://td", NoPath),
            ("spiffe://td/", NoPath),
            ("spiffe:///a", TrustDomain(Td::Empty)),
            ("spiffe://", TrustDomain(Td::Empty)),
            ("spiffe://td/a/", TrailingSlash),
            ("spiffe://td//a", EmptySegment),
            ("spiffe://td/a//b", EmptySegment),
            ("spiffe://td//", TrailingSlash),
            ("spiffe://td/./a", DotSegment),
            ("spiffe://td/a/..", DotSegment),
            ("spiffe://td/a%2fb", Percent),
            ("spiffe://t%64/a", Percent),
            ("spiffe://user@td/a", TrustDomain(Td::UserInfo)),
            ("spiffe://user:secret@td/a", TrustDomain(Td::UserInfo)),
            ("spiffe://td:443/a", TrustDomain(Td::Port)),
            ("spiffe://td/a?b=c", Query),
            ("spiffe://td?b", Query),
            ("spiffe://td/a#b", Fragment),
            ("spiffe://[::1]/a", TrustDomain(Td::Char('['))),
            ("spiffe://t*d/a", TrustDomain(Td::Char('*'))),
            ("spiffe://tdä/a", TrustDomain(Td::Char('ä'))),
            ("spiffe://td/a\0", PathChar('\0')),
            ("spiffe://td/a\r\nb", PathChar('\r')),
            ("spiffe://td/a;b", PathChar(';')),
            ("spiffe://td/a,b", PathChar(',')),
            ("spiffe://td/*", PathChar('*')),
            ("spiffe://td/a:b", PathChar(':')),
            ("spiffe://td/a b", PathChar(' ')),
            ("spiffe://td/ä", PathChar('ä')),
            (&longest, TooLong(MAX_ID + 1)),
            (&domain, TrustDomain(Td::TooLong(256))),
        ] {
            assert_eq!(bad.parse::<SpiffeId>(), Err(rule), "{bad:?}");
        }
    }

    #[test]
    fn a_workload_is_named_by_namespace_and_service_account() {
        let domain: TrustDomain = "Cluster.local".parse().unwrap();
        let made = SpiffeId::workload(&domain, &"shop".parse().unwrap(), "api.v1").unwrap();
        assert_eq!(made, id("spiffe://cluster.local/ns/shop/sa/api.v1"));
        assert_eq!(made.trust_domain(), &domain);
        assert_eq!(made.path(), "/ns/shop/sa/api.v1");
        assert_eq!((made.namespace(), made.service_account()), (Some("shop"), Some("api.v1")));
    }

    #[test]
    fn a_service_account_cannot_break_out_of_its_segment() {
        let domain: TrustDomain = "td".parse().unwrap();
        let make = |account: &str| SpiffeId::workload(&domain, &"shop".parse().unwrap(), account);
        assert_eq!(make(""), Err(SpiffeIdError::EmptySegment));
        assert_eq!(make(".."), Err(SpiffeIdError::DotSegment));
        assert_eq!(make("a/b"), Err(SpiffeIdError::PathChar('/')));
        assert_eq!(make("a%2fb"), Err(SpiffeIdError::PathChar('%')));
        assert_eq!(make(&"x".repeat(3000)), Err(SpiffeIdError::TooLong(3023)));
    }

    #[test]
    fn only_the_kubernetes_form_has_a_namespace() {
        for other in [
            "spiffe://td/shop/api",
            "spiffe://td/ns/shop",
            "spiffe://td/ns/shop/sa/api/more",
            "spiffe://td/ns/a/b/sa/api",
            "spiffe://td/x/ns/shop/sa/api",
        ] {
            assert_eq!((id(other).namespace(), id(other).service_account()), (None, None));
        }
    }

    #[test]
    fn the_control_plane_has_an_id_of_its_own() {
        let longest: TrustDomain = "d".repeat(MAX_TRUST_DOMAIN).parse().unwrap();
        for domain in ["cluster.local".parse().unwrap(), longest] {
            let control = SpiffeId::control_plane(&domain);
            assert_eq!(control.as_str().parse(), Ok(control.clone()));
            assert_eq!(control.namespace(), Some("pillion"));
            assert_eq!(control.service_account(), Some("control-plane"));
        }
    }

    #[test]
    fn a_trust_domain_is_a_plain_name() {
        let domain: TrustDomain = "Example.org".parse().unwrap();
        assert_eq!(
            (domain.as_str(), domain.uri().as_str()),
            ("example.org", "spiffe://example.org")
        );
        use TrustDomainError::*;
        for (bad, rule) in [
            ("", Empty),
            ("a/b", Char('/')),
            ("a b", Char(' ')),
            ("a:1", Port),
            ("u@a", UserInfo),
            (&"x".repeat(256), TooLong(256)),
        ] {
            assert_eq!(bad.parse::<TrustDomain>(), Err(rule), "{bad:?}");
        }
    }

    #[test]
    fn ids_of_one_trust_domain_sort_together() {
        let mut ids = [id("spiffe://b/a"), id("spiffe://a/z"), id("spiffe://a/b")];
        ids.sort();
        assert_eq!(ids.map(|i| i.to_string()), ["spiffe://a/b", "spiffe://a/z", "spiffe://b/a"]);
    }
}
