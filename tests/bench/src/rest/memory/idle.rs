//! A sidecar that has nothing to do, before and after its first requests.

use std::time::Duration;

use tests::app::App;
use tests::mesh::Mesh;
use tests::pod::{APP_PORT, Pod};
use tests::yaml;

use crate::footprint::Footprint;
use crate::report::{MIB, Report};

/// Until what the start needed is over.
const REST: Duration = Duration::from_secs(3);

/// What an idle sidecar may hold, in MiB.
const MOST_RESIDENT: f64 = 10.0;
const MOST_ANONYMOUS: f64 = 3.0;

pub(super) async fn measure(report: &mut Report, under: &[String]) -> anyhow::Result<()> {
    report.part("an idle sidecar");
    let mesh = Mesh::with_objects(yaml::service("shop/api", 80, APP_PORT)).await;
    let api = mesh.pod("shop/api").app(App::http()).under(under).start().await;
    let web = mesh.pod("shop/web").under(under).start().await;
    tokio::time::sleep(REST).await;
    judge(report, "client's, since its start", &web)?;
    judge(report, "server's, since its start", &api)?;
    web.until_answered_by("http://api.shop/", 1).await;
    tokio::time::sleep(REST).await;
    judge(report, "client's, after 20 requests", &web)?;
    judge(report, "server's, after 20 requests", &api)
}

fn judge(report: &mut Report, which: &str, pod: &Pod) -> anyhow::Result<()> {
    let footprint = Footprint::of(pod.sidecar().id())?;
    let resident = format!("{which}: resident");
    report.target(&resident, footprint.resident / MIB, MOST_RESIDENT, "MiB");
    let anonymous = format!("{which}: anonymous");
    report.target(&anonymous, footprint.anonymous / MIB, MOST_ANONYMOUS, "MiB");
    Ok(())
}
