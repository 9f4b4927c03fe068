//! Frames counted by their heads alone. What we keep for the other side is bounded where it is
//! kept; what is answered at once or passed over costs its sender nothing, and is bounded here.
//!
//! A frame that moves nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM, GOAWAY, DATA of
//! no bytes, and those of unknown types) is paid for with what moves: requests, the bytes that we
//! send, and time. Acknowledgements are not counted among these bytes, so that a flood does not pay
//! for itself.

use std::time::{Duration, Instant};

use super::frame::{HEAD, Head, flag, kind};

/// Frames that move nothing which the other side may send at once. It is also how many answers
/// to PING and SETTINGS it may leave unread.
const MOST_IDLE: u64 = 10_000;

/// What one of them costs, where each byte that we send pays 1.
const COST: u64 = 4;

/// What an answer to a PING costs on top: we ask rarely.
const UNASKED: u64 = 99 * COST;

/// What a stream costs that we have to reset.
const FAULT: u64 = 20 * COST;

/// What a millisecond pays: 1,000 frames in a second.
const PAID_BY_TIME: u64 = COST;

/// What a request pays: a few frames around it, as some clients send them.
const PAID_BY_REQUEST: u64 = 4 * COST;

/// A request is reset at once within this time, or within twice of it: later, a deadline may have
/// run out.
const EARLY: Duration = Duration::from_secs(1);

/// The answer to a PING, in bytes (RFC 9113 §6.7).
const PONG: u64 = 17;

/// Whose requests a client carries, and with it how many it may reset at once beyond every second
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// Its own.
    Own,
    /// As a sidecar, those of many, who must not pay for one another: each gave up for a reason
    /// of its own, and was judged by that sidecar.
    Many,
}

impl Carries {
    const fn resets(self) -> u32 {
        match self {
            Self::Own => 500,
            Self::Many => 10_000,
        }
    }
}

/// What there was too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Excess(pub(super) &'static str);

const IDLE: Excess = Excess("frames that move nothing");

/// What one side of a connection may send.
#[derive(Debug)]
pub(super) struct Bounds {
    idle: Allowance,
    requests: Option<Requests>,
}

impl Bounds {
    /// For what a client sends.
    pub(super) fn of_client(now: Instant, carries: Carries) -> Self {
        Self { requests: Some(Requests::new(now, carries)), ..Self::of_server(now) }
    }

    /// For what a server sends.
    pub(super) const fn of_server(now: Instant) -> Self {
        let idle = Allowance { spare: MOST_IDLE * COST, owed: 0, since: now };
        Self { idle, requests: None }
    }

    /// We sent this many bytes.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.idle.sent(bytes as u64);
    }

    /// Counts a frame.
    ///
    /// # Errors
    /// What it was too much of.
    pub(super) fn frame(&mut self, head: Head, now: impl Fn() -> Instant) -> Result<(), Excess> {
        let asks = !head.has(flag::ACK);
        match (head.kind, &mut self.requests) {
            (kind::DATA, _) if head.length > 0 || head.has(flag::END_STREAM) => return Ok(()),
            (kind::CONTINUATION, _) => return Ok(()),
            (kind::HEADERS, Some(requests)) => {
                requests.opened(head.stream);
                self.idle.pay(PAID_BY_REQUEST);
                return Ok(());
            }
            (kind::HEADERS, None) => return Ok(()),
            (kind::RST_STREAM, Some(requests)) => requests.reset(head.stream, now())?,
            (kind::PING, _) if asks => self.idle.owed += PONG,
            (kind::PING, _) => self.idle.spare = self.idle.spare.saturating_sub(UNASKED),
            (kind::SETTINGS, _) if asks => self.idle.owed += HEAD as u64,
            _ => {}
        }
        if self.idle.spend(COST, now()) { Ok(()) } else { Err(IDLE) }
    }

    /// Counts a stream that we reset because the other side broke its rules.
    ///
    /// # Errors
    /// That there were too many.
    pub(super) fn fault(&mut self, now: Instant) -> Result<(), Excess> {
        let fits = self.idle.spend(FAULT, now);
        fits.then_some(()).ok_or(Excess("streams that we have to reset"))
    }
}

/// What is left for frames that move nothing.
#[derive(Debug)]
struct Allowance {
    spare: u64,
    /// Bytes of acknowledgements that we are about to send.
    owed: u64,
    since: Instant,
}

impl Allowance {
    fn pay(&mut self, amount: u64) {
        self.spare = (MOST_IDLE * COST).min(self.spare.saturating_add(amount));
    }

    fn sent(&mut self, bytes: u64) {
        let acknowledgements = self.owed.min(bytes);
        self.owed -= acknowledgements;
        self.pay(bytes - acknowledgements);
    }

    fn spend(&mut self, cost: u64, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since).as_millis();
        if passed > 0 {
            self.since = now;
            self.pay(PAID_BY_TIME.saturating_mul(u64::try_from(passed).unwrap_or(u64::MAX)));
        }
        let left = self.spare.checked_sub(cost);
        self.spare = left.unwrap_or(self.spare);
        left.is_some()
    }
}

/// The requests that a client opens and resets.
#[derive(Debug)]
struct Requests {
    most: u32,
    spare: u32,
    newest: u32,
    /// The newest stream a while ago: those above it are young. The second is to become the first.
    old: (u32, u32),
    since: Instant,
}

impl Requests {
    const fn new(now: Instant, carries: Carries) -> Self {
        let most = 2 * carries.resets();
        Self { most, spare: most, newest: 0, old: (0, 0), since: now }
    }

    fn opened(&mut self, stream: u32) {
        if stream > self.newest {
            self.newest = stream;
            self.spare = self.most.min(self.spare + 1);
        }
    }

    /// The client resets this stream now.
    fn reset(&mut self, stream: u32, now: Instant) -> Result<(), Excess> {
        let passed = now.saturating_duration_since(self.since);
        if passed >= EARLY {
            self.old = (if passed < 2 * EARLY { self.old.1 } else { self.newest }, self.newest);
            self.since = now;
        }
        if stream <= self.old.0 {
            return Ok(());
        }
        let left = self.spare.checked_sub(2);
        self.spare = left.ok_or(Excess("requests that are reset at once"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
