//! A connection with itself, and with h2 on either side of it; frame by frame in [`frames`].

mod frames;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::error::By;
use super::frame::{Head, PREFACE, flag, kind};
use super::*;

const SETTINGS: Settings = Settings {
    window: 1 << 20,
    stream_window: 100_000,
    streams: 100,
    frame: 1 << 14,
    head: 1 << 17,
    websocket: true,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// All that comes on a stream.
async fn all(stream: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), Error> {
    let mut data = Vec::new();
    while let Some(frame) = poll_fn(|cx| stream.poll_frame(cx)).await.transpose()? {
        match frame.into_data() {
            Ok(piece) => data.extend_from_slice(&piece),
            Err(frame) => return Ok((data, frame.into_trailers().ok())),
        }
    }
    Ok((data, None))
}

/// Sends all of it, in pieces of this length.
async fn send(stream: &mut SendStream, data: &[u8], piece: usize, last: bool) -> Result<(), Error> {
    let mut pieces = data.chunks(piece).peekable();
    while let Some(piece) = pieces.next() {
        poll_fn(|cx| stream.poll_ready(cx)).await?;
        let last = last && pieces.peek().is_none();
        stream.data(Bytes::copy_from_slice(piece), last)?;
    }
    poll_fn(|cx| stream.poll_ready(cx)).await
}

/// Answers with the fields, the body and the trailers that were sent.
async fn echo(request: Request<RecvStream>, mut send_stream: SendStream) -> Result<(), Error> {
    let (parts, mut body) = request.into_parts();
    let mut response = Response::new(());
    *response.headers_mut() = parts.headers;
    // What `:authority` said.
    assert_eq!(response.headers_mut().remove("host").unwrap(), "api");
    let (data, trailers) = all(&mut body).await?;
    let over = data.is_empty() && trailers.is_none();
    send_stream.respond(&response, over)?;
    send(&mut send_stream, &data, 70_000, trailers.is_none()).await?;
    if let Some(trailers) = trailers {
        send_stream.trailers(trailers)?;
    }
    Ok(())
}

/// A server that echoes, until its connection ends.
fn serve(io: DuplexStream) -> JoinHandle<Result<(), Error>> {
    tokio::spawn(async move {
        let mut connection = Connection::server(io, SETTINGS, Carries::Own, PATIENCE);
        while let Some((request, send)) = connection.accept().await? {
            tokio::spawn(echo(request, send));
        }
        Ok(())
    })
}

fn client(io: DuplexStream) -> Opener {
    let (opener, connection) = Connection::client(io, SETTINGS, PATIENCE);
    tokio::spawn(connection.run());
    opener
}

async fn ask(
    opener: &Opener,
    request: Request<()>,
    body: &[u8],
) -> Result<(Response<Vec<u8>>, Option<HeaderMap>), Error> {
    let opening = opener.place().await?;
    let (answer, mut send_stream) = opening.send(&request, body.is_empty())?;
    let sent = send(&mut send_stream, body, 30_000, true);
    let (answer, sent) = futures_util::future::join(answer, sent).await;
    let (head, mut stream) = answer?.into_parts();
    sent?;
    let (data, trailers) = all(&mut stream).await?;
    Ok((Response::from_parts(head, data), trailers))
}

fn post(path: &str) -> Request<()> {
    Request::post(format!("http://api{path}")).header("x-mine", "1").body(()).unwrap()
}

#[tokio::test]
async fn bodies_of_all_lengths_come_back_whole_over_a_narrow_pipe() {
    let (near, far) = duplex(10_000);
    let (opener, served) = (client(near), serve(far));
    let lengths = [0, 1, 9, 16_384, 16_385, 65_535, 65_536, 300_000, 2_500_000];
    let asked = lengths.map(|length| {
        let opener = opener.clone();
        tokio::spawn(async move {
            let body: Vec<u8> = (0..length).map(|n: u32| n.to_le_bytes()[1]).collect();
            let (response, _) = ask(&opener, post("/a"), &body).await.unwrap();
            assert_eq!(response.headers()["x-mine"], "1");
            assert!(*response.body() == body, "{length}");
        })
    });
    for asked in asked {
        timeout(PATIENCE, asked).await.unwrap().unwrap();
    }
    drop(opener);
    timeout(PATIENCE, served).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn heads_larger_than_a_frame_and_trailers_arrive() {
    let (near, far) = duplex(10_000);
    let (opener, _served) = (client(near), serve(far));
    let mut request = post("/a?b=c");
    for number in 0..40 {
        let value = HeaderValue::from_str(&number.to_string().repeat(1000)).unwrap();
        request.headers_mut().append("x-large", value);
    }
    let sent = request.headers().clone();
    for _ in 0..3 {
        let (answer, mut stream) = opener.place().await.unwrap().send(&request, false).unwrap();
        stream.data(Bytes::from_static(b"abc"), false).unwrap();
        let trailers: HeaderMap =
            [("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect();
        stream.trailers(trailers.clone()).unwrap();
        let (head, mut stream) = answer.await.unwrap().into_parts();
        assert_eq!(head.headers, sent);
        assert_eq!(all(&mut stream).await.unwrap(), (b"abc".to_vec(), Some(trailers)));
    }
}

#[tokio::test]
async fn one_that_is_not_read_holds_up_nobody_else() {
    let (near, far) = duplex(1 << 20);
    let (opener, _served) = (client(near), serve(far));
    let body = vec![7; 99_000];
    let mut unread = Vec::new();
    // Not more than the window of the connection.
    for _ in 0..9 {
        let (answer, mut stream) = opener.place().await.unwrap().send(&post("/"), false).unwrap();
        send(&mut stream, &body, 30_000, true).await.unwrap();
        unread.push(answer.await.unwrap());
    }
    // Many times what is left of that.
    let large = vec![7; 3 << 20];
    let other = timeout(PATIENCE, ask(&opener, post("/"), &large)).await.expect("it moves");
    assert!(*other.unwrap().0.body() == large);
    for answer in unread {
        assert!(all(&mut answer.into_body()).await.unwrap().0 == body);
    }
    let (response, _) = ask(&opener, post("/"), &body).await.unwrap();
    assert!(*response.body() == body);
}

/// Two halves that are dropped before their end, and what the other side is told.
#[tokio::test]
async fn what_nobody_wants_any_more_is_reset() {
    let (near, far) = duplex(1 << 20);
    let opener = client(near);
    let mut server = Connection::server(far, SETTINGS, Carries::Own, PATIENCE);
    let (answer, stream) = opener.place().await.unwrap().send(&post("/"), false).unwrap();
    let (request, mut answering) = server.accept().await.unwrap().unwrap();
    tokio::spawn(async move { while server.accept().await.unwrap().is_some() {} });
    drop(stream);
    sleep(Duration::from_millis(20)).await;
    answering.respond(&Response::new(()), false).unwrap();
    let response = answer.await.unwrap();
    let mut body = request.into_body();
    drop(response);
    let error = poll_fn(|cx| body.poll_data(cx)).await.unwrap().unwrap_err();
    assert_eq!(error, Error::Reset { by: By::Peer, reason: Reason::CANCEL });
    assert_eq!(poll_fn(|cx| answering.poll_failed(cx)).await, error);
    assert_eq!(answering.data(Bytes::from_static(b"a"), true), Err(error));
}

#[tokio::test]
async fn one_who_answers_early_wants_no_more() {
    let (near, far) = duplex(1 << 20);
    let opener = client(near);
    let mut server = Connection::server(far, SETTINGS, Carries::Own, PATIENCE);
    let (answer, mut stream) = opener.place().await.unwrap().send(&post("/"), false).unwrap();
    let (request, mut answering) = server.accept().await.unwrap().unwrap();
    tokio::spawn(async move { while server.accept().await.unwrap().is_some() {} });
    answering.respond(&Response::new(()), false).unwrap();
    answering.data(Bytes::from_static(b"too large"), true).unwrap();
    drop((request, answering));
    let mut body = answer.await.unwrap().into_body();
    assert_eq!(all(&mut body).await.unwrap().0, b"too large");
    let failed = poll_fn(|cx| stream.poll_failed(cx)).await;
    assert_eq!(failed, Error::Reset { by: By::Peer, reason: Reason::NO_ERROR });
}

/// The ways in which a stream may end: each is the last that is said of it.
#[tokio::test]
async fn what_has_ended_is_not_reset() {
    let ways: [fn(&mut SendStream); 4] = [
        |stream| stream.respond(&Response::new(()), true).unwrap(),
        |stream| {
            stream.respond(&Response::new(()), false).unwrap();
            stream.data(Bytes::from_static(b"a"), true).unwrap();
        },
        |stream| {
            stream.respond(&Response::new(()), false).unwrap();
            stream.data(Bytes::from_static(b"a"), false).unwrap();
            stream.end().unwrap();
        },
        |stream| {
            stream.respond(&Response::new(()), false).unwrap();
            stream.trailers(HeaderMap::new()).unwrap();
        },
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let (near, mut far) = duplex(1 << 16);
        let served = tokio::spawn(async move {
            let mut connection = Connection::server(near, SETTINGS, Carries::Own, PATIENCE);
            while let Some((request, mut send)) = connection.accept().await? {
                way(&mut send);
                drop((request, send));
            }
            Ok::<_, Error>(())
        });
        // :method GET, :scheme http, :path /, :authority a
        let head = frame(kind::HEADERS, 5, 1, b"\x82\x86\x84\x01\x01a");
        let settings = frame(kind::SETTINGS, 0, 0, &[]);
        far.write_all(&[PREFACE, &settings, &head].concat()).await.unwrap();
        sleep(Duration::from_millis(20)).await;
        far.shutdown().await.unwrap();
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();
        served.await.unwrap().unwrap();
        let mut came = Vec::new();
        while let Some(head) = Head::read(&read) {
            came.push(head);
            read.drain(..9 + head.length);
        }
        let of_stream: Vec<_> = came.iter().filter(|head| head.stream == 1).collect();
        let last = of_stream.last().unwrap();
        assert!(last.has(flag::END_STREAM) && last.kind <= kind::HEADERS, "{number}: {came:?}");
    }
}

#[tokio::test]
async fn a_server_that_leaves_serves_what_is_under_way() {
    let (near, far) = duplex(1 << 20);
    let opener = client(near);
    let mut server = Connection::server(far, SETTINGS, Carries::Own, PATIENCE);
    let (answer, _stream) = opener.place().await.unwrap().send(&post("/"), true).unwrap();
    let (_, mut answering) = server.accept().await.unwrap().unwrap();
    server.leave();
    let served = tokio::spawn(async move {
        let mut late = 0;
        while let Some((_, mut answering)) = server.accept().await.unwrap() {
            answering.respond(&Response::new(()), true).unwrap();
            late += 1;
        }
        late
    });
    // Until it is told, a client may begin more.
    let refused = loop {
        match opener.place().await {
            Err(error) => break error,
            Ok(_) => sleep(Duration::from_millis(1)).await,
        }
    };
    assert!(refused.is_unprocessed(), "{refused}");
    answering.respond(&Response::new(()), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    drop(opener);
    assert_eq!(timeout(PATIENCE, served).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn no_more_streams_are_opened_than_the_other_side_takes() {
    let (near, far) = duplex(1 << 20);
    let opener = client(near);
    let few = Settings { streams: 2, ..SETTINGS };
    let mut server = Connection::server(far, few, Carries::Own, PATIENCE);
    let mut waiting = VecDeque::new();
    let asked: Vec<_> = (0..10)
        .map(|_| {
            let opener = opener.clone();
            tokio::spawn(async move {
                // The first come before the settings do.
                sleep(Duration::from_millis(50)).await;
                ask(&opener, post("/"), b"").await.map(|_| ())
            })
        })
        .collect();
    while let Ok(accepted) = timeout(Duration::from_millis(200), server.accept()).await {
        waiting.push_back(accepted.unwrap().unwrap());
        assert!(waiting.len() <= 2);
        if waiting.len() == 2
            && let Some((_, mut answering)) = waiting.pop_front()
        {
            answering.respond(&Response::new(()), true).unwrap();
        }
    }
    assert_eq!(opener.most(), 2);
    drop(waiting);
    drop(server);
    let mut done = 0;
    for asked in asked {
        done += u32::from(asked.await.unwrap().is_ok());
    }
    assert_eq!(done, 9, "the last one was under way when its server went");
}

#[tokio::test]
async fn h2_understands_us_and_we_understand_h2() {
    let (near, far) = duplex(10_000);
    let _served = serve(far);
    let (sender, connection) = h2::client::handshake(near).await.unwrap();
    tokio::spawn(connection);
    let (near, far) = duplex(10_000);
    tokio::spawn(async move {
        let mut connection = h2::server::handshake(far).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let (parts, mut body) = request.into_parts();
            tokio::spawn(async move {
                let mut response = Response::new(());
                *response.headers_mut() = parts.headers;
                let mut stream = respond.send_response(response, false).unwrap();
                while let Some(Ok(data)) = body.data().await {
                    body.flow_control().release_capacity(data.len()).unwrap();
                    stream.send_data(data, false).unwrap();
                }
                stream.send_data(Bytes::new(), true).unwrap();
            });
        }
    });
    let opener = client(near);
    let mut random = SmallRng::seed_from_u64(9);
    for turn in 0..200 {
        let mut body = vec![0; random.random_range(0..100_000)];
        random.fill_bytes(&mut body);
        let mut request = post(&format!("/{turn}"));
        for _ in 0..random.random_range(0..5) {
            let name = ["x-a", "cookie", "user-agent", "authorization"][random.random_range(0..4)];
            let value = ["", "b", "a long value with spaces", "%41"][random.random_range(0..4)];
            request.headers_mut().append(name, HeaderValue::from_static(value));
        }
        let fields = request.headers().clone();
        let (response, _) = ask(&opener, request.clone(), &body).await.unwrap();
        assert_eq!(*response.headers(), fields);
        assert!(*response.body() == body);

        let mut sender = sender.clone().ready().await.unwrap();
        let (response, mut stream) = sender.send_request(request, false).unwrap();
        let sent = Bytes::from(body);
        stream.send_data(sent.clone(), true).unwrap();
        let (head, mut receive) = response.await.unwrap().into_parts();
        assert_eq!(head.headers, fields);
        let mut received = Vec::new();
        while let Some(data) = receive.data().await {
            let data = data.unwrap();
            receive.flow_control().release_capacity(data.len()).unwrap();
            received.extend_from_slice(&data);
        }
        assert!(received == sent);
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let head = Head { length: payload.len(), kind, flags, stream };
    [head.bytes().as_slice(), payload].concat()
}

/// The body of a response, or why there is none.
type Told = Result<&'static [u8], Reason>;

/// What comes of responses that are none, as the one who asked sees it.
#[tokio::test]
async fn a_client_judges_its_responses() {
    let status = |code: &[u8]| [b"\x08\x03", code].concat();
    let headers = |flags, block: &[u8]| frame(kind::HEADERS, 4 | flags, 1, block);
    let length = |digits: &[u8]| [b"\x0f\x0d\x01", digits].concat();
    let (end, ok) = (flag::END_STREAM, b"\x88".as_slice());
    let malformed = Err(Reason::PROTOCOL_ERROR);
    let cases: Vec<(Method, Vec<u8>, Told)> = vec![
        (Method::GET, headers(end, ok), Ok(b"")),
        (Method::GET, [headers(0, ok), frame(0, 1, 1, b"ab")].concat(), Ok(b"ab")),
        (
            Method::GET,
            [headers(0, &status(b"103")), headers(0, ok), frame(0, 1, 1, b"c")].concat(),
            Ok(b"c"),
        ),
        (Method::GET, headers(end, &status(b"100")), malformed),
        (Method::GET, headers(0, &status(b"103")).repeat(65), malformed),
        (Method::GET, headers(end, &status(b"101")), malformed),
        (Method::GET, headers(end, &status(b"2x0")), malformed),
        (Method::GET, headers(end, b"\x84"), malformed),
        (Method::GET, headers(end, b""), malformed),
        (Method::GET, headers(end, &[ok, ok].concat()), malformed),
        (Method::GET, frame(0, 1, 1, b"ab"), malformed),
        (Method::GET, headers(end, &[ok, &length(b"2")].concat()), malformed),
        (Method::HEAD, headers(end, &[ok, &length(b"2")].concat()), Ok(b"")),
        (Method::GET, headers(end, &[b"\x8b", length(b"2").as_slice()].concat()), Ok(b"")),
        (
            Method::GET,
            [headers(0, &[ok, &length(b"2")].concat()), frame(0, 1, 1, b"ab")].concat(),
            Ok(b"ab"),
        ),
        (
            Method::GET,
            [headers(0, &[ok, &length(b"2")].concat()), frame(0, 1, 1, b"a")].concat(),
            malformed,
        ),
        (
            Method::GET,
            [headers(0, &[ok, &length(b"2")].concat()), frame(0, 0, 1, b"abc")].concat(),
            malformed,
        ),
        (Method::HEAD, [headers(0, ok), frame(0, 1, 1, b"a")].concat(), malformed),
        (
            Method::CONNECT,
            [headers(0, &[ok, &length(b"2")].concat()), frame(0, 1, 1, b"abc")].concat(),
            Ok(b"abc"),
        ),
        (Method::GET, frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 7]), Err(Reason::REFUSED_STREAM)),
        (Method::GET, frame(kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2]), malformed),
        (Method::GET, frame(kind::HEADERS, 5, 2, ok), malformed),
    ];
    for (method, sent, expected) in cases {
        let (near, mut far) = duplex(1 << 16);
        let opener = client(near);
        let request = Request::builder().method(&method).uri("http://a/").body(()).unwrap();
        let (answer, _stream) = opener.place().await.unwrap().send(&request, true).unwrap();
        far.write_all(&[frame(kind::SETTINGS, 0, 0, &[]), sent.clone()].concat()).await.unwrap();
        let came = async { Ok(all(&mut answer.await?.into_body()).await?.0) };
        let came: Result<Vec<u8>, Error> = timeout(PATIENCE, came).await.unwrap();
        let told = came.as_deref().map_err(|error| error.reason().unwrap());
        assert_eq!(told, expected, "{method} {}", sent.escape_ascii());
    }
}

/// Whatever comes, nothing panics, and the connection ends or waits for more.
#[tokio::test]
async fn no_frames_whatever_do_harm() {
    let mut random = SmallRng::seed_from_u64(4);
    for _ in 0..3_000 {
        let mut sent = [PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat();
        for _ in 0..random.random_range(1..12) {
            let mut payload = vec![0; random.random_range(0..20)];
            random.fill_bytes(&mut payload);
            if random.random_bool(0.5) {
                payload = [b"\x82\x86\x84".as_slice(), &payload[..payload.len() / 8]].concat();
            }
            let stream = random.random_range(0..8);
            let flags = random.random::<u8>() & random.random::<u8>();
            sent.extend(frame(random.random_range(0..11), flags, stream, &payload));
        }
        let (near, mut far) = duplex(1 << 20);
        let served = serve(near);
        far.write_all(&sent).await.unwrap();
        tokio::task::yield_now().await;
        far.shutdown().await.unwrap();
        let mut read = Vec::new();
        timeout(PATIENCE, far.read_to_end(&mut read)).await.unwrap().unwrap();
        // Its error is not of interest, a panic would be.
        let _ = served.await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_that_nobody_drives_fails_its_streams() {
    let (near, far) = duplex(1 << 16);
    let (opener, connection) = Connection::client(near, SETTINGS, PATIENCE);
    let driven = tokio::spawn(connection.run());
    let mut server = Connection::server(far, SETTINGS, Carries::Own, PATIENCE);
    let (answer, _stream) = opener.place().await.unwrap().send(&post("/"), false).unwrap();
    let (request, _answering) = server.accept().await.unwrap().unwrap();
    driven.abort();
    let failed = timeout(PATIENCE, answer).await.unwrap().unwrap_err();
    assert!(matches!(failed, Error::Io { .. }), "{failed}");
    assert!(opener.place().await.is_err());
    let mut body = request.into_body();
    drop(server);
    let failed = poll_fn(|cx| body.poll_data(cx)).await.unwrap().unwrap_err();
    assert!(matches!(failed, Error::Io { .. }), "{failed}");
}

#[tokio::test]
async fn what_was_not_polled_is_not_lost() {
    let (near, far) = duplex(1 << 16);
    let (opener, mut connection) = Connection::client(near, SETTINGS, PATIENCE);
    let place = opener.place().await.unwrap();
    let (answer, _stream) = place.send(&post("/"), true).unwrap();
    let mut answer = pin!(answer);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(answer.as_mut().poll(&mut cx).is_pending());
    let _served = serve(far);
    let mut driven = pin!(connection.accept());
    let response = poll_fn(|cx| {
        assert!(driven.as_mut().poll(cx).is_pending());
        match answer.as_mut().poll(cx) {
            Poll::Ready(response) => Poll::Ready(response),
            Poll::Pending => Poll::Pending,
        }
    });
    assert_eq!(timeout(PATIENCE, response).await.unwrap().unwrap().status(), StatusCode::OK);
}
