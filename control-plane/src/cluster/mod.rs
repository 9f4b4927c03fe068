//! What the control plane asks of the Kubernetes cluster that it runs in, beside the objects that
//! it reads: who a sidecar is ([`tokens`]), where the authority is kept ([`authority`]), and which
//! replica writes what one must write ([`lease`]).

pub mod authority;
pub mod lease;
pub mod tokens;

use std::time::Duration;

use kube::{Client, Config};
use tokio::sync::{mpsc, watch};

use crate::args::Args;
use crate::hub::Input;
use authority::SharedAuthority;
use lease::Candidate;
use tokens::TokenReviews;

/// How long a connection to the API server may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Whose writes they are, for server-side apply.
pub(crate) const MANAGER: &str = "pillion-control-plane";

/// The cluster, before the control plane takes part in it.
pub struct Cluster {
    client: Client,
}

impl Cluster {
    /// The cluster that the environment names; nothing is asked of it yet.
    ///
    /// # Errors
    /// When none is named, or what is named makes no sense.
    pub async fn connect() -> anyhow::Result<Self> {
        let mut config = Config::infer().await?;
        config.connect_timeout = Some(CONNECT);
        Ok(Self { client: Client::try_from(config)? })
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
    ) -> TokenReviews {
        let mut authority = SharedAuthority::new(self.client(), &args.namespace, &args.state_dir);
        authority.obtain(&args.trust_domain).await;
        let (candidate, leads) = Candidate::new(self.client(), &args.namespace, own_name());
        tokio::spawn(candidate.run(shutdown));
        tokio::spawn(authority.keep(leads));
        TokenReviews::new(self.client, args.token_audience.clone(), hub)
    }
}

/// The name of this replica: its pod's, which is its host's, and a number of this process, for
/// there may be several on one host.
fn own_name() -> String {
    let host = rustix::system::uname();
    format!("{}_{}", host.nodename().to_string_lossy(), std::process::id())
}
