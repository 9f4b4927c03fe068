//! One side of a connection, and frames as they are on the other.

use super::*;

/// A frame as it came.
type Came = (Head, Vec<u8>);

/// The other side.
struct Far(DuplexStream);

impl Far {
    /// A client of ours that has begun, with these settings.
    async fn client(io: DuplexStream, settings: &[(u16, u32)]) -> Self {
        let mut far = Self(io);
        far.send(&[PREFACE.to_vec(), settings_of(settings)]).await;
        far
    }

    /// A server of a client of ours.
    async fn server(mut io: DuplexStream) -> Self {
        let mut preface = [0; 24];
        io.read_exact(&mut preface).await.unwrap();
        assert_eq!(preface, *PREFACE);
        Self(io)
    }

    async fn send(&mut self, frames: &[Vec<u8>]) {
        self.0.write_all(&frames.concat()).await.unwrap();
    }

    /// The next frame.
    async fn any(&mut self) -> Came {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.unwrap();
        let head = Head::read(&head).unwrap();
        let mut payload = vec![0; head.length];
        self.0.read_exact(&mut payload).await.unwrap();
        (head, payload)
    }

    /// The next frame of this kind.
    async fn next(&mut self, kind: u8) -> Came {
        let found = async {
            loop {
                let came = self.any().await;
                if came.0.kind == kind {
                    return came;
                }
            }
        };
        timeout(PATIENCE, found).await.expect("a frame of this kind")
    }
}

fn settings_of(settings: &[(u16, u32)]) -> Vec<u8> {
    let setting =
        |(name, value): &(u16, u32)| [name.to_be_bytes().as_slice(), &value.to_be_bytes()].concat();
    frame(kind::SETTINGS, 0, 0, &settings.iter().flat_map(setting).collect::<Vec<_>>())
}

/// `:scheme` http, `:path` /, `:authority` a, and GET (2) or POST (3).
fn open(stream: u32, method: u8, last: bool) -> Vec<u8> {
    let fields = [&[0x80 | method], b"\x86\x84\x01\x01a".as_slice()].concat();
    frame(kind::HEADERS, flag::END_HEADERS | u8::from(last), stream, &fields)
}

fn update(stream: u32, bytes: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

/// A server that answers each request with so many bytes.
fn answering(io: DuplexStream, bytes: usize) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut connection = Connection::server(io, SETTINGS, Carries::Own, PATIENCE);
        while let Ok(Some((_, mut send))) = connection.accept().await {
            tokio::spawn(async move {
                send.respond(&Response::new(()), false).unwrap();
                send.data(vec![7; bytes].into(), true).unwrap();
                poll_fn(|cx| send.poll_ready(cx)).await
            });
        }
    })
}

/// Three requests that are under way.
async fn three(opener: &Opener) -> Vec<(Answer, SendStream)> {
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(opener.place().await.unwrap().send(&post("/"), true).unwrap());
    }
    answers
}

const HEADER_TABLE_SIZE: u16 = 1;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_CONCURRENT_STREAMS: u16 = 3;

#[tokio::test]
async fn a_stream_is_sent_what_its_window_permits() {
    let (near, far) = duplex(1 << 20);
    let _served = answering(near, 25);
    let mut far = Far::client(far, &[(INITIAL_WINDOW_SIZE, 10)]).await;
    far.send(&[open(1, 2, true)]).await;
    assert_eq!(far.next(kind::DATA).await.1.len(), 10);
    far.send(&[update(1, 9)]).await;
    assert_eq!(far.next(kind::DATA).await.1.len(), 9);
    far.send(&[settings_of(&[(INITIAL_WINDOW_SIZE, 8)]), update(1, 4)]).await;
    assert_eq!(far.next(kind::DATA).await.1.len(), 2, "10 + 9 - 2 + 4 of all");
    far.send(&[settings_of(&[(INITIAL_WINDOW_SIZE, 100)])]).await;
    let (head, rest) = far.next(kind::DATA).await;
    assert!(rest.len() == 4 && head.has(flag::END_STREAM), "{head:?}");
}

