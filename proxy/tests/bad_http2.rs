//! Floods in HTTP/2: rows of the catalogue of bad inputs, at each port where HTTP/2 is spoken. Each
//! ends its own connection, holds no more memory than before, and a neighbour notices nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing

mod control_plane;
mod support;

use support::doors::{Door, House, Neighbour, borrowed};
use support::eventually;
use support::frames::*;

/// What HTTP/2 calls one who asks for too much (RFC 9113 §7).
const CALM: u32 = 11;

/// How much more memory a sidecar may hold after an attack.
const SLACK: usize = 8 * 1024 * 1024;

/// Runs an attack at every port, each beside a neighbour, and says how its connections ended.
fn under(house: &House, row: u8, attack: impl Fn(&Door, &mut Client) -> Ended) -> Vec<Ended> {
    let mut ends = Vec::new();
    for door in &house.doors {
        let neighbour = Neighbour::start(door);
        let before = house.sidecar.memory();
        let mut client = door.connect();
        let end = attack(door, &mut client);
        assert!(row == 42 || is_calmed(&end), "row {row}, {}: {end:?}", door.name);
        ends.push(end);
        let grown = house.sidecar.memory().saturating_sub(before);
        assert!(grown < SLACK, "row {row}, {}: {grown} bytes more", door.name);
        drop(client);
        neighbour.ends_well();
        eventually("the application is asked nothing", || house.application.open() == 0);
    }
    ends
}

/// Sends this so often, or until nobody takes it any more.
fn flood(client: &mut Client, times: usize, bytes: &[u8]) {
    let _ = (0..times).any(|_| !client.bytes(bytes));
}

/// The connection ended, and whoever still read was told why: what comes after the end can take
/// the GOAWAY with it.
fn is_calmed(end: &Ended) -> bool {
    matches!(end, Ended::Connection(None | Some(CALM)))
}

#[test]
fn floods_of_continuations_end_their_connection() {
    let house = House::new([127, 10, 31, 2]);
    let full = vec![0; 16 * 1024];
    for payload in [&[][..], &full] {
        under(&house, 40, |_, client| {
            client.frame(HEADERS, 0, 1, &[]);
            flood(client, 20_000, &frame(CONTINUATION, 0, 1, payload));
            client.wait(0)
        });
    }
}

#[test]
fn requests_that_are_reset_at_once_end_their_connection() {
    let house = House::new([127, 10, 32, 2]);
    // One by one, and as many as are read at once.
    for at_once in [1, 1200] {
        under(&house, 41, |door, client| {
            let fields = block(&borrowed(&door.request("GET", "/hold")));
            let both = |stream: u32| {
                let open = frame(HEADERS, END_HEADERS | END_STREAM, 2 * stream + 1, &fields);
                [open, frame(RST_STREAM, 0, 2 * stream + 1, &[0, 0, 0, 8])].concat()
            };
            let streams: Vec<u32> = (0..20_000).collect();
            let mut pieces = streams.chunks(at_once);
            let _ = pieces.any(|some| {
                let bytes: Vec<u8> = some.iter().flat_map(|stream| both(*stream)).collect();
                !client.bytes(&bytes)
            });
            client.wait(0)
        });
    }
    assert!(house.application.take_most() <= 101, "row 41: no more than advertised");
}

/// Opens a hundred requests, and resets them when the application has them all.
fn round(house: &House, door: &Door, client: &mut Client) -> bool {
    let fields = block(&borrowed(&door.request("GET", "/hold")));
    let streams: Vec<u32> = (0..100).map(|_| client.open_block(&fields)).collect();
    let mut alive = true;
    eventually("the application has them, or the connection ended", || {
        alive &= client.frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]);
        house.application.open() >= 100 || !alive
    });
    let reset = |stream: u32| client.frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    let taken = streams.into_iter().all(reset);
    eventually("the application is rid of them", || house.application.open() <= 1);
    taken
}

#[test]
fn requests_that_are_reset_when_they_run_end_a_clients_connection() {
    let house = House::new([127, 10, 33, 2]);
    for door in &house.doors[..2] {
        let neighbour = Neighbour::start(door);
        let mut client = door.connect();
        let rounds = (0..20).take_while(|_| round(&house, door, &mut client)).count();
        assert!(rounds <= 10, "row 41, {}: {rounds} rounds", door.name);
        let end = client.wait(0);
        assert!(is_calmed(&end), "row 41, {}: {end:?}", door.name);
        assert!(house.application.take_most() <= 101, "row 41: no more than advertised");
        neighbour.ends_well();
    }
}

#[test]
fn a_sidecar_may_reset_what_its_many_clients_give_up() {
    let house = House::new([127, 10, 40, 2]);
    let door = &house.doors[2];
    let neighbour = Neighbour::start(door);
    let mut client = door.connect();
    assert!((0..20).all(|_| round(&house, door, &mut client)));
    assert!(house.application.take_most() <= 101, "row 41: no more than advertised");
    let stream = door.open(&mut client, "GET", "/x", true);
    assert_eq!(client.wait(stream), Ended::Answered("whole".into()));
    neighbour.ends_well();
}

