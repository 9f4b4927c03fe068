//! A client's pod and a server's, whose sidecars run under callgrind.

use tests::mesh::Mesh;
use tests::pod::{APP_PORT, Pod};
use tests::yaml;

use super::case::{Case, Client};
use crate::app;
use crate::callgrind::{Callgrind, Profile};

/// Requests before those that are counted: connections are there and buffers have their size.
const WARM_UP: u64 = 50;

/// The sidecars, ready to be measured.
pub(super) struct Scene {
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
pub(super) struct Measured {
    pub(super) requests: u64,
    outbound: Profile,
    inbound: Profile,
}

impl Measured {
    /// Each sidecar's name and counts.
    pub(super) const fn sides(&self) -> [(&'static str, &Profile); 2] {
        [("outbound", &self.outbound), ("inbound", &self.inbound)]
    }
}

impl Scene {
    /// Starts all of it.
    pub(super) async fn open() -> anyhow::Result<Self> {
        let dumps = tempfile::tempdir()?;
        let (outbound, inbound) =
            (Callgrind::new(dumps.path(), "outbound"), Callgrind::new(dumps.path(), "inbound"));
        let mesh = Mesh::with_objects(yaml::service("shop/api", 80, APP_PORT)).await;
        let (api, web) = tokio::join!(
            mesh.pod("shop/api").app(app::app()).under(inbound.command()).start(),
            mesh.pod("shop/web").under(outbound.command()).start(),
        );
        web.until_known("api.shop:80").await;
        Ok(Self { outbound, inbound, web, api, _mesh: mesh, _dumps: dumps })
    }

    /// Sends so many requests, and counts what they cost.
    pub(super) async fn measure(&mut self, case: Case, requests: u64) -> anyhow::Result<Measured> {
        let mut client = Client::new(case, self.web.proxy()).await?;
        for _ in 0..WARM_UP {
            client.send().await?;
        }
        self.dump().await?;
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
