//! Readers in HTTP/2 who take nothing of what they asked for: rows of the catalogue of bad inputs.
//! They hold a bounded part of it, the application waits, and nobody else does.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing

mod control_plane;
mod support;

use std::thread::sleep;
use std::time::{Duration, Instant};

use support::application::{Application, LARGE};
use support::doors::{Door, House, Neighbour, Pair};
use support::eventually;
use support::frames::*;

/// Streams that stall at the same time.
const STALLED: usize = 50;

/// So many that they hold more than half of the window of all streams, and leave room for others on
/// their connection.
const MOST_OF_A_CONNECTION: usize = 70;

/// What a sidecar may hold of each, in bytes.
const HELD: usize = 256 * 1024;

/// What it may hold on top of that, whoever stalls.
const SLACK: usize = 8 * 1024 * 1024;

/// Waits until the application can send nothing more; says what it sent.
fn stopped(application: &Application) -> usize {
    let (mut last, mut since) = (application.sent(), Instant::now());
    eventually("the application can send nothing more", || {
        let sent = application.sent();
        if sent != last {
            (last, since) = (sent, Instant::now());
        }
        since.elapsed() > Duration::from_millis(300)
    });
    last
}

/// Settings of three readers: one who permits nothing to be sent, one with the windows that a
/// client has that says nothing, and one who permits everything and leaves it in the socket.
fn readers() -> [(&'static str, Vec<(u16, u32)>); 3] {
    let windows = |size| vec![(INITIAL_WINDOW_SIZE, size)];
    [("window 0", windows(0)), ("default window", vec![]), ("socket unread", windows(0x7fff_ffff))]
}

fn stall(door: &Door, settings: &[(u16, u32)], path: &str, streams: usize) -> Client {
    let mut client = door.connect_with(settings);
    if settings.first().is_some_and(|(_, window)| *window > 0) {
        client.frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
    }
    for _ in 0..streams {
        door.open(&mut client, "GET", path, true);
    }
    client
}

#[test]
fn a_stalled_reader_holds_little_and_stops_who_sends() {
    let house = House::new([127, 10, 61, 2]);
    for door in &house.doors {
        for (what, settings) in readers() {
            let neighbour = Neighbour::start(door);
            let (memory, sent) = (house.sidecar.memory(), house.application.sent());
            let client = stall(door, &settings, "/large", STALLED);
            eventually("the application sends", || house.application.open() >= STALLED);
            let sent = stopped(&house.application) - sent;
            let grown = house.sidecar.memory().saturating_sub(memory);
            assert!(sent / STALLED < LARGE / 32, "row 48, {}, {what}: {sent} bytes", door.name);
            let most = STALLED * HELD + SLACK;
            assert!(grown < most, "row 48, {}, {what}: {grown} bytes more", door.name);
            neighbour.ends_well();
            drop(client);
            eventually("the application is asked nothing", || house.application.open() == 0);
        }
    }
}

#[test]
fn a_stalled_reader_stops_nobody_else_on_the_connection_between_sidecars() {
    let pair = Pair::new([127, 10, 62, 2]);
    let door = Door::outbound(&pair.client);
    for (path, streams) in [("/large", MOST_OF_A_CONNECTION), ("/pieces", 4)] {
        for (what, settings) in readers() {
            let memory = pair.client.memory();
            let client = stall(&door, &settings, path, streams);
            eventually("the application sends", || pair.application.open() >= streams);
            let neighbour = Neighbour::start(&door);
            stopped(&pair.application);
            sleep(Duration::from_millis(200));
            neighbour.ends_well();
            let grown = pair.client.memory().saturating_sub(memory);
            // Several times what the window of all streams leaves to it.
            let mut reader = stall(&door, &[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)], "/large", 1);
            let Ended::Answered(all) = reader.wait(1) else { panic!("row 49, {path}, {what}") };
            assert_eq!(all.len(), LARGE, "row 49, {path}, {what}");
            assert!(pair.application.open() >= streams, "row 49, {path}, {what}: they still stall");
            assert!(grown < streams * HELD + 2 * SLACK, "row 49, {path}, {what}: {grown}");
            drop(client);
            eventually("the application is asked nothing", || pair.application.open() == 0);
        }
    }
}
