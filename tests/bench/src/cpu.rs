//! CPU time: of processes, and of processors.

use std::fs;
use std::iter::Sum;
use std::ops::{Add, Sub};

/// Ticks a second in `/proc`, on every Linux that Rust runs on.
const TICKS: f64 = 100.0;

/// CPU time in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Time {
    /// All of it, to the nanosecond.
    pub(crate) total: f64,
    /// The share of it in user space, as far as ticks tell.
    pub(crate) user: f64,
    /// The share in the kernel. What the kernel does for arriving packets counts for whoever runs
    /// at that moment, which on a processor of their own are the proxies.
    pub(crate) system: f64,
}

/// That of a process and of those it has started.
pub(crate) fn of(pid: u32) -> Time {
    let children = children(pid).into_iter().map(of);
    children.sum::<Time>() + alone(pid)
}

/// That of the children which this process has waited for.
pub(crate) fn of_ended_children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    fields(&stat).skip(13).take(2).sum::<f64>() / TICKS
}

fn alone(pid: u32) -> Time {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let mut ticks = fields(&stat).skip(11);
    let user = ticks.next().unwrap_or_default() / TICKS;
    let system = ticks.next().unwrap_or_default() / TICKS;
    Time { total: precise(pid), user, system }
}

/// The numbers after the name, which may have spaces: the state, which is none, the parent's id,
/// and so on.
fn fields(stat: &str) -> impl Iterator<Item = f64> {
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().map(|field| field.parse().unwrap_or_default())
}

fn precise(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let times = tasks.filter_map(|task| {
        let stat = fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<f64>().ok()
    });
    times.sum::<f64>() / 1e9
}

/// By their parents: not every kernel lists children.
fn children(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |other: &u32| {
        let stat = fs::read_to_string(format!("/proc/{other}/stat")).unwrap_or_default();
        fields(&stat).nth(1) == Some(f64::from(pid))
    };
    pids.filter(is_child).collect()
}

/// What a processor has done since the machine's start, in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Processor {
    /// Anything but waiting.
    pub(crate) busy: f64,
    /// What the hypervisor gave to others.
    pub(crate) stolen: f64,
}

/// That of the processor of this number.
pub(crate) fn processor(number: usize) -> Processor {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let name = format!("cpu{number} ");
    let line = stat.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_default();
    let ticks: Vec<f64> =
        line.split_whitespace().map(|ticks| ticks.parse().unwrap_or_default()).collect();
    // user nice system idle iowait irq softirq steal
    let at = |nth: usize| ticks.get(nth).copied().unwrap_or_default() / TICKS;
    Processor { busy: at(0) + at(1) + at(2) + at(5) + at(6), stolen: at(7) }
}

impl Add for Time {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            user: self.user + other.user,
            system: self.system + other.system,
        }
    }
}

impl Sub for Time {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            total: self.total - other.total,
            user: self.user - other.user,
            system: self.system - other.system,
        }
    }
}

impl Sum for Time {
    fn sum<I: Iterator<Item = Self>>(times: I) -> Self {
        times.fold(Self::default(), Add::add)
    }
}
