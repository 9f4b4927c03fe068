//! One kind, listed and watched for ever (Kubernetes API concepts, "Efficient detection of
//! changes").
//!
//! The list is streamed where the server can do that (it is one watch, and no page of it stands in
//! memory), and read page by page where not. kube's own watcher is not used: it has no fall-back
//! between the two, keeps what a broken streaming list had begun to tell, and hides bookmarks,
//! which are the only sign of life of a kind that does not change.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use kube::Client;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::{Request, Status};
use rand::Rng;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::ask::{self, Events};
use super::contact::Contacts;
use super::failure::{Failure, Remedy};
use super::news::{News, Told};
use super::read::{self, Read};
use crate::object::Known;

/// Objects on a page of a list.
const PAGE: u32 = 500;

/// How long the server is asked to keep a watch open, in seconds. Then it is asked anew, from where it
/// was.
const WATCH: u32 = 290;

/// How long a watch may be silent beyond its end before its connection is believed dead.
const MARGIN: Duration = Duration::from_secs(10);

/// How long a streaming list may be silent: a server that does not know them never says its end.
const STREAM_SILENCE: Duration = Duration::from_secs(30);

/// A watch that lasts no longer than this and tells nothing is a failure.
const BRIEF: Duration = Duration::from_secs(1);

/// The first and the longest pause before the next try.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// How often a kind that the server does not have is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// How often in a row a kind that was there must be found absent: a server that starts says 404
/// for a moment of kinds that it is about to serve.
const ABSENT: u32 = 3;

/// Who follows one kind.
pub(super) struct Follower {
    client: Client,
    kind: Known,
    /// Which of the kind's versions the server has, as far as known.
    version: usize,
    tell: mpsc::Sender<Told>,
    streaming: bool,
    /// Where the next watch goes on; `None` when it must be listed anew.
    at: Option<String>,
    failures: u32,
    /// How often in a row the server said that it has no such kind.
    absent: u32,
    /// Whether it was there when it was asked for last.
    seen: bool,
    /// Whether a failure has been told that is not over.
    failing: bool,
}

/// Nobody wants to know any more.
struct Closed;

enum Step {
    Closed,
    Failed(Failure),
}

impl From<Closed> for Step {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl From<Failure> for Step {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Status> for Step {
    fn from(status: Status) -> Self {
        Self::Failed(status.into())
    }
}

/// A page of a list.
#[derive(Deserialize)]
struct Page {
    metadata: PageMeta,
    #[serde(default)]
    items: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: String,
}

impl Follower {
    pub(super) fn new(client: Client, kind: Known, tell: mpsc::Sender<Told>) -> Self {
        Self {
            client,
            kind,
            version: 0,
            tell,
            streaming: true,
            at: None,
            failures: 0,
            absent: 0,
            seen: false,
            failing: false,
        }
    }

    /// Follows until nobody listens.
    pub(super) async fn run(mut self, contacts: Arc<Contacts>) {
        loop {
            let step = match &self.at {
                None if self.streaming => self.stream(&contacts).await,
                None => self.list(&contacts).await,
                Some(_) => self.watch(&contacts).await,
            };
            match step {
                Ok(()) => {}
                Err(Step::Closed) => return,
                Err(Step::Failed(failure)) => match self.heed(failure, &contacts).await {
                    Ok(pause) => tokio::time::sleep(pause).await,
                    Err(Closed) => return,
                },
            }
        }
    }

    /// Begins with a streaming list, and goes on watching on the same connection.
    async fn stream(&mut self, contacts: &Contacts) -> Result<(), Step> {
        let mut events = self.events(true, "").await?;
        let mut objects = Vec::new();
        loop {
            let event = timeout(STREAM_SILENCE, events.next()).await.map_err(|_| {
                Failure::new(Remedy::Otherwise, "a streaming list does not come to its end")
            })?;
            let broken = || Failure::new(Remedy::Retry, "a streaming list broke off");
            match event.ok_or_else(broken)?? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    objects.push(read::read(object, self.kind));
                }
                WatchEvent::Deleted(object) => {
                    let gone = read::id(&object);
                    objects.retain(|read: &Read| read.id != gone);
                }
                WatchEvent::Bookmark(bookmark) => {
                    if bookmark.metadata.annotations.contains_key("k8s.io/initial-events-end") {
                        self.at = Some(bookmark.metadata.resource_version);
                        break;
                    }
                }
                WatchEvent::Error(status) => return Err((*status).into()),
            }
        }
        self.all(objects, contacts).await?;
        self.follow(events, contacts).await
    }

    /// Lists page by page.
    async fn list(&mut self, contacts: &Contacts) -> Result<(), Step> {
        let (mut objects, mut next) = (Vec::new(), None);
        loop {
            let params =
                ListParams { limit: Some(PAGE), continue_token: next, ..ListParams::default() };
            let request = self.request(|request| match self.kind.is_metadata_only() {
                true => request.list_metadata(&params),
                false => request.list(&params),
            })?;
            let page: Page = ask::whole(&self.client, request).await?;
            let items = page.items.unwrap_or_default();
            objects.extend(items.into_iter().map(|object| read::read(object, self.kind)));
            if page.metadata.next.is_empty() {
                self.at = Some(page.metadata.resource_version);
                return Ok(self.all(objects, contacts).await?);
            }
            next = Some(page.metadata.next);
        }
    }

