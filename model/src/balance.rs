//! Which endpoint a request goes to: the cheaper of two drawn at random ("power of two choices",
//! Mitzenmacher 2001), by latency and requests in flight.

use std::sync::Arc;
use std::time::Instant;

use rand::Rng;

use crate::endpoint::{Endpoint, EndpointKey};

/// Draws of two before all endpoints are looked at.
const DRAWS: usize = 3;

/// Picks the endpoint of one attempt: the cheaper ([`Load::cost`](crate::load::Load::cost)) of
/// two that are neither ejected nor in `avoid`, the endpoints that earlier attempts of the same
/// request went to.
///
/// Where none is left, one that is not ejected is tried again; where all are ejected, the
/// ejections are ignored. `None` only for no endpoints at all.
pub fn pick<'a>(
    endpoints: &'a [Arc<Endpoint>],
    avoid: &[&EndpointKey],
    now: Instant,
    rng: &mut impl Rng,
) -> Option<&'a Arc<Endpoint>> {
    if endpoints.len() < 2 {
        return endpoints.first();
    }
    let is_in = |endpoint: &Endpoint| !endpoint.health.is_ejected(now);
    let is_good = |endpoint: &Endpoint| is_in(endpoint) && !avoid.contains(&&endpoint.key);
    for _ in 0..DRAWS {
        let [one, other] = draw(endpoints, rng);
        if is_good(one) && is_good(other) {
            return Some(cheaper(one, other, now));
        }
    }
    scan(endpoints, is_good, now, rng)
        .or_else(|| scan(endpoints, is_in, now, rng))
        .or_else(|| scan(endpoints, |_| true, now, rng))
}

/// Two different endpoints in random order, of two at the least.
fn draw<'a>(endpoints: &'a [Arc<Endpoint>], rng: &mut impl Rng) -> [&'a Arc<Endpoint>; 2] {
    let one = rng.random_range(0..endpoints.len());
    let other = rng.random_range(0..endpoints.len() - 1);
    let other = if other < one { other } else { other + 1 };
    [&endpoints[one], &endpoints[other]]
}

/// The cheaper of two that `fits`, drawn among all in one pass (reservoir sampling).
fn scan<'a>(
    endpoints: &'a [Arc<Endpoint>],
    fits: impl Fn(&Endpoint) -> bool,
    now: Instant,
    rng: &mut impl Rng,
) -> Option<&'a Arc<Endpoint>> {
    let mut fitting = endpoints.iter().filter(|endpoint| fits(endpoint));
    let first = fitting.next()?;
    let Some(second) = fitting.next() else { return Some(first) };
    // The first stands before the second: a draw decides which of equals is named first.
    let mut drawn = if rng.random() { [first, second] } else { [second, first] };
    for (seen, endpoint) in fitting.enumerate() {
        if let Some(place) = drawn.get_mut(rng.random_range(0..seen + 3)) {
            *place = endpoint;
        }
    }
    Some(cheaper(drawn[0], drawn[1], now))
}

