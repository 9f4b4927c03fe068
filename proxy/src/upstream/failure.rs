//! What a failure below a request means for it: which code, and with it whether it may be sent
//! again.

use std::fmt::Display;

use h2::Reason;
use model::code::ErrorCode;

use crate::error::ProxyError;
use crate::http1::Failure;

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
        (Failure::Unsent, _) => ErrorCode::UpstreamRefused,
        (Failure::Lost(_), Used::First) => ErrorCode::UpstreamReset,
        (Failure::Lost(_), Used::Again) => ErrorCode::UpstreamClosedIdle,
    };
    ProxyError::new(code, format!("{peer}: {failure}"))
}

/// The failure of a request for an upgrade, which goes over a connection of its own.
pub(crate) fn of_upgrade(failure: &Failure, peer: impl Display) -> ProxyError {
    of_http1(failure, peer, Used::First)
}

/// RFC 9113 §8.7: REFUSED_STREAM, and GOAWAY for streams above its last, mean that nothing was
/// processed; h2 gives the second only to those streams.
pub(super) fn http2_code(error: &h2::Error) -> ErrorCode {
    match error.reason() {
        Some(Reason::REFUSED_STREAM) => ErrorCode::UpstreamRefused,
        Some(Reason::NO_ERROR) if error.is_go_away() && error.is_remote() => {
            ErrorCode::UpstreamRefused
        }
        Some(Reason::PROTOCOL_ERROR) => ErrorCode::UpstreamProtocol,
        _ => ErrorCode::UpstreamReset,
    }
}
