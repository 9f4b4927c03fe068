//! When to ask for the next certificate: plain arithmetic over times that come in.

use std::time::{Duration, SystemTime};

use rand::Rng;

/// How long to wait after the first failed attempt, at most.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// How long to wait after any failed attempt, at most.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// How long to wait after any failed attempt, at least.
const LEAST_RETRY: Duration = Duration::from_millis(50);

/// When a certificate is to be renewed: at two thirds of its life, give or take 5 %.
///
/// Life runs from the moment of issue as the asker saw it, not from notBefore, which lies five
/// minutes before that: so certificates of 5 s work like those of 24 h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    at: SystemTime,
    longest: Duration,
}

impl Renewal {
    /// The plan for a certificate that was issued at `issued_at` and ends at `not_after`.
    pub fn plan(issued_at: SystemTime, not_after: SystemTime, rng: &mut impl Rng) -> Self {
        let life = not_after.duration_since(issued_at).unwrap_or_default();
        let longest = life.mul_f64(2.0 / 3.0 * rng.random_range(0.95..=1.05));
        Self { at: issued_at + longest, longest }
    }

    /// The moment to renew at.
    pub fn at(&self) -> SystemTime {
        self.at
    }

    /// How long to wait from `now`; zero when it is time.
    ///
    /// The wall clock may jump, so ask again at least every half minute instead of sleeping it
    /// all in one: a jump forward makes it due at once, and a jump back never makes the wait
    /// longer than it was at the beginning.
    pub fn wait(&self, now: SystemTime) -> Duration {
        self.at.duration_since(now).unwrap_or_default().min(self.longest)
    }
}

/// How long to wait between failed attempts: up to 0.5 s, then twice as long each time, up to
/// 60 s, at random below that (full jitter), so that a thousand sidecars do not come at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retry {
    failed: u32,
}

impl Retry {
    /// The wait after one more failure, at `now`.
    ///
    /// While the certificate in use is good until `not_after`, never more than half of what is
    /// left of it: an attempt always comes before the end, however short the life.
    pub fn next(
        &mut self,
        now: SystemTime,
        not_after: Option<SystemTime>,
        rng: &mut impl Rng,
    ) -> Duration {
        let ceiling = FIRST_RETRY.saturating_mul(1 << self.failed.min(7)).min(LAST_RETRY);
        self.failed = self.failed.saturating_add(1);
        let wait = ceiling.mul_f64(rng.random_range(0.0..=1.0));
        let left = not_after.and_then(|end| end.duration_since(now).ok());
        left.map_or(wait, |left| wait.min(left / 2)).max(LEAST_RETRY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use std::time::UNIX_EPOCH;

    const ISSUED: SystemTime = UNIX_EPOCH;

    fn rng() -> SmallRng {
        SmallRng::seed_from_u64(7)
    }

    fn after(seconds: f64) -> SystemTime {
        ISSUED + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn renewal_is_due_at_two_thirds_give_or_take_five_percent() {
        let mut rng = rng();
        for life in [5.0, 20.0, 86_400.0] {
            let mut waits: Vec<f64> = (0..500)
                .map(|_| Renewal::plan(ISSUED, after(life), &mut rng).wait(ISSUED).as_secs_f64())
                .collect();
            waits.sort_by(f64::total_cmp);
            let (least, most) = (waits[0] / life, waits[499] / life);
            assert!((0.6333..0.640).contains(&least), "{life}: least {least}");
            assert!((0.694..0.7001).contains(&most), "{life}: most {most}");
        }
    }

    #[test]
    fn a_short_life_is_renewed_before_its_end_and_not_at_once() {
        let plan = Renewal::plan(ISSUED, after(5.0), &mut rng());
        assert!(plan.wait(ISSUED) > Duration::from_secs(3));
        assert!(plan.at() < after(4.0));
    }

    #[test]
    fn it_is_due_when_the_clock_has_passed_it_or_life_is_over() {
        let plan = Renewal::plan(ISSUED, after(100.0), &mut rng());
        assert_eq!(plan.wait(plan.at()), Duration::ZERO);
        assert_eq!(plan.wait(after(200_000.0)), Duration::ZERO);
        let over = Renewal::plan(after(10.0), ISSUED, &mut rng());
        assert_eq!(over.wait(after(10.0)), Duration::ZERO);
    }

    #[test]
    fn a_clock_that_jumps_back_does_not_put_it_off() {
        let issued = after(1_000_000.0);
        let plan = Renewal::plan(issued, issued + Duration::from_secs(90), &mut rng());
        assert!(plan.wait(ISSUED) < Duration::from_secs(64));
    }

    #[test]
    fn retries_grow_to_a_minute_with_full_jitter() {
        let mut rng = rng();
        let mut most = [Duration::ZERO; 12];
        for _ in 0..300 {
            let mut retry = Retry::default();
            for slot in &mut most {
                *slot = retry.next(ISSUED, None, &mut rng).max(*slot);
            }
        }
        let ceilings = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0, 60.0];
        for (most, ceiling) in most.iter().zip(ceilings) {
            let share = most.as_secs_f64() / ceiling;
            assert!((0.95..=1.0).contains(&share), "{most:?} of {ceiling}");
        }
    }

    #[test]
    fn retries_come_before_the_certificate_ends() {
        let mut retry = Retry { failed: 30 };
        let mut now = after(3.3);
        let mut attempts = 0;
        while now < after(5.0) {
            let wait = retry.next(now, Some(after(5.0)), &mut rng());
            assert!(wait >= LEAST_RETRY);
            now += wait;
            attempts += usize::from(now < after(5.0));
        }
        assert!(attempts >= 4, "{attempts} attempts");
    }

    #[test]
    fn after_the_end_of_the_certificate_retries_go_on_as_before() {
        let mut retry = Retry { failed: 30 };
        let waits = (0..50).map(|_| retry.next(after(10.0), Some(after(5.0)), &mut rng()));
        assert!(waits.max() > Some(Duration::from_secs(1)));
    }
}
