//! The demo's own client: HTTP requests at a steady rate and TCP conversations, all of them
//! through the client's sidecar.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, Uri};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::conversation::{self, converse};
use crate::client::{Client, ClientError};

/// Where the requests go.
pub(crate) const TARGET: &str = "http://web.demo/";

/// How long the client waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The time from one TCP conversation to the next.
const BETWEEN_CONVERSATIONS: Duration = Duration::from_millis(250);

/// Most requests under way at the same time.
const MOST_WORKERS: u32 = 64;

/// Most reasons of failures that are told apart.
const MOST_REASONS: usize = 20;

/// What the client saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// HTTP requests that were answered, or given up.
    pub(crate) http: u64,
    /// TCP conversations that ended.
    pub(crate) conversations: u64,
    /// What went wrong, and how often.
    pub(crate) failures: BTreeMap<String, u64>,
}

impl Tally {
    /// Requests and conversations.
    pub(crate) const fn all(&self) -> u64 {
        self.http + self.conversations
    }

    /// Those that failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

/// The client at work.
#[derive(Debug)]
pub(crate) struct Load {
    tally: Arc<Mutex<Tally>>,
    stop: watch::Sender<bool>,
    workers: JoinSet<()>,
}

impl Load {
    /// Begins to send `rate` requests a second, and conversations beside them, through the proxy
    /// at `entry`.
    pub(crate) fn start(entry: SocketAddr, rate: u32) -> Self {
        let mut load = Self {
            tally: Arc::default(),
            stop: watch::Sender::new(false),
            workers: JoinSet::new(),
        };
        load.send_requests(entry, rate);
        load.converse(entry);
        load
    }

    fn send_requests(&mut self, entry: SocketAddr, rate: u32) {
        let client = Arc::new(Client::new(entry, TIMEOUT));
        // Each worker sends at a few requests a second, so that none waits for another's answer.
        let workers = rate.div_ceil(4).clamp(1, MOST_WORKERS);
        let period = Duration::from_secs(1) * workers / rate;
        for n in 0..workers {
            let start = Instant::now() + Duration::from_secs(1) * n / rate;
            let (client, tally) = (Arc::clone(&client), Arc::clone(&self.tally));
            let work = move || {
                let (client, tally) = (Arc::clone(&client), Arc::clone(&tally));
                async move { record(&tally, request(&client).await, |tally| tally.http += 1) }
            };
            self.workers.spawn(repeat(start, period, self.stop.subscribe(), work));
        }
    }

    fn converse(&mut self, entry: SocketAddr) {
        let tally = Arc::clone(&self.tally);
        let work = move || {
            let tally = Arc::clone(&tally);
            async move {
                let result = converse(entry, TIMEOUT).await;
                let result = result.map_err(|error| format!("{}: {error}", conversation::TARGET));
                record(&tally, result, |tally| tally.conversations += 1);
            }
        };
        let stopped = self.stop.subscribe();
        self.workers.spawn(repeat(Instant::now(), BETWEEN_CONVERSATIONS, stopped, work));
    }

    /// What the client has seen so far.
    pub(crate) fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends nothing more, and waits for the answers that are still to come.
    pub(crate) async fn stop(mut self) -> Tally {
        // Without workers nobody listens.
        let _ = self.stop.send(true);
        while self.workers.join_next().await.is_some() {}
        self.tally()
    }
}

/// Works once every `period` until told to stop. A work that takes longer costs the next ones:
/// made up for, they would come all at once.
async fn repeat<F: Future<Output = ()> + Send>(
    start: Instant,
    period: Duration,
    mut stopped: watch::Receiver<bool>,
    work: impl Fn() -> F,
) {
    let mut ticks = interval_at(start, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            _ = ticks.tick() => work().await,
        }
    }
}

fn record(tally: &Mutex<Tally>, result: Result<(), String>, count: impl FnOnce(&mut Tally)) {
    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    count(&mut tally);
    if let Err(reason) = result {
        let is_room = tally.failures.len() < MOST_REASONS || tally.failures.contains_key(&reason);
        let reason = if is_room { reason } else { "something else".into() };
        *tally.failures.entry(reason).or_default() += 1;
    }
}

/// One request to `web`; what went wrong, otherwise.
pub(crate) async fn request(client: &Client) -> Result<(), String> {
    let answer = client.get(&Uri::from_static(TARGET), &HeaderMap::new()).await;
    judge(answer).map_err(|reason| format!("{TARGET}: {reason}"))
}

/// An answer is good when web, api and data have all had their part in it.
fn judge(answer: Result<Response<Bytes>, ClientError>) -> Result<(), String> {
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.status() != StatusCode::OK {
        let code = answer.headers().get("x-pillion-error").and_then(|code| code.to_str().ok());
        let by = code.map(|code| format!(" ({code})")).unwrap_or_default();
        let body: String = String::from_utf8_lossy(answer.body()).chars().take(200).collect();
        return Err(format!("{}{by}: {}", answer.status(), body.trim_end()));
    }
    let json: serde_json::Value = serde_json::from_slice(answer.body())
        .map_err(|error| format!("the answer is no JSON: {error}"))?;
    match json.pointer("/api/data/replica") {
        Some(_) => Ok(()),
        None => Err(format!("nothing from data in the answer {json}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, error: Option<&str>, body: &'static str) -> Response<Bytes> {
        let mut builder = Response::builder().status(status);
        if let Some(error) = error {
            builder = builder.header("x-pillion-error", error);
        }
        builder.body(Bytes::from_static(body.as_bytes())).unwrap()
    }

    #[test]
    fn an_answer_is_good_when_all_had_their_part() {
        let whole = r#"{"service":"web","api":{"data":{"replica":"data-1"}}}"#;
        let cases = [
            (answer(200, None, whole), None),
            (answer(200, None, "{}"), Some("nothing from data")),
            (answer(200, None, "hello"), Some("no JSON")),
            (
                answer(503, Some("no_endpoints"), "none\n"),
                Some("503 Service Unavailable (no_endpoints): none"),
            ),
            (answer(502, None, "oh"), Some("502 Bad Gateway: oh")),
        ];
        for (answer, expected) in cases {
            let reason = judge(Ok(answer)).err();
            match expected {
                None => assert_eq!(reason, None),
                Some(part) => assert!(reason.clone().unwrap().contains(part), "{reason:?}"),
            }
        }
    }

    #[test]
    fn the_tally_adds_up() {
        let tally = Mutex::new(Tally::default());
        record(&tally, Ok(()), |tally| tally.http += 1);
        record(&tally, Err("a".into()), |tally| tally.http += 1);
        record(&tally, Err("a".into()), |tally| tally.conversations += 1);
        let tally = tally.into_inner().unwrap();
        assert_eq!((tally.all(), tally.failed()), (3, 2));
        assert_eq!(tally.failures["a"], 2);
    }
}
