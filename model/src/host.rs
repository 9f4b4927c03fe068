//! Where a request wants to go: the one parser for `Host`, `:authority`, absolute-form targets
//! and CONNECT, and the Service that a host name stands for.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::name::{Label, ServiceName};

/// Longest host name of DNS (RFC 1035 §2.3.4), in bytes of text without the final dot.
const LONGEST_NAME: usize = 253;

/// A host with an optional port: `uri-host [ ":" port ]` (RFC 9110 §7.2), nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The port, 1 to 65535, where one is written.
    pub port: Option<u16>,
}

/// A host, by name or by address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A DNS name in lower case, without a final dot.
    Name(String),
    /// An address.
    Ip(IpAddr),
}

/// Why a text is no [`Authority`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// There is no host.
    #[error("the host is empty")]
    Empty,
    /// The host has a character that no DNS name has (spaces, commas, `@`, controls...).
    #[error("the host is no DNS name and no IP address")]
    BadHost,
    /// The brackets of an IPv6 address are not closed, or hold none.
    #[error("the brackets of the host hold no IPv6 address")]
    BadBrackets,
    /// The port is no number from 1 to 65535.
    #[error("the port is no number from 1 to 65535")]
    BadPort,
}

impl FromStr for Authority {
    type Err = AuthorityError;

    fn from_str(text: &str) -> Result<Self, AuthorityError> {
        if let Some(rest) = text.strip_prefix('[') {
            let (address, rest) = rest.split_once(']').ok_or(AuthorityError::BadBrackets)?;
            let address: Ipv6Addr = address.parse().map_err(|_| AuthorityError::BadBrackets)?;
            let port = match rest.strip_prefix(':') {
                Some(port) => Some(parse_port(port)?),
                None if rest.is_empty() => None,
                None => return Err(AuthorityError::BadBrackets),
            };
            return Ok(Self { host: Host::Ip(address.into()), port });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(parse_port(port)?)),
            None => (text, None),
        };
        Ok(Self { host: host.parse()?, port })
    }
}

fn parse_port(text: &str) -> Result<u16, AuthorityError> {
    // `u16::from_str` accepts a leading `+`; a port is digits only.
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(AuthorityError::BadPort);
    }
    text.parse().ok().filter(|port| *port != 0).ok_or(AuthorityError::BadPort)
}

impl FromStr for Host {
    type Err = AuthorityError;

    fn from_str(text: &str) -> Result<Self, AuthorityError> {
        if let Ok(address) = text.parse::<std::net::Ipv4Addr>() {
            return Ok(Self::Ip(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(AuthorityError::Empty);
        }
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if name.len() > LONGEST_NAME || !name.split('.').all(label) {
            return Err(AuthorityError::BadHost);
        }
        Ok(Self::Name(name.to_ascii_lowercase()))
    }
}

impl Host {
    /// The Service that this name stands for inside a cluster, as a resolver with the pod's
    /// search domains would find it: `name`, `name.namespace`, `name.namespace.svc` and
    /// `name.namespace.svc.CLUSTER-DOMAIN` (Kubernetes DNS specification §2.3).
    pub fn service(&self, own_namespace: &Label, cluster_domain: &str) -> Option<ServiceName> {
        let Self::Name(host) = self else { return None };
        let mut labels = host.splitn(3, '.');
        let name: Label = labels.next()?.parse().ok()?;
        let Some(namespace) = labels.next() else {
            return Some(ServiceName::new(own_namespace.clone(), name));
        };
        let in_cluster = match labels.next() {
            None | Some("svc") => true,
            Some(rest) => rest.strip_prefix("svc.") == Some(cluster_domain),
        };
        in_cluster.then(|| Some(ServiceName::new(namespace.parse().ok()?, name))).flatten()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => write!(f, "{}", self.host),
        }
    }
}

impl From<SocketAddr> for Authority {
    fn from(address: SocketAddr) -> Self {
        Self { host: Host::Ip(address.ip()), port: Some(address.port()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_authorities_read_back() {
        let cases = [
            ("api", "api"),
            ("API.Shop:80", "api.shop:80"),
            ("api.shop.svc.cluster.local.:8080", "api.shop.svc.cluster.local:8080"),
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1:65535", "10.0.0.1:65535"),
            ("[::1]", "[::1]"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ];
        for (text, shown) in cases {
            assert_eq!(text.parse::<Authority>().unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn ambiguous_authorities_are_refused() {
        use AuthorityError::{BadBrackets, BadHost, BadPort, Empty};
        let long = format!("{}.example", "a".repeat(64));
        let cases = [
            ("", Empty),
            (":80", Empty),
            (".", Empty),
            ("a@b", BadHost),
            ("a b", BadHost),
            ("a,b", BadHost),
            ("a..b", BadHost),
            ("a/b", BadHost),
            ("a\0b", BadHost),
            ("ä", BadHost),
            (&long, BadHost),
            ("[::1", BadBrackets),
            ("[::1]x", BadBrackets),
            ("[fe80::1%eth0]", BadBrackets),
            ("[10.0.0.1]", BadBrackets),
            ("a:", BadPort),
            ("a:0", BadPort),
            ("a:+80", BadPort),
            ("a:99999", BadPort),
            ("::1", BadPort),
            ("a:80:80", BadPort),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Authority>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_host_stands_for_a_service_as_in_the_cluster() {
        let own: Label = "shop".parse().unwrap();
        let service = |host: &str| {
            let host: Host = host.parse().unwrap();
            host.service(&own, "cluster.local").map(|name| name.to_string())
        };
        for (host, expected) in [
            ("api", Some("shop/api")),
            ("api.other", Some("other/api")),
            ("api.other.svc", Some("other/api")),
            ("api.other.svc.cluster.local", Some("other/api")),
            ("API.Other.SVC.Cluster.Local.", Some("other/api")),
            ("api.other.svc.example.com", None),
            ("www.example.com", None),
            ("a_b.other", None),
            ("10.0.0.1", None),
        ] {
            assert_eq!(service(host).as_deref(), expected, "{host}");
        }
    }
}
