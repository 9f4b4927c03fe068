//! Requests at a fixed rate, whatever the answers do (an open loop). A latency begins when the
//! request was due, not when it was sent: one that had to wait behind a slow answer is as late as
//! its user would say (no coordinated omission).
//!
//! On epoll itself, for a runtime's timers tick in milliseconds: a request would be late by more
//! than a sidecar takes. epoll's own waits do so too, unless asked in a way that rustix keeps for
//! kernels from 5.11 on: `poll` waits for it, which has always counted in nanoseconds.

mod connection;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, epoll, poll};
use rustix::time::Timespec;

use crate::outcome::Outcome;

use self::connection::Connection;

/// How long the last answers may take.
const GRACE: Duration = Duration::from_secs(5);

/// Sends for so many seconds.
pub(crate) fn run(
    target: SocketAddr,
    rate: f64,
    connections: usize,
    seconds: f64,
) -> anyhow::Result<Outcome> {
    // By default the kernel wakes a sleeper up to 50 µs late.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let mut load = Load::open(target, connections)?;
    let (start, interval) = (Instant::now(), Duration::from_secs_f64(1.0 / rate));
    let count = (rate * seconds).round();
    let mut sent = 0.0;
    while sent < count || load.waits() {
        let now = Instant::now();
        let mut due = start + interval.mul_f64(sent);
        while sent < count && due <= now {
            load.due.push_back(due);
            sent += 1.0;
            due = start + interval.mul_f64(sent);
        }
        load.send()?;
        let wake = if sent < count { due } else { due + GRACE };
        ensure!(wake > now, "no answer within {GRACE:?}");
        load.receive(wake)?;
    }
    Ok(load.outcome(start))
}

/// The connections, what is to be sent, and what was measured.
struct Load {
    epoll: std::os::fd::OwnedFd,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    due: VecDeque<Instant>,
    latencies: Vec<Duration>,
    errors: u64,
    events: Vec<epoll::Event>,
}

impl Load {
    fn open(target: SocketAddr, count: usize) -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::new();
        for id in 0..count {
            let connection = Connection::open(target).context("no connection")?;
            let data = epoll::EventData::new_u64(id as u64);
            epoll::add(&epoll, connection.socket(), data, epoll::EventFlags::IN)?;
            connections.push(connection);
        }
        Ok(Self {
            epoll,
            connections,
            idle: (0..count).collect(),
            due: VecDeque::new(),
            latencies: Vec::new(),
            errors: 0,
            events: Vec::with_capacity(count),
        })
    }

    /// Whether a request waits to be sent or to be answered.
    fn waits(&self) -> bool {
        !self.due.is_empty() || self.idle.len() < self.connections.len()
    }

    /// Sends what is due as far as connections are free.
    fn send(&mut self) -> anyhow::Result<()> {
        while !self.due.is_empty()
            && let Some(id) = self.idle.pop_front()
            && let Some(due) = self.due.pop_front()
        {
            self.connections[id].send(due)?;
        }
        Ok(())
    }

    /// Reads answers until `wake`, but returns as soon as there was one.
    fn receive(&mut self, wake: Instant) -> anyhow::Result<()> {
        let limit = wake.saturating_duration_since(Instant::now());
        let answers = PollFd::new(&self.epoll, PollFlags::IN);
        if poll(&mut [answers], Some(&limit.try_into()?))? == 0 {
            return Ok(());
        }
        self.events.clear();
        epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&Timespec::default()))?;
        for event in &self.events {
            let id = usize::try_from(event.data.u64())?;
            if let Some((due, fine)) = self.connections[id].receive()? {
                self.latencies.push(due.elapsed());
                self.errors += u64::from(!fine);
                // The one that waited longest comes next: all of them are in use.
                self.idle.push_back(id);
            }
        }
        Ok(())
    }

    fn outcome(mut self, start: Instant) -> Outcome {
        let seconds = start.elapsed().as_secs_f64();
        self.latencies.sort_unstable();
        let last = self.latencies.len().saturating_sub(1) as f64;
        let at = |share: f64| {
            let latency = self.latencies.get((share * last).round() as usize);
            latency.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
        };
        Outcome {
            done: self.latencies.len() as f64,
            seconds,
            errors: self.errors,
            latency: Some([at(0.5), at(0.99), at(0.999)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_can_be_shorter_than_a_millisecond() {
        let mut load = Load::open(([127, 0, 0, 1], 80).into(), 0).unwrap();
        let short = Duration::from_micros(100);
        let took = (0..100).map(|_| {
            let begun = Instant::now();
            load.receive(begun + short).unwrap();
            begun.elapsed()
        });
        let least = took.min().unwrap();
        assert!((short..10 * short).contains(&least), "{least:?}");
    }
}
