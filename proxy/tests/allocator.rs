//! What a thread gives back of the memory that it has freed, on the sidecar's allocator.

use std::time::{Duration, Instant};

use proxy::allocator;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const KIB: usize = 1024;

/// What the thread frees: 20 pieces of each of these sizes, as many as jemalloc keeps for one.
const SIZES: [usize; 5] = [16 * KIB, 20 * KIB, 24 * KIB, 28 * KIB, 32 * KIB];
const PIECES: usize = 20;

/// Twice as long as the allocator takes to give unused pages to the system.
const DECAY: Duration = Duration::from_secs(2);

/// Longest time for all to be given back.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn what_a_thread_has_freed_is_given_back() {
    let before = anonymous();
    let total = SIZES.iter().sum::<usize>() * PIECES / KIB;
    let pieces: Vec<_> = SIZES.iter().flat_map(|size| vec![vec![1_u8; *size]; PIECES]).collect();
    assert!(anonymous() - before >= total, "all of it is in use");
    drop(pieces);
    std::thread::sleep(DECAY);
    assert!(anonymous() - before > total / 2, "by itself jemalloc keeps it for the thread");

    allocator::give_back().unwrap();
    let start = Instant::now();
    while anonymous().saturating_sub(before) > total / 4 {
        assert!(start.elapsed() < SOON, "{} KiB of {total} are kept", anonymous() - before);
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(vec![vec![1_u8; SIZES[0]]; PIECES]);
    std::thread::sleep(DECAY);
    let kept = anonymous() - before;
    assert!(kept > PIECES * SIZES[0] / KIB / 2, "and keeps again what is freed: {kept} KiB");
}

/// KiB of this process that are no file's.
fn anonymous() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or_else(|| panic!("no RssAnon in {status:?}"))
}
