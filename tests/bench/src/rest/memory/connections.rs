//! What connections cost that do nothing.

use std::time::Duration;

use tests::mesh::Mesh;
use tests::pod::{APP_PORT, Pod};
use tests::{process, yaml};

use super::held::{Kind, Opener};
use crate::app;
use crate::footprint::Footprint;
use crate::report::{KIB, Report};

/// The most tunnels: this process has both the clients' and the application's ends of them.
const MOST_TUNNELS: usize = 4_900;

/// Descriptors of this process and of its children.
const DESCRIPTORS: u64 = 20_000;

/// Longer than the time between two PINGs, and than what is kept for a connection's next request.
const REST: Duration = Duration::from_secs(15);

/// What an idle connection may cost, in KiB.
const MOST: f64 = 8.0;

pub(super) async fn measure(
    report: &mut Report,
    under: &[String],
    counts: &[usize],
    kind: Kind,
) -> anyhow::Result<()> {
    process::raise_own_descriptors(DESCRIPTORS);
    let mesh = Mesh::with_objects(yaml::service("shop/api", 80, APP_PORT)).await;
    let api = mesh.pod("shop/api").app(app::app()).under(under).start().await;
    let web = mesh.pod("shop/web").under(under).start().await;
    web.until_known("api.shop:80").await;
    let opener = Opener::new(kind, &mesh, &web, &api)?;
    // What one connection after another needs is there before it is measured.
    for _ in 0..100 {
        opener.open().await?;
    }
    report.part(kind.title());
    let measured = kind.measured(&web, &api);
    tokio::time::sleep(REST).await;
    let before = footprints(&measured)?;
    let mut held = Vec::new();
    for &count in counts {
        let count = if kind == Kind::Tunnel { count.min(MOST_TUNNELS) } else { count };
        while held.len() < count {
            held.push(opener.open().await?);
        }
        tokio::time::sleep(REST).await;
        for ((which, _), (before, now)) in
            measured.iter().zip(before.iter().zip(footprints(&measured)?))
        {
            tell(report, which, count, now - *before);
        }
    }
    drop(held);
    tokio::time::sleep(REST).await;
    for ((which, _), (before, now)) in
        measured.iter().zip(before.iter().zip(footprints(&measured)?))
    {
        report.line(&format!("{which}, without connections"), before);
        report.line(&format!("{which}, when all are closed"), now);
    }
    Ok(())
}

fn footprints(pods: &[(&str, &Pod)]) -> anyhow::Result<Vec<Footprint>> {
    pods.iter().map(|(_, pod)| Footprint::of(pod.sidecar().id())).collect()
}

fn tell(report: &mut Report, which: &str, count: usize, grown: Footprint) {
    let each = |bytes: f64| bytes / KIB / count as f64;
    let name = format!("{which}, {count} of them: resident, each");
    report.target(&name, each(grown.resident), MOST, "KiB");
    let name = format!("{which}, {count} of them: anonymous, each");
    report.line(&name, format!("{:.1} KiB", each(grown.anonymous)));
}

impl Kind {
    const fn title(self) -> &'static str {
        match self {
            Self::Outbound => "idle connections in HTTP/1.1 to the outbound port",
            Self::OutboundHttp2 => "idle connections in HTTP/2 to the outbound port",
            Self::Inbound => "idle connections in HTTP/1.1 to the port for plaintext",
            Self::Mesh => "idle connections of other sidecars to the mesh port",
            Self::Tunnel => "idle tunnels of TCP through both sidecars",
        }
    }

    fn measured<'a>(self, web: &'a Pod, api: &'a Pod) -> Vec<(&'static str, &'a Pod)> {
        match self {
            Self::Outbound | Self::OutboundHttp2 => vec![("client's", web)],
            Self::Inbound | Self::Mesh => vec![("server's", api)],
            Self::Tunnel => vec![("client's", web), ("server's", api)],
        }
    }
}
