//! A control plane from start to end.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use certs::TokenVerifier;
use daemon::signal::Terminate;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::admin::{self, Phase, Shown};
use crate::args::{Args, SourceKind};
use crate::cluster::{Cluster, Member};
use crate::hub::{Hub, Input};
use crate::metrics::Metrics;
use crate::registry::{GRACE, Lease, Registry, Store};
use crate::server::{Authenticator, Certificates, Connections, OwnIdentity, Streams, Tokens};
use crate::source::directory::Directory;
use crate::source::kubernetes::{self, Contacts};
use crate::source::{Batch, Event, watch as source};
use crate::translate::Settings;

/// How long streams have to tell their sidecars that the control plane is leaving.
const GOODBYE: Duration = Duration::from_millis(500);

/// For how long the API server and sidecars may still come after a signal, where there is a webhook:
/// until they have heard that this replica is going. A call that fails could be a pod without a sidecar.
const FAREWELL: Duration = Duration::from_secs(5);

/// Runs a control plane with these arguments (the program's name first) until it is asked to
/// leave. The exit code is 0 then, 1 when it cannot start, 2 for a bad setting.
#[allow(clippy::print_stderr)] // why it cannot start is for whoever typed the command
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Args = match daemon::settings::parse(args) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> anyhow::Result<()> {
    let log = daemon::log::init(args.log.clone());
    let metrics = Arc::new(Metrics::new()?);
    log.register(&metrics.registry)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(run(args, metrics));
    runtime.shutdown_timeout(GOODBYE);
    outcome
}

async fn run(args: Args, metrics: Arc<Metrics>) -> anyhow::Result<()> {
    let mut terminate = Terminate::new().context("cannot listen for signals")?;
    let api = daemon::listen::tcp(args.address, "the API", "--address")?;
    let admin = daemon::listen::tcp(args.admin_address, "the admin server", "--admin-address")?;
    let (api_address, admin_address) = (api.local_addr()?, admin.local_addr()?);
    let (down, shutdown) = watch::channel(false);
    let source = Source::open(&args).await?;
    let has_webhook = source.cluster.is_some() && args.webhook_address.is_some();

    let store = Store::new(&args.state_dir);
    let settings = settings(&args, source.cluster.is_some());
    let (hub, views) = Hub::new(restore(&store), settings, Arc::clone(&metrics));
    let (inputs, from_streams) = mpsc::unbounded_channel();
    let hub = tokio::spawn(hub.run(from_streams, source.batches));
    let saving = tokio::spawn(save(store, views.leases.clone()));
    let (phase, phase_now) = watch::channel(Phase::Starting);
    let shown = Shown {
        views: views.clone(),
        metrics: Arc::clone(&metrics),
        contacts: source.contacts,
        phase: phase_now.clone(),
    };
    tokio::spawn(serve_admin(TcpListener::from_std(admin)?, shown));

    let member = tokio::select! {
        member = join(&args, source.cluster, &inputs, shutdown.clone()) => member,
        _ = terminate.recv() => return Ok(()),
    };
    let (state_dir, trust_domain) = (args.state_dir.clone(), args.trust_domain.clone());
    let own =
        OwnIdentity::open(state_dir, trust_domain, Arc::clone(&metrics)).context("--state-dir")?;
    let tokens = tokens(&args, member.as_ref())?;
    if let Some(member) = member {
        member.work(&args, &views, own.authority(), phase_now, Arc::clone(&metrics))?;
    }
    let lifetime = args.certificate_lifetime;
    let streams = Streams {
        authenticator: Arc::new(Authenticator::new(tokens, args.trust_domain.clone())),
        certificates: Certificates::new(own.authority(), lifetime, Arc::clone(&metrics)),
        hub: inputs,
        publications: views.publications,
        shutdown: shutdown.clone(),
        metrics: Arc::clone(&metrics),
        next: Arc::new(AtomicU64::new(1)),
    };
    let most = args.max_connections as usize;
    let connections = Connections { tls: own.tls(), streams, shutdown, metrics, most };
    tokio::spawn(own.keep_fresh());
    let connections = tokio::spawn(connections.serve(TcpListener::from_std(api)?));
    phase.send_replace(Phase::Serving);
    tracing::info!(
        api = %api_address, admin = %admin_address, trust_domain = %args.trust_domain,
        state_dir = %args.state_dir.display(), "the control plane is up"
    );

    let signal = terminate.recv().await;
    tracing::info!(signal, "leaving");
    phase.send_replace(Phase::Leaving);
    if has_webhook {
        farewell(&mut terminate).await;
    }
    // First nothing is forgotten any more: the streams that end now will come back.
    saving.abort();
    hub.abort();
    down.send_replace(true);
    let _ = connections.await;
    tokio::time::sleep(GOODBYE).await;
    Ok(())
}

