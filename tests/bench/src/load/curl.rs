//! curl: one large transfer over HTTP/1.1.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::peer::Topology;
use crate::stage::program::Program;
use crate::stage::server::App;

use super::{Outcome, Way};

/// Longest time of a transfer.
const LIMIT: Duration = Duration::from_secs(120);

/// Downloads or uploads so many MiB.
pub(super) fn bulk(topology: &Topology, app: App, way: Way, mib: u64) -> anyhow::Result<Outcome> {
    let target = topology.target(app);
    let file = topology.big_file(mib);
    let curl = Program::find("curl", "curl").args(["-sS", "--fail", "-o", "/dev/null"]);
    let program = match way {
        Way::Down => {
            let url = format!("http://{target}/big/{mib}");
            curl.args(["-w", "%{size_download} %{time_total}", &url])
        }
        Way::Up => {
            let url = format!("http://{target}/");
            let upload = ["-H", "Expect:", "-T", &file.to_string_lossy(), &url].map(String::from);
            curl.args(["-w", "%{size_upload} %{time_total}"]).args(upload)
        }
    };
    let said = program.run(&topology.pods.client, LIMIT)?;
    let figures = said.split_once(' ').with_context(|| format!("curl said {said}"))?;
    let (bytes, seconds): (f64, f64) = (figures.0.parse()?, figures.1.parse()?);
    ensure!(bytes == (mib << 20) as f64, "{bytes} bytes of {mib} MiB");
    Ok(Outcome { done: mib as f64 / 1024.0, seconds, ..Outcome::default() })
}
