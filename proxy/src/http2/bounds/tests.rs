//! Floods, counted.

use super::*;

fn frame(kind: u8, flags: u8, stream: u32, length: usize) -> Head {
    Head { length, kind, flags, stream }
}

fn client(now: Instant) -> Bounds {
    Bounds::of_client(now, Carries::Own)
}

/// How many of these frames are passed until one is too many.
fn passed(bounds: &mut Bounds, now: Instant, one: Head) -> u64 {
    (0..2 * MOST_IDLE).find(|_| bounds.frame(one, || now).is_err()).unwrap_or(2 * MOST_IDLE)
}

#[test]
fn frames_that_move_nothing_have_an_end() {
    let now = Instant::now();
    for (kind, length) in [
        (kind::PING, 8),
        (kind::SETTINGS, 0),
        (kind::PRIORITY, 5),
        (kind::GOAWAY, 8),
        (kind::WINDOW_UPDATE, 4),
        (kind::DATA, 0),
        (99, 20),
    ] {
        let one = frame(kind, 0, 0, length);
        assert_eq!(passed(&mut client(now), now, one), MOST_IDLE, "{kind}");
        assert_eq!(passed(&mut Bounds::of_server(now), now, one), MOST_IDLE, "{kind}");
    }
    let unasked = frame(kind::PING, flag::ACK, 0, 8);
    assert_eq!(passed(&mut client(now), now, unasked), MOST_IDLE / 100);
    for (kind, flags, length) in [
        (kind::DATA, 0, 1),
        (kind::DATA, flag::END_STREAM, 0),
        (kind::HEADERS, 0, 9),
        (kind::CONTINUATION, 0, 9),
    ] {
        let one = frame(kind, flags, 1, length);
        assert_eq!(passed(&mut client(now), now, one), 2 * MOST_IDLE, "{kind}");
    }
}

#[test]
fn streams_that_we_must_reset_have_an_end() {
    let now = Instant::now();
    let mut bounds = client(now);
    let faults = (0..MOST_IDLE).take_while(|_| bounds.fault(now).is_ok()).count();
    assert_eq!(faults as u64, MOST_IDLE / 20);
}

#[test]
fn answers_do_not_pay_for_a_flood_and_responses_do() {
    let now = Instant::now();
    let (ping, update) = (frame(kind::PING, 0, 0, 8), frame(kind::WINDOW_UPDATE, 0, 1, 4));
    let mut bounds = client(now);
    let answered = (0..2 * MOST_IDLE).find(|_| {
        let over = bounds.frame(ping, || now).is_err();
        bounds.sent(PONG as usize);
        over
    });
    assert_eq!(answered, Some(MOST_IDLE));
    let mut bounds = client(now);
    for _ in 0..3 * MOST_IDLE {
        bounds.frame(update, || now).unwrap();
        bounds.frame(update, || now).unwrap();
        bounds.sent(15);
    }
}

#[test]
fn time_pays_for_pings() {
    let mut now = Instant::now();
    let ping = frame(kind::PING, 0, 0, 8);
    let mut bounds = client(now);
    assert_eq!(passed(&mut bounds, now, ping), MOST_IDLE);
    let mut bounds = client(now);
    for _ in 0..3 * MOST_IDLE {
        now += Duration::from_millis(1);
        bounds.frame(ping, || now).unwrap();
    }
}

/// How many requests are reset until it is too many, of `each` in `every` so long after they
/// were opened.
fn resets(each: u32, every: u32, after: Duration, carries: Carries) -> Option<u32> {
    let mut now = Instant::now();
    let mut bounds = Bounds::of_client(now, carries);
    (0..100_000).find(|request| {
        bounds.frame(frame(kind::HEADERS, 5, 2 * request + 1, 9), || now).unwrap();
        now += after;
        let reset = frame(kind::RST_STREAM, 0, 2 * request + 1, 4);
        request % every < each && bounds.frame(reset, || now).is_err()
    })
}

#[test]
fn resetting_early_has_an_end_unless_as_many_requests_are_not() {
    let at_once = Duration::from_millis(1);
    let cases = [
        (1, 1, at_once, Carries::Own, true),
        (9, 10, at_once, Carries::Own, true),
        (1, 2, at_once, Carries::Own, false),
        (1, 1, 2 * EARLY, Carries::Own, false),
        (1, 1, at_once, Carries::Many, true),
        (1, 2, at_once, Carries::Many, false),
    ];
    for (each, every, after, bound, ends) in cases {
        let ended = resets(each, every, after, bound);
        assert_eq!(ended.is_some(), ends, "{each} of {every} after {after:?}: {ended:?}");
    }
    assert!(resets(1, 1, Duration::ZERO, Carries::Own).unwrap() <= 1_000);
}