/// Whose tokens are believed: in a cluster its API server's, else those of our own authority.
fn tokens(args: &Args, member: Option<&Member>) -> anyhow::Result<Tokens> {
    Ok(match member {
        Some(member) => Tokens::Reviewed(member.reviews.clone()),
        None => Tokens::Join(TokenVerifier::open(&args.state_dir).context("--state-dir")?),
    })
}

/// Waits until all have heard that this replica is going, or somebody asks a second time.
async fn farewell(terminate: &mut Terminate) {
    tokio::select! {
        () = tokio::time::sleep(FAREWELL) => {}
        _ = terminate.recv() => {}
    }
}

fn settings(args: &Args, in_cluster: bool) -> Settings {
    Settings {
        trust_domain: args.trust_domain.clone(),
        service_range: args.service_cidr,
        wait_for_pods: in_cluster,
    }
}

/// Where objects come from.
struct Source {
    batches: mpsc::Receiver<Batch>,
    /// The cluster, where they come from an API server.
    cluster: Option<Cluster>,
    contacts: Option<Arc<Contacts>>,
}

impl Source {
    /// Starts to read the configuration; without a directory there is none to wait for.
    async fn open(args: &Args) -> anyhow::Result<Self> {
        let (batches, receiver) = mpsc::channel(16);
        let mut source = Self { batches: receiver, cluster: None, contacts: None };
        match (args.source, &args.config_dir) {
            (SourceKind::Kubernetes, Some(_)) => {
                bail!("--config-dir: objects come from the API server, with --source kubernetes")
            }
            (SourceKind::Kubernetes, None) => {
                let cluster = Cluster::connect(args.webhook_address).await?;
                let contacts = Arc::<Contacts>::default();
                kubernetes::spawn(cluster.client(), Arc::clone(&contacts), batches);
                (source.cluster, source.contacts) = (Some(cluster), Some(contacts));
            }
            (SourceKind::Directory, Some(dir)) => {
                if let Err(error) = std::fs::read_dir(dir) {
                    bail!("--config-dir {}: {error}", dir.display());
                }
                let directory = Directory::new(dir).kept_in(&args.state_dir);
                source::spawn(directory, batches).context("cannot watch --config-dir")?;
            }
            (SourceKind::Directory, None) => {
                let nothing = Batch { events: vec![Event::Synced], problems: Vec::new() };
                batches.try_send(nothing).context("cannot begin without a directory")?;
            }
        }
        Ok(source)
    }
}

/// Takes part in a cluster, if there is one: its authority is brought into the state directory
/// before anything is signed.
async fn join(
    args: &Args,
    cluster: Option<Cluster>,
    hub: &mpsc::UnboundedSender<Input>,
    shutdown: watch::Receiver<bool>,
) -> Option<Member> {
    Some(cluster?.join(args, hub.clone(), shutdown).await)
}

/// The registry of before a restart. One that cannot be read is no reason not to start: the
/// workloads register again by themselves.
fn restore(store: &Store) -> Registry {
    match store.load() {
        Ok(leases) => Registry::restored(leases, Instant::now() + GRACE),
        Err(error) => {
            tracing::warn!(%error, "the registry of before is lost");
            Registry::default()
        }
    }
}

async fn save(store: Store, mut leases: watch::Receiver<Vec<Lease>>) {
    while leases.changed().await.is_ok() {
        let now = leases.borrow_and_update().clone();
        let store = store.clone();
        match tokio::task::spawn_blocking(move || store.save(&now)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the registry cannot be saved"),
            Err(error) => tracing::warn!(%error, "saving the registry was broken off"),
        }
    }
}

async fn serve_admin(listener: TcpListener, shown: Shown) {
    let shown = Arc::new(shown);
    daemon::admin::serve(listener, move |request, peer| admin::answer(&shown, request, peer)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_time_to_leave() {
        let deployment = include_str!("../../deploy/base/deployment.yaml");
        let grace = deployment.split_once("terminationGracePeriodSeconds: ").unwrap().1;
        let grace: u64 = grace.lines().next().unwrap().parse().unwrap();
        assert!(Duration::from_secs(grace) > 2 * (FAREWELL + GOODBYE));
    }
}
