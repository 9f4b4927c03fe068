//! How busy and how slow one endpoint is: its requests in flight and its peak-EWMA latency.
//!
//! Peak EWMA is Finagle's measure (`PeakEwma.scala`), which Linkerd's proxy uses too: a sample
//! above the estimate replaces it at once, a lower one pulls it down slowly. An endpoint that
//! turns slow is left within one response, and is believed to be fast again only after a while.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::outlier::THRESHOLD;

/// Time constant of the decay: after so many seconds 1/e of an old latency is left.
const DECAY_SECONDS: f32 = 10.0;

/// Latency in seconds of an endpoint that was never measured: below what a request over the network
/// takes, so that a new endpoint is tried, above nothing, so that its requests in flight count.
const UNTRIED: f32 = 10e-6;

/// The same once so many requests are under way there as eject it if all of them fail: it may be one
/// that never answers.
const ON_TRIAL: f32 = 30e-3;

/// The load of one endpoint, shared by all workers without a lock.
///
/// Every [`begin`](Self::begin) is followed by one [`end`](Self::end).
pub struct Load {
    in_flight: AtomicU32,
    /// Seconds; zero is "never measured".
    latency: Stamped,
}

impl Load {
    /// No request in flight, no latency known.
    pub fn new(now: Instant) -> Self {
        Self { in_flight: AtomicU32::new(0), latency: Stamped::new(0.0, now) }
    }

    /// A request is sent.
    pub fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A request is over. `latency` is the time from sending it to the head of the response;
    /// `None` where it says nothing about the endpoint, as when the client went away.
    ///
    /// A failure counts with the time that it took. That may be short: what keeps an endpoint
    /// which fails fast from drawing all traffic is its ejection ([`crate::outlier`]).
    pub fn end(&self, latency: Option<Duration>, now: Instant) {
        if let Some(latency) = latency {
            self.learn(latency.as_secs_f32(), now);
        }
        // Saturating: an `end` too many must not read as four thousand million requests.
        let fewer = |count: u32| count.checked_sub(1);
        let _ = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
    }

    /// Requests begun and not ended.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The latency to expect, decayed towards zero since the last response, so that an endpoint
    /// which nobody dared to use is tried again. A guess before the first response.
    pub fn latency(&self, now: Instant) -> Duration {
        Duration::from_secs_f32(self.seconds(self.in_flight(), now))
    }

    /// What one more request costs here, in seconds: latency * (in flight + 1).
    /// Only good for comparing endpoints.
    pub fn cost(&self, now: Instant) -> f64 {
        let in_flight = self.in_flight();
        f64::from(self.seconds(in_flight, now)) * (f64::from(in_flight) + 1.0)
    }

    fn seconds(&self, in_flight: u32, now: Instant) -> f32 {
        let (latency, age) = self.latency.read(now);
        match latency {
            0.0 if in_flight < u32::from(THRESHOLD) => UNTRIED,
            0.0 => ON_TRIAL,
            _ => latency * (-age / DECAY_SECONDS).exp(),
        }
    }

    fn learn(&self, sample: f32, now: Instant) {
        // A nanosecond at the least: zero is "never measured".
        let sample = sample.max(1e-9);
        self.latency.update(now, |latency, age| {
            let keep = (-age / DECAY_SECONDS).exp();
            Some(sample.max(latency * keep + sample * (1.0 - keep)))
        });
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load")
            .field("in_flight", &self.in_flight())
            .field("peak_latency_seconds", &self.latency.last())
            .finish()
    }
}

/// A number and when it was written, changed together: an `f32` and a count of ticks since the
/// start in one atomic word.
///
/// A tick is 10 ms, and ticks wrap after 497 days: a value not written for so long looks young
/// once, until it is written again.
pub(crate) struct Stamped {
    start: Instant,
    word: AtomicU64,
}

impl Stamped {
    const TICK_MILLIS: u128 = 10;
    /// Ticks that a worker's `now` may lie before the stamp of another: an hour.
    const SKEW: u32 = 360_000;

    /// Holds `value` as of `now`.
    pub(crate) fn new(value: f32, now: Instant) -> Self {
        Self { start: now, word: AtomicU64::new(pack(value, 0)) }
    }

    /// The value as last written, whenever that was.
    pub(crate) fn last(&self) -> f32 {
        unpack(self.word.load(Ordering::Relaxed)).0
    }

    /// The value and its age in seconds.
    pub(crate) fn read(&self, now: Instant) -> (f32, f32) {
        self.aged(self.word.load(Ordering::Relaxed), self.tick(now))
    }

    /// Writes `next(value, age)` with the stamp `now`, unless that is `None`; `next` is called
    /// again when another worker was faster. True when written.
    pub(crate) fn update(&self, now: Instant, next: impl Fn(f32, f32) -> Option<f32>) -> bool {
        let tick = self.tick(now);
        let change = |word: u64| {
            let (value, age) = self.aged(word, tick);
            // A worker whose `now` is a little older must not turn the stamp back.
            let stamp = if age > 0.0 { tick } else { unpack(word).1 };
            next(value, age).map(|value| pack(value, stamp))
        };
        self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change).is_ok()
    }

    fn tick(&self, now: Instant) -> u32 {
        let ticks = now.saturating_duration_since(self.start).as_millis() / Self::TICK_MILLIS;
        // invariant: wraps on purpose; ages are differences and do not mind.
        ticks as u32
    }

    fn aged(&self, word: u64, tick: u32) -> (f32, f32) {
        let (value, stamp) = unpack(word);
        let ticks = tick.wrapping_sub(stamp);
        let ticks = if ticks > u32::MAX - Self::SKEW { 0 } else { ticks };
        (value, ticks as f32 * Self::TICK_MILLIS as f32 / 1000.0)
    }
}

