//! Passive outlier detection: an endpoint whose requests fail one after another is left out for
//! a while, unless it is the last.
//!
//! - Five failures in a row eject. A success begins the count anew.
//! - The first ejection lasts 5 s; each that follows lasts twice as long, up to 50 s; all by
//!   ±20 %, so that no two sidecars return at once and none waits longer than 60 s.
//! - An endpoint returns on probation: its first failure ejects it again, at once. A success ends
//!   the probation (also that of a request begun before the ejection, or sent because nothing
//!   better was left): from then on it takes five failures again.
//! - How often it was ejected is forgotten when it has stayed in for 60 s and is not on
//!   probation. So an endpoint that flaps waits longer each time, and one that is idle after its
//!   return is not thought well.

mod state;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::Rng;

use self::state::State;
use crate::endpoint::Endpoint;

/// Failures in a row that eject.
pub(crate) const THRESHOLD: u8 = 5;

/// Records how a request to `endpoint` ended, and ejects it where that was one failure too many:
/// then the time it is out for is returned.
///
/// The last endpoint of `set` that is in is never ejected, however it fails: it may be the only
/// one that still answers some of the requests. It goes when another one is back.
pub fn record(
    set: &[Arc<Endpoint>],
    endpoint: &Endpoint,
    failed: bool,
    now: Instant,
    rng: &mut impl Rng,
) -> Option<Duration> {
    let health = &endpoint.health;
    if !failed {
        health.success();
        return None;
    }
    if !health.failure(now) || !another_is_in(set, endpoint, now) {
        return None;
    }
    let ejection = health.eject(now, rng)?;
    // Two workers may eject the last two endpoints at once: whoever sees it takes it back.
    if another_is_in(set, endpoint, now) {
        Some(ejection.length)
    } else {
        health.take_back(&ejection);
        None
    }
}

fn another_is_in(set: &[Arc<Endpoint>], endpoint: &Endpoint, now: Instant) -> bool {
    set.iter().any(|other| other.key != endpoint.key && !other.health.is_ejected(now))
}

/// The failures and the ejection of one endpoint, shared by all workers without a lock.
pub struct Health {
    start: Instant,
    /// A packed [`State`], so that workers change all of it at once.
    word: AtomicU64,
}

/// An ejection just made: for how long, and from what state to what.
struct Ejection {
    length: Duration,
    before: State,
    after: State,
}

impl Health {
    /// A healthy endpoint.
    pub fn new(now: Instant) -> Self {
        Self { start: now, word: AtomicU64::new(State::default().pack()) }
    }

    /// A request succeeded: failures in a row and probation are over.
    pub fn success(&self) {
        self.change(|state| {
            let better = State { failures: 0, probation: false, ..state };
            (better != state).then_some(better)
        });
    }

    /// A request failed. True where the endpoint should be ejected now: at the fifth failure in
    /// a row and at each that follows, or at the first on probation. Failures while it is
    /// ejected (of requests begun before) count for nothing.
    pub fn failure(&self, now: Instant) -> bool {
        let now_ms = self.millis(now);
        let counted = self.change(|state| {
            let failures = state.failures.saturating_add(1);
            (state.until_ms <= now_ms).then_some(State { failures, ..state })
        });
        counted.is_some_and(|(_, state)| state.probation || state.failures >= THRESHOLD)
    }

