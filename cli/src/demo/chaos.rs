//! What goes wrong on purpose while the demo runs, and when.

use std::time::Duration;

/// A replica, its application and its sidecar, is killed or comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// SIGKILL for both.
    Kill(&'static str),
    /// Both are started again.
    Restart(&'static str),
}

/// The plan of what goes wrong.
#[derive(Debug)]
pub(crate) struct Chaos {
    /// How long the demo runs; without end, otherwise.
    length: Option<Duration>,
    /// Acts that are over.
    done: u32,
}

/// Who is killed in turn when the demo runs without end. Each other one is enough for the load.
const VICTIMS: [&str; 3] = ["api-1", "api-2", "api-3"];

/// In a demo without end: the first kill, the time to the next one, and how long a victim stays
/// away.
const FIRST: Duration = Duration::from_secs(20);
const PERIOD: Duration = Duration::from_secs(30);
const AWAY: Duration = Duration::from_secs(8);

impl Chaos {
    /// Nothing has gone wrong yet.
    pub(crate) const fn new(length: Option<Duration>) -> Self {
        Self { length, done: 0 }
    }

    /// The next act, and when after the start.
    pub(crate) fn next(&self) -> Option<(Duration, Act)> {
        match self.length {
            Some(length) => match self.done {
                0 => Some((length.mul_f64(0.35), Act::Kill(VICTIMS[0]))),
                1 => Some((length.mul_f64(0.55), Act::Restart(VICTIMS[0]))),
                _ => None,
            },
            None => {
                let turn = self.done / 2;
                let victim = VICTIMS[turn as usize % VICTIMS.len()];
                let kill = FIRST + PERIOD * turn;
                Some(match self.done % 2 {
                    0 => (kill, Act::Kill(victim)),
                    _ => (kill + AWAY, Act::Restart(victim)),
                })
            }
        }
    }

    /// The next act is over.
    pub(crate) const fn advance(&mut self) {
        self.done += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acts(length: Option<Duration>, most: usize) -> Vec<(u128, Act)> {
        let mut chaos = Chaos::new(length);
        let next = std::iter::from_fn(|| {
            let next = chaos.next();
            chaos.advance();
            next
        });
        next.take(most).map(|(at, act)| (at.as_millis(), act)).collect()
    }

    #[test]
    fn a_demo_of_ten_seconds_kills_and_restarts_once() {
        let expected = [(3500, Act::Kill("api-1")), (5500, Act::Restart("api-1"))];
        assert_eq!(acts(Some(Duration::from_secs(10)), 9), expected);
    }

    #[test]
    fn a_demo_without_end_takes_the_replicas_in_turn() {
        let expected = [
            (20_000, Act::Kill("api-1")),
            (28_000, Act::Restart("api-1")),
            (50_000, Act::Kill("api-2")),
            (58_000, Act::Restart("api-2")),
            (80_000, Act::Kill("api-3")),
            (88_000, Act::Restart("api-3")),
            (110_000, Act::Kill("api-1")),
        ];
        assert_eq!(acts(None, 7), expected);
    }
}
