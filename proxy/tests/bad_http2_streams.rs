//! Streams in HTTP/2 that are too many, too slow or end badly: rows of the catalogue of bad inputs,
//! at each port where HTTP/2 is spoken.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing

mod control_plane;
mod support;

use control_plane::ControlPlane;
use support::doors::{Door, House, Neighbour, Pair, borrowed};
use support::frames::*;
use support::origin::Origin;
use support::{Sidecar, eventually};

/// The stream was not begun; it may be sent again (RFC 9113 §8.7).
const REFUSED_STREAM: u32 = 7;

#[test]
fn streams_above_the_number_advertised_are_refused_and_the_others_go_on() {
    let house = House::new([127, 10, 51, 2]);
    for door in &house.doors {
        let neighbour = Neighbour::start(door);
        let mut client = door.connect();
        let streams: Vec<u32> =
            (0..150).map(|_| door.open(&mut client, "GET", "/hold", true)).collect();
        for stream in &streams[100..] {
            assert_eq!(client.wait(*stream), Ended::Reset(REFUSED_STREAM), "row 50, {}", door.name);
        }
        eventually("the application has the others", || house.application.open() >= 100);
        client.frame(RST_STREAM, 0, streams[0], &[0, 0, 0, 8]);
        // The neighbour's request comes and goes.
        eventually("the application has one less", || house.application.open() <= 99);
        let stream = door.open(&mut client, "GET", "/x", true);
        assert_eq!(client.wait(stream), Ended::Answered("whole".into()), "row 50, {}", door.name);
        neighbour.ends_well();
        assert!(house.application.take_most() <= 101, "row 50, {}", door.name);
        drop(client);
        eventually("the application is asked nothing", || house.application.open() == 0);
    }
}

/// Ends a POST of three bytes with these fields; how its stream ends then.
fn with_trailers(door: &Door, client: &mut Client, fields: &[(&[u8], &[u8])], end: bool) -> Ended {
    let stream = door.open(client, "POST", "/x", false);
    client.data(stream, b"abc", false);
    client.headers(stream, fields, end);
    client.wait(stream)
}

#[test]
fn bad_trailers_end_their_stream_and_the_application_never_has_the_body_whole() {
    let house = House::new([127, 10, 52, 2]);
    for door in &house.doors {
        let cases: [(&[u8], &[u8], bool); 8] = [
            (b"a", b"b", false),
            (b"connection", b"close", true),
            (b"transfer-encoding", b"chunked", true),
            (b"te", b"gzip", true),
            (b"Upper", b"x", true),
            (b"a", b"b\r\nc: d", true),
            (b":path", b"/y", true),
            (b":status", b"200", true),
        ];
        for (name, value, end) in cases {
            let mut client = door.connect();
            let ended = with_trailers(door, &mut client, &[(name, value)], end);
            let what = format!("row 51, {}, {}: {ended:?}", door.name, name.escape_ascii());
            assert!(matches!(ended, Ended::Reset(1) | Ended::Connection(Some(1))), "{what}");
            eventually("the application's stream is gone", || house.application.open() == 0);
            assert!(house.application.take().is_empty(), "{what}");
        }
    }
}

#[test]
fn trailers_bring_no_identity() {
    let house = House::new([127, 10, 53, 2]);
    let names: [&[u8]; 6] = [
        b"x-pillion-peer",
        b"x_pillion_peer",
        b"x-pillion-hops",
        b"x-forwarded-client-cert",
        b"l5d-client-id",
        b"host",
    ];
    for door in &house.doors {
        for name in names {
            let mut client = door.connect();
            let fields = [(name, b"evil".as_slice()), (b"kept", b"1")];
            let ended = with_trailers(door, &mut client, &fields, true);
            assert_eq!(ended, Ended::Answered("whole".into()), "row 73, {}", door.name);
            let mut seen = house.application.take();
            assert_eq!(seen.len(), 1, "row 73, {}", door.name);
            let trailers = seen.remove(0).1;
            assert_eq!(trailers.keys().collect::<Vec<_>>(), ["kept"], "row 73, {}", door.name);
        }
    }
}

#[test]
fn data_after_a_reset_is_passed_over() {
    let house = House::new([127, 10, 54, 2]);
    for door in &house.doors {
        let mut client = door.connect();
        let stream = door.open(&mut client, "POST", "/x", false);
        eventually("the application reads the body", || house.application.open() == 1);
        let reset = frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
        client.bytes(&[reset, frame(DATA, END_STREAM, stream, b"abc")].concat());
        let next = door.open(&mut client, "GET", "/x", true);
        let ended = client.wait(next);
        assert_eq!(ended, Ended::Answered("whole".into()), "row 52, {}", door.name);
        let seen = house.application.take();
        assert_eq!(seen.len(), 1, "row 52, {}: {seen:?}", door.name);
        eventually("the application's stream is gone", || house.application.open() == 0);
    }
}

#[test]
fn slow_uploads_stop_nobody_else() {
    let house = House::new([127, 10, 55, 2]);
    for door in &house.doors {
        let neighbour = Neighbour::start(door);
        let mut client = door.connect();
        let streams: Vec<u32> =
            (0..50).map(|_| door.open(&mut client, "POST", "/x", false)).collect();
        for stream in &streams {
            client.data(*stream, b"a", false);
        }
        eventually("the application reads them", || house.application.open() >= 50);
        let next = door.open(&mut client, "GET", "/x", true);
        let ended = client.wait(next);
        assert_eq!(ended, Ended::Answered("whole".into()), "row 55, {}", door.name);
        neighbour.ends_well();
        house.application.take();
        drop(client);
        eventually("the application is asked nothing", || house.application.open() == 0);
        assert!(house.application.take().is_empty(), "row 55, {}: a body was whole", door.name);
    }
}

#[test]
fn crumbs_of_cookies_are_joined_for_an_application_in_http1() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 10, 56, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    let mesh = &Door::all(&control_plane, &sidecar, origin.address)[2];
    let mut fields = mesh.request("GET", "/x");
    fields.retain(|(name, _)| name != b"x-pillion-protocol");
    fields.extend(["a=1", "b=2", "c=3"].map(|crumb| (b"cookie".into(), crumb.into())));
    let mut client = mesh.connect();
    let stream = client.open(&borrowed(&fields), true);
    assert_eq!(client.wait(stream), Ended::Answered("ok".into()), "row 38");
    let seen = origin.take_text();
    assert!(seen.contains("cookie: a=1; b=2; c=3\r\n"), "row 38: {seen}");
    assert_eq!(seen.matches("cookie").count(), 1, "row 38: {seen}");
}

/// A sidecar is charged for pieces of no bytes; the connection between sidecars is everyone's, so that
/// none must get there.
#[test]
fn pieces_of_no_bytes_end_nobody_elses_connection() {
    let pair = Pair::new([127, 10, 58, 2]);
    let door = Door::outbound(&pair.client);
    let mut held = door.connect();
    let waiting = door.open(&mut held, "POST", "/x", false);
    eventually("the application reads it", || pair.application.open() == 1);
    for _ in 0..4 {
        let mut client = door.connect();
        let stream = door.open(&mut client, "POST", "/x", false);
        for _ in 0..90 {
            client.data(stream, b"", false);
        }
        client.data(stream, b"abc", true);
        assert_eq!(client.wait(stream), Ended::Answered("whole".into()), "row 46");
    }
    held.data(waiting, b"abc", true);
    assert_eq!(held.wait(waiting), Ended::Answered("whole".into()), "row 46: a neighbour");
}
