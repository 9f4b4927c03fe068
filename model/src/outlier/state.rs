//! All that changes about an endpoint's health, in one word.

/// The first ejection, in milliseconds.
const BASE_MS: u64 = 5_000;

/// The longest ejection before jitter, in milliseconds: with a fifth more it is a minute.
const LONGEST_MS: u64 = 50_000;

/// Staying in for so long makes the earlier ejections forgotten, in milliseconds.
const FORGIVEN_MS: u64 = 60_000;

/// What changes about an endpoint's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct State {
    /// Milliseconds from the start to the end of the last ejection, 0 for none yet (40 bits).
    pub(super) until_ms: u64,
    /// Failures since the last success or ejection.
    pub(super) failures: u8,
    /// Ejections that are not forgotten.
    pub(super) ejections: u8,
    /// Was ejected and has not succeeded since.
    pub(super) probation: bool,
}

impl State {
    /// Forty bits of milliseconds: 34 years.
    const UNTIL: u64 = (1 << 40) - 1;

    /// The state after the next ejection, whose length is multiplied by `jitter`.
    pub(super) fn ejected(self, now_ms: u64, jitter: f64) -> Self {
        let forgiven = !self.probation && now_ms - self.until_ms >= FORGIVEN_MS;
        let earlier = if forgiven { 0 } else { self.ejections };
        let nominal = (BASE_MS << earlier.min(8)).min(LONGEST_MS);
        Self {
            until_ms: (now_ms + (nominal as f64 * jitter) as u64).min(Self::UNTIL),
            failures: 0,
            ejections: earlier.saturating_add(1),
            probation: true,
        }
    }

    /// All of it in one word.
    pub(super) fn pack(self) -> u64 {
        let [failures, ejections] = [self.failures, self.ejections].map(u64::from);
        self.until_ms | failures << 40 | ejections << 48 | u64::from(self.probation) << 56
    }

    /// What [`pack`](Self::pack) made.
    pub(super) fn unpack(word: u64) -> Self {
        Self {
            until_ms: word & Self::UNTIL,
            failures: (word >> 40) as u8,
            ejections: (word >> 48) as u8,
            probation: word >> 56 != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_packing() {
        let full = State { until_ms: State::UNTIL, failures: 255, ejections: 255, probation: true };
        let odd = State { until_ms: 123_456, failures: 3, ejections: 7, probation: false };
        for state in [State::default(), full, odd] {
            assert_eq!(State::unpack(state.pack()), state);
        }
    }
}