    /// Whether it is left out.
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.state().until_ms > self.millis(now)
    }

    /// The time left until it returns; `None` where it is in.
    pub fn ejected_until(&self, now: Instant) -> Option<Duration> {
        let left = self.state().until_ms.saturating_sub(self.millis(now));
        (left > 0).then(|| Duration::from_millis(left))
    }

    /// Leaves the endpoint out for the next length of time; `None` where it is out already.
    fn eject(&self, now: Instant, rng: &mut impl Rng) -> Option<Ejection> {
        let now_ms = self.millis(now);
        let jitter = rng.random_range(0.8..=1.2);
        let (before, after) =
            self.change(|state| (state.until_ms <= now_ms).then(|| state.ejected(now_ms, jitter)))?;
        let length = Duration::from_millis(after.until_ms.saturating_sub(now_ms));
        Some(Ejection { length, before, after })
    }

    /// Undoes an ejection. What else has happened since stays, and the next failure is again one
    /// too many, as this one was.
    fn take_back(&self, ejection: &Ejection) {
        let State { until_ms, ejections, .. } = ejection.before;
        self.change(|state| {
            let same = state.until_ms == ejection.after.until_ms;
            same.then_some(State { until_ms, ejections, ..state })
        });
    }

    /// Replaces the state by what `next` makes of it; what it was and is, or `None` where `next`
    /// leaves it, which costs no write.
    fn change(&self, next: impl Fn(State) -> Option<State>) -> Option<(State, State)> {
        let step = |word| next(State::unpack(word)).map(State::pack);
        let before = self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step).ok()?;
        let before = State::unpack(before);
        next(before).map(|after| (before, after))
    }

    fn state(&self) -> State {
        State::unpack(self.word.load(Ordering::SeqCst))
    }

    fn millis(&self, now: Instant) -> u64 {
        let millis = now.saturating_duration_since(self.start).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Health").field(&self.state()).finish()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::endpoint::EndpointKey;

    const SECOND: Duration = Duration::from_secs(1);

    fn rng() -> SmallRng {
        SmallRng::seed_from_u64(1)
    }

    fn set(size: u8, now: Instant) -> Vec<Arc<Endpoint>> {
        let key = |n| EndpointKey { address: [10, 0, 0, n].into(), target: 80, mesh: None };
        (0..size).map(|n| Arc::new(Endpoint::new(key(n), "pod", now))).collect()
    }

    /// Fails until ejected, and says after how many failures and for how long.
    fn fail_out(set: &[Arc<Endpoint>], now: Instant) -> (usize, Duration) {
        let mut rng = rng();
        let tries = (1..20).map(|n| (n, record(set, &set[0], true, now, &mut rng)));
        let (n, length) = tries.into_iter().find(|(_, ejected)| ejected.is_some()).unwrap();
        (n, length.unwrap())
    }

    #[test]
    fn five_failures_in_a_row_eject() {
        let now = Instant::now();
        let set = set(2, now);
        let (failures, length) = fail_out(&set, now);
        assert_eq!(failures, 5);
        assert!((4 * SECOND..=6 * SECOND).contains(&length));
        let health = &set[0].health;
        assert!(health.is_ejected(now) && !set[1].health.is_ejected(now));
        assert_eq!(health.ejected_until(now), Some(length));
        assert_eq!(health.ejected_until(now + SECOND), Some(length - SECOND));
        assert_eq!(health.ejected_until(now + length), None);
        assert!(!health.is_ejected(now + length));
    }

    #[test]
    fn a_success_between_begins_the_count_anew() {
        let now = Instant::now();
        let set = set(2, now);
        for n in 1..100 {
            assert_eq!(record(&set, &set[0], n % 5 != 0, now, &mut rng()), None);
        }
    }

    #[test]
    fn the_last_endpoint_stays() {
        let now = Instant::now();
        let one = set(1, now);
        assert!((0..500).all(|_| record(&one, &one[0], true, now, &mut rng()).is_none()));
        assert!(!one[0].health.is_ejected(now));

        let two = set(2, now);
        let (_, length) = fail_out(&two, now);
        assert!((0..9).all(|_| record(&two, &two[1], true, now, &mut rng()).is_none()));
        // the other is back: one more failure is enough
        assert!(record(&two, &two[1], true, now + length, &mut rng()).is_some());
    }

    #[test]
    fn each_ejection_in_a_row_is_twice_as_long_up_to_a_minute() {
        let mut now = Instant::now();
        let set = set(2, now);
        for (round, nominal) in [5, 10, 20, 40, 50, 50, 50].into_iter().enumerate() {
            let (failures, length) = fail_out(&set, now);
            assert_eq!(failures, if round == 0 { 5 } else { 1 }, "on probation one is enough");
            let nominal = nominal * SECOND;
            assert!(length >= nominal.mul_f64(0.799) && length <= nominal.mul_f64(1.2));
            assert!(length <= 60 * SECOND);
            now += length;
        }
    }

    #[test]
    fn probation_ends_with_a_success_the_longer_wait_with_time() {
        let start = Instant::now();
        // (successes after the return, seconds in until it fails) -> (failures, nominal seconds)
        let cases = [
            ((false, 0), (1, 10)),
            ((false, 3600), (1, 10)),
            ((true, 0), (5, 10)),
            ((true, 59), (5, 10)),
            ((true, 60), (5, 5)),
        ];
        for ((succeeds, seconds), (failures, nominal)) in cases {
            let set = set(2, start);
            let (_, length) = fail_out(&set, start);
            let now = start + length + seconds * SECOND;
            if succeeds {
                record(&set, &set[0], false, now, &mut rng());
            }
            let (n, length) = fail_out(&set, now);
            assert_eq!(n, failures, "{succeeds} {seconds}");
            let ratio = length.as_secs_f64() / f64::from(nominal);
            assert!((0.79..=1.2).contains(&ratio), "{succeeds} {seconds}: {length:?}");
        }
    }

    #[test]
    fn failures_while_ejected_count_for_nothing() {
        let now = Instant::now();
        let set = set(2, now);
        let (_, length) = fail_out(&set, now);
        assert!((0..50).all(|_| !set[0].health.failure(now)));
        assert_eq!(set[0].health.ejected_until(now), Some(length));
        set[0].health.success();
        assert!(set[0].health.is_ejected(now), "a success does not shorten it");
        assert!(!set[0].health.failure(now + length), "but ends the probation");
    }

    #[test]
    fn the_jitter_spreads() {
        let now = Instant::now();
        let mut rng = rng();
        let mut lengths: Vec<_> =
            (0..1000).map(|_| Health::new(now).eject(now, &mut rng).unwrap().length).collect();
        lengths.sort();
        assert!(lengths[0] < 4050 * SECOND / 1000 && lengths[999] > 5950 * SECOND / 1000);
    }

    #[test]
    fn an_ejection_taken_back_leaves_the_endpoint_in_and_watched() {
        let now = Instant::now();
        let health = Health::new(now);
        assert!((0..4).all(|_| !health.failure(now)) && health.failure(now));
        let ejection = health.eject(now, &mut rng()).unwrap();
        assert!(health.is_ejected(now) && health.eject(now, &mut rng()).is_none());
        health.take_back(&ejection);
        assert!(!health.is_ejected(now));
        assert!(health.failure(now), "the next failure is again one too many");
        let again = health.eject(now, &mut rng()).unwrap();
        assert!(again.length <= 6 * SECOND, "and the first ejection was none");
    }

    #[test]
    fn workers_that_eject_at_once_leave_one_in() {
        let now = Instant::now();
        let rounds: Vec<_> = (0..5000).map(|_| set(2, now)).collect();
        let arrived = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for worker in 0..2 {
                let (rounds, arrived, mut rng) = (&rounds, &arrived, rng());
                scope.spawn(move || {
                    for (n, set) in (1..).zip(rounds) {
                        (0..4).for_each(|_| assert!(!set[worker].health.failure(now)));
                        // spin, so that both go on within nanoseconds
                        arrived.fetch_add(1, Ordering::SeqCst);
                        while arrived.load(Ordering::SeqCst) < 2 * n {
                            std::thread::yield_now();
                        }
                        record(set, &set[worker], true, now, &mut rng);
                    }
                });
            }
        });
        for set in &rounds {
            assert!(set.iter().any(|endpoint| !endpoint.health.is_ejected(now)));
        }
    }
}
