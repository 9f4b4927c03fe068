//! The control plane on one core: how long a change takes to the last of many sidecars, what a
//! stream costs, and how many certificates it signs.

mod certificates;
pub(crate) mod cluster;
mod push;
mod subscriber;

use tests::mesh::{Mesh, Options};
use tests::pod::APP_PORT;
use tests::yaml;

use self::subscriber::Account;
use crate::report::Report;

/// What `control-plane` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Streams that are open at the same time.
    #[arg(long, default_value_t = 1_000)]
    streams: usize,
    /// Changes that are timed.
    #[arg(long, default_value_t = 100)]
    changes: usize,
    /// The core that the control plane has for itself.
    #[arg(long, default_value_t = 0)]
    core: usize,
}

/// Services that each stream is subscribed to.
const SUBSCRIPTIONS: usize = 20;

/// Descriptors: one for each stream here, and one there.
const DESCRIPTORS: u64 = 20_000;

/// Measures.
///
/// # Errors
/// When a stream fails. A target that is not reached is no error.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    crate::released()?;
    tests::process::raise_own_descriptors(DESCRIPTORS);
    let mut report = Report::default();
    let mesh = start(args.core).await;
    let token = mesh.token("shop", "web", "1h").await;
    let account = Account::new(mesh.api(), &std::fs::read_to_string(token)?)?;
    push::measure(&mut report, &mesh, &account, &args).await?;
    certificates::measure(&report, &mesh, &account).await?;
    report.end();
    Ok(())
}

async fn start(core: usize) -> Mesh {
    let objects: String = services().iter().map(|name| yaml::service(name, 80, APP_PORT)).collect();
    let under = ["taskset", "--cpu-list", &core.to_string()].map(ToOwned::to_owned);
    let options = Options { objects: vec![("mesh.yaml", objects)], ..Options::default() };
    Mesh::with(Options { under: under.into(), ..options }).await
}

fn services() -> Vec<String> {
    (0..SUBSCRIPTIONS).map(|number| format!("shop/s{number}")).collect()
}
