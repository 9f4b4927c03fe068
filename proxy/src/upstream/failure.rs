//! What a failure below a request means for it: which code, and with it whether it may be sent
//! again.

use std::fmt::Display;

use model::code::ErrorCode;

use crate::error::ProxyError;
use crate::http1::Failure;
use crate::http2::{self, Reason};

/// How the connection had been used before the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Used {
    /// The request was its first.
    First,
    /// It had answered before, and may have been closed for idleness meanwhile.
    Again,
}

/// The failure of a request that was handed to a connection in HTTP/1 to `peer`.
pub(super) fn of_http1(failure: &Failure, peer: impl Display, used: Used) -> ProxyError {
    let code = match (failure, used) {
        (Failure::Body(error), _) => error.code(),
        (Failure::Bad(_) | Failure::Head(_), _) => ErrorCode::UpstreamProtocol,
        (Failure::Unsent(_), _) => ErrorCode::UpstreamRefused,
        (Failure::Lost(_), Used::First) => ErrorCode::UpstreamReset,
        (Failure::Lost(_), Used::Again) => ErrorCode::UpstreamClosedIdle,
    };
    ProxyError::new(code, format!("{peer}: {failure}"))
}

/// The failure of a request for an upgrade, which goes over a connection of its own.
pub(crate) fn of_upgrade(failure: &Failure, peer: impl Display) -> ProxyError {
    of_http1(failure, peer, Used::First)
}

/// The failure of a stream in HTTP/2.
pub(super) fn http2_code(error: &http2::Error) -> ErrorCode {
    if error.is_unprocessed() {
        return ErrorCode::UpstreamRefused;
    }
    let wrong = error.is_broken_rule() || error.reason() == Some(Reason::PROTOCOL_ERROR);
    if wrong { ErrorCode::UpstreamProtocol } else { ErrorCode::UpstreamReset }
}
