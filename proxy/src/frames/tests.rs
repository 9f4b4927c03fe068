//! Floods, counted.

use super::*;

const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

fn frame(kind: u8, flags: u8, stream: u32, payload: usize) -> Vec<u8> {
    let mut frame = (payload as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.resize(HEAD + payload, 0);
    frame
}

fn client(now: Instant) -> Frames {
    Frames { skip: 0, ..Frames::of_client(now, Carries::Own) }
}

/// How many of `frames` are passed until one is too many.
fn passed(frames: &mut Frames, now: Instant, one: &[u8]) -> u64 {
    (0..2 * MOST_IDLE).find(|_| frames.judge(one, now).is_err()).unwrap_or(2 * MOST_IDLE)
}

#[test]
fn frames_that_move_nothing_have_an_end() {
    let now = Instant::now();
    for (kind, payload) in
        [(PING, 8), (SETTINGS, 0), (2, 5), (GOAWAY, 8), (WINDOW_UPDATE, 4), (99, 20)]
    {
        let one = frame(kind, 0, 0, payload);
        assert_eq!(passed(&mut client(now), now, &one), MOST_IDLE, "{kind}");
        assert_eq!(passed(&mut Frames::of_server(now), now, &one), MOST_IDLE, "{kind}");
    }
    let unasked = frame(PING, ACK, 0, 8);
    assert_eq!(passed(&mut client(now), now, &unasked), MOST_IDLE / 100);
    for (kind, payload) in [(DATA, 1), (HEADERS, 9), (CONTINUATION, 9)] {
        let one = frame(kind, 0, 1, payload);
        assert_eq!(passed(&mut client(now), now, &one), 2 * MOST_IDLE, "{kind}");
    }
}

#[test]
fn answers_do_not_pay_for_a_flood_and_responses_do() {
    let now = Instant::now();
    let (ping, update) = (frame(PING, 0, 0, 8), frame(WINDOW_UPDATE, 0, 1, 4));
    let mut frames = client(now);
    let answered = (0..2 * MOST_IDLE).find(|_| {
        let over = frames.judge(&ping, now).is_err();
        frames.sent(PONG as usize);
        over
    });
    assert_eq!(answered, Some(MOST_IDLE));
    let mut frames = client(now);
    for _ in 0..3 * MOST_IDLE {
        frames.judge(&[update.as_slice(), &update].concat(), now).unwrap();
        frames.sent(15);
    }
}

#[test]
fn time_pays_for_pings() {
    let mut now = Instant::now();
    let mut frames = client(now);
    assert_eq!(passed(&mut frames, now, &frame(PING, 0, 0, 8)), MOST_IDLE);
    let mut frames = client(now);
    for _ in 0..3 * MOST_IDLE {
        now += Duration::from_millis(1);
        frames.judge(&frame(PING, 0, 0, 8), now).unwrap();
    }
}

/// How many requests are reset until it is too many, of `each` in `every` so long after they
/// were opened.
fn resets(each: u32, every: u32, after: Duration, carries: Carries) -> Option<u32> {
    let mut now = Instant::now();
    let mut frames = Frames { skip: 0, ..Frames::of_client(now, carries) };
    (0..100_000).find(|request| {
        frames.judge(&frame(HEADERS, 5, 2 * request + 1, 9), now).unwrap();
        now += after;
        request % every < each
            && frames.judge(&frame(RST_STREAM, 0, 2 * request + 1, 4), now).is_err()
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

#[test]
fn what_is_too_much_is_told_at_the_end_of_its_frame_however_it_is_cut() {
    let now = Instant::now();
    let one = frame(PING, 0, 0, 8);
    let spent = || {
        let mut frames = client(now);
        (0..MOST_IDLE).for_each(|_| frames.judge(&one, now).unwrap());
        frames
    };
    let what = "frames that move nothing";
    let two = [one.as_slice(), &one].concat();
    assert_eq!(spent().judge(&two, now), Err(Excess { good: one.len(), what }));
    for cut in 1..one.len() {
        let mut frames = spent();
        frames.judge(&one[..cut], now).unwrap();
        let good = one.len() - cut;
        assert_eq!(frames.judge(&two[cut..], now), Err(Excess { good, what }), "{cut}");
    }
}

#[test]
fn the_preface_is_no_frame() {
    let now = Instant::now();
    let mut frames = Frames::of_client(now, Carries::Own);
    let bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(HEADERS, 4, 7, 1)];
    frames.judge(&bytes.concat(), now).unwrap();
    assert_eq!(frames.requests.unwrap().newest, 7);
}
