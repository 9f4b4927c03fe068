//! Load at a constant rate, whose every failure is kept with what there was to see of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeBounds;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::client::{Answer, Http1, request};

/// Failures that a report shows in full.
const SHOWN: usize = 5;

/// Requests under way at which the mesh counts as stuck: further ones fail at once.
const MOST_UNDER_WAY: usize = 500;

/// What is sent.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The outbound port of the client's sidecar.
    pub proxy: SocketAddr,
    /// The method.
    pub method: &'static str,
    /// The URL; `{n}` stands for the request's number.
    pub url: String,
    /// Requests a second.
    pub rate: u32,
    /// A new connection for each request, in place of reused ones.
    pub fresh: bool,
}

/// One request that is over.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When it was sent.
    pub sent: Instant,
    /// How long it took.
    pub took: Duration,
    /// The pod that answered, where one did.
    pub pod: Option<String>,
    /// What went wrong: anything but a 2xx.
    pub failure: Option<String>,
}

/// A running load; dropped, it ends.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    ticking: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    samples: Mutex<Vec<Sample>>,
    idle: Mutex<Vec<Http1>>,
    under_way: AtomicUsize,
    stopped: AtomicBool,
}

/// The samples of a load, or of a part of its time.
#[derive(Debug, Clone)]
pub struct Report {
    /// In the order in which they ended.
    pub samples: Vec<Sample>,
}

impl Load {
    /// GET requests for `url` through `proxy` at `rate` a second, on reused connections.
    pub fn get(proxy: SocketAddr, url: &str, rate: u32) -> Self {
        Self::start(Spec { proxy, method: "GET", url: url.to_owned(), rate, fresh: false })
    }

    /// Starts to send.
    pub fn start(spec: Spec) -> Self {
        let shared = Arc::<Shared>::default();
        let ticking = tokio::spawn(tick(spec, Arc::clone(&shared)));
        Self { shared, ticking }
    }

    /// What is over so far.
    pub fn so_far(&self) -> Report {
        Report { samples: self.shared.samples.lock().unwrap().clone() }
    }

    /// Waits until `count` further requests are over.
    ///
    /// # Panics
    /// When that takes longer than [`crate::poll::SOON`] beyond what the rate needs.
    pub async fn run_for(&self, count: usize) {
        let goal = self.so_far().samples.len() + count;
        crate::poll::until("requests under load", 4 * crate::poll::SOON, async || {
            let done = self.shared.samples.lock().unwrap().len();
            if done >= goal { Ok(()) } else { Err(format!("{done} of {goal}")) }
        })
        .await;
    }

    /// Sends no more, waits for what is under way and reports.
    pub async fn stop(self) -> Report {
        self.shared.stopped.store(true, Ordering::Relaxed);
        crate::poll::until("the end of the load", 3 * crate::poll::SOON, async || {
            match self.shared.under_way.load(Ordering::Relaxed) {
                0 => Ok(()),
                left => Err(format!("{left} requests under way")),
            }
        })
        .await;
        self.so_far()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ticking.abort();
    }
}

async fn tick(spec: Spec, shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / spec.rate);
    // A machine that was busy for a moment must not answer with a burst.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0_u64.. {
        ticks.tick().await;
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
        let under_way = shared.under_way.fetch_add(1, Ordering::Relaxed);
        let (spec, shared) = (spec.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            shared.one(&spec, number, under_way).await;
            shared.under_way.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

impl Shared {
    async fn one(&self, spec: &Spec, number: u64, under_way: usize) {
        let sent = Instant::now();
        let answer = if under_way < MOST_UNDER_WAY {
            self.exchange(spec, number).await
        } else {
            Err(anyhow::anyhow!("not sent: {under_way} requests are under way"))
        };
        let (pod, failure) = match answer {
            Ok(answer) => (answer.pod().map(ToOwned::to_owned), describe_failure(&answer)),
            Err(error) => (None, Some(format!("no response: {error:#}"))),
        };
        let sample = Sample { sent, took: sent.elapsed(), pod, failure };
        self.samples.lock().unwrap().push(sample);
    }

    async fn exchange(&self, spec: &Spec, number: u64) -> anyhow::Result<Answer> {
        let mut connection = self.connection(spec).await?;
        let url = spec.url.replace("{n}", &number.to_string());
        let answer = connection.send(request(spec.method, &url)).await?;
        if !spec.fresh {
            self.idle.lock().unwrap().push(connection);
        }
        Ok(answer)
    }

    /// An idle connection that the sidecar has not closed, or a new one.
    async fn connection(&self, spec: &Spec) -> anyhow::Result<Http1> {
        loop {
            let idle = self.idle.lock().unwrap().pop();
            let Some(mut connection) = idle else { return Http1::connect(spec.proxy).await };
            if connection.is_reusable().await {
                return Ok(connection);
            }
        }
    }
}

fn describe_failure(answer: &Answer) -> Option<String> {
    let good = answer.status.is_success() && answer.status != StatusCode::NO_CONTENT;
    (!good).then(|| {
        format!(
            "{} {:?} {:?}",
            answer.status,
            answer.headers,
            answer.text().chars().take(300).collect::<String>()
        )
    })
}

impl Report {
    /// The requests that were sent in a span of time.
    pub fn sent_in(&self, span: impl RangeBounds<Instant>) -> Self {
        let samples = self.samples.iter().filter(|sample| span.contains(&sample.sent));
        Self { samples: samples.cloned().collect() }
    }

    /// Responses of each pod.
    pub fn by_pod(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for pod in self.samples.iter().filter_map(|sample| sample.pod.clone()) {
            *counts.entry(pod).or_default() += 1;
        }
        counts
    }

    /// The share of all responses that came from pods whose name begins with `prefix`.
    pub fn share(&self, prefix: &str) -> f64 {
        let from = |prefix: &str| {
            self.by_pod().iter().filter(|(pod, _)| pod.starts_with(prefix)).map(|(_, n)| n).sum()
        };
        let (part, all): (usize, usize) = (from(prefix), from(""));
        part as f64 / all.max(1) as f64
    }

    /// Every request that failed.
    pub fn failures(&self) -> Vec<&Sample> {
        self.samples.iter().filter(|sample| sample.failure.is_some()).collect()
    }

    /// # Panics
    /// When a request failed, or fewer than `least` were sent; shows the first failures.
    pub fn assert_clean(&self, least: usize) {
        let failures = self.failures();
        let first: Vec<_> = failures.iter().take(SHOWN).collect();
        assert!(
            failures.is_empty(),
            "{} of {} requests failed; the first: {first:#?}",
            failures.len(),
            self.samples.len()
        );
        let sent = self.samples.len();
        assert!(sent >= least, "only {sent} requests were sent, {least} are needed to tell");
    }
}
