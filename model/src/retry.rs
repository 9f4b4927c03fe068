//! Whether an attempt is followed by another one, and after how long.
//!
//! | the attempt ended in | without `rules[].retry` | with it (GEP-1731) |
//! |---|---|---|
//! | the request was provably not processed ([`ErrorCode::not_processed`]) | again | again |
//! | the connection lost, unknown what was done ([`ErrorCode::connection_lost`]) | again if the method is idempotent | again if the method is idempotent |
//! | the timeout of the attempt ([`ErrorCode::AttemptTimeout`]) | delivered | again |
//! | a response, or an error of the endpoint's sidecar, of a code that `codes` names | delivered | again |
//! | any other response or error, the request's own timeout among them | delivered | delivered |
//! | attempts in all, at the most | 3; 2 where the connection was lost | 1 + `attempts` |
//!
//! A code or a timeout that the operator names is tried again for every method: that is what a
//! route's `retry` asks for. A lost connection is nothing that can be named there, so it does
//! not stand for consent to send a POST twice: GEP-1731 says that implementations SHOULD NOT
//! retry where the request may have been processed, RFC 9110 §9.2.2 that a proxy MUST NOT where
//! the method is not idempotent. Without a policy it is tried again once: a request that kills
//! whoever serves it shall not go round.
//!
//! The caller holds the rest: the budget ([`crate::budget`]), the request's deadline, and whether
//! its body can be sent again.

use std::time::Duration;

use http::{Method, StatusCode};
use rand::Rng;

use crate::code::ErrorCode;
use crate::route::Retry;

/// Retries of what was not processed, where the route says nothing.
const DEFAULT_RETRIES: u32 = 2;

/// Retries after a lost connection, where the route says nothing.
const DEFAULT_RETRIES_LOST: u32 = 1;

/// The base of the waits where the route says nothing (Envoy's default).
const DEFAULT_BACKOFF: Duration = Duration::from_millis(25);

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint answered: the head of a response with this status.
    Response(StatusCode),
    /// There was no response.
    Failed(ErrorCode),
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The client gets the outcome.
    Deliver,
    /// The request is sent again, if the budget and the deadline permit.
    Again {
        /// The time to wait before.
        after: Duration,
    },
}

/// Decides what follows attempt number `attempt` (the first is 1) that ended in `outcome`.
/// The module's page has the table of the rules.
///
/// The wait before retry number n is between 2^(n-1) and 2^n times the route's `backoff` (25 ms
/// where it has none), from the fourth on between 5 and 10 times, drawn evenly. A first retry of
/// what was not processed does not wait unless `backoff` is set: it goes to another endpoint.
pub fn decide(
    policy: Option<&Retry>,
    method: &Method,
    outcome: Outcome,
    attempt: u32,
    rng: &mut impl Rng,
) -> Decision {
    let retries = match (policy, outcome) {
        (Some(policy), _) => policy.attempts,
        (None, Outcome::Failed(code)) if code.connection_lost() => DEFAULT_RETRIES_LOST,
        (None, _) => DEFAULT_RETRIES,
    };
    if attempt > retries || !may_repeat(policy, method, outcome) {
        return Decision::Deliver;
    }
    let after = match policy.and_then(|policy| policy.backoff) {
        Some(backoff) => wait(backoff, attempt, rng),
        None if attempt == 1 && is_unprocessed(outcome) => Duration::ZERO,
        None => wait(DEFAULT_BACKOFF, attempt, rng),
    };
    Decision::Again { after }
}

fn may_repeat(policy: Option<&Retry>, method: &Method, outcome: Outcome) -> bool {
    match outcome {
        Outcome::Response(status) => policy.is_some_and(|policy| policy.codes.contains(&status)),
        Outcome::Failed(ErrorCode::AttemptTimeout) => policy.is_some(),
        // RFC 9110 §9.2.2: PUT, DELETE and the safe methods
        Outcome::Failed(code) if code.connection_lost() => method.is_idempotent(),
        Outcome::Failed(code) => {
            code.not_processed() || policy.is_some_and(|policy| names(policy, code))
        }
    }
}

/// Whether `codes` names what the client would get for an error that is one endpoint's, or its
/// sidecar's: no client can tell the two.
fn names(policy: &Retry, code: ErrorCode) -> bool {
    use ErrorCode::{IdentityMissing, Internal, Overload, UpstreamProtocol};
    matches!(code, UpstreamProtocol | Overload | IdentityMissing | Internal)
        && policy.codes.contains(&code.status())
}

fn is_unprocessed(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failed(code) if code.not_processed())
}

