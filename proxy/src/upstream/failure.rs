//! What an error of hyper means for a request: which code, and with it whether it may be sent
//! again.

use std::error::Error;

use h2::Reason;
use model::code::ErrorCode;

use crate::body::BodyError;
use crate::error::ProxyError;

/// How the connection had been used before the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Used {
    /// The request was its first.
    First,
    /// It had answered before, and may have been closed for idleness meanwhile.
    Again,
}

/// The failure of a request that was handed to a connection to `peer`.
pub(super) fn of_request(
    error: &hyper::Error,
    peer: impl std::fmt::Display,
    used: Used,
) -> ProxyError {
    let code = code(error, used);
    ProxyError::new(code, format!("{peer}: {}", innermost(error)))
}

fn code(error: &hyper::Error, used: Used) -> ErrorCode {
    if let Some(body) = source::<BodyError>(error) {
        return body.code();
    }
    if let Some(h2) = source::<h2::Error>(error) {
        return http2_code(h2);
    }
    if error.is_parse() {
        return ErrorCode::UpstreamProtocol;
    }
    match used {
        Used::First => ErrorCode::UpstreamReset,
        Used::Again => ErrorCode::UpstreamClosedIdle,
    }
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

fn source<E: Error + 'static>(error: &hyper::Error) -> Option<&E> {
    causes(error).find_map(|cause| cause.downcast_ref::<E>())
}

fn innermost(error: &hyper::Error) -> String {
    causes(error).last().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

fn causes(error: &hyper::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause| (*cause).source())
}
