//! One row of the table, and what is watched while somebody is at a bound.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use tests::app::App;
use tests::load::Load;
use tests::pod::{APP_PORT, Pod};
use tests::yaml;

use crate::shop::{API, Shop};

/// Requests a second of the client that behaves well.
const GOOD_RATE: u32 = 20;

/// A Service that nobody attacks.
const CALM: &str = "http://calm.shop";

/// The head of the table.
pub(crate) const HEAD: &str = "| bound | how it was hit | at | what the client saw | resident before | at the bound \
     | good requests beside |\n|---|---|---|---|---|---|---|";

/// One line of the table: a bound that was met, with every outcome asserted.
#[derive(Debug)]
pub(crate) struct Row {
    what: What,
    at: &'static str,
    before: usize,
    most: usize,
    good: usize,
}

/// What a row says in words.
#[derive(Debug, Clone)]
pub(crate) struct What {
    pub(crate) bound: &'static str,
    pub(crate) how: String,
    pub(crate) saw: String,
}

impl Row {
    /// How much more memory the sidecar held at the bound, in bytes.
    pub(crate) fn grown(&self) -> usize {
        self.most - self.before
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what: What { bound, how, saw }, at, before, most, good } = self;
        let (before, most) = (mebibytes(*before), mebibytes(*most));
        write!(
            f,
            "| {bound} | {how} | {at} | {saw} | {before} | {most} | {good} served, 0 failed |"
        )
    }
}

fn mebibytes(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// A mesh of `web`, `api`, and `calm`, whom nobody attacks.
pub(crate) struct Scene {
    _calm: Pod,
    pub(crate) shop: Shop,
}

/// Where bounds are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// The client's sidecar, by its outbound port.
    Client,
    /// The server's, by its port for plaintext.
    Server,
}

impl Scene {
    pub(crate) async fn open() -> Self {
        Self::with("").await
    }

    /// With further objects.
    pub(crate) async fn with(objects: &str) -> Self {
        Self::of(objects, App::http()).await
    }

    /// With another application behind `api`.
    pub(crate) async fn of(objects: &str, app: App) -> Self {
        let calm = yaml::service("shop/calm", 80, APP_PORT);
        let shop = Box::pin(Shop::with(&(calm + objects), app)).await;
        let calm = shop.mesh.pod("shop/calm").app(App::http()).start().await;
        shop.web.until_answered_by(CALM, 1).await;
        Self { _calm: calm, shop }
    }

    /// Watches the sidecar at `door`, while a good client is served through it.
    pub(crate) async fn watch(&self, door: Door) -> Watch<'_> {
        let Shop { web, api, .. } = &self.shop;
        match door {
            Door::Client => Watch::start(web, "client's", web.proxy(), CALM).await,
            Door::Server => Watch::start(api, "server's", web.proxy(), API).await,
        }
    }

    /// The address of a door.
    pub(crate) fn address(&self, door: Door) -> SocketAddr {
        match door {
            Door::Client => self.shop.web.proxy(),
            Door::Server => self.shop.api.inbound(),
        }
    }
}

/// A sidecar at whose bound somebody is, and a client beside who behaves well.
pub(crate) struct Watch<'a> {
    pod: &'a Pod,
    at: &'static str,
    before: usize,
    most: usize,
    good: Load,
    since: Instant,
}

impl<'a> Watch<'a> {
    /// Watches the sidecar of `pod`, called `at`, while `url` is asked for through `proxy`.
    pub(crate) async fn start(
        pod: &'a Pod,
        at: &'static str,
        proxy: SocketAddr,
        url: &str,
    ) -> Self {
        let good = Load::get(proxy, url, GOOD_RATE);
        good.run_for(20).await;
        let before = pod.sidecar().resident();
        Self { pod, at, before, most: before, good, since: Instant::now() }
    }

    /// Measures what the sidecar holds now, in bytes; the most counts.
    pub(crate) fn measure(&mut self) -> usize {
        let now = self.pod.sidecar().resident();
        self.most = self.most.max(now);
        now
    }

    /// Ends the watch: the good client must have been served all the time.
    pub(crate) async fn end(mut self, what: What) -> Row {
        self.measure();
        self.good.run_for(5).await;
        let report = self.good.stop().await.sent_in(self.since..);
        report.assert_clean(5);
        let Self { at, before, most, .. } = self;
        Row { what, at, before, most, good: report.samples.len() }
    }
}