fn pack(value: f32, stamp: u32) -> u64 {
    u64::from(value.to_bits()) << 32 | u64::from(stamp)
}

fn unpack(word: u64) -> (f32, u32) {
    (f32::from_bits((word >> 32) as u32), word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn close(left: Duration, right: Duration) -> bool {
        left.abs_diff(right) < Duration::from_micros(200)
    }

    fn measured(latency: Duration, now: Instant) -> Load {
        let load = Load::new(now);
        load.begin();
        load.end(Some(latency), now);
        load
    }

    #[test]
    fn a_new_endpoint_is_tried_and_gets_little_until_it_has_answered() {
        let now = Instant::now();
        let (fast, slow) = (measured(Duration::from_micros(100), now), measured(20 * MS, now));
        let new = Load::new(now);
        for _ in 0..THRESHOLD {
            assert!(new.cost(now) < fast.cost(now), "it is tried");
            new.begin();
        }
        assert!(new.cost(now) > slow.cost(now), "it may be one that never answers");
        (0..10).for_each(|_| slow.begin());
        assert!(new.cost(now) < slow.cost(now), "but others are not waited for without end");
        new.end(Some(MS), now);
        assert!(new.cost(now) < slow.cost(now));
    }

    #[test]
    fn a_higher_sample_raises_at_once_a_lower_one_only_with_time() {
        let start = Instant::now();
        let load = measured(10 * MS, start);
        load.end(Some(100 * MS), start);
        assert!(close(load.latency(start), 100 * MS));
        load.end(Some(10 * MS), start);
        assert!(close(load.latency(start), 100 * MS), "no time has passed");

        let later = start + Duration::from_secs(10);
        load.end(Some(10 * MS), later);
        // 100 ms / e + 10 ms * (1 - 1/e)
        assert!(close(load.latency(later), Duration::from_micros(43_109)));
    }

    #[test]
    fn latency_decays_with_ten_seconds_while_nothing_is_sent() {
        let start = Instant::now();
        let load = measured(100 * MS, start);
        let cases = [(0, 100_000), (5, 60_653), (10, 36_788), (20, 13_534), (60, 248)];
        for (seconds, micros) in cases {
            let latency = load.latency(start + Duration::from_secs(seconds));
            assert!(close(latency, Duration::from_micros(micros)), "{seconds} s: {latency:?}");
        }
    }

    #[test]
    fn many_small_steps_decay_as_much_as_one() {
        let start = Instant::now();
        let load = measured(100 * MS, start);
        let mut now = start;
        for _ in 0..2500 {
            now += 4 * MS;
            load.end(Some(Duration::from_micros(1)), now);
        }
        assert!(close(load.latency(now), Duration::from_micros(36_788)), "{load:?}");
    }

    #[test]
    fn a_request_without_latency_teaches_nothing() {
        let now = Instant::now();
        let load = measured(10 * MS, now);
        load.begin();
        assert_eq!(load.in_flight(), 1);
        load.end(None, now);
        assert_eq!(load.in_flight(), 0);
        assert!(close(load.latency(now), 10 * MS));
        load.end(None, now);
        assert_eq!(load.in_flight(), 0, "one end too many is ignored");
    }

    #[test]
    fn cost_grows_with_requests_in_flight() {
        let now = Instant::now();
        let load = measured(10 * MS, now);
        let idle = load.cost(now);
        (0..3).for_each(|_| load.begin());
        assert!((load.cost(now) / idle - 4.0).abs() < 1e-9);
    }

    #[test]
    fn an_older_now_neither_decays_nor_turns_the_stamp_back() {
        let start = Instant::now();
        let late = start + Duration::from_secs(100);
        let load = Load::new(start);
        load.end(Some(50 * MS), late);
        load.end(Some(MS), late - Duration::from_secs(1));
        assert!(close(load.latency(start), 50 * MS));
        assert!(close(load.latency(late), 50 * MS));
    }

    #[test]
    fn ages_survive_the_wrap_of_the_tick() {
        let start = Instant::now();
        let wrap = start + Duration::from_millis(10 * (1 << 32));
        let load = Load::new(start);
        load.end(Some(MS), start + (wrap - start) / 2);
        load.end(Some(100 * MS), wrap - Duration::from_secs(5));
        let after = load.latency(wrap + Duration::from_secs(5));
        assert!(close(after, Duration::from_micros(36_788)), "{after:?}");
    }

    #[test]
    fn workers_share_one_load() {
        let now = Instant::now();
        let load = Load::new(now);
        std::thread::scope(|scope| {
            for worker in 1..=4 {
                let load = &load;
                scope.spawn(move || {
                    for sample in 1..=10_000 {
                        load.begin();
                        load.end(Some(Duration::from_nanos(worker * sample)), now);
                    }
                    load.begin();
                });
            }
        });
        assert_eq!(load.in_flight(), 4);
        // at one instant nothing decays: what is left is the peak of all samples
        assert!(load.latency(now).abs_diff(Duration::from_micros(40)) < Duration::from_nanos(10));
    }
}
