//! What a port speaks, from `appProtocol` or else from its name.

use model::service::Protocol;

/// The protocol of a Service's port. `appProtocol` counts before the port's name, which says it
/// in its part before the first `-` (`http-api`, `grpc`), as other meshes read it too.
pub(crate) fn protocol(app_protocol: Option<&str>, port_name: Option<&str>) -> Protocol {
    let named = app_protocol.and_then(of_word);
    named.or_else(|| of_word(port_name?.split('-').next()?)).unwrap_or_default()
}

/// Whether an application protocol is spoken inside of TLS.
pub(crate) fn is_tls(app_protocol: &str) -> bool {
    let word = app_protocol.to_ascii_lowercase();
    matches!(word.as_str(), "tls" | "https" | "ssl" | "kubernetes.io/wss" | "wss")
}

/// A word that says nothing here leaves the protocol to detection.
fn of_word(word: &str) -> Option<Protocol> {
    match word.to_ascii_lowercase().as_str() {
        "http" | "http1" | "http/1.1" => Some(Protocol::Http1),
        // A WebSocket begins as an HTTP/1.1 request.
        "kubernetes.io/ws" | "ws" => Some(Protocol::Http1),
        "kubernetes.io/h2c" | "h2c" | "http2" | "grpc" => Some(Protocol::Http2),
        word if word == "tcp" || is_tls(word) => Some(Protocol::Opaque),
        "mysql" | "postgres" | "postgresql" | "redis" | "mongo" | "mongodb" | "mssql" => {
            Some(Protocol::Opaque)
        }
        "nats" | "kafka" | "amqp" | "mqtt" | "cassandra" | "memcached" | "zookeeper" => {
            Some(Protocol::Opaque)
        }
        "smtp" | "imap" | "pop3" | "ldap" | "ssh" | "ftp" | "dns" => Some(Protocol::Opaque),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_protocol_counts_before_the_name_and_both_before_detection() {
        let cases = [
            (Some("http"), None, Protocol::Http1),
            (Some("kubernetes.io/h2c"), Some("http"), Protocol::Http2),
            (Some("HTTP"), None, Protocol::Http1),
            (Some("kubernetes.io/ws"), None, Protocol::Http1),
            (Some("example.com/own"), Some("grpc-web"), Protocol::Http2),
            (Some("mysql"), Some("http"), Protocol::Opaque),
            (None, Some("http-api"), Protocol::Http1),
            (None, Some("https"), Protocol::Opaque),
            (None, Some("httpx"), Protocol::Detect),
            (None, Some("redis-main"), Protocol::Opaque),
            (None, Some("web"), Protocol::Detect),
            (None, None, Protocol::Detect),
        ];
        for (app_protocol, name, expected) in cases {
            assert_eq!(protocol(app_protocol, name), expected, "{app_protocol:?} {name:?}");
        }
    }
}
