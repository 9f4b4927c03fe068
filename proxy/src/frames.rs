//! HTTP/2 as the other side sends it, frame by frame (RFC 9113 §4.1), counted by the heads alone.
//! h2 bounds what it keeps; what it answers at once or passes over costs the sender nothing, and
//! is bounded here.
//!
//! A frame that moves nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM, GOAWAY, and
//! those of unknown types) is paid for with what moves: requests, the bytes that we send, and
//! time. Acknowledgements are not counted among these bytes, so that a flood does not pay for
//! itself.

use std::time::{Duration, Instant};

/// What a client sends before its first frame (RFC 9113 §3.4).
const PREFACE: usize = 24;

/// The head of a frame (RFC 9113 §4.1).
const HEAD: usize = 9;

/// Frames that move nothing which the other side may send at once. It is also how many answers
/// to PING and SETTINGS it may leave unread.
const MOST_IDLE: u64 = 10_000;

/// What one of them costs, where each byte that we send pays 1.
const COST: u64 = 4;

/// What an answer to a PING costs on top: we ask rarely, and h2 writes a line in the log for each
/// answer that it has not asked for.
const UNASKED: u64 = 99 * COST;

/// What a millisecond pays: 1,000 frames in a second.
const PAID_BY_TIME: u64 = COST;

/// What a request pays: a few frames around it, as some clients send them.
const PAID_BY_REQUEST: u64 = 4 * COST;

/// A request is reset at once within this time, or within twice of it: later, a deadline may have
/// run out.
const EARLY: Duration = Duration::from_secs(1);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

/// The flag of a PING or SETTINGS that answers one.
const ACK: u8 = 1;

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

/// What was one too many; `good` is how many bytes were good before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excess {
    /// Bytes up to the end of a frame.
    pub good: usize,
    /// What there was too much of.
    pub what: &'static str,
}

/// What one side of a connection sends.
#[derive(Debug)]
pub struct Frames {
    /// Bytes up to the next head.
    skip: usize,
    head: [u8; HEAD],
    have: usize,
    idle: Allowance,
    requests: Option<Requests>,
    excess: Option<&'static str>,
}

impl Frames {
    /// What a client sends.
    pub fn of_client(now: Instant, carries: Carries) -> Self {
        let requests = Some(Requests::new(now, carries));
        Self { skip: PREFACE, requests, ..Self::of_server(now) }
    }

    /// What a server sends.
    pub fn of_server(now: Instant) -> Self {
        let idle = Allowance { spare: MOST_IDLE * COST, owed: 0, since: now };
        Self { skip: 0, head: [0; HEAD], have: 0, idle, requests: None, excess: None }
    }

    /// We sent this many bytes.
    pub fn sent(&mut self, bytes: usize) {
        self.idle.sent(bytes as u64);
    }

    /// Counts the frames in `bytes`, which follow those of the last time.
    ///
    /// # Errors
    /// What was too much, and where the frame ends that was; nothing after it is counted.
    pub fn judge(&mut self, bytes: &[u8], now: Instant) -> Result<(), Excess> {
        let mut good = 0;
        loop {
            let skipped = self.skip.min(bytes.len() - good);
            good += skipped;
            self.skip -= skipped;
            if let Some(what) = self.excess.filter(|_| self.skip == 0) {
                return Err(Excess { good, what });
            }
            let head = &bytes[good..bytes.len().min(good + HEAD - self.have)];
            if self.skip > 0 || head.is_empty() {
                return Ok(());
            }
            self.head[self.have..self.have + head.len()].copy_from_slice(head);
            self.have += head.len();
            good += head.len();
            if self.have == HEAD {
                self.have = 0;
                self.excess = self.count(now);
            }
        }
    }

    /// Counts the frame whose head is read; says what it is too much of.
    fn count(&mut self, now: Instant) -> Option<&'static str> {
        let [a, b, c, kind, flags, s, t, u, v] = self.head;
        self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
        let stream = u32::from_be_bytes([s & 0x7f, t, u, v]);
        let asks = flags & ACK == 0;
        match (kind, &mut self.requests) {
            (DATA | CONTINUATION, _) => return None,
            (HEADERS, Some(requests)) => {
                requests.opened(stream);
                self.idle.pay(PAID_BY_REQUEST);
                return None;
            }
            (RST_STREAM, Some(requests)) => {
                let fits = requests.reset(stream, now);
                if !fits {
                    return Some("requests that are reset at once");
                }
            }
            (PING, _) if asks => self.idle.owed += PONG,
            (PING, _) => self.idle.spare = self.idle.spare.saturating_sub(UNASKED),
            (SETTINGS, _) if asks => self.idle.owed += HEAD as u64,
            _ => {}
        }
        (!self.idle.spend(now)).then_some("frames that move nothing")
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

    fn spend(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since).as_millis();
        if passed > 0 {
            self.since = now;
            self.pay(PAID_BY_TIME.saturating_mul(u64::try_from(passed).unwrap_or(u64::MAX)));
        }
        let left = self.spare.checked_sub(COST);
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

    /// Whether the client may reset this stream now.
    fn reset(&mut self, stream: u32, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since);
        if passed >= EARLY {
            self.old = (if passed < 2 * EARLY { self.old.1 } else { self.newest }, self.newest);
            self.since = now;
        }
        if stream <= self.old.0 {
            return true;
        }
        let left = self.spare.checked_sub(2);
        self.spare = left.unwrap_or(self.spare);
        left.is_some()
    }
}

#[cfg(test)]
mod tests;