/// What makes a sidecar reset the stream of this number.
type Way = fn(u32) -> Vec<u8>;

#[test]
fn making_the_sidecar_reset_has_an_end() {
    let house = House::new([127, 10, 34, 2]);
    let ways: [(&str, Way); 6] = [
        ("a window update of 0", |stream| frame(WINDOW_UPDATE, 0, stream, &[0; 4])),
        ("a window that is too large", |stream| {
            frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]).repeat(2)
        }),
        ("a priority on itself", |stream| {
            frame(PRIORITY, 0, stream, &[stream.to_be_bytes().as_slice(), &[0]].concat())
        }),
        ("data after the end", |stream| frame(DATA, 0, stream, b"a")),
        ("fields after the end", |stream| frame(HEADERS, END_HEADERS, stream, &[])),
        ("a priority of another length", |stream| frame(PRIORITY, 0, stream, &[0; 4])),
    ];
    for (what, way) in ways {
        let ends = under(&house, 42, |door, client| {
            let fields = block(&borrowed(&door.request("GET", "/hold")));
            let mut bad = (0..2_500).map(|stream| {
                let open = frame(HEADERS, END_HEADERS | END_STREAM, 2 * stream + 1, &fields);
                [open, way(2 * stream + 1)].concat()
            });
            let _ = bad.any(|bad| !client.bytes(&bad));
            client.wait(0)
        });
        assert!(ends.iter().all(|end| matches!(end, Ended::Connection(_))), "{what}: {ends:?}");
        assert!(house.application.take_most() <= 101, "row 42: {what}");
    }
}

#[test]
fn bombs_of_header_compression_are_not_unpacked() {
    let house = House::new([127, 10, 35, 2]);
    // One field of 4,000 bytes goes into the table; a byte each names it again and again.
    let mut long = vec![0x40, 1, b'a', 0x7f, 0xa1, 0x1e];
    long.extend(vec![b'b'; 4_000]);
    under(&house, 43, |door, client| {
        let fields = block(&borrowed(&door.request("GET", "/hold")));
        for stream in 0..20 {
            let table = if stream == 0 { long.clone() } else { vec![] };
            let head = [fields.clone(), table, vec![0xbe; 11_000]].concat();
            client.frame(HEADERS, END_STREAM, 2 * stream + 1, &head);
            client.frame(CONTINUATION, END_HEADERS, 2 * stream + 1, &[0xbe; 5_000]);
        }
        client.wait(0)
    });
}

#[test]
fn crumbs_of_cookies_are_counted_like_fields() {
    let house = House::new([127, 10, 36, 2]);
    let crumb = [&[0x40, 6], b"cookie".as_slice(), &[1, b'a']].concat();
    // The second is as many as the size of a head permits.
    for (crumbs, most) in [(15_000, SLACK), (3_000, 2 * SLACK)] {
        for door in &house.doors {
            let neighbour = Neighbour::start(door);
            let before = house.sidecar.memory();
            let mut client = door.connect_with(&[(INITIAL_WINDOW_SIZE, 0)]);
            let fields = block(&borrowed(&door.request("GET", "/hold")));
            for stream in 0..100 {
                let table = if stream == 0 { crumb.clone() } else { vec![] };
                let head = [fields.clone(), table, vec![0xbe; crumbs]].concat();
                client.frame(HEADERS, END_HEADERS | END_STREAM, 2 * stream + 1, &head);
            }
            neighbour.ends_well();
            let grown = house.sidecar.memory().saturating_sub(before);
            assert!(grown < most, "row 44, {}: {grown} bytes more", door.name);
            assert_eq!(house.application.open(), 0, "row 44, {}", door.name);
        }
    }
}

#[test]
fn answers_that_nobody_reads_have_an_end() {
    let house = House::new([127, 10, 37, 2]);
    for one in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])] {
        under(&house, 45, |_, client| {
            flood(client, 100_000, &one);
            client.wait(0)
        });
    }
}

#[test]
fn data_of_no_bytes_has_an_end() {
    let house = House::new([127, 10, 38, 2]);
    under(&house, 46, |door, client| {
        let stream = door.open(client, "POST", "/x", false);
        flood(client, 200_000, &frame(DATA, 0, stream, &[]));
        client.wait(0)
    });
}

#[test]
fn frames_that_move_nothing_have_an_end() {
    let house = House::new([127, 10, 39, 2]);
    for one in [
        frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        frame(99, 0, 0, &[0; 100]),
        frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
        frame(PING, 1, 0, &[0; 8]),
    ] {
        under(&house, 47, |door, client| {
            let stream = door.open(client, "GET", "/x", true);
            assert_eq!(client.wait(stream), Ended::Answered("whole".into()));
            flood(client, 200_000, &one);
            client.wait(0)
        });
    }
}
