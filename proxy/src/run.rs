//! The front door: every room of the sidecar, in the order in which they are opened.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use daemon::log::{Log, LogArgs};
use daemon::signal::Terminate;
use prometheus::IntCounter;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::accept::Port;
use crate::args::Args;
use crate::config::Config;
use crate::mesh::Mesh;
use crate::sync::discovery::{self, Requests};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace::{self, Tracing};
use crate::{accept, admin, allocator, sync};

/// Runs a sidecar with these arguments (the program's name first) until it is told to leave, or
/// the command `redirect` if that is the first of them.
/// The exit code is 0 after a drain, 2 for settings that cannot be put in force, 1 for the rest.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args: Vec<OsString> = args.into_iter().collect();
    match args.get(1) {
        Some(first) if first == "redirect" => {
            args[0].push(" redirect"); // the program's name in help and errors
            args.remove(1);
            redirect::main(args)
        }
        _ => sidecar(args),
    }
}

#[allow(clippy::print_stderr)] // before the log is there, errors go to whoever typed the command
fn sidecar(args: Vec<OsString>) -> ExitCode {
    let args: Args = match daemon::settings::parse(args) {
        Ok(args) => args,
        Err(code) => return code,
    };
    let log = args.log.clone();
    let config = match Config::new(args) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    match run(config, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The thread of this function drives what is off the path of requests: admin, sync, signals.
/// `/ready` answers when all workers are busy.
fn run(config: Config, log: LogArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = Terminate::new().context("cannot listen for signals")?;
        let (tracing, log) = start_telemetry(&config, log)?;
        let metrics = Metrics::new().context("cannot register the metrics")?;
        log.register(&metrics.registry).context("cannot register the metrics")?;
        count_panics(metrics.process.panics.clone());
        let listeners = listen(&config)?;
        let admin_port = config.listen_at(config.ports.admin);
        let admin_listeners =
            daemon::listen::tcp_on_all(&admin_port, "the admin port", "--admin-port")?;

        let (discovery, requests) = discovery::channel();
        let mesh = Arc::new(Mesh::new(config, metrics, tracing, discovery));
        accept::start(&mesh, listeners).context("cannot start the workers")?;
        start_admin(&mesh, admin_listeners)?;
        start_sync(&mesh, requests);
        watch_memory(&mesh);
        tokio::spawn(allocator::give_back_regularly());
        tracing::info!(address = %mesh.config.address, workers = mesh.config.workers, "started");

        tokio::select! {
            signal = terminate.recv() => tracing::info!(signal, "draining"),
            () = mesh.drain.begun() => tracing::info!("draining on request"),
        }
        drain(&mesh).await;
        Ok(())
    })
}

fn start_telemetry(config: &Config, mut log: LogArgs) -> anyhow::Result<(Tracing, Log)> {
    let tracing = match &config.otlp_endpoint {
        None => Tracing::default(),
        Some(endpoint) => Tracing::start(
            endpoint,
            config.trace_sample_ratio,
            config.workload(),
            config.namespace.as_str(),
        )
        .with_context(|| format!("--otlp-endpoint {endpoint}"))?,
    };
    // Spans are for the OTLP endpoint, not for the log.
    log.log_level = log.log_level.without(trace::TARGET);
    let (layer, log) = daemon::log::layer(log);
    let registry = tracing_subscriber::registry().with(layer).with(tracing.layer());
    registry.try_init().context("cannot start the log")?;
    Ok((tracing, log))
}

/// A panic ends the connection of its task and nothing else; here it is told and counted.
fn count_panics(panics: IntCounter) {
    std::panic::set_hook(Box::new(move |panic| {
        panics.inc();
        tracing::error!(%panic, "defect in the sidecar; please report it");
    }));
}

fn listen(
    config: &Config,
) -> Result<Vec<(Port, std::net::TcpListener)>, daemon::listen::ListenError> {
    let ports = config.ports;
    let wanted = [
        (Port::Outbound, ports.outbound, "the outbound port", "--outbound-port"),
        (Port::Inbound, ports.inbound, "the inbound port", "--inbound-port"),
        (Port::Mesh, ports.mesh, "the mesh port", "--mesh-port"),
    ];
    let mut listeners = Vec::new();
    for (port, number, what, flag) in wanted {
        let opened = daemon::listen::tcp_on_all(&config.listen_at(number), what, flag)?;
        listeners.extend(opened.into_iter().map(|listener| (port, listener)));
    }
    Ok(listeners)
}

fn start_admin(mesh: &Arc<Mesh>, listeners: Vec<std::net::TcpListener>) -> std::io::Result<()> {
    for listener in listeners {
        let mesh = Arc::clone(mesh);
        let answer = move |request: &_, peer| admin::answer(&mesh, request, peer);
        tokio::spawn(daemon::admin::serve(TcpListener::from_std(listener)?, answer));
    }
    Ok(())
}

fn start_sync(mesh: &Arc<Mesh>, requests: Requests) {
    tokio::spawn(sync::run(Arc::clone(mesh), requests));
}

fn watch_memory(mesh: &Arc<Mesh>) {
    let mesh = Arc::clone(mesh);
    tokio::spawn(async move { mesh.memory.watch(&mesh.metrics.process.memory_pressure).await });
}

/// Leaves when nothing runs any more, or at the deadline.
async fn drain(mesh: &Mesh) {
    mesh.drain.begin();
    let deadline = Instant::now() + mesh.config.drain_timeout;
    match mesh.drain.finished(deadline).await {
        0 => tracing::info!("drained"),
        running => tracing::warn!(running, "left at the drain timeout with connections open"),
    }
    mesh.tracing.shutdown();
}
