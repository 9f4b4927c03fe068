//! What an API server's refusal means for who wants to watch.

use std::io;
use std::time::Duration;

use kube::core::Status;
use kube::error::Error;

/// Why a kind cannot be read right now.
#[derive(Debug)]
pub(super) struct Failure {
    /// What to do about it.
    pub(super) remedy: Remedy,
    /// What happened, for people.
    pub(super) message: String,
}

/// What helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Try again later, where it was left.
    Retry,
    /// Try again after the time that the server named, where it was left.
    RetryAfter(Duration),
    /// What was asked for is forgotten (410 Gone): list anew.
    Relist,
    /// The server has no such kind (404).
    Absent,
    /// Not in this way: it may be a server, or an etcd, that has no streaming lists.
    Otherwise,
}

impl Failure {
    pub(super) fn new(remedy: Remedy, message: impl Into<String>) -> Self {
        Self { remedy, message: message.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(Remedy::Retry, chain(&error))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(Remedy::Retry, chain(&error))
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let named = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        let remedy = match (status.code, status.reason.as_str()) {
            (410, _) | (_, "Expired" | "Gone") => Remedy::Relist,
            (404, _) => Remedy::Absent,
            (_, _) if named > 0 => Remedy::RetryAfter(Duration::from_secs(named.into())),
            (400 | 405 | 415 | 422 | 500 | 501, _) => Remedy::Otherwise,
            _ => Remedy::Retry,
        };
        Self::new(remedy, format!("{} ({})", status.message, status.code))
    }
}

/// An error with everything behind it, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remedy(code: u16, details: &str) -> Remedy {
        let text = format!(r#"{{"status": "Failure", "message": "m", "code": {code} {details}}}"#);
        Failure::from(serde_json::from_str::<Status>(&text).unwrap()).remedy
    }

    #[test]
    fn each_refusal_has_its_remedy() {
        assert_eq!(remedy(410, ""), Remedy::Relist);
        assert_eq!(remedy(404, ""), Remedy::Absent);
        assert_eq!(remedy(403, ""), Remedy::Retry);
        assert_eq!(remedy(503, ""), Remedy::Retry);
        assert_eq!(remedy(500, ""), Remedy::Otherwise);
        assert_eq!(remedy(422, ""), Remedy::Otherwise);
        let wait = Remedy::RetryAfter(Duration::from_secs(7));
        assert_eq!(remedy(429, r#", "details": {"retryAfterSeconds": 7}"#), wait);
    }
}
