//! What is left of a burst.

use std::time::Duration;

use tests::app::App;
use tests::mesh::Mesh;
use tests::pod::{APP_PORT, Pod};
use tests::yaml;

use crate::burst;
use crate::footprint::Footprint;
use crate::report::Report;

const REST: Duration = Duration::from_secs(60);

/// How much more than when idle may be left, in percent.
const MOST: f64 = 25.0;

pub(super) async fn measure(
    report: &mut Report,
    under: &[String],
    connections: usize,
) -> anyhow::Result<()> {
    report.part(&format!("after {connections} connections with bodies of 1 MiB both ways"));
    let mesh = Mesh::with_objects(yaml::service("shop/api", 80, APP_PORT)).await;
    let api = mesh.pod("shop/api").app(App::http()).under(under).start().await;
    let web = mesh.pod("shop/web").under(under).start().await;
    web.until_answered_by("http://api.shop/", 1).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let pods = [("client's", &web), ("server's", &api)];
    let idle = footprints(pods)?;
    let failed = burst::send(web.proxy(), connections).await?;
    let after = footprints(pods)?;
    report.line("requests that failed", format!("{failed:?}"));
    tokio::time::sleep(REST).await;
    let later = footprints(pods)?;
    for (number, (which, pod)) in pods.into_iter().enumerate() {
        report.line(&format!("{which}, idle before"), idle[number]);
        report.line(&format!("{which}, at the most"), peak(pod)?);
        report.line(&format!("{which}, right after"), after[number]);
        report.line(&format!("{which}, a minute later"), later[number]);
        let more = |idle: f64, later: f64| 100.0 * (later - idle) / idle;
        let resident = more(idle[number].resident, later[number].resident);
        report.target(&format!("{which}: resident, more than idle"), resident, MOST, "%");
        let anonymous = more(idle[number].anonymous, later[number].anonymous);
        report.target(&format!("{which}: anonymous, more than idle"), anonymous, MOST, "%");
    }
    Ok(())
}

fn footprints(pods: [(&str, &Pod); 2]) -> anyhow::Result<Vec<Footprint>> {
    pods.iter().map(|(_, pod)| Footprint::of(pod.sidecar().id())).collect()
}

/// The most that was ever resident, as the kernel says it.
fn peak(pod: &Pod) -> anyhow::Result<String> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pod.sidecar().id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes: f64 =
        line.and_then(|line| line.trim().strip_suffix(" kB")).unwrap_or("nan").parse()?;
    Ok(format!("{:.1} MiB resident", kibibytes / 1024.0))
}
