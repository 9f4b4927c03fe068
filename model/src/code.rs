//! The closed catalogue of errors that Pillion itself answers with.
//!
//! A code is one value in the `x-pillion-error` header, one label value in the metrics, one word
//! in the log and one paragraph in the documentation; it says whose fault an error was, what the
//! client is told and whether the request may be sent again.

use http::StatusCode;
use serde::Serialize;

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The request cannot be served as it was sent.
    Client,
    /// The configuration leads nowhere.
    Config,
    /// The endpoint, or the way to it.
    Upstream,
    /// This sidecar: a bound was met, or it is not ready.
    Proxy,
}

macro_rules! catalogue {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $fault:ident, $status:literal, $grpc:literal;)+) => {
        /// One error of the catalogue.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl ErrorCode {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The code as header, label and log show it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Whose fault it is.
            pub const fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault,)+ }
            }

            /// The HTTP status that a client gets with it.
            pub fn status(self) -> StatusCode {
                let status: u16 = match self { $(Self::$variant => $status,)+ };
                StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY)
            }

            /// The `grpc-status` that a gRPC client gets with it (gRPC status codes, 0 to 16).
            pub const fn grpc_status(self) -> u8 {
                match self { $(Self::$variant => $grpc,)+ }
            }

            /// What it means, in a sentence for people.
            pub const fn describe(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

catalogue! {
    /// The request is malformed: a missing, repeated or ambiguous Host, a bad target or a broken body.
    BadRequest = "bad_request", Client, 400, 3;
    /// The request's target is longer than the limit.
    TargetTooLong = "target_too_long", Client, 414, 3;
    /// The head or the trailers are larger than the limit, or have too many fields.
    HeadTooLarge = "head_too_large", Client, 431, 3;
    /// The request is in a version of HTTP that nobody serves here.
    VersionUnsupported = "version_unsupported", Client, 505, 12;
    /// The method is not one that this port serves.
    MethodNotAllowed = "method_not_allowed", Client, 405, 12;
    /// The client stopped sending the body of its request.
    BodyTimeout = "body_timeout", Client, 408, 1;
    /// No Service of this name is known to the mesh.
    ServiceUnknown = "service_unknown", Client, 502, 14;
    /// The Service has no such port.
    PortUnknown = "port_unknown", Client, 502, 14;
    /// The request would come back to this sidecar, or has gone through the mesh eight times.
    LoopDetected = "loop_detected", Client, 508, 9;
    /// Routes are attached to the Service and none matches the request.
    RouteNotFound = "route_not_found", Config, 404, 12;
    /// The route's backend cannot be resolved, or the rule has none.
    RouteBackendInvalid = "route_backend_invalid", Config, 500, 14;
    /// The route asks for something this version does not do.
    RouteUnsupported = "route_unsupported", Config, 500, 12;
    /// The address is outside of the mesh, and policy (or what the address is) forbids to go there.
    EgressDenied = "egress_denied", Config, 403, 7;
    /// The inbound sidecar knows no application port of this number, or policy refuses plaintext.
    PortDenied = "port_denied", Config, 403, 7;
    /// The Service has no ready endpoint.
    NoEndpoints = "no_endpoints", Upstream, 503, 14;
    /// The endpoint refused the connection.
    ConnectRefused = "connect_refused", Upstream, 503, 14;
    /// The endpoint did not accept the connection in time.
    ConnectTimeout = "connect_timeout", Upstream, 503, 14;
    /// The endpoint cannot be reached (no route to host, network down).
    ConnectFailed = "connect_failed", Upstream, 503, 14;
    /// The TLS handshake with the endpoint's sidecar failed.
    TlsHandshakeFailed = "tls_handshake_failed", Upstream, 503, 14;
    /// The endpoint's certificate has expired, or is not valid yet.
    TlsCertExpired = "tls_cert_expired", Upstream, 503, 14;
    /// The endpoint proved another identity than the control plane names for it.
    TlsIdentityMismatch = "tls_peer_identity_mismatch", Upstream, 503, 14;
    /// The endpoint refused the stream before it processed anything (REFUSED_STREAM, GOAWAY).
    UpstreamRefused = "upstream_refused", Upstream, 503, 14;
    /// A reused connection was closed before one byte of the response.
    UpstreamClosedIdle = "upstream_closed_idle", Upstream, 503, 14;
    /// The connection was lost after the request was sent and before the response head.
    UpstreamReset = "upstream_reset", Upstream, 503, 14;
    /// The endpoint's answer is no valid HTTP.
    UpstreamProtocol = "upstream_protocol_error", Upstream, 502, 13;
    /// The route's request timeout ran out.
    RequestTimeout = "request_timeout", Upstream, 504, 4;
    /// The route's timeout for one attempt ran out, and there was no further attempt.
    AttemptTimeout = "attempt_timeout", Upstream, 504, 4;
    /// The control plane did not answer for a Service or an address not asked for before.
    DiscoveryTimeout = "discovery_timeout", Proxy, 503, 14;
    /// This sidecar has no valid certificate.
    IdentityMissing = "identity_missing", Proxy, 503, 14;
    /// This sidecar is at one of its bounds.
    Overload = "overload", Proxy, 503, 8;
    /// This sidecar is shutting down.
    Draining = "draining", Proxy, 503, 14;
    /// The client went away before the response (in metrics and logs only).
    ClientClosed = "client_closed", Client, 499, 1;
    /// A defect in this sidecar; please report it.
    Internal = "internal", Proxy, 500, 13;
}

impl ErrorCode {
    /// The code of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == name)
    }

    /// Whether the request provably was not processed by the application, so that sending it
    /// again is safe whatever its method (RFC 9110 §9.2.2, RFC 9113 §8.7).
    pub const fn not_processed(self) -> bool {
        matches!(
            self,
            Self::ConnectRefused
                | Self::ConnectTimeout
                | Self::ConnectFailed
                | Self::TlsHandshakeFailed
                | Self::TlsCertExpired
                | Self::TlsIdentityMismatch
                | Self::UpstreamRefused
                | Self::Draining
        )
    }

    /// Whether the connection was lost with the request possibly under way: only a request with
    /// an idempotent method may be sent again (RFC 9110 §9.2.2).
    pub const fn connection_lost(self) -> bool {
        matches!(self, Self::UpstreamReset | Self::UpstreamClosedIdle)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_read_back() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_name(code.as_str()), Some(*code));
            assert!(code.grpc_status() <= 16);
            assert!(code.describe().ends_with('.') || code.describe().ends_with(')'));
        }
        assert_eq!(ErrorCode::from_name("no_such_code"), None);
    }

    #[test]
    fn the_documentation_lists_every_code_as_it_is() {
        let page = include_str!("../../docs/ERRORS.md");
        for code in ErrorCode::ALL {
            let row = format!("| `{code}` | {} | {} |", code.status().as_u16(), code.grpc_status());
            let row = page.lines().find(|line| line.starts_with(&row)).unwrap_or_else(|| {
                panic!("docs/ERRORS.md has no row that begins with {row:?}");
            });
            assert!(row.contains(code.describe()), "the meaning of {code} differs");
            assert!(page.contains(&format!("\n- `{code}`: ")), "no advice for {code}");
        }
    }

    #[test]
    fn an_error_is_never_both_unprocessed_and_unknown() {
        for code in ErrorCode::ALL {
            assert!(!(code.not_processed() && code.connection_lost()), "{code}");
        }
    }
}