    /// Watches on from where it was. A watch that ends at once would be tried again at once.
    async fn watch(&mut self, contacts: &Contacts) -> Result<(), Step> {
        let (at, began) = (self.at.clone().unwrap_or_default(), Instant::now());
        let events = self.events(false, &at).await?;
        self.follow(events, contacts).await?;
        if began.elapsed() < BRIEF {
            return Err(Failure::new(Remedy::Retry, "a watch ended as soon as it began").into());
        }
        Ok(())
    }

    /// The events of a watch from this version on, behind all objects where they are wanted.
    async fn events(&self, send_initial_events: bool, at: &str) -> Result<Events, Step> {
        let timeout = Some(WATCH);
        let params =
            WatchParams { bookmarks: true, timeout, send_initial_events, ..Default::default() };
        let request = self.request(|request| match self.kind.is_metadata_only() {
            true => request.watch_metadata(&params, at),
            false => request.watch(&params, at),
        })?;
        Ok(ask::events(&self.client, request).await?)
    }

    /// Tells what a watch tells until it ends.
    async fn follow(&mut self, mut events: Events, contacts: &Contacts) -> Result<(), Step> {
        let silence = Duration::from_secs(WATCH.into()) + MARGIN;
        loop {
            let event = timeout(silence, events.next()).await;
            let Ok(Some(event)) = event else { return Ok(()) };
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    self.reached(&object["metadata"]["resourceVersion"]);
                    let read = read::read(object, self.kind);
                    self.tell(News::Changed(read)).await?;
                }
                WatchEvent::Deleted(object) => {
                    self.reached(&object["metadata"]["resourceVersion"]);
                    self.tell(News::Gone(read::id(&object))).await?;
                }
                WatchEvent::Bookmark(bookmark) => {
                    self.at = Some(bookmark.metadata.resource_version);
                }
                WatchEvent::Error(status) => return Err((*status).into()),
            }
            self.well(contacts).await?;
        }
    }

    fn reached(&mut self, version: &Value) {
        self.at = version.as_str().map(ToOwned::to_owned).or_else(|| self.at.take());
    }

    async fn all(&mut self, objects: Vec<Read>, contacts: &Contacts) -> Result<(), Closed> {
        self.seen = true;
        self.tell(News::All(objects)).await?;
        self.well(contacts).await
    }

    /// It works: the next failure is the first.
    async fn well(&mut self, contacts: &Contacts) -> Result<(), Closed> {
        contacts.heard(self.kind);
        (self.failures, self.absent) = (0, 0);
        if std::mem::take(&mut self.failing) {
            tracing::info!(kind = self.kind.as_str(), "reading from the API server again");
            self.tell(News::Recovered).await?;
        }
        Ok(())
    }

    /// Draws the consequences of a failure. Gives the pause before the next try.
    async fn heed(&mut self, failure: Failure, contacts: &Contacts) -> Result<Duration, Closed> {
        let Failure { remedy, message } = failure;
        match remedy {
            Remedy::Absent => return self.absent(message, contacts).await,
            Remedy::Relist => {
                self.at = None;
                self.failures = self.failures.saturating_add(1);
                return Ok(self.backoff());
            }
            Remedy::Otherwise if self.streaming && self.at.is_none() => {
                tracing::info!(kind = self.kind.as_str(), reason = %message,
                    "the API server streams no lists; they are read page by page");
                self.streaming = false;
                return Ok(Duration::ZERO);
            }
            Remedy::Otherwise => self.at = None,
            Remedy::Retry | Remedy::RetryAfter(_) => {}
        }
        self.failures = self.failures.saturating_add(1);
        self.failed(message).await?;
        Ok(match remedy {
            Remedy::RetryAfter(named) => named + self.backoff(),
            _ => self.backoff(),
        })
    }

    /// The pause after so many failures in a row, with jitter.
    fn backoff(&self) -> Duration {
        let (first, longest) = BACKOFF;
        let pause = first.saturating_mul(1 << self.failures.min(8)).min(longest);
        pause.mul_f64(rand::rng().random_range(0.5..1.0))
    }

    /// The server says that it has no such kind. Kinds that need no CRD are there always.
    async fn absent(&mut self, message: String, contacts: &Contacts) -> Result<Duration, Closed> {
        self.at = None;
        if !self.kind.is_optional() {
            self.failures = self.failures.saturating_add(1);
            self.failed(message).await?;
            return Ok(BACKOFF.1);
        }
        self.version = (self.version + 1) % self.kind.api_versions().len();
        if self.version != 0 {
            return Ok(Duration::ZERO);
        }
        self.absent = self.absent.saturating_add(1);
        if self.absent >= ABSENT {
            self.seen = false;
            self.tell(News::Absent).await?;
            self.well(contacts).await?;
        }
        Ok(if self.seen || self.absent == 0 { LOOK_AGAIN } else { BACKOFF.0 })
    }

    /// Tells and logs a failure, once until it is over.
    async fn failed(&mut self, message: String) -> Result<(), Closed> {
        let again = std::mem::replace(&mut self.failing, true);
        if !again {
            tracing::warn!(kind = self.kind.as_str(), reason = %message,
                "cannot read from the API server; what it said last stays in force");
        }
        self.tell(News::Failed(message)).await
    }

    async fn tell(&self, news: News) -> Result<(), Closed> {
        self.tell.send(Told { kind: self.kind, news }).await.map_err(|_| Closed)
    }

    /// A request of the kind's collection in all namespaces.
    fn request(
        &self,
        make: impl FnOnce(&Request) -> Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<http::Request<Vec<u8>>, Failure> {
        let path = self.kind.collection(self.version);
        make(&Request::new(path)).map_err(|error| Failure::new(Remedy::Retry, error.to_string()))
    }
}