/// RFC 9110 §10.1.1.
#[tokio::test]
async fn who_waits_with_the_body_is_told_to_go_on_when_it_is_read() {
    let (near, far) = duplex(1 << 20);
    let mut connection = Connection::server(near, SETTINGS, Carries::Own, PATIENCE);
    let (read_it, may_read) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let (request, mut send) = connection.accept().await.unwrap().unwrap();
        tokio::spawn(async move {
            may_read.await.unwrap();
            let (data, _) = all(&mut request.into_body()).await.unwrap();
            send.respond(&Response::new(()), false).unwrap();
            send.data(data.into(), true).unwrap();
            poll_fn(|cx| send.poll_ready(cx)).await
        });
        connection.accept().await.map(drop)
    });
    let mut far = Far::client(far, &[]).await;
    let fields = b"\x83\x86\x84\x01\x01a\x00\x06expect\x0c100-Continue";
    far.send(&[frame(kind::HEADERS, flag::END_HEADERS, 1, fields)]).await;
    assert!(timeout(PATIENCE / 50, far.next(kind::HEADERS)).await.is_err(), "nobody reads it yet");
    read_it.send(()).unwrap();
    let (head, fields) = far.next(kind::HEADERS).await;
    assert!(fields.ends_with(b"100") && !head.has(flag::END_STREAM), "{head:?} {fields:?}");
    far.send(&[frame(kind::DATA, flag::END_STREAM, 1, b"body")]).await;
    let (_, fields) = far.next(kind::HEADERS).await;
    assert_eq!(fields.first(), Some(&0x88), "200, once");
    assert_eq!(far.next(kind::DATA).await.1[..], *b"body");
}

#[tokio::test]
async fn a_protocol_that_was_not_offered_is_not_spoken() {
    for offered in [true, false] {
        let (near, far) = duplex(1 << 20);
        let settings = Settings { websocket: offered, ..SETTINGS };
        let mut connection = Connection::server(near, settings, Carries::Own, PATIENCE);
        let served = tokio::spawn(async move { connection.accept().await });
        let mut far = Far::client(far, &[]).await;
        let fields = b"\x02\x07CONNECT\x00\x09:protocol\x09websocket\x86\x84\x01\x01a";
        far.send(&[frame(kind::HEADERS, flag::END_HEADERS, 1, fields)]).await;
        if offered {
            assert_eq!(served.await.unwrap().unwrap().unwrap().0.method(), Method::CONNECT);
        } else {
            assert_eq!(far.next(kind::RST_STREAM).await.1[..], [0, 0, 0, 1], "PROTOCOL_ERROR");
        }
    }
}

#[tokio::test]
async fn those_who_wait_for_the_connection_take_turns() {
    let (near, far) = duplex(1 << 20);
    let _served = answering(near, 100_000);
    let mut far = Far::client(far, &[(INITIAL_WINDOW_SIZE, 1 << 20)]).await;
    far.send(&[open(1, 2, true), open(3, 2, true), open(5, 2, true)]).await;
    let mut bytes = 0;
    while bytes < 65_535 {
        bytes += far.next(kind::DATA).await.1.len();
    }
    far.send(&[update(0, 1 << 20)]).await;
    let mut turns = Vec::new();
    for _ in 0..6 {
        turns.push(far.next(kind::DATA).await.0.stream);
    }
    let (first, second) = turns.split_at_mut(3);
    first.sort_unstable();
    second.sort_unstable();
    assert_eq!([first, second], [[1, 3, 5]; 2]);
}

#[tokio::test]
async fn padding_is_given_back_though_nobody_reads() {
    let (near, far) = duplex(1 << 20);
    let mut server = Connection::server(near, SETTINGS, Carries::Own, PATIENCE);
    let mut far = Far::client(far, &[]).await;
    far.send(&[open(1, 3, false)]).await;
    let _held = server.accept().await.unwrap().unwrap();
    tokio::spawn(async move { server.accept().await.map(drop) });
    let padded = frame(kind::DATA, flag::PADDED, 1, &[[250].as_slice(), &[0; 251]].concat());
    far.send(&vec![padded; 200]).await;
    // The first is of the connection, as it begins.
    let mut given_back = far.next(kind::WINDOW_UPDATE).await;
    while given_back.0.stream == 0 {
        given_back = far.next(kind::WINDOW_UPDATE).await;
    }
    let (head, payload) = given_back;
    assert_eq!(head.stream, 1);
    let bytes = u32::from_be_bytes(payload.try_into().unwrap());
    assert!(bytes >= 50_000 && bytes.is_multiple_of(251), "{bytes}: without what may be read");
}

#[tokio::test]
async fn settings_come_first() {
    for first in [frame(kind::PING, 0, 0, &[0; 8]), frame(kind::SETTINGS, flag::ACK, 0, &[])] {
        let (near, far) = duplex(1 << 20);
        let _served = answering(near, 1);
        let mut far = Far(far);
        far.send(&[PREFACE.to_vec(), first]).await;
        assert_eq!(far.next(kind::GOAWAY).await.1[4..], [0, 0, 0, 1]);
    }
}

