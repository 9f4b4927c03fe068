//! An error that the sidecar answers with, and the answer made from it.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use model::code::ErrorCode;
use model::headers;

use crate::body::Body;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Longest detail told to a client, in bytes.
const LONGEST_DETAIL: usize = 1024;

/// One code of the catalogue, and what happened this time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct ProxyError {
    /// Which error of the catalogue.
    pub code: ErrorCode,
    /// The object, endpoint or field that it is about.
    pub detail: Cow<'static, str>,
}

impl ProxyError {
    /// An error of this code about this object, endpoint or field.
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// The answer to a request of the workload or of another sidecar: the code's status, or for a
    /// gRPC request status 200 with `grpc-status` in the head (gRPC over HTTP/2, Trailers-Only).
    pub fn response(&self, grpc: bool) -> Response<Body> {
        let mut response = self.tell(grpc, &self.told());
        response.headers_mut().insert(headers::ERROR, HeaderValue::from_static(self.code.as_str()));
        response
    }

    /// The answer to one outside of the mesh, who learns what a code means in general.
    pub fn public_response(&self, grpc: bool) -> Response<Body> {
        self.tell(grpc, self.code.describe())
    }

    fn tell(&self, grpc: bool, text: &str) -> Response<Body> {
        if grpc { self.grpc_response(text) } else { self.http_response(text) }
    }

    fn http_response(&self, text: &str) -> Response<Body> {
        let text = format!("{text}\n");
        let mut response = Response::new(Body::full(Bytes::from(text)));
        *response.status_mut() = self.code.status();
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, text);
        response
    }

    fn grpc_response(&self, text: &str) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::OK;
        *response.headers_mut() = self.grpc_status(text);
        response.headers_mut().insert(CONTENT_TYPE, GRPC);
        response
    }

    /// The trailers of a gRPC response that the error ends after it has begun; `public` for one
    /// outside of the mesh.
    pub fn trailers(&self, public: bool) -> HeaderMap {
        match public {
            true => self.grpc_status(self.code.describe()),
            false => self.grpc_status(&self.told()),
        }
    }

    /// What the workload, or another sidecar, is told.
    fn told(&self) -> String {
        format!("pillion: {}: {}", self.code, self.printable_detail())
    }

    fn grpc_status(&self, text: &str) -> HeaderMap {
        let mut fields = HeaderMap::new();
        fields.insert(GRPC_STATUS, HeaderValue::from(u16::from(self.code.grpc_status())));
        if let Ok(message) = HeaderValue::from_str(&percent_encode(text)) {
            fields.insert(GRPC_MESSAGE, message);
        }
        fields
    }

    /// The detail without control characters, at most [`LONGEST_DETAIL`] bytes.
    fn printable_detail(&self) -> String {
        let mut text = String::new();
        for c in self.detail.chars() {
            if text.len() + c.len_utf8() > LONGEST_DETAIL {
                break;
            }
            text.push(if c.is_control() { ' ' } else { c });
        }
        text
    }
}

/// The encoding of `grpc-message`: everything but printable ASCII, and `%`, as `%XX`.
fn percent_encode(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_client_gets_status_code_and_detail() {
        let response = ProxyError::new(ErrorCode::NoEndpoints, "shop/api:80").response(false);
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["x-pillion-error"], "no_endpoints");
    }

    #[test]
    fn a_stranger_learns_neither_code_nor_detail() {
        let response =
            ProxyError::new(ErrorCode::ConnectRefused, "10.0.0.1").public_response(false);
        assert_eq!(response.status(), 503);
        assert!(response.headers().get("x-pillion-error").is_none());
    }

    #[test]
    fn a_grpc_client_gets_trailers_only() {
        let response = ProxyError::new(ErrorCode::RouteNotFound, "ü%\r\nx: y").response(true);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "12");
        assert_eq!(response.headers()["grpc-message"], "pillion: route_not_found: %C3%BC%25  x: y");
    }
}
