//! What a mesh of many Services costs a sidecar that uses few of them.

use std::time::Duration;

use tests::app::App;
use tests::mesh::Mesh;
use tests::pod::APP_PORT;
use tests::yaml;

use crate::footprint::Footprint;
use crate::report::{MIB, Report};

const MANY: usize = 5_000;

const USED: usize = 20;

const REST: Duration = Duration::from_secs(3);

/// How much more the many may cost, in MiB.
const MOST: f64 = 3.0;

pub(super) async fn measure(report: &mut Report, under: &[String]) -> anyhow::Result<()> {
    report.part("a sidecar that uses 20 Services");
    let few = with_services(report, under, USED).await?;
    let many = with_services(report, under, MANY).await?;
    let more = many - few;
    report.target("more in the large mesh: resident", more.resident / MIB, MOST, "MiB");
    report.line("more in the large mesh: anonymous", format!("{:.1} MiB", more.anonymous / MIB));
    Ok(())
}

async fn with_services(
    report: &Report,
    under: &[String],
    count: usize,
) -> anyhow::Result<Footprint> {
    let mesh = Mesh::start().await;
    let api = mesh.pod("shop/api").app(App::http()).unregistered().under(under).start().await;
    let mut objects = yaml::pod("shop/api", "api", api.address());
    for number in 0..count {
        let name = format!("shop/s{number}");
        objects += &yaml::service(&name, 80, APP_PORT);
        objects += &yaml::endpoints(&name, APP_PORT, &[api.address()]);
    }
    mesh.write("many.yaml", &objects);
    let web = mesh.pod("shop/web").under(under).start().await;
    web.until_answered_by(&url(0), 1).await;
    for number in 0..USED {
        web.until_answered_by(&url(number), 1).await;
    }
    tokio::time::sleep(REST).await;
    let footprint = Footprint::of(web.sidecar().id())?;
    report.line(&format!("in a mesh of {count}"), footprint);
    let control_plane = Footprint::of(mesh.control_plane().id())?;
    report.line("its control plane", control_plane);
    Ok(footprint)
}

fn url(number: usize) -> String {
    format!("http://s{number}.shop/")
}
