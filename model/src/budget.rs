//! How many retries a Service's requests may cause, so that retries never make an outage worse.

use std::fmt;
use std::time::Instant;

use crate::load::Stamped;

/// Retries that one request earns.
const PER_REQUEST: f32 = 0.2;

/// Retries earned in a second without any request, for those who send few.
const PER_SECOND: f32 = 10.0;

/// How long what was earned is good, in seconds.
const WINDOW: f32 = 10.0;

/// The retry budget of one Service port, shared by all workers: 20 % of the requests of the last
/// ten seconds, and ten retries a second besides (the figures of Finagle, Linkerd and GEP-3388).
///
/// A token bucket that needs neither lock nor slots: the balance falls with a time constant of
/// ten seconds towards the hundred retries that ten seconds earn by themselves. At a steady rate
/// of requests it so holds what a sliding window of ten seconds would count; spent down to
/// nothing, it earns 20 % of requests and 10/s again.
pub struct RetryBudget {
    balance: Stamped,
}

impl RetryBudget {
    /// A budget that holds the hundred retries of a window without requests.
    pub fn new(now: Instant) -> Self {
        Self { balance: Stamped::new(PER_SECOND * WINDOW, now) }
    }

    /// Accounts for one request of a client; not for a retry.
    pub fn deposit(&self, now: Instant) {
        self.balance.update(now, |balance, age| Some(aged(balance, age) + PER_REQUEST));
    }

    /// Takes one retry out. False, and nothing is taken, where there is none left:
    /// then the outcome is delivered as it is.
    pub fn try_withdraw(&self, now: Instant) -> bool {
        self.balance.update(now, |balance, age| {
            let left = aged(balance, age) - 1.0;
            (left >= 0.0).then_some(left)
        })
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBudget").field("balance", &self.balance.last()).finish()
    }
}

/// What a balance has become after `age` seconds.
fn aged(balance: f32, age: f32) -> f32 {
    let idle = PER_SECOND * WINDOW;
    idle + (balance - idle) * (-age / WINDOW).exp()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    fn drain(budget: &RetryBudget, now: Instant) -> usize {
        (0..1_000_000).take_while(|_| budget.try_withdraw(now)).count()
    }

    #[test]
    fn an_idle_service_has_a_hundred_retries() {
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        assert_eq!(drain(&budget, start), 100);
        assert_eq!(drain(&budget, start + Duration::from_secs(3600)), 100);
    }

    #[test]
    fn five_requests_earn_one_retry() {
        let now = Instant::now();
        let budget = RetryBudget::new(now);
        drain(&budget, now);
        for _ in 0..500 {
            budget.deposit(now);
        }
        let retries = drain(&budget, now);
        assert!((99..=100).contains(&retries), "{retries}");
    }

    #[test]
    fn an_empty_budget_earns_ten_a_second() {
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        drain(&budget, start);
        let mut retries = 0;
        for step in 1..=100 {
            retries += drain(&budget, start + step * Duration::from_millis(100));
        }
        assert!((94..=100).contains(&retries), "{retries} in ten seconds");
    }

    #[test]
    fn a_steady_rate_holds_ten_seconds_worth() {
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        let mut now = start;
        for _ in 0..100_000 {
            now += Duration::from_millis(1);
            budget.deposit(now);
        }
        // 20 % of 1000/s over 10 s, and the hundred besides
        let retries = drain(&budget, now);
        assert!((2000..=2200).contains(&retries), "{retries}");
    }

    #[test]
    fn a_service_that_fails_all_is_sent_a_fifth_more() {
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        drain(&budget, start);
        let mut retries = 0;
        for step in 1..=10_000 {
            let now = start + step * Duration::from_millis(1);
            budget.deposit(now);
            retries += u32::from(budget.try_withdraw(now));
        }
        // ten seconds: 20 % of 10 000, and 10/s
        assert!((2000..=2110).contains(&retries), "{retries}");
    }

    #[test]
    fn what_was_earned_long_ago_is_gone() {
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        for _ in 0..5000 {
            budget.deposit(start);
        }
        let retries = drain(&budget, start + Duration::from_secs(120));
        assert!((100..=101).contains(&retries), "{retries}");
    }

    #[test]
    fn workers_never_take_more_than_there_is() {
        let now = Instant::now();
        let budget = RetryBudget::new(now);
        let taken = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        taken.fetch_add(budget.try_withdraw(now).into(), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(taken.into_inner(), 100);
    }
}
