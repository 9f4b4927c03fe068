//! The sidecar's side of the push protocol: one stream to the control plane, opened again for as
//! long as the sidecar lives. Losing it changes nothing that runs.

mod certificate;
mod connect;
pub mod discovery;
mod kept;
mod snapshot;
pub mod status;
mod stream;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;

use crate::mesh::Mesh;
use crate::sync::certificate::Certificates;
use crate::sync::connect::Proof;
use crate::sync::discovery::Requests;
use crate::sync::snapshot::Snapshot;

/// Longest wait before the first new attempt; it doubles with each failure.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Longest wait before any attempt.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A stream that lived this long was a good one: the next failure begins with the first wait.
const GOOD_LIFE: Duration = Duration::from_secs(5);

/// Keeps the sidecar's Table and certificate up to date until the process ends.
pub async fn run(mesh: Arc<Mesh>, mut requests: Requests) {
    let mut snapshot = Snapshot::default();
    let mut certificates = Certificates::default();
    let mut failures = 0;
    let mut proof = Proof::Token;
    loop {
        let begun = Instant::now();
        let ended =
            stream::run(&mesh, proof, &mut snapshot, &mut certificates, &mut requests).await;
        certificates.forget_pending(&mesh.metrics);
        mesh.status.lost(&ended);
        mesh.metrics.sync.connected.set(0);
        if begun.elapsed() > GOOD_LIFE {
            failures = 0;
        }
        // A certificate that the control plane does not take gives way to the token, and back.
        proof = match proof {
            Proof::Certificate if failures > 0 => Proof::Token,
            _ => Proof::best(&mesh),
        };
        if ended.is_intended() {
            continue;
        }
        let wait = wait(failures);
        failures += 1;
        tracing::warn!(reason = %ended, again_in = ?wait, "no stream to the control plane");
        collect_requests(&mut requests, &mut snapshot, wait).await;
    }
}

/// Full jitter: a thousand sidecars that lost the same control plane do not come back at once.
fn wait(failures: u32) -> Duration {
    let ceiling = FIRST_WAIT.saturating_mul(1 << failures.min(10)).min(LONGEST_WAIT);
    ceiling.mul_f64(rand::rng().random_range(0.0..=1.0))
}

/// Services asked for meanwhile are subscribed to with the next stream's Hello.
async fn collect_requests(requests: &mut Requests, snapshot: &mut Snapshot, wait: Duration) {
    let waited = tokio::time::sleep(wait);
    tokio::pin!(waited);
    loop {
        tokio::select! {
            () = &mut waited => return,
            Some(wanted) = requests.wanted.recv() => {
                snapshot.subscribe(wanted);
            }
        }
    }
}
