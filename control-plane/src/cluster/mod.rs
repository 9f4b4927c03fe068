//! What the control plane asks of the Kubernetes cluster that it runs in, and does there, beside
//! the objects that it reads: who a sidecar is ([`tokens`]), where the authority is kept
//! ([`authority`]), which replica writes what one must write ([`lease`]), what it says of objects
//! (`status`, `events`), and sidecars for new pods (`webhook`).

pub mod authority;
mod events;
pub mod lease;
mod status;
pub mod tokens;
mod webhook;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use certs::Authority;
use injector::Settings;
use kube::api::PostParams;
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::admin::Phase;
use crate::args::Args;
use crate::hub::{Input, Views};
use crate::metrics::Metrics;
use crate::statement::Statement;
use authority::SharedAuthority;
use events::Teller;
use lease::Candidate;
use status::StatusWriter;
use tokens::TokenReviews;
use webhook::{Keeper, Webhook};

/// Whose writes they are, for server-side apply.
const MANAGER: &str = "pillion-control-plane";

/// How long a connection to the API server may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long the API server may be silent on a connection: longer than a watch without an event takes.
const SILENCE: Duration = Duration::from_secs(310);

/// How many Events may wait.
const WAITING_EVENTS: usize = 64;

/// The port of the API's Service.
const API_PORT: u16 = 15_010;

type Statements = watch::Receiver<Arc<Vec<Statement>>>;

/// The cluster, before the control plane takes part in it.
pub struct Cluster {
    client: Client,
    /// Where the webhook listens, if it does.
    webhook: Option<std::net::TcpListener>,
}

/// A control plane that takes part in its cluster.
pub struct Member {
    client: Client,
    replica: String,
    webhook: Option<std::net::TcpListener>,
    leads: watch::Receiver<bool>,
    /// Who reviews tokens.
    pub reviews: TokenReviews,
}

impl Cluster {
    /// The cluster that the environment names; nothing is asked of it yet.
    ///
    /// # Errors
    /// When none is named, or what is named makes no sense, or the webhook cannot listen.
    pub async fn connect(webhook: Option<SocketAddr>) -> anyhow::Result<Self> {
        let mut config = Config::infer().await.context("--source kubernetes")?;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(SILENCE);
        let client = Client::try_from(config).context("--source kubernetes")?;
        let listen = |address| daemon::listen::tcp(address, "the webhook", "--webhook-address");
        Ok(Self { client, webhook: webhook.map(listen).transpose()? })
    }

    /// A client of its API server.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Takes part: waits for the authority, keeps it from then on, and tries to hold the Lease
    /// until `shutdown`.
    pub async fn join(
        self,
        args: &Args,
        hub: mpsc::UnboundedSender<Input>,
        shutdown: watch::Receiver<bool>,
    ) -> Member {
        let client = self.client;
        let mut authority = SharedAuthority::new(client.clone(), &args.namespace, &args.state_dir);
        authority.obtain(&args.trust_domain).await;
        let replica = own_name();
        let (candidate, leads) = Candidate::new(client.clone(), &args.namespace, replica.clone());
        tokio::spawn(candidate.run(shutdown));
        tokio::spawn(authority.keep(leads.clone()));
        let reviews = TokenReviews::new(client.clone(), args.token_audience.clone(), hub);
        Member { client, replica, webhook: self.webhook, leads, reviews }
    }
}

impl Member {
    /// Writes statuses and Events, and injects sidecars that believe this authority.
    ///
    /// # Errors
    /// When the webhook's socket cannot be used.
    pub fn work(
        self,
        args: &Args,
        views: &Views,
        authority: watch::Receiver<Arc<Authority>>,
        phase: watch::Receiver<Phase>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<()> {
        let Self { client, replica, webhook, leads, reviews: _ } = self;
        let writer = StatusWriter::new(client.clone());
        tokio::spawn(writer.run(views.statements.clone(), leads.clone()));
        let teller = || Teller::new(client.clone(), replica.clone());
        tokio::spawn(teller().tell_problems(views.problems.subscribe(), leads.clone()));
        let Some(listener) = webhook else { return Ok(()) };
        let (keeper, tls) = Keeper::new(client.clone(), &args.namespace);
        tokio::spawn(keeper.run(leads));
        let (tell, told) = mpsc::channel(WAITING_EVENTS);
        tokio::spawn(teller().tell_injections(told));
        let settings = injected(args.clone(), authority);
        let webhook = Webhook::new(settings, tls, tell, phase, metrics);
        tokio::spawn(webhook.serve(TcpListener::from_std(listener)?));
        Ok(())
    }
}

/// What is injected, with the roots that are in force.
fn injected(
    args: Args,
    mut authority: watch::Receiver<Arc<Authority>>,
) -> watch::Receiver<Arc<Settings>> {
    let make = move |authority: &Authority| {
        let version = env!("CARGO_PKG_VERSION");
        Arc::new(Settings {
            proxy_image: args.injection.image("pillion-proxy", version),
            init_image: args.injection.image("pillion-init", version),
            control_plane: format!("pillion-control-plane.{}.svc:{API_PORT}", args.namespace),
            trust_bundle: authority.bundle_pem().to_owned(),
            trust_domain: args.trust_domain.clone(),
            cluster_domain: args.cluster_domain.clone(),
            token_audience: args.token_audience.clone(),
            version: version.to_owned(),
            resources: args.injection.resources(),
            variables: args.injection.variables(),
        })
    };
    let (newest, settings) = watch::channel(make(&authority.borrow_and_update()));
    tokio::spawn(async move {
        while authority.changed().await.is_ok() {
            newest.send_replace(make(&authority.borrow_and_update()));
        }
    });
    settings
}

/// The name of this replica: its pod's, which is its host's, and the number of this process, for
/// there may be several on one host.
fn own_name() -> String {
    let host = rustix::system::uname();
    format!("{}_{}", host.nodename().to_string_lossy(), std::process::id())
}

/// How whole objects are written: in our name.
fn written() -> PostParams {
    PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() }
}

/// The wall clock, for people who read objects.
fn now() -> String {
    k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