/// The one of lower cost; the first, where both cost the same.
fn cheaper<'a>(
    one: &'a Arc<Endpoint>,
    other: &'a Arc<Endpoint>,
    now: Instant,
) -> &'a Arc<Endpoint> {
    if one.load.cost(now) <= other.load.cost(now) { one } else { other }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::outlier;

    fn rng() -> SmallRng {
        SmallRng::seed_from_u64(7)
    }

    fn set(size: u8, now: Instant) -> Vec<Arc<Endpoint>> {
        let key = |n| EndpointKey { address: [10, 0, 0, n].into(), target: 80, mesh: None };
        (0..size).map(|n| Arc::new(Endpoint::new(key(n), "pod", now))).collect()
    }

    /// Ejects endpoint `n`, which takes another one that is in.
    fn eject(set: &[Arc<Endpoint>], n: usize, now: Instant) {
        for _ in 0..5 {
            outlier::record(set, &set[n], true, now, &mut rng());
        }
        assert!(set[n].health.is_ejected(now));
    }

    /// How often each endpoint is picked.
    fn shares(set: &[Arc<Endpoint>], avoid: &[usize], picks: usize, now: Instant) -> Vec<usize> {
        let mut rng = rng();
        let avoid: Vec<_> = avoid.iter().map(|n| &set[*n].key).collect();
        let mut counts = vec![0; set.len()];
        for _ in 0..picks {
            let picked = pick(set, &avoid, now, &mut rng).unwrap();
            counts[set.iter().position(|endpoint| Arc::ptr_eq(endpoint, picked)).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn none_of_none_and_one_of_one() {
        let now = Instant::now();
        assert!(pick(&[], &[], now, &mut rng()).is_none());
        let one = set(1, now);
        assert!(pick(&one, &[&one[0].key], now, &mut rng()).is_some(), "even if it was tried");
    }

    #[test]
    fn equal_endpoints_get_equal_shares() {
        let now = Instant::now();
        for size in [2, 3, 10] {
            let set = set(size, now);
            let fair = 10_000 / usize::from(size);
            for count in shares(&set, &[], 10_000, now) {
                assert!(count.abs_diff(fair) < fair / 5, "{count} of {fair} at {size}");
            }
        }
    }

    #[test]
    fn the_slowest_is_picked_only_by_itself() {
        let now = Instant::now();
        let set = set(4, now);
        for (endpoint, millis) in set.iter().zip([1, 1, 1, 500]) {
            endpoint.load.end(Some(Duration::from_millis(millis)), now);
        }
        assert_eq!(shares(&set, &[], 10_000, now)[3], 0);
        assert_eq!(shares(&set, &[0, 1, 2], 10, now), [0, 0, 0, 10]);
    }

    #[test]
    fn requests_in_flight_level_out() {
        let now = Instant::now();
        let set = set(10, now);
        let mut rng = rng();
        for _ in 0..1000 {
            pick(&set, &[], now, &mut rng).unwrap().load.begin();
        }
        for endpoint in &set {
            let in_flight = endpoint.load.in_flight();
            assert!((95..=105).contains(&in_flight), "{in_flight}, where random gives 70 to 130");
        }
    }

    #[test]
    fn a_slow_endpoint_gets_less_and_keeps_some() {
        let now = Instant::now();
        let set = set(3, now);
        for (endpoint, millis) in set.iter().zip([1, 1, 10]) {
            endpoint.load.end(Some(Duration::from_millis(millis)), now);
        }
        let mut rng = rng();
        for _ in 0..420 {
            pick(&set, &[], now, &mut rng).unwrap().load.begin();
        }
        // 200 * 1 ms = 200 * 1 ms = 20 * 10 ms
        let slow = set[2].load.in_flight();
        assert!((15..=25).contains(&slow), "{slow}");
    }

    #[test]
    fn one_that_is_new_and_silent_gets_as_many_requests_as_eject_it() {
        let now = Instant::now();
        let set = set(3, now);
        let answer = |endpoint: &Endpoint| {
            endpoint.load.begin();
            endpoint.load.end(Some(Duration::from_millis(1)), now);
        };
        answer(&set[0]);
        answer(&set[1]);
        let mut rng = rng();
        for _ in 0..1000 {
            match pick(&set, &[], now, &mut rng).unwrap() {
                new if Arc::ptr_eq(new, &set[2]) => new.load.begin(),
                known => answer(known),
            }
        }
        assert_eq!(set[2].load.in_flight(), u32::from(outlier::THRESHOLD));
    }

    #[test]
    fn neither_ejected_nor_tried_ones_are_picked() {
        let now = Instant::now();
        let set = set(6, now);
        eject(&set, 1, now);
        let counts = shares(&set, &[4], 10_000, now);
        assert_eq!((counts[1], counts[4]), (0, 0));
        for n in [0, 2, 3, 5] {
            assert!(counts[n].abs_diff(2500) < 400, "{counts:?}");
        }
        eject(&set, 0, now);
        eject(&set, 2, now);
        eject(&set, 3, now);
        assert_eq!(shares(&set, &[4], 100, now), [0, 0, 0, 0, 0, 100]);
    }

    #[test]
    fn tried_ones_come_before_ejected_ones_and_these_before_none() {
        let now = Instant::now();
        let set = set(3, now);
        eject(&set, 0, now);
        eject(&set, 1, now);
        assert_eq!(shares(&set, &[2], 100, now), [0, 0, 100], "tried, but in");
        // Without the third, all of the set are ejected: panic, all are picked from.
        let panic = shares(&set[..2], &[0], 1000, now);
        assert!(panic.iter().all(|count| count.abs_diff(500) < 100), "{panic:?}");
    }

    #[test]
    fn a_scan_is_as_fair_as_a_draw() {
        let now = Instant::now();
        let set = set(8, now);
        let mut rng = rng();
        let mut counts = [0_u32; 8];
        for _ in 0..8000 {
            let picked = scan(&set, |endpoint| endpoint.key != set[3].key, now, &mut rng).unwrap();
            counts[set.iter().position(|endpoint| Arc::ptr_eq(endpoint, picked)).unwrap()] += 1;
        }
        for (n, count) in counts.into_iter().enumerate() {
            let fair = if n == 3 { 0 } else { 8000 / 7 };
            assert!(count.abs_diff(fair) <= fair / 5, "{counts:?}");
        }
    }
}
