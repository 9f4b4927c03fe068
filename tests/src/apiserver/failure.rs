//! What an API server answers with when it refuses: a `Status`, or a line of plain text.

use http::StatusCode;
use serde_json::{Value, json};

/// A refusal: its HTTP status, and what the body says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The HTTP status.
    pub code: StatusCode,
    /// The reason, in Kubernetes' own words; empty where the body is no `Status`.
    pub reason: &'static str,
    /// The message.
    pub message: String,
    /// After how many seconds to try again; also the header `Retry-After`.
    pub retry_after: Option<u64>,
}

impl Failure {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), retry_after: None }
    }

    /// 400: what was sent makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// 403: not allowed.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// 404: nothing is served there, which is how a kind without its CRD looks.
    pub fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "", "404 page not found")
    }

    /// 404: no such object.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", format!("{what} not found"))
    }

    /// 405: not with this resource.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// 409: it is there already.
    pub fn already_exists(what: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "AlreadyExists", format!("{what} already exists"))
    }

    /// 409: somebody else was first, or owns it.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "Conflict", message)
    }

    /// 410: that version is too old.
    pub fn expired(version: u64, oldest: u64) -> Self {
        let message = format!("too old resource version: {version} ({oldest})");
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// 422: a value that is not allowed.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    /// 429, with `Retry-After` in seconds.
    pub fn too_many_requests(retry_after: u64) -> Self {
        let message = "Too many requests, please try again later.";
        let failure = Self::new(StatusCode::TOO_MANY_REQUESTS, "", message);
        Self { retry_after: Some(retry_after), ..failure }
    }

    /// 500, as etcd before 3.5.13 has it for streaming lists.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// The `Status`.
    pub(super) fn status(&self) -> Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        })
    }
}
