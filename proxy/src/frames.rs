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

/// What a millisecond pays: 1,000 frames in a second.
const PAID_BY_TIME: u64 = COST;

/// What a request pays: a few frames around it, as some clients send them.
const PAID_BY_REQUEST: u64 = 4 * COST;

/// How many requests a client may reset at once, beyond every second one.
const MOST_RESETS: u32 = 500;

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

/// Whether it is counted how many of its requests a client resets at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resets {
    /// It is: a client of ours does what it does for itself.
    Bounded,
    /// It is not: a sidecar carries the requests of many, who must not pay for one another.
    Free,
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
    pub fn of_client(now: Instant, resets: Resets) -> Self {
        let requests = Some(Requests { resets, ..Requests::new(now) });
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
    resets: Resets,
    spare: u32,
    newest: u32,
    /// The newest stream a while ago: those above it are young. The second is to become the first.
    old: (u32, u32),
    since: Instant,
}

impl Requests {
    const fn new(now: Instant) -> Self {
        Self { resets: Resets::Bounded, spare: 2 * MOST_RESETS, newest: 0, old: (0, 0), since: now }
    }

    fn opened(&mut self, stream: u32) {
        if stream > self.newest {
            self.newest = stream;
            self.spare = (2 * MOST_RESETS).min(self.spare + 1);
        }
    }

    /// Whether the client may reset this stream now.
    fn reset(&mut self, stream: u32, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since);
        if passed >= EARLY {
            self.old = (if passed < 2 * EARLY { self.old.1 } else { self.newest }, self.newest);
            self.since = now;
        }
        if self.resets == Resets::Free || stream <= self.old.0 {
            return true;
        }
        let left = self.spare.checked_sub(2);
        self.spare = left.unwrap_or(self.spare);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOAWAY: u8 = 7;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, flags: u8, stream: u32, payload: usize) -> Vec<u8> {
        let mut frame = (payload as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.resize(HEAD + payload, 0);
        frame
    }

    fn client(now: Instant) -> Frames {
        Frames { skip: 0, ..Frames::of_client(now, Resets::Bounded) }
    }

    /// How many of `frames` are passed until one is too many.
    fn passed(frames: &mut Frames, now: Instant, one: &[u8]) -> u64 {
        (0..2 * MOST_IDLE).find(|_| frames.judge(one, now).is_err()).unwrap_or(2 * MOST_IDLE)
    }

    #[test]
    fn frames_that_move_nothing_have_an_end() {
        let now = Instant::now();
        for (kind, payload) in
            [(PING, 8), (SETTINGS, 0), (2, 5), (GOAWAY, 8), (WINDOW_UPDATE, 4), (99, 20)]
        {
            let one = frame(kind, 0, 0, payload);
            assert_eq!(passed(&mut client(now), now, &one), MOST_IDLE, "{kind}");
            assert_eq!(passed(&mut Frames::of_server(now), now, &one), MOST_IDLE, "{kind}");
        }
        for (kind, payload) in [(DATA, 1), (HEADERS, 9), (CONTINUATION, 9)] {
            let one = frame(kind, 0, 1, payload);
            assert_eq!(passed(&mut client(now), now, &one), 2 * MOST_IDLE, "{kind}");
        }
    }

    #[test]
    fn answers_do_not_pay_for_a_flood_and_responses_do() {
        let now = Instant::now();
        let (ping, update) = (frame(PING, 0, 0, 8), frame(WINDOW_UPDATE, 0, 1, 4));
        let mut frames = client(now);
        let answered = (0..2 * MOST_IDLE).find(|_| {
            let over = frames.judge(&ping, now).is_err();
            frames.sent(PONG as usize);
            over
        });
        assert_eq!(answered, Some(MOST_IDLE));
        let mut frames = client(now);
        for _ in 0..3 * MOST_IDLE {
            frames.judge(&[update.as_slice(), &update].concat(), now).unwrap();
            frames.sent(15);
        }
    }

    #[test]
    fn time_pays_for_pings() {
        let mut now = Instant::now();
        let mut frames = client(now);
        assert_eq!(passed(&mut frames, now, &frame(PING, 0, 0, 8)), MOST_IDLE);
        let mut frames = client(now);
        for _ in 0..3 * MOST_IDLE {
            now += Duration::from_millis(1);
            frames.judge(&frame(PING, 0, 0, 8), now).unwrap();
        }
    }

    /// How many requests are reset until it is too many, of `each` in `every` so long after they
    /// were opened.
    fn resets(each: u32, every: u32, after: Duration, resets: Resets) -> Option<u32> {
        let mut now = Instant::now();
        let mut frames = Frames { skip: 0, ..Frames::of_client(now, resets) };
        (0..20_000).find(|request| {
            frames.judge(&frame(HEADERS, 5, 2 * request + 1, 9), now).unwrap();
            now += after;
            request % every < each
                && frames.judge(&frame(RST_STREAM, 0, 2 * request + 1, 4), now).is_err()
        })
    }

    #[test]
    fn resetting_early_has_an_end_unless_as_many_requests_are_not() {
        let at_once = Duration::from_millis(1);
        let cases = [
            (1, 1, at_once, Resets::Bounded, true),
            (9, 10, at_once, Resets::Bounded, true),
            (1, 2, at_once, Resets::Bounded, false),
            (1, 1, 2 * EARLY, Resets::Bounded, false),
            (1, 1, at_once, Resets::Free, false),
        ];
        for (each, every, after, bound, ends) in cases {
            let ended = resets(each, every, after, bound);
            assert_eq!(ended.is_some(), ends, "{each} of {every} after {after:?}: {ended:?}");
        }
        let ended = resets(1, 1, Duration::ZERO, Resets::Bounded).unwrap();
        assert!(ended <= 2 * MOST_RESETS, "{ended}");
    }

    #[test]
    fn what_is_too_much_is_told_at_the_end_of_its_frame_however_it_is_cut() {
        let now = Instant::now();
        let one = frame(PING, 0, 0, 8);
        let spent = || {
            let mut frames = client(now);
            (0..MOST_IDLE).for_each(|_| frames.judge(&one, now).unwrap());
            frames
        };
        let what = "frames that move nothing";
        let two = [one.as_slice(), &one].concat();
        assert_eq!(spent().judge(&two, now), Err(Excess { good: one.len(), what }));
        for cut in 1..one.len() {
            let mut frames = spent();
            frames.judge(&one[..cut], now).unwrap();
            let good = one.len() - cut;
            assert_eq!(frames.judge(&two[cut..], now), Err(Excess { good, what }), "{cut}");
        }
    }

    #[test]
    fn the_preface_is_no_frame() {
        let now = Instant::now();
        let mut frames = Frames::of_client(now, Resets::Bounded);
        let bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(HEADERS, 4, 7, 1)];
        frames.judge(&bytes.concat(), now).unwrap();
        assert_eq!(frames.requests.unwrap().newest, 7);
    }
}
