//! How many certificates it signs.

use std::time::{Duration, Instant};

use certs::LeafKey;
use tests::mesh::Mesh;
use tokio::task::JoinSet;

use super::subscriber::Account;
use crate::report::Report;

/// Streams that ask, one certificate after another.
const STREAMS: usize = 16;

const FOR: Duration = Duration::from_secs(5);

pub(super) async fn measure(report: &Report, mesh: &Mesh, account: &Account) -> anyhow::Result<()> {
    report.part(&format!("certificates, asked for by {STREAMS} streams"));
    let csr = LeafKey::generate()?.csr(None)?;
    let mut streams = JoinSet::new();
    let ticks = mesh.control_plane().cpu_ticks();
    let begun = Instant::now();
    for number in 0..STREAMS {
        let (account, csr) = (account.clone(), csr.clone());
        streams.spawn(async move {
            let address = format!("127.3.0.{}", 1 + number);
            let mut stream = account.open(&address, &[]).await?;
            let mut signed = 0_u32;
            while begun.elapsed() < FOR {
                stream.certificate(&csr).await?;
                signed += 1;
            }
            anyhow::Ok(signed)
        });
    }
    let mut signed = 0;
    while let Some(count) = streams.join_next().await {
        signed += count??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = 10.0 * (mesh.control_plane().cpu_ticks() - ticks) as f64;
    report.line("signed each second", format!("{:.0}", f64::from(signed) / seconds));
    report.line("CPU of each", format!("{:.2} ms", cpu / f64::from(signed)));
    Ok(())
}
