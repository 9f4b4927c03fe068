//! HTTP/1.0 and HTTP/1.1 through two sidecars, byte by byte: framing, interim answers, early
//! answers and the largest heads.

use std::time::Duration;

use tests::app::App;
use tests::poll::SOON;
use tests::talk::Talk;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::timeout;

use crate::shop::Shop;

/// Largest head of a message (`--help` has no flag for it: it is the same on every hop).
const MAX_HEAD: usize = 128 * 1024;

/// What sidecars add to a head on the way, with room to spare.
const ADDED: usize = 2 * 1024;

/// An application that reads the head of each request, and then says `answer`.
fn saying(answer: impl Into<String>) -> App {
    let answer = answer.into();
    App::scripted(move |socket| {
        let (mut talk, answer) = (Talk::on(socket), answer.clone());
        async move { while talk.head().await.is_ok() && talk.say(&answer).await.is_ok() {} }
    })
}

/// The value of a field in a head that [`Talk::head`] has read.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_1_0_client_keeps_its_connection_when_it_asks_and_only_then() {
    let shop = Shop::with("", saying("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")).await;
    let mut talk = Talk::to(shop.web.proxy()).await.unwrap();
    for _ in 0..3 {
        talk.say("GET / HTTP/1.0\r\nhost: api.shop\r\nconnection: keep-alive\r\n\r\n")
            .await
            .unwrap();
        let head = talk.head().await.unwrap();
        assert_eq!(field(&head, "connection"), Some("keep-alive"), "{head}");
        assert_eq!(talk.exactly(2).await.unwrap(), b"ok");
    }
    talk.say("GET / HTTP/1.0\r\nhost: api.shop\r\n\r\n").await.unwrap();
    assert!(talk.head().await.unwrap().contains(" 200 "));
    assert_eq!(talk.rest().await.unwrap(), b"ok", "the end of the connection follows");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_1_1_client_that_says_close_is_closed_after_its_answer() {
    let shop = Shop::with("", saying("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")).await;
    let mut talk = Talk::to(shop.web.proxy()).await.unwrap();
    talk.say("GET / HTTP/1.1\r\nhost: api.shop\r\n\r\n").await.unwrap();
    assert_eq!(field(&talk.head().await.unwrap(), "connection"), None, "kept without a word");
    assert_eq!(talk.exactly(2).await.unwrap(), b"ok");
    talk.say("GET / HTTP/1.1\r\nhost: api.shop\r\nconnection: close\r\n\r\n").await.unwrap();
    assert_eq!(field(&talk.head().await.unwrap(), "connection"), Some("close"));
    assert_eq!(talk.rest().await.unwrap(), b"ok");
}

