//! A client's pod and a server's, whose sidecars run under callgrind.

mod case;

use anyhow::ensure;
use tests::app::App;
use tests::mesh::Mesh;
use tests::pod::{APP_PORT, Pod};
use tests::yaml;

pub(crate) use self::case::Case;
use self::case::Client;
use crate::burst;
use crate::callgrind::{Callgrind, Profile};

/// Requests before those that are counted: connections are there and buffers have their size.
const WARM_UP: u64 = 50;

/// The sidecars, ready to be measured.
pub(crate) struct Scene {
    /// What was not for requests that are counted.
    uncounted: Vec<Profile>,
    outbound: Callgrind,
    inbound: Callgrind,
    // Dropped in this order.
    web: Pod,
    api: Pod,
    _mesh: Mesh,
    _dumps: tempfile::TempDir,
}

/// What both sidecars did for some requests.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) requests: u64,
    outbound: Profile,
    inbound: Profile,
}

impl Measured {
    /// Each sidecar's name and counts.
    pub(crate) const fn sides(&self) -> [(&'static str, &Profile); 2] {
        [("outbound", &self.outbound), ("inbound", &self.inbound)]
    }
}

impl Scene {
    /// Starts all of it, with `app` behind the server's sidecar.
    pub(crate) async fn open(app: App) -> anyhow::Result<Self> {
        let dumps = tempfile::tempdir()?;
        let (outbound, inbound) =
            (Callgrind::new(dumps.path(), "outbound"), Callgrind::new(dumps.path(), "inbound"));
        let mesh = Mesh::with_objects(yaml::service("shop/api", 80, APP_PORT)).await;
        let (api, web) = tokio::join!(
            mesh.pod("shop/api").app(app).under(inbound.command()).start(),
            mesh.pod("shop/web").under(outbound.command()).start(),
        );
        web.until_known("api.shop:80").await;
        let uncounted = Vec::new();
        Ok(Self { uncounted, outbound, inbound, web, api, _mesh: mesh, _dumps: dumps })
    }

    /// Sends a burst to an application that says what it hears, which then ends, and one request
    /// more. None of it is counted.
    pub(crate) async fn burst(&mut self, connections: usize) -> anyhow::Result<()> {
        let failed = burst::send(self.web.proxy(), connections).await?;
        ensure!(failed.values().sum::<usize>() < connections, "most of a burst failed: {failed:?}");
        self.api.stop_app();
        let answer = self.web.get("http://api.shop/").await;
        ensure!(answer.status.is_server_error(), "of an application that has ended: {answer:?}");
        let (outbound, inbound) = self.dump().await?;
        self.uncounted.extend([outbound, inbound]);
        Ok(())
    }

    /// What both did beside: their start, the first requests of each case, and bursts.
    pub(crate) fn into_uncounted(self) -> Vec<Profile> {
        self.uncounted
    }

    /// Sends so many requests, and counts what they cost.
    pub(crate) async fn measure(&mut self, case: Case, requests: u64) -> anyhow::Result<Measured> {
        let mut client = Client::new(case, self.web.proxy()).await?;
        for _ in 0..WARM_UP {
            client.send().await?;
        }
        let (outbound, inbound) = self.dump().await?;
        self.uncounted.extend([outbound, inbound]);
        for _ in 0..requests {
            client.send().await?;
        }
        let (outbound, inbound) = self.dump().await?;
        Ok(Measured { requests, outbound, inbound })
    }

    async fn dump(&mut self) -> anyhow::Result<(Profile, Profile)> {
        let (web, api) = (self.web.sidecar().id(), self.api.sidecar().id());
        tokio::try_join!(self.outbound.dump(web), self.inbound.dump(api))
    }
}
