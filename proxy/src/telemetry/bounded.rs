//! Label values that come from clients: only so many of them, and `other` for the rest.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// How many different values a label may have.
const MAX_VALUES: usize = 1000;

/// What stands for the values that came too late.
const OTHER: &str = "other";

/// The values that one label has.
#[derive(Debug, Default)]
pub struct Bounded(Mutex<HashSet<Box<str>>>);

impl Bounded {
    /// The value itself while there is room for it, else `other`.
    pub fn value<'a>(&self, value: &'a str) -> &'a str {
        // A poisoned lock means that a task panicked between two whole states.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(value) {
            return value;
        }
        if known.len() >= MAX_VALUES {
            return OTHER;
        }
        known.insert(value.into());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_values_are_kept_and_the_rest_is_other() {
        let bounded = Bounded::default();
        for number in 0..MAX_VALUES {
            let value = number.to_string();
            assert_eq!(bounded.value(&value), value);
        }
        assert_eq!(bounded.value("late"), OTHER);
        assert_eq!(bounded.value("7"), "7");
    }
}
