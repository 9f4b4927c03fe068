//! Starts the mesh, part by part, and waits until each is ready.

use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::config::Home;
use super::conversation::converse;
use super::error::DemoError;
use super::load;
use super::plan::{
    ADMIN_PORT, APP_PORT, CLIENT, CONTROL_ADMIN_PORT, CONTROL_PORT, NAMESPACE, OUTBOUND_PORT, Plan,
    Pod, Quirk,
};
use super::process::Fleet;
use super::scrape::get;
use crate::client::Client;

/// How long a part may take until it is ready.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// The time from one look at a part that is not ready yet to the next.
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);

/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

const CONTROL_PLANE: &str = "control plane";

/// Starts processes with what they need to know.
#[derive(Debug)]
pub(crate) struct Starter<'a> {
    /// Who takes part.
    pub(crate) plan: &'a Plan,
    /// The directory that they share.
    pub(crate) home: &'a Home,
    /// Where spans go.
    pub(crate) otlp_endpoint: Option<&'a str>,
}

impl Starter<'_> {
    /// Starts the whole mesh; it is ready when this is over.
    pub(crate) async fn start_all(&self, fleet: &mut Fleet) -> Result<(), DemoError> {
        step("starting the control plane", async {
            fleet.start(CONTROL_PLANE, self.control_plane())?;
            let admin = SocketAddr::from((self.plan.control_plane, CONTROL_ADMIN_PORT));
            until_ready(fleet, vec![(CONTROL_PLANE.into(), Look::at_ready(admin))]).await?;
            self.home.write_tokens(self.plan)
        })
        .await?;
        let apps: Vec<_> = self.plan.pods.iter().filter(|pod| pod.name != CLIENT).collect();
        step(&format!("starting {} applications", apps.len()), async {
            for pod in &apps {
                fleet.start(&application(pod.name), application_args(pod))?;
            }
            let look = |pod: &&Pod| (application(pod.name), Look::Connect(pod.at(APP_PORT)));
            until_ready(fleet, apps.iter().map(look).collect()).await
        })
        .await?;
        step(&format!("starting {} sidecars", self.plan.pods.len()), async {
            for pod in &self.plan.pods {
                fleet.start(&sidecar(pod.name), self.sidecar_args(pod))?;
            }
            let look = |pod: &Pod| (sidecar(pod.name), Look::at_ready(pod.at(ADMIN_PORT)));
            until_ready(fleet, self.plan.pods.iter().map(look).collect()).await
        })
        .await?;
        step("sending a first request to each service", async {
            let looks = vec![(sidecar(CLIENT), Look::first_request(self.plan.entry()))];
            until_ready(fleet, looks).await
        })
        .await
    }

    /// Starts application and sidecar of one pod, without waiting for them.
    pub(crate) fn start_pod(&self, fleet: &mut Fleet, pod: &Pod) -> Result<(), DemoError> {
        fleet.start(&application(pod.name), application_args(pod))?;
        fleet.start(&sidecar(pod.name), self.sidecar_args(pod))
    }

    fn control_plane(&self) -> Vec<OsString> {
        let address = |port| SocketAddr::from((self.plan.control_plane, port)).to_string();
        vec![
            "control-plane".into(),
            "--config-dir".into(),
            self.home.objects().into(),
            "--state-dir".into(),
            self.home.state().into(),
            "--address".into(),
            address(CONTROL_PORT).into(),
            "--admin-address".into(),
            address(CONTROL_ADMIN_PORT).into(),
        ]
    }

    fn sidecar_args(&self, pod: &Pod) -> Vec<OsString> {
        let control_plane = SocketAddr::from((self.plan.control_plane, CONTROL_PORT));
        let mut args = vec![
            "proxy".into(),
            "--address".into(),
            pod.address.to_string().into(),
            "--control-plane".into(),
            control_plane.to_string().into(),
            "--token-file".into(),
            self.home.token(pod.name).into(),
            // The demo's processes share one machine.
            "--workers=1".into(),
            "--drain-timeout=1s".into(),
        ];
        if pod.name != CLIENT {
            args.push(format!("--service={NAMESPACE}/{}", pod.service).into());
            args.push(format!("--app-port={APP_PORT}").into());
        }
        args.extend(self.otlp_endpoint.map(|url| format!("--otlp-endpoint={url}").into()));
        args
    }
}

fn application_args(pod: &Pod) -> Vec<OsString> {
    let mut args = vec![
        "demo-app".into(),
        pod.service.into(),
        format!("--name={}", pod.name).into(),
        format!("--listen={}", pod.at(APP_PORT)).into(),
        format!("--proxy={}", pod.at(OUTBOUND_PORT)).into(),
    ];
    match pod.quirk {
        Quirk::None => {}
        Quirk::Slow => args.push("--slow=40ms".into()),
        Quirk::Failing => args.push("--fail=20".into()),
    }
    args
}

/// The name of a pod's application among the processes.
pub(crate) fn application(pod: &str) -> String {
    format!("{pod} application")
}

/// The name of a pod's sidecar among the processes.
pub(crate) fn sidecar(pod: &str) -> String {
    format!("{pod} sidecar")
}

/// Does one step of the start, and says so on standard error.
async fn step(
    what: &str,
    work: impl Future<Output = Result<(), DemoError>>,
) -> Result<(), DemoError> {
    eprint!("{what} ... ");
    // It is there for people; without them it does not matter.
    let _ = std::io::stderr().flush();
    let start = Instant::now();
    let result = work.await;
    match &result {
        Ok(()) => eprintln!("ready in {:.1} s", start.elapsed().as_secs_f64()),
        Err(_) => eprintln!("failed"),
    }
    result
}

/// How to see whether a part is ready.
#[derive(Debug)]
enum Look {
    /// It accepts connections here.
    Connect(SocketAddr),
    /// It answers `/ready` with 200.
    Ready(Client),
    /// A request and a conversation through it succeed.
    FirstRequest(Client, SocketAddr),
}

impl Look {
    const fn at_ready(admin: SocketAddr) -> Self {
        Self::Ready(Client::new(admin, LOOK_TIMEOUT))
    }

    const fn first_request(entry: SocketAddr) -> Self {
        Self::FirstRequest(Client::new(entry, LOOK_TIMEOUT), entry)
    }

    async fn look(&self) -> Result<(), String> {
        match self {
            Self::Connect(address) => {
                TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string())
            }
            Self::Ready(client) => get(client, "/ready").await.map(drop),
            Self::FirstRequest(client, entry) => {
                load::request(client).await?;
                converse(*entry, LOOK_TIMEOUT).await
            }
        }
    }
}

/// Waits until all the named processes are ready.
async fn until_ready(fleet: &mut Fleet, mut looks: Vec<(String, Look)>) -> Result<(), DemoError> {
    let start = Instant::now();
    while let Some((name, look)) = looks.pop() {
        let Err(reason) = look.look().await else { continue };
        fleet.check()?;
        if start.elapsed() > PATIENCE {
            return Err(not_ready(fleet, name, reason));
        }
        looks.push((name, look));
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    Ok(())
}

/// The error of a process that is not ready after all this time.
pub(crate) fn not_ready(fleet: &Fleet, name: String, reason: String) -> DemoError {
    let log = fleet.last_lines(&name);
    DemoError::NotReady { name, waited: PATIENCE, reason, log }
}
