//! Where a request wants to go, and the Service that this is.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::HOST;
use http::request::Parts;
use http::uri::Scheme;
use model::code::ErrorCode;
use model::host::{Authority, Host};
use model::name::ServiceName;
use model::table::{PortEntry, ServiceEntry, Table};

use crate::error::ProxyError;
use crate::mesh::Mesh;

/// Longest target of a request, in bytes.
const MAX_TARGET: usize = 16 * 1024;

/// What a request names: from an absolute-form target or `:authority`, else from its only Host
/// (RFC 9112 §3.2.2, RFC 9113 §8.3.1).
///
/// # Errors
/// `bad_request` for none, two or a malformed one; `target_too_long`.
pub fn authority(parts: &Parts) -> Result<Authority, ProxyError> {
    if parts.uri.path_and_query().is_some_and(|target| target.as_str().len() > MAX_TARGET) {
        let detail = format!("the target is longer than {MAX_TARGET} bytes");
        return Err(ProxyError::new(ErrorCode::TargetTooLong, detail));
    }
    let bad = |detail: String| ProxyError::new(ErrorCode::BadRequest, detail);
    if parts.uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP) {
        return Err(bad("only http:// targets can be forwarded; use CONNECT for https".into()));
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(bad("more than one Host header".into()));
    }
    let text = match (parts.uri.authority(), host) {
        (Some(authority), _) => authority.as_str(),
        (None, Some(host)) => host.to_str().map_err(|_| bad("the Host is not ASCII".into()))?,
        (None, None) => return Err(bad("no Host header".into())),
    };
    text.parse().map_err(|error| bad(format!("Host {text:?}: {error}")))
}

/// The Service that `wanted` names, in the Table that the request keeps from here on. A Service
/// not asked for before is asked for now.
///
/// # Errors
/// `service_unknown`, `loop_detected`, `discovery_timeout` or `overload`.
pub async fn find(
    mesh: &Mesh,
    wanted: &Authority,
) -> Result<(Arc<Table>, ServiceName), ProxyError> {
    let config = &mesh.config;
    if let Host::Ip(address) = wanted.host {
        return at_address(mesh, wanted, address);
    }
    let name = wanted.host.service(&config.namespace, &config.cluster_domain).ok_or_else(|| {
        ProxyError::new(ErrorCode::ServiceUnknown, format!("{wanted} is no Service of the mesh"))
    })?;
    let table = mesh.discovery.find(mesh, &name).await?;
    Ok((table, name))
}

/// Addresses are never dialled for the asking: only ClusterIPs in the Table lead anywhere.
fn at_address(
    mesh: &Mesh,
    wanted: &Authority,
    address: IpAddr,
) -> Result<(Arc<Table>, ServiceName), ProxyError> {
    let own = address == mesh.config.address || address.is_loopback();
    if own && wanted.port.is_some_and(|port| mesh.config.ports.contains(port)) {
        let detail = format!("{wanted} is this sidecar's own port; name a Service in Host");
        return Err(ProxyError::new(ErrorCode::LoopDetected, detail));
    }
    let table = mesh.table();
    match table.service_at(address).cloned() {
        Some(name) => Ok((table, name)),
        None => {
            let detail = format!("{wanted} is no address of a Service in use");
            Err(ProxyError::new(ErrorCode::ServiceUnknown, detail))
        }
    }
}

/// The port of `service` that `wanted` names.
///
/// # Errors
/// `port_unknown`, with the ports that there are.
pub fn port<'a>(
    service: &'a ServiceEntry,
    wanted: &Authority,
) -> Result<&'a PortEntry, ProxyError> {
    let found = match wanted.port {
        Some(port) => service.port(port),
        None => service.default_port(),
    };
    found.ok_or_else(|| {
        let ports: Vec<_> = service.ports.iter().map(|entry| entry.port.to_string()).collect();
        let detail =
            format!("{wanted}: Service {} has the ports {}", service.name(), ports.join(", "));
        ProxyError::new(ErrorCode::PortUnknown, detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn of(uri: &str, hosts: &[&str]) -> Result<String, ErrorCode> {
        let mut request = Request::get(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        authority(&parts).map(|found| found.to_string()).map_err(|error| error.code)
    }

    #[test]
    fn the_target_wins_over_the_host() {
        assert_eq!(of("http://api.shop:8080/a", &["other"]), Ok("api.shop:8080".into()));
        assert_eq!(of("/a", &["api.shop"]), Ok("api.shop".into()));
    }

    #[test]
    fn ambiguous_hosts_are_refused() {
        let cases: [(&str, &[&str]); 6] = [
            ("/a", &[]),
            ("/a", &["a", "b"]),
            ("http://a/", &["a", "a"]),
            ("/a", &["a,b"]),
            ("/a", &["user@a"]),
            ("https://a/", &[]),
        ];
        for (uri, hosts) in cases {
            assert_eq!(of(uri, hosts), Err(ErrorCode::BadRequest), "{uri} {hosts:?}");
        }
    }

    #[test]
    fn a_long_target_is_refused() {
        let long = format!("/{}", "a".repeat(MAX_TARGET));
        assert_eq!(of(&long, &["a"]), Err(ErrorCode::TargetTooLong));
    }
}