fn wait(backoff: Duration, attempt: u32, rng: &mut impl Rng) -> Duration {
    let factor = 2_u32.saturating_pow(attempt.saturating_sub(1)).min(5);
    let least = backoff.saturating_mul(factor);
    rng.random_range(least..=least.saturating_mul(2))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    const IDEMPOTENT: [Method; 6] =
        [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE];
    const OTHERS: [Method; 3] = [Method::POST, Method::PATCH, Method::CONNECT];

    fn policy(codes: &[u16], attempts: u32, backoff_ms: Option<u64>) -> Retry {
        let codes = codes.iter().map(|code| StatusCode::from_u16(*code).unwrap()).collect();
        Retry { codes, attempts, backoff: backoff_ms.map(Duration::from_millis) }
    }

    fn after(
        policy: Option<&Retry>,
        method: &Method,
        outcome: Outcome,
        attempt: u32,
    ) -> Option<Duration> {
        let mut rng = SmallRng::seed_from_u64(u64::from(attempt));
        match decide(policy, method, outcome, attempt, &mut rng) {
            Decision::Deliver => None,
            Decision::Again { after } => Some(after),
        }
    }

    fn response(status: u16) -> Outcome {
        Outcome::Response(StatusCode::from_u16(status).unwrap())
    }

    /// Whether a first attempt is followed by another: for idempotent methods, and for others.
    fn repeats(policy: Option<&Retry>, outcome: Outcome) -> (bool, bool) {
        let all = |methods: &[Method]| {
            let again = |method: &Method| after(policy, method, outcome, 1).is_some();
            let first = again(&methods[0]);
            assert!(methods.iter().all(|method| again(method) == first));
            first
        };
        (all(&IDEMPOTENT), all(&OTHERS))
    }

    #[test]
    fn what_is_tried_again() {
        use ErrorCode as E;
        let retry = policy(&[500, 503], 1, None);
        let (never, safely, always) = ((false, false), (true, false), (true, true));
        let cases = [
            // outcome, without a policy, with one
            (Outcome::Failed(E::ConnectRefused), always, always),
            (Outcome::Failed(E::UpstreamRefused), always, always),
            (Outcome::Failed(E::UpstreamReset), safely, safely),
            (Outcome::Failed(E::UpstreamClosedIdle), safely, safely),
            (Outcome::Failed(E::AttemptTimeout), never, always),
            (Outcome::Failed(E::RequestTimeout), never, never),
            (Outcome::Failed(E::UpstreamProtocol), never, never),
            (Outcome::Failed(E::NoEndpoints), never, never),
            (Outcome::Failed(E::ClientClosed), never, never),
            (response(200), never, never),
            (response(500), never, always),
            (response(502), never, never),
            (response(503), never, always),
        ];
        for (outcome, without, with) in cases {
            assert_eq!(repeats(None, outcome), without, "{outcome:?} without a policy");
            assert_eq!(repeats(Some(&retry), outcome), with, "{outcome:?} with a policy");
        }
    }

    #[test]
    fn a_code_that_the_endpoints_sidecar_answers_with_counts_like_the_endpoints() {
        use ErrorCode as E;
        let retry = policy(&[400, 500, 502, 503, 504], 1, None);
        let cases = [
            (E::UpstreamProtocol, (true, true)),
            (E::Overload, (true, true)),
            (E::UpstreamReset, (true, false)),
            (E::RequestTimeout, (false, false)),
            (E::NoEndpoints, (false, false)),
            (E::BadRequest, (false, false)),
        ];
        for (code, again) in cases {
            assert_eq!(repeats(Some(&retry), Outcome::Failed(code)), again, "{code}");
        }
    }

    #[test]
    fn a_policy_without_codes_still_covers_connection_errors() {
        let retry = policy(&[], 1, None);
        assert_eq!(repeats(Some(&retry), Outcome::Failed(ErrorCode::ConnectTimeout)), (true, true));
        assert_eq!(repeats(Some(&retry), Outcome::Failed(ErrorCode::UpstreamReset)), (true, false));
        assert_eq!(repeats(Some(&retry), response(500)), (false, false));
    }

    #[test]
    fn attempts_are_counted() {
        let attempts = |policy: Option<&Retry>, code| {
            let outcome = Outcome::Failed(code);
            let again = |attempt: &u32| after(policy, &Method::GET, outcome, *attempt).is_some();
            1 + (1..=20).take_while(again).count()
        };
        assert_eq!(attempts(None, ErrorCode::ConnectRefused), 3);
        assert_eq!(attempts(None, ErrorCode::UpstreamReset), 2);
        for retries in [0, 1, 2, 10] {
            for code in [ErrorCode::ConnectRefused, ErrorCode::UpstreamReset] {
                assert_eq!(attempts(Some(&policy(&[], retries, None)), code), retries as usize + 1);
            }
        }
    }

    #[test]
    fn waits_double_from_the_backoff_to_ten_times() {
        let unprocessed = Outcome::Failed(ErrorCode::ConnectRefused);
        let lost = Outcome::Failed(ErrorCode::UpstreamReset);
        let given = policy(&[503], 9, Some(100));
        let none = policy(&[503], 9, None);
        let cases = [
            (Some(&given), response(503), 1, 100..=200),
            (Some(&given), response(503), 2, 200..=400),
            (Some(&given), response(503), 3, 400..=800),
            (Some(&given), response(503), 4, 500..=1000),
            (Some(&given), response(503), 9, 500..=1000),
            (Some(&given), unprocessed, 1, 100..=200),
            (Some(&none), response(503), 1, 25..=50),
            (Some(&none), unprocessed, 1, 0..=0),
            (None, unprocessed, 1, 0..=0),
            (None, unprocessed, 2, 50..=100),
            (None, lost, 1, 25..=50),
        ];
        for (policy, outcome, attempt, millis) in cases {
            let after = after(policy, &Method::GET, outcome, attempt).unwrap();
            let least = Duration::from_millis(*millis.start());
            let most = Duration::from_millis(*millis.end());
            assert!((least..=most).contains(&after), "{outcome:?} {attempt}: {after:?}");
        }
    }

    #[test]
    fn waits_are_spread() {
        let retry = policy(&[503], 1, Some(100));
        let mut rng = SmallRng::seed_from_u64(1);
        let mut waits: Vec<_> = (0..100)
            .map(|_| decide(Some(&retry), &Method::GET, response(503), 1, &mut rng))
            .map(|decision| format!("{decision:?}"))
            .collect();
        waits.sort();
        waits.dedup();
        assert!(waits.len() > 90);
    }

    #[test]
    fn the_longest_backoff_does_not_overflow() {
        let retry = policy(&[503], u32::MAX, Some(u64::MAX));
        let longest = Retry { backoff: Some(Duration::MAX), ..retry };
        let after = after(Some(&longest), &Method::GET, response(503), u32::MAX);
        assert_eq!(after, Some(Duration::MAX));
    }
}