#[tokio::test]
async fn what_comes_after_the_last_goaway_is_left_out() {
    let (near, far) = duplex(1 << 20);
    let mut server = Connection::server(near, SETTINGS, Carries::Own, PATIENCE);
    let mut far = Far::client(far, &[]).await;
    far.send(&[open(1, 2, true)]).await;
    let (_request, mut answer) = server.accept().await.unwrap().unwrap();
    server.leave();
    let served = tokio::spawn(async move { server.accept().await.unwrap().is_some() });
    assert_eq!(far.next(kind::GOAWAY).await.1[..4], [0x7f, 0xff, 0xff, 0xff]);
    let ping = far.next(kind::PING).await.1;
    far.send(&[frame(kind::PING, flag::ACK, 0, &ping)]).await;
    assert_eq!(far.next(kind::GOAWAY).await.1[..4], [0, 0, 0, 1]);
    far.send(&[open(3, 2, true)]).await;
    sleep(Duration::from_millis(20)).await;
    answer.respond(&Response::new(()), true).unwrap();
    assert_eq!(far.next(kind::HEADERS).await.0.stream, 1);
    assert!(!timeout(PATIENCE, served).await.unwrap().unwrap(), "no request came any more");
}

#[tokio::test]
async fn what_nobody_reads_does_not_fill_the_window_of_all() {
    let (near, far) = duplex(1 << 20);
    let mut server = Connection::server(near, SETTINGS, Carries::Own, PATIENCE);
    let mut far = Far::client(far, &[]).await;
    let mut held = Vec::new();
    for stream in [1, 3, 5, 7, 9, 11] {
        let data = frame(kind::DATA, 0, stream, &[0; 16_000]);
        far.send(&[open(stream, 3, false), data.repeat(6)]).await;
        held.push(server.accept().await.unwrap().unwrap());
    }
    tokio::spawn(async move { server.accept().await.map(drop) });
    far.next(kind::WINDOW_UPDATE).await; // with which the connection begins
    sleep(Duration::from_millis(20)).await;
    // The streams go on, and what is unread of them goes.
    let _sends: Vec<SendStream> = held.into_iter().map(|(_, send)| send).collect();
    assert_eq!(far.next(kind::WINDOW_UPDATE).await.0.stream, 0);
}

#[tokio::test]
async fn a_goaway_leaves_out_what_is_above_its_last_stream() {
    let (near, far) = duplex(1 << 20);
    let opener = client(near);
    let mut far = Far::server(far).await;
    let mut answers = three(&opener).await;
    let goaway = frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 2]);
    far.send(&[settings_of(&[]), goaway]).await;
    let (left_out, _) = answers.pop().unwrap();
    let error = timeout(PATIENCE, left_out).await.unwrap().unwrap_err();
    assert!(error.is_unprocessed(), "{error}, whatever its code");
    assert!(opener.place().await.unwrap_err().is_unprocessed());
    far.send(&[1, 3].map(|stream| frame(kind::HEADERS, 5, stream, b"\x88"))).await;
    for (answer, _) in answers {
        assert_eq!(timeout(PATIENCE, answer).await.unwrap().unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn one_who_permits_fewer_streams_gets_no_more_until_some_have_ended() {
    let (near, far) = duplex(1 << 20);
    let opener = client(near);
    let mut far = Far::server(far).await;
    let answers = three(&opener).await;
    far.send(&[settings_of(&[(MAX_CONCURRENT_STREAMS, 1)])]).await;
    far.next(kind::SETTINGS).await;
    far.next(kind::SETTINGS).await; // the answer
    for (stream, (answer, send)) in [1, 3, 5].into_iter().zip(answers) {
        let early = timeout(Duration::from_millis(20), opener.place()).await;
        assert!(early.is_err(), "stream {stream} is open");
        far.send(&[frame(kind::HEADERS, 5, stream, b"\x88")]).await;
        drop((answer.await.unwrap(), send));
    }
    let place = timeout(PATIENCE, opener.place()).await.unwrap().unwrap();
    assert!(timeout(Duration::from_millis(20), opener.place()).await.is_err(), "one at a time");
    far.send(&[settings_of(&[(MAX_CONCURRENT_STREAMS, 2)])]).await;
    timeout(PATIENCE, opener.place()).await.unwrap().unwrap();
    drop(place);
}

#[tokio::test]
async fn a_stream_too_many_is_refused_and_may_be_tried_again() {
    let (near, far) = duplex(1 << 20);
    let few = Settings { streams: 2, ..SETTINGS };
    let mut server = Connection::server(near, few, Carries::Own, PATIENCE);
    let mut far = Far::client(far, &[]).await;
    far.send(&[open(1, 2, true), open(3, 2, true), open(5, 2, true)]).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(server.accept().await.unwrap().unwrap());
    }
    tokio::spawn(async move { server.accept().await.map(drop) });
    let (head, reason) = far.next(kind::RST_STREAM).await;
    assert_eq!((head.stream, reason.as_slice()), (5, [0, 0, 0, 7].as_slice()));
}

#[tokio::test]
async fn a_sign_of_life_is_whatever_comes_after_it_was_asked_for() {
    let (near, far) = duplex(1 << 20);
    let mut server = Connection::server(near, SETTINGS, Carries::Own, PATIENCE);
    let watch = server.watch();
    tokio::spawn(async move { server.accept().await.map(drop) });
    let mut far = Far::client(far, &[]).await;
    far.next(kind::SETTINGS).await;
    sleep(Duration::from_millis(20)).await;
    assert!(watch.has_heard());
    watch.ask();
    assert!(!watch.has_heard());
    let (_, asked) = far.next(kind::PING).await;
    far.send(&[frame(kind::PING, flag::ACK, 0, &asked)]).await;
    sleep(Duration::from_millis(20)).await;
    assert!(watch.has_heard());
}

/// RFC 7541 §4.2: the smallest size in between is announced, and then the last.
#[tokio::test]
async fn a_table_that_was_small_for_a_moment_was_emptied() {
    let (near, far) = duplex(1 << 20);
    let _served = answering(near, 1);
    let sizes = [(HEADER_TABLE_SIZE, 0), (HEADER_TABLE_SIZE, 4096)];
    let mut far = Far::client(far, &sizes).await;
    far.send(&[open(1, 2, true)]).await;
    let (_, block) = far.next(kind::HEADERS).await;
    assert!(block.starts_with(b"\x20\x3f\xe1\x1f"), "{}", block.escape_ascii());
}

#[tokio::test]
async fn what_is_sent_pays_for_the_windows_that_permit_it() {
    let (near, far) = duplex(1 << 20);
    let _served = answering(near, 900_000);
    let mut far = Far::client(far, &[(INITIAL_WINDOW_SIZE, 1 << 20)]).await;
    far.send(&[open(1, 2, true)]).await;
    let mut permitted = 65_535;
    let mut bytes = 0;
    for _ in 0..8 {
        while bytes < permitted {
            bytes += far.next(kind::DATA).await.1.len();
        }
        far.send(&vec![update(0, 20); 5_000]).await;
        permitted += 20 * 5_000;
    }
    while bytes < permitted {
        bytes += far.next(kind::DATA).await.1.len();
    }
}

#[tokio::test]
async fn one_who_breaks_the_rules_and_reads_nothing_is_not_waited_for() {
    let (near, far) = duplex(64);
    let served = tokio::spawn(async move {
        let mut connection = Connection::server(near, SETTINGS, Carries::Own, PATIENCE);
        connection.accept().await.map(|_| ())
    });
    let mut far = Far(far);
    far.send(&[PREFACE.to_vec(), frame(kind::DATA, 0, 1, b"a")]).await;
    let error = timeout(PATIENCE / 2, served).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error, Error::GoAway { by: By::Rules, reason: Reason::PROTOCOL_ERROR });
}

