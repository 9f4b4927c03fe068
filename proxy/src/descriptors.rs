//! The descriptors that this process may have, and how many connections they are enough for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for listeners, runtimes, the control plane and the admin port.
const RESERVED: usize = 64;

/// How many connections are accepted at the same time, where `wanted` are: each may need another
/// to whoever it is for, and all of them together must leave descriptors for these.
pub(crate) fn for_connections(wanted: usize) -> usize {
    let descriptors = allowed();
    let most = most(descriptors);
    if most < wanted {
        tracing::info!(
            descriptors,
            most,
            wanted,
            "fewer connections than --max-connections: the limit of open files is too low"
        );
    }
    most.min(wanted)
}

fn most(descriptors: usize) -> usize {
    (descriptors.saturating_sub(RESERVED) / 2).max(1)
}

/// The limit of open files, raised to what this process may have.
fn allowed() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // No limit at all is as good as a very high one.
    current.and_then(|current| usize::try_from(current).ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_has_a_descriptor_for_its_way_on() {
        for (descriptors, connections) in [(20_000, 9_968), (256, 96), (66, 1), (10, 1)] {
            assert_eq!(most(descriptors), connections, "{descriptors}");
        }
        assert_eq!(for_connections(1), 1, "and never more than are wanted");
    }
}
