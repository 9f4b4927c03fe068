//! Applications that close idle connections just when a request comes. A POST that is lost so may
//! not be sent again: it must not be sent on such a connection at all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use tests::app::App;
use tests::client::{Http1, with_body};
use tests::talk::Talk;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::shop::{API, Shop};

/// Clients that send side by side, so that as many connections are idle for equally long.
const CLIENTS: usize = 24;

/// How long before its close an application does not look at what comes any more: a connection
/// that is about to be closed loses requests, as it does where the network takes time.
const DEAF: Duration = Duration::from_millis(80);

type Arrived = Arc<Mutex<HashMap<String, u32>>>;

/// Keeps idle connections for `limit`, and says so if `announced` has the field.
fn closing(limit: Duration, announced: &'static str, arrived: &Arrived) -> App {
    let arrived = Arc::clone(arrived);
    App::scripted(move |socket| {
        let arrived = Arc::clone(&arrived);
        async move {
            let mut talk = Talk::on(socket);
            while let Ok(Ok(head)) = timeout(limit, talk.head()).await {
                let Some(path) = head.split(' ').nth(1) else { break };
                *arrived.lock().unwrap().entry(path.to_owned()).or_default() += 1;
                let body = "content-length: 2\r\n\r\nok";
                let read = talk.exactly(4).await;
                let answered = talk.say(format!("HTTP/1.1 200 OK\r\n{announced}{body}")).await;
                if read.is_err() || answered.is_err() {
                    return;
                }
            }
            sleep(DEAF).await;
        }
    })
}

/// Each client sends a POST, `rounds` times, with pauses around `limit`. Returns what failed.
async fn posts(shop: &Shop, run: &str, limit: Duration, rounds: u32) -> Vec<String> {
    let started = Instant::now();
    let clients = (0..CLIENTS).map(|client| async move {
        let mut connection = Http1::connect(shop.web.proxy()).await.unwrap();
        let mut failed = Vec::new();
        let mut next = started;
        for round in 0..rounds {
            let path = format!("/{run}-{round}-{client}");
            let post = with_body("POST", &format!("{API}{path}"), tests::body::full("post"));
            match connection.send(post).await {
                Ok(answer) if answer.status == 200 => {}
                other => failed.push(format!("{path}: {other:?}")),
            }
            // From a quarter before the close to a tenth after it, and all at the same time: the
            // connection that was used last is the first to be used again.
            next += limit * 3 / 4 + limit * 7 / 20 * round / rounds;
            sleep_until(next).await;
        }
        failed
    });
    join_all(clients).await.concat()
}

/// The POSTs that have arrived more than once.
fn twice(arrived: &Arrived) -> Vec<String> {
    let arrived = arrived.lock().unwrap();
    let twice = arrived.iter().filter(|(_, times)| **times > 1);
    twice.map(|(path, _)| path.clone()).collect()
}

/// The sidecar cannot know before it has seen one close.
#[tokio::test(flavor = "multi_thread")]
async fn a_post_is_not_lost_where_connections_are_closed_without_a_word() {
    let (limit, arrived) = (Duration::from_millis(1200), Arrived::default());
    let shop = Shop::with("", closing(limit, "", &arrived)).await;
    posts(&shop, "learning", Duration::from_millis(10), 2).await;
    sleep(limit + 3 * DEAF).await;
    posts(&shop, "learnt", Duration::from_millis(10), 1).await;
    let failed = posts(&shop, "then", limit, 15).await;
    assert!(failed.is_empty(), "{} of {}: {failed:?}", failed.len(), 15 * CLIENTS);
    assert_eq!(arrived.lock().unwrap().len(), (2 + 1 + 15) * CLIENTS);
    assert_eq!(twice(&arrived), [""; 0], "sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_is_not_lost_where_an_application_says_how_long_it_waits() {
    let (limit, arrived) = (Duration::from_secs(2), Arrived::default());
    let shop = Shop::with("", closing(limit, "keep-alive: timeout=2\r\n", &arrived)).await;
    let failed = posts(&shop, "each", limit, 10).await;
    assert!(failed.is_empty(), "{} of {}: {failed:?}", failed.len(), 10 * CLIENTS);
    assert_eq!(arrived.lock().unwrap().len(), 10 * CLIENTS);
    assert_eq!(twice(&arrived), [""; 0], "sent again");
    let post = with_body("POST", &format!("{API}/last"), tests::body::full("post"));
    let answer = tests::client::send(shop.web.proxy(), post).await.unwrap();
    assert_eq!(answer.header("keep-alive"), None, "that is between the sidecar and it: {answer:?}");
}
