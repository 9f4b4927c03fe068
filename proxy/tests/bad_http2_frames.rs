//! Frames that break the rules of RFC 9113, at each port where HTTP/2 is spoken: row 53 of the
//! catalogue of bad inputs. The connection or the stream ends with an error, as the RFC wants, and
//! a neighbour notices nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing

mod control_plane;
mod support;

use proxy::server::MESH_FRAME;
use support::doors::{Door, House, Neighbour, borrowed};
use support::frames::*;

const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const COMPRESSION: u32 = 9;

/// What is sent after a request on stream 1 that is under way, and how that ends.
struct Case {
    /// The section of RFC 9113 and what is wrong.
    what: &'static str,
    sent: Vec<u8>,
    /// The codes of which one is told.
    codes: &'static [u32],
    /// The stream that ends; the connection for 0.
    on: u32,
}

fn ends(what: &'static str, codes: &'static [u32], sent: impl Into<Vec<u8>>) -> Case {
    Case { what, sent: sent.into(), codes, on: 0 }
}

fn resets(what: &'static str, codes: &'static [u32], sent: impl Into<Vec<u8>>) -> Case {
    Case { what, sent: sent.into(), codes, on: 3 }
}

fn join(frames: &[&[u8]]) -> Vec<u8> {
    frames.concat()
}