#[tokio::test]
async fn one_who_reads_no_answers_may_not_ask_for_ever() {
    let (near, far) = duplex(64);
    let served = tokio::spawn(async move {
        let mut connection = Connection::server(near, SETTINGS, Carries::Own, PATIENCE);
        let mut response = Response::new(());
        response.headers_mut().insert("a", HeaderValue::from_str(&"a".repeat(8_000)).unwrap());
        while let Some((_, mut send)) = connection.accept().await? {
            send.respond(&response, true)?;
        }
        Ok(())
    });
    let mut far = Far::client(far, &[]).await;
    let asking = async {
        for stream in (1..20_000).step_by(2) {
            // What comes after the end is passed over, or not taken.
            let _ = far.0.write_all(&open(stream, 2, true)).await;
        }
    };
    let (_, served) = timeout(PATIENCE, futures_util::future::join(asking, served)).await.unwrap();
    let told = Error::GoAway { by: By::Rules, reason: Reason::ENHANCE_YOUR_CALM };
    assert_eq!(served.unwrap(), Err(told));
}

#[tokio::test]
async fn more_of_what_nobody_wants_is_not_permitted() {
    let (near, far) = duplex(1 << 20);
    let mut server = Connection::server(near, SETTINGS, Carries::Own, PATIENCE);
    let mut far = Far::client(far, &[]).await;
    far.send(&[open(1, 3, false)]).await;
    let (request, _send) = server.accept().await.unwrap().unwrap();
    drop(request);
    tokio::spawn(async move { server.accept().await.map(drop) });
    let data = frame(kind::DATA, 0, 1, &[0; 15_000]).repeat(6);
    far.send(&[data, frame(kind::PING, 0, 0, &[0; 8])]).await;
    let mut came = Vec::new();
    while !came.contains(&kind::PING) {
        let head = far.any().await.0;
        assert!(head.kind != kind::WINDOW_UPDATE || head.stream == 0, "{head:?}");
        came.push(head.kind);
    }
}