/// Its body has no length: the end of the connection is its end.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_of_http_1_0_is_heard_to_its_end() {
    let app = App::scripted(|socket| async move {
        let mut talk = Talk::on(socket);
        if talk.head().await.is_ok() {
            let _ = talk.say("HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nto the end").await;
        }
    });
    let shop = Shop::with("", app).await;
    let mut talk = Talk::to(shop.web.proxy()).await.unwrap();
    for _ in 0..2 {
        talk.say("GET / HTTP/1.1\r\nhost: api.shop\r\n\r\n").await.unwrap();
        let head = talk.head().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(field(&head, "transfer-encoding"), Some("chunked"), "{head}");
        let mut body = Vec::new();
        while let Some(chunk) = Some(talk.chunk().await.unwrap()).filter(|chunk| !chunk.is_empty())
        {
            body.extend(chunk);
        }
        assert_eq!(body, b"to the end");
        assert_eq!(talk.head().await.unwrap(), "", "no trailers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_chunk_comes_back_before_the_next_is_sent() {
    let shop = Shop::open().await;
    let mut talk = Talk::to(shop.web.proxy()).await.unwrap();
    talk.say("POST /echo HTTP/1.1\r\nhost: api.shop\r\ntransfer-encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    talk.say_chunk(b"first").await.unwrap();
    let head = talk.head().await.unwrap();
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"), "{head}");
    assert_eq!(talk.chunk().await.unwrap(), b"first");
    for round in 0..20 {
        let sent = format!("round {round}");
        talk.say_chunk(sent.as_bytes()).await.unwrap();
        assert_eq!(talk.chunk().await.unwrap(), sent.as_bytes());
    }
    talk.say_chunk(b"").await.unwrap();
    talk.say("\r\n").await.unwrap();
    assert_eq!(talk.chunk().await.unwrap(), b"");
    assert_eq!(talk.head().await.unwrap(), "", "no trailers");
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_go_both_ways() {
    let app = App::scripted(|socket| async move {
        let mut talk = Talk::on(socket);
        while let Ok(head) = talk.head().await {
            while talk.chunk().await.is_ok_and(|chunk| !chunk.is_empty()) {}
            let trailers = talk.head().await.unwrap_or_default();
            let told = format!("{head}--\n{trailers}");
            let answer =
                "HTTP/1.1 200 OK\r\ntrailer: x-after\r\ntransfer-encoding: chunked\r\n\r\n";
            let _ = talk.say(answer).await;
            let _ = talk.say_chunk(told.as_bytes()).await;
            let _ = talk.say_chunk(b"").await;
            let _ = talk.say("x-after: the body\r\n\r\n").await;
        }
    });
    let shop = Shop::with("", app).await;
    let mut talk = Talk::to(shop.web.proxy()).await.unwrap();
    for _ in 0..2 {
        let head = "POST / HTTP/1.1\r\nhost: api.shop\r\nte: trailers\r\ntrailer: x-sum\r\n\
                    transfer-encoding: chunked\r\n\r\n";
        talk.say(head).await.unwrap();
        talk.say_chunk(b"a body").await.unwrap();
        talk.say_chunk(b"").await.unwrap();
        talk.say("x-sum: 42\r\n\r\n").await.unwrap();
        let head = talk.head().await.unwrap();
        assert_eq!(field(&head, "trailer"), Some("x-after"), "{head}");
        let told = String::from_utf8(talk.chunk().await.unwrap()).unwrap();
        let (asked, trailers) = told.split_once("--\n").unwrap();
        assert_eq!(field(asked, "trailer"), Some("x-sum"), "{told}");
        assert_eq!(field(trailers, "x-sum"), Some("42"), "{told}");
        assert_eq!(talk.chunk().await.unwrap(), b"");
        assert_eq!(talk.head().await.unwrap(), "x-after: the body\n");
    }
}

/// What says the length of a body that does not follow must not make anybody wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_have_no_body_keep_their_content_length_and_their_connection() {
    let app = App::scripted(|socket| async move {
        let mut talk = Talk::on(socket);
        while let Ok(head) = talk.head().await {
            let answer = match head.split(' ').nth(1) {
                Some("/304") => "304 Not Modified\r\ncontent-length: 1234\r\netag: \"a\"",
                Some("/204") => "204 No Content",
                Some("/chunked") => "200 OK\r\ntransfer-encoding: chunked",
                _ => "200 OK\r\ncontent-length: 1234",
            };
            let _ = talk.say(format!("HTTP/1.1 {answer}\r\n\r\n")).await;
        }
    });
    let shop = Shop::with("", app).await;
    let cases = [
        ("GET", "/304", "304", Some("1234")),
        ("HEAD", "/304", "304", Some("1234")),
        ("GET", "/204", "204", None),
        ("HEAD", "/204", "204", None),
        ("HEAD", "/", "200", Some("1234")),
        ("HEAD", "/chunked", "200", None),
    ];
    let mut talk = Talk::to(shop.web.proxy()).await.unwrap();
    for (method, path, status, length) in cases.into_iter().chain(cases) {
        talk.say(format!("{method} {path} HTTP/1.1\r\nhost: api.shop\r\n\r\n")).await.unwrap();
        let head = talk.head().await.unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {head}");
        assert_eq!(field(&head, "content-length"), length, "{method} {path}: {head}");
    }
    assert!(talk.is_silent_for(Duration::from_millis(300)).await, "no byte of a body");
}

/// The answer is the application's, whatever became of the expectation on the way.
#[tokio::test(flavor = "multi_thread")]
async fn an_expectation_that_the_application_refuses_gets_its_answer_and_no_success() {
    for status in ["417 Expectation Failed", "401 Unauthorized"] {
        let answer =
            format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno");
        let shop = Shop::with("", saying(answer)).await;
        let mut talk = Talk::to(shop.web.proxy()).await.unwrap();
        let head = "POST / HTTP/1.1\r\nhost: api.shop\r\nexpect: 100-continue\r\n\
                    content-length: 4\r\nconnection: close\r\n\r\n";
        talk.say(head).await.unwrap();
        let mut head = talk.head().await.unwrap();
        if head.starts_with("HTTP/1.1 100") {
            talk.say("body").await.unwrap();
            head = talk.head().await.unwrap();
        }
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        assert_eq!(talk.rest().await.unwrap(), b"no");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expectation_that_the_sidecar_refuses_is_answered_without_the_body() {
    let shop = Shop::open().await;
    let mut talk = Talk::to(shop.web.proxy()).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: nothing.shop\r\nexpect: 100-continue\r\n\
                content-length: 4\r\n\r\n";
    talk.say(head).await.unwrap();
    let head = talk.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
    assert_eq!(field(&head, "x-pillion-error"), Some("service_unknown"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_before_the_body_has_ended_is_delivered_at_once() {
    let answer =
        "HTTP/1.1 413 Content Too Large\r\ncontent-length: 8\r\nconnection: close\r\n\r\ntoo much";
    let shop = Shop::with("", saying(answer)).await;
    for framing in ["content-length: 1000000", "transfer-encoding: chunked"] {
        let mut talk = Talk::to(shop.web.proxy()).await.unwrap();
        talk.say(format!("POST / HTTP/1.1\r\nhost: api.shop\r\n{framing}\r\n\r\n")).await.unwrap();
        talk.say("5\r\nbegun\r\n").await.unwrap();
        let head = talk.head().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 413 "), "{framing}: {head}");
        assert_eq!(talk.exactly(8).await.unwrap(), b"too much", "{framing}");
    }
}

/// One that answers early and still reads: what is sent afterwards arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_goes_on_after_an_early_answer_has_begun() {
    let app = App::scripted(|socket| async move {
        let mut talk = Talk::on(socket);
        while talk.head().await.is_ok() {
            let _ = talk.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            let _ = talk.say_chunk(b"early").await;
            let mut size = 0;
            while let Some(chunk) = talk.chunk().await.ok().filter(|chunk| !chunk.is_empty()) {
                size += chunk.len();
            }
            let _ = talk.head().await;
            let _ = talk.say_chunk(size.to_string().as_bytes()).await;
            let _ = talk.say("0\r\n\r\n").await;
        }
    });
    let shop = Shop::with("", app).await;
    let mut talk = Talk::to(shop.web.proxy()).await.unwrap();
    for _ in 0..2 {
        talk.say("POST / HTTP/1.1\r\nhost: api.shop\r\ntransfer-encoding: chunked\r\n\r\n")
            .await
            .unwrap();
        assert!(talk.head().await.unwrap().starts_with("HTTP/1.1 200"));
        assert_eq!(talk.chunk().await.unwrap(), b"early");
        for _ in 0..100 {
            talk.say_chunk(&[b'a'; 10_000]).await.unwrap();
        }
        talk.say("0\r\n\r\n").await.unwrap();
        assert_eq!(talk.chunk().await.unwrap(), b"1000000");
        assert_eq!(
            (talk.chunk().await.unwrap(), talk.head().await.unwrap()),
            (vec![], String::new())
        );
    }
}

/// What breaks off after that breaks off at the application too, and is not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_after_an_early_answer_breaks_off_at_the_application() {
    let (tell, mut told) = unbounded_channel();
    let app = App::scripted(move |socket| {
        let (mut talk, tell) = (Talk::on(socket), tell.clone());
        async move {
            while talk.head().await.is_ok() {
                let _ = talk.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
                let _ = talk.say_chunk(b"early").await;
                let mut chunk = talk.chunk().await;
                while chunk.as_ref().is_ok_and(|chunk| !chunk.is_empty()) {
                    chunk = talk.chunk().await;
                }
                let _ = tell.send(chunk.is_ok());
            }
        }
    });
    let shop = Shop::with("", app).await;
    for address in [shop.web.proxy(), shop.api.inbound()] {
        for end in ["", "x\r\n"] {
            let mut talk = Talk::to(address).await.unwrap();
            talk.say("POST / HTTP/1.1\r\nhost: api.shop\r\ntransfer-encoding: chunked\r\n\r\n")
                .await
                .unwrap();
            assert!(talk.head().await.unwrap().starts_with("HTTP/1.1 200"));
            assert_eq!(talk.chunk().await.unwrap(), b"early");
            talk.say_chunk(b"some of it").await.unwrap();
            talk.say(end).await.unwrap();
            if end.is_empty() {
                drop(talk);
            } else {
                assert!(talk.chunk().await.is_err(), "the answer breaks off as well");
            }
            let whole = timeout(SOON, told.recv()).await.expect("an end").unwrap();
            assert!(!whole, "{address} {end:?}: it is not whole");
        }
    }
}

/// Fields of about `size` bytes in all, in `fields` parts.
fn large_fields(size: usize, fields: usize) -> String {
    let value = "a".repeat(size / fields - "x-large-000: \r\n".len());
    (0..fields).map(|number| format!("x-large-{number:03}: {value}\r\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_up_to_the_limit_pass_both_ways() {
    for fields in [1, 200] {
        // HTTP/2 counts 32 bytes more for each field (RFC 9113 §6.5.2).
        let large = large_fields(MAX_HEAD - ADDED - 32 * fields, fields);
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{large}\r\nok");
        let shop = Shop::with("", saying(answer)).await;
        let mut talk = Talk::to(shop.web.proxy()).await.unwrap();
        for _ in 0..2 {
            talk.say(format!("GET / HTTP/1.1\r\nhost: api.shop\r\n{large}\r\n")).await.unwrap();
            let head = talk.head().await.unwrap();
            let start = head.lines().take(3).collect::<Vec<_>>().join("\n");
            assert!(head.starts_with("HTTP/1.1 200"), "{fields}: {:.300}", start);
            let large: String = large.replace("\r\n", "\n");
            let got: String = head
                .lines()
                .filter(|line| line.starts_with("x-large"))
                .fold(String::new(), |all, line| all + line + "\n");
            assert_eq!(got.len(), large.len(), "{fields} fields");
            assert_eq!(talk.exactly(2).await.unwrap(), b"ok");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_over_the_limit_are_refused_both_ways() {
    let large = large_fields(2 * MAX_HEAD, 2);
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{large}\r\nok");
    let shop = Shop::with("", saying(answer)).await;
    let mut talk = Talk::to(shop.web.proxy()).await.unwrap();
    talk.say(format!("GET / HTTP/1.1\r\nhost: api.shop\r\n{large}\r\n")).await.unwrap();
    let head = talk.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 431"), "the client's: {head}");
    let mut talk = Talk::to(shop.web.proxy()).await.unwrap();
    talk.say("GET / HTTP/1.1\r\nhost: api.shop\r\n\r\n").await.unwrap();
    let head = talk.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 502"), "the application's: {head}");
}