/// Frames that are wrong wherever they are.
fn shapes() -> Vec<Case> {
    let setting = |name: u16, value: u32| {
        frame(SETTINGS, 0, 0, &[name.to_be_bytes().as_slice(), &value.to_be_bytes()].concat())
    };
    // Larger than any port permits.
    let huge = vec![0; MESH_FRAME as usize + 1];
    vec![
        ends("4.2 DATA larger than permitted", &[FRAME_SIZE], frame(DATA, 0, 1, &huge)),
        ends("4.2 HEADERS larger than permitted", &[FRAME_SIZE], frame(HEADERS, 4, 3, &huge)),
        ends("6.1 DATA on stream 0", &[PROTOCOL], frame(DATA, 0, 0, b"a")),
        ends("6.1 DATA of padding only, and more", &[PROTOCOL], frame(DATA, 8, 1, &[9, 0])),
        ends("6.1 DATA without its padding's length", &[FRAME_SIZE], frame(DATA, 8, 1, &[])),
        ends("6.2 HEADERS on stream 0", &[PROTOCOL], frame(HEADERS, 4, 0, &[])),
        ends("6.2 HEADERS of padding and more", &[PROTOCOL], frame(HEADERS, 12, 3, &[9, 0])),
        ends("6.2 HEADERS without its priority", &[FRAME_SIZE], frame(HEADERS, 0x24, 3, &[0])),
        ends("6.3 PRIORITY on stream 0", &[PROTOCOL], frame(PRIORITY, 0, 0, &[0; 5])),
        ends("6.3 PRIORITY of 4 bytes", &[FRAME_SIZE], frame(PRIORITY, 0, 1, &[0; 4])),
        ends("6.4 RST_STREAM on stream 0", &[PROTOCOL], frame(RST_STREAM, 0, 0, &[0; 4])),
        ends("6.4 RST_STREAM of 3 bytes", &[FRAME_SIZE], frame(RST_STREAM, 0, 1, &[0; 3])),
        ends("6.4 RST_STREAM of 5 bytes", &[FRAME_SIZE], frame(RST_STREAM, 0, 1, &[0; 5])),
        ends("6.5 SETTINGS on a stream", &[PROTOCOL], frame(SETTINGS, 0, 1, &[])),
        ends("6.5 SETTINGS of 5 bytes", &[FRAME_SIZE], frame(SETTINGS, 0, 0, &[0; 5])),
        ends("6.5 an answer to SETTINGS with bytes", &[FRAME_SIZE], frame(SETTINGS, 1, 0, &[0; 6])),
        ends("6.5.2 ENABLE_PUSH of 2", &[PROTOCOL], setting(2, 2)),
        ends("6.5.2 a window of 2^31", &[FLOW_CONTROL], setting(4, 1 << 31)),
        ends("6.5.2 frames of less than 2^14", &[PROTOCOL], setting(5, 16_383)),
        ends("6.5.2 frames of 2^24", &[PROTOCOL], setting(5, 1 << 24)),
        ends("6.6 PUSH_PROMISE of a client", &[PROTOCOL], frame(PUSH_PROMISE, 4, 1, &[0, 0, 0, 2])),
        ends("6.7 PING on a stream", &[PROTOCOL], frame(PING, 0, 1, &[0; 8])),
        ends("6.7 PING of 7 bytes", &[FRAME_SIZE], frame(PING, 0, 0, &[0; 7])),
        ends("6.7 PING of 9 bytes", &[FRAME_SIZE], frame(PING, 0, 0, &[0; 9])),
        ends("6.8 GOAWAY on a stream", &[PROTOCOL], frame(GOAWAY, 0, 1, &[0; 8])),
        ends("6.8 GOAWAY of 7 bytes", &[FRAME_SIZE], frame(GOAWAY, 0, 0, &[0; 7])),
        ends("6.9 WINDOW_UPDATE of 0", &[PROTOCOL], frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ends("6.9 WINDOW_UPDATE of 3 bytes", &[FRAME_SIZE], frame(WINDOW_UPDATE, 0, 0, &[0; 3])),
        ends(
            "6.9.1 a window of more than 2^31 - 1",
            &[FLOW_CONTROL],
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
        ),
    ]
}

/// Frames on streams that are not there; stream 3 is the next one.
fn of_no_stream(fields: &[u8]) -> Vec<Case> {
    let end = END_HEADERS | END_STREAM;
    vec![
        ends("5.1 DATA on an idle stream", &[PROTOCOL], frame(DATA, 0, 5, b"a")),
        ends("5.1 RST_STREAM on an idle stream", &[PROTOCOL], frame(RST_STREAM, 0, 5, &[0; 4])),
        ends(
            "5.1 WINDOW_UPDATE on an idle stream",
            &[PROTOCOL],
            frame(WINDOW_UPDATE, 0, 5, &[0, 0, 0, 1]),
        ),
        ends("5.1 CONTINUATION on an idle stream", &[PROTOCOL], frame(CONTINUATION, 4, 5, &[])),
        ends("5.1.1 an even stream", &[PROTOCOL], frame(HEADERS, end, 2, fields)),
        ends(
            "5.1.1 a stream below the newest",
            &[PROTOCOL],
            join(&[&frame(HEADERS, end, 7, fields), &frame(HEADERS, end, 5, fields)]),
        ),
    ]
}

/// Frames within a head, and after one.
fn about_heads(fields: &[u8]) -> Vec<Case> {
    let end = END_HEADERS | END_STREAM;
    let whole = frame(HEADERS, end, 3, fields);
    let begun = frame(HEADERS, END_STREAM, 3, fields);
    vec![
        ends("6.10 DATA within a head", &[PROTOCOL], join(&[&begun, &frame(DATA, 0, 3, b"a")])),
        ends(
            "6.10 PRIORITY within a head",
            &[PROTOCOL],
            join(&[&begun, &frame(PRIORITY, 0, 3, &[0; 5])]),
        ),
        ends("6.10 PING within a head", &[PROTOCOL], join(&[&begun, &frame(PING, 0, 0, &[0; 8])])),
        ends(
            "6.10 an unknown frame within a head",
            &[PROTOCOL],
            join(&[&begun, &frame(99, 0, 0, &[])]),
        ),
        ends(
            "6.10 HEADERS within a head",
            &[PROTOCOL],
            join(&[&begun, &frame(HEADERS, end, 5, fields)]),
        ),
        ends(
            "6.10 CONTINUATION of another",
            &[PROTOCOL],
            join(&[&begun, &frame(CONTINUATION, 4, 5, &[])]),
        ),
        ends(
            "6.10 CONTINUATION after a head",
            &[PROTOCOL],
            join(&[&whole, &frame(CONTINUATION, 4, 3, &[])]),
        ),
    ]
}

/// Heads that cannot be read, and an answer to nothing.
fn unreadable() -> Vec<Case> {
    let end = END_HEADERS | END_STREAM;
    vec![
        ends(
            "4.3 a field of no table",
            &[COMPRESSION],
            frame(HEADERS, end, 3, &[0xff, 0xff, 0x7f]),
        ),
        ends("4.3 a field cut off", &[COMPRESSION], frame(HEADERS, end, 3, &[0, 9, b'a'])),
        ends(
            "4.3 a table that is too large",
            &[COMPRESSION],
            frame(HEADERS, end, 3, &[0x3f, 0xff, 0xff, 0x7f]),
        ),
        ends("6.5.3 an answer to no SETTINGS", &[PROTOCOL], frame(SETTINGS, 1, 0, &[]).repeat(3)),
    ]
}

/// Frames at a time when they are wrong on their stream.
fn out_of_turn(fields: &[u8]) -> Vec<Case> {
    let whole = frame(HEADERS, END_HEADERS | END_STREAM, 3, fields);
    let goes_on = frame(HEADERS, END_HEADERS, 3, fields);
    vec![
        resets(
            "5.1 DATA after the end",
            &[STREAM_CLOSED],
            join(&[&whole, &frame(DATA, 0, 3, b"a")]),
        ),
        resets("5.1 HEADERS after the end", &[STREAM_CLOSED], join(&[&whole, &whole])),
        resets(
            "6.9 a stream's WINDOW_UPDATE of 0",
            &[PROTOCOL],
            join(&[&goes_on, &frame(WINDOW_UPDATE, 0, 3, &[0; 4])]),
        ),
        resets(
            "6.9.1 a stream's window too large",
            &[FLOW_CONTROL],
            join(&[&goes_on, &frame(WINDOW_UPDATE, 0, 3, &[0x7f, 0xff, 0xff, 0xff])]),
        ),
        resets(
            "5.3 a stream that depends on itself",
            &[PROTOCOL],
            join(&[&goes_on, &frame(PRIORITY, 0, 3, &[0, 0, 0, 3, 0])]),
        ),
        resets(
            "8.1 trailers that do not end",
            &[PROTOCOL],
            join(&[&goes_on, &frame(HEADERS, 4, 3, &[])]),
        ),
        resets(
            "8.1.1 a body of another length",
            &[PROTOCOL],
            join(&[
                &frame(HEADERS, 4, 3, &[fields, &block(&[(b"content-length", b"5")])].concat()),
                &frame(DATA, END_STREAM, 3, b"abc"),
            ]),
        ),
    ]
}

/// How a connection on which this is sent ends, or its stream `on`. A connection error is as
/// good as a stream error (RFC 9113 §5.4.1).
fn outcome(door: &Door, case: &Case) -> Ended {
    let mut client = door.connect();
    door.open(&mut client, "GET", "/hold", true);
    client.bytes(&case.sent);
    client.wait(case.on)
}

#[test]
fn frames_that_break_the_rules_end_in_an_error() {
    let house = House::new([127, 10, 41, 2]);
    let mut failed = Vec::new();
    let mut count = 0;
    for door in &house.doors {
        let neighbour = Neighbour::start(door);
        let fields = block(&borrowed(&door.request("POST", "/hold")));
        let tables = [
            shapes(),
            of_no_stream(&fields),
            about_heads(&fields),
            unreadable(),
            out_of_turn(&fields),
        ];
        for case in tables.into_iter().flatten() {
            count += 1;
            let ended = outcome(door, &case);
            let good = match ended {
                Ended::Connection(Some(code)) => case.codes.contains(&code),
                Ended::Reset(code) => case.on > 0 && case.codes.contains(&code),
                _ => false,
            };
            if !good {
                failed.push(format!("{}, {}: {ended:?}", case.what, door.name));
            }
        }
        neighbour.ends_well();
    }
    assert!(failed.is_empty(), "{} of {count} failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn frames_of_unknown_kinds_and_settings_are_passed_over() {
    let house = House::new([127, 10, 42, 2]);
    for door in &house.doors {
        let mut client = door.connect();
        client.frame(99, 0xff, 0, b"abc");
        client.frame(SETTINGS, 0, 0, &[0xff, 0xff, 0, 0, 0, 1]);
        client.frame(PRIORITY, 0, 9, &[0, 0, 0, 0, 1]);
        let stream = door.open(&mut client, "GET", "/x", true);
        assert_eq!(client.wait(stream), Ended::Answered("whole".into()), "{}", door.name);
        client.frame(RST_STREAM, 0, stream, &[0; 4]);
        client.frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1]);
        let stream = door.open(&mut client, "GET", "/x", true);
        assert_eq!(client.wait(stream), Ended::Answered("whole".into()), "{}", door.name);
    }
}

#[test]
fn what_does_not_begin_with_the_preface_is_not_served() {
    let house = House::new([127, 10, 43, 2]);
    let mut client = house.doors[2].silent();
    client.bytes(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    client.frame(SETTINGS, 0, 0, &[]);
    assert!(matches!(client.wait(0), Ended::Connection(_)));
    // The other two ports speak HTTP/1.1 as well, and take it for that, in a version that it has not.
    for door in &house.doors[..2] {
        let mut client = door.silent();
        client.bytes(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
        let head = client.read_bytes(12);
        assert_eq!(head, b"HTTP/1.1 505", "{}", door.name);
    }
}
