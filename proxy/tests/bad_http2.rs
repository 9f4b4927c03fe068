//! Floods in HTTP/2: rows of the catalogue of bad inputs, at each port where HTTP/2 is spoken. Each
//! ends its own connection, holds no more memory than before, and a neighbour notices nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing

mod control_plane;
mod support;

use std::thread::sleep;
use std::time::Duration;

use control_plane::{ControlPlane, Stream};
use support::application::Application;
use support::doors::{Door, Neighbour, borrowed};
use support::frames::{self, Client, Ended, *};
use support::{Sidecar, eventually};

/// What HTTP/2 calls one who asks for too much (RFC 9113 §7).
const CALM: u32 = 11;

/// How much more memory a sidecar may hold after an attack.
const SLACK: usize = 16 * 1024 * 1024;

/// A sidecar before an application, with what must live as long.
struct House {
    sidecar: Sidecar,
    application: Application,
    _control_plane: ControlPlane,
    _stream: Stream,
    doors: [Door; 3],
}

fn house(address: [u8; 4]) -> House {
    let mut control_plane = ControlPlane::start();
    let application = Application::start(address);
    let (sidecar, stream) =
        Sidecar::in_front_of(&mut control_plane, address, application.address, "http2");
    let doors = Door::all(&control_plane, &sidecar, application.address);
    House { sidecar, application, _control_plane: control_plane, _stream: stream, doors }
}

impl House {
    /// Runs an attack at every port, each beside a neighbour.
    fn under(&self, row: u8, attack: impl Fn(&Door, &mut Client) -> Ended) -> Vec<Ended> {
        let mut ends = Vec::new();
        for door in &self.doors {
            let neighbour = Neighbour::start(door);
            let before = self.sidecar.memory();
            let mut client = door.connect();
            ends.push(attack(door, &mut client));
            let grown = self.sidecar.memory().saturating_sub(before);
            assert!(grown < SLACK, "row {row}, {}: {grown} bytes more", door.name);
            drop(client);
            neighbour.is_well();
            eventually("the application is asked nothing", || self.application.open() == 0);
        }
        ends
    }
}

/// Sends a frame until nobody takes it any more, or so often.
fn flood(client: &mut Client, times: usize, bytes: &[u8]) -> usize {
    (0..times).position(|_| !client.bytes(bytes)).unwrap_or(times)
}

fn calm() -> [Ended; 3] {
    [const { Ended::Connection(Some(CALM)) }; 3]
}
