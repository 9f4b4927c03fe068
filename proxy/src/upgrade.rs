//! HTTP Upgrade (RFC 9110 §7.8): WebSocket and whatever else leaves HTTP/1.1 behind on a
//! connection. The request goes over a connection of its own; once the other side has switched,
//! the two connections are one. A WebSocket on a stream of HTTP/2 (RFC 8441) becomes such an
//! Upgrade: that is what applications offer.

use std::fmt::Display;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::header::{CONNECTION, UPGRADE};
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use model::code::ErrorCode;

use crate::body::{Body, RequestBody};
use crate::error::ProxyError;
use crate::headers;
use crate::http1::{Answer, Connection, Dialled, Sending};
use crate::http2::Protocol;
use crate::received::Received;
use crate::relay::Session;
use crate::sniff::Prefixed;
use crate::switch::Switch;
use crate::upstream::of_upgrade;

const ASKED: HeaderValue = HeaderValue::from_static("upgrade");

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// What a client asks to switch to, and its connection once that is granted.
#[derive(Debug)]
pub struct Upgrade {
    protocol: HeaderValue,
    client: Switch,
}

impl Upgrade {
    /// The upgrade that an HTTP/1.1 request without a body asks for, or a WebSocket's extended
    /// CONNECT, which is a GET from here on. `h2c` is never granted: an HTTP/2 that nobody looks
    /// into would smuggle requests past every route.
    pub fn asked(request: &mut Request<Received>) -> Option<Self> {
        // What may leave HTTP has an extension that says how.
        if request.extensions().is_empty() {
            return None;
        }
        if is_websocket(request) {
            let client = Switch::of(request);
            *request.method_mut() = Method::GET;
            request.headers_mut().insert(SEC_WEBSOCKET_KEY, websocket_key());
            return Some(Self { protocol: WEBSOCKET, client });
        }
        let possible = request.version() == Version::HTTP_11 && request.body().is_end_stream();
        let protocol = protocol_asked(request.headers()).filter(|_| possible)?;
        Some(Self { protocol, client: Switch::of(request) })
    }

    /// Asks whoever is behind `io` for the same.
    ///
    /// # Errors
    /// As for any request; the code says whether it may have been processed.
    pub(crate) async fn send(
        &self,
        io: Dialled,
        peer: impl Display,
        mut request: Request<RequestBody>,
    ) -> Result<Answer, ProxyError> {
        request.headers_mut().insert(CONNECTION, ASKED);
        request.headers_mut().insert(UPGRADE, self.protocol.clone());
        let sent = Connection::new(io, None).send(Sending::new(&mut request), None).await;
        let answer = sent.map_err(|failure| of_upgrade(&failure, peer))?;
        if let Answer::Response(response) = &answer {
            self.declined(response)?;
        }
        Ok(answer)
    }

    /// Judges the answer of an application that does not switch. In HTTP/1 it is an ordinary one;
    /// on a stream of HTTP/2, success would mean that it has switched (RFC 8441 §5).
    ///
    /// # Errors
    /// `upstream_protocol_error`.
    fn declined(&self, response: &Response<Received>) -> Result<(), ProxyError> {
        match self.client {
            Switch::Http2(_) if response.status().is_success() => {
                let detail = format!("the application answers {} and no 101", response.status());
                Err(ProxyError::new(ErrorCode::UpstreamProtocol, detail))
            }
            Switch::Http1(_) | Switch::Http2(_) => Ok(()),
        }
    }

    /// Switches: the client gets the other side's 101, and then bytes go both ways. `held` lives
    /// as long as they do.
    pub(crate) fn grant<H: Send + 'static>(
        self,
        response: Response<()>,
        upstream: Prefixed<Dialled>,
        session: Session,
        held: H,
    ) -> Response<Body> {
        let switched = response.headers().get(UPGRADE).cloned().unwrap_or(self.protocol);
        let (mut parts, ()) = response.into_parts();
        headers::strip(&mut parts.headers);
        match self.client {
            Switch::Http1(_) => {
                parts.headers.insert(CONNECTION, ASKED);
                parts.headers.insert(UPGRADE, switched);
            }
            // RFC 8441 §5: the stream is the proof, and 200 says yes.
            Switch::Http2(_) => {
                parts.headers.remove(SEC_WEBSOCKET_ACCEPT);
                parts.status = StatusCode::OK;
            }
        }
        tokio::spawn(join(self.client, upstream, session, held));
        Response::from_parts(parts, Body::empty())
    }
}

async fn join<H>(client: Switch, upstream: Prefixed<Dialled>, mut session: Session, held: H) {
    match client.granted().await {
        Ok(client) => session.relay(client, upstream).await,
        Err(error) => session.fail(error),
    }
    drop(held);
}

/// Whether this is a CONNECT that asks for more than a tunnel (RFC 8441 §4).
pub fn is_extended<B>(request: &Request<B>) -> bool {
    request.extensions().get::<Protocol>().is_some()
}

fn is_websocket(request: &Request<Received>) -> bool {
    let protocol = request.extensions().get::<Protocol>();
    request.method() == Method::CONNECT && protocol.is_some_and(Protocol::is_websocket)
}

/// What HTTP/1.1 wants of a client, for a proof that HTTP/2 does not need: 16 bytes in Base64
/// (RFC 6455 §4.1).
fn websocket_key() -> HeaderValue {
    let key = BASE64_STANDARD.encode(rand::random::<[u8; 16]>());
    // invariant: Base64 is ASCII.
    HeaderValue::from_str(&key).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn protocol_asked(headers: &HeaderMap) -> Option<HeaderValue> {
    let named = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("upgrade"));
    let mut protocols = headers.get_all(UPGRADE).iter();
    let (protocol, second) = (protocols.next()?, protocols.next());
    let text = protocol.to_str().ok()?;
    let h2c = text.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case("h2c"));
    (named && second.is_none() && !h2c).then(|| protocol.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(connection: &str, upgrade: &[&str]) -> Option<HeaderValue> {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, connection.parse().unwrap());
        for protocol in upgrade {
            headers.append(UPGRADE, protocol.parse().unwrap());
        }
        protocol_asked(&headers)
    }

    #[test]
    fn an_upgrade_is_asked_for_by_both_fields() {
        assert_eq!(asked("keep-alive, Upgrade", &["websocket"]).unwrap(), "websocket");
        assert_eq!(asked("keep-alive", &["websocket"]), None);
        assert_eq!(asked("upgrade", &[]), None);
    }

    #[test]
    fn h2c_and_two_protocols_are_not_granted() {
        assert_eq!(asked("upgrade, http2-settings", &["h2c"]), None);
        assert_eq!(asked("upgrade", &["websocket, H2C"]), None);
        assert_eq!(asked("upgrade", &["websocket", "other"]), None);
    }
}
