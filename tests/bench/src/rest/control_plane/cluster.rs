//! A control plane that reads an API server with thousands of Services: how soon it publishes, what
//! it holds, and how soon a change of an EndpointSlice reaches the last of many sidecars.

use std::net::IpAddr;
use std::time::Instant;

use serde_json::{Value, json};
use tests::apiserver::ApiServer;
use tests::cluster::Cluster;
use tests::pod::APP_PORT;

use super::subscriber::Account;
use super::{DESCRIPTORS, push};
use crate::footprint::Footprint;
use crate::report::Report;

/// What `kubernetes` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Services in the cluster, each with one EndpointSlice.
    #[arg(long, default_value_t = 5_000)]
    services: usize,
    /// Pods behind each Service.
    #[arg(long, default_value_t = 4)]
    pods: usize,
    /// Streams that are open at the same time, each of 20 Services.
    #[arg(long, default_value_t = 1_000)]
    streams: usize,
    /// Changes that are timed.
    #[arg(long, default_value_t = 20)]
    changes: usize,
}

const NAMESPACE: &str = "shop";

/// Measures.
///
/// # Errors
/// When a stream fails.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    crate::released()?;
    tests::process::raise_own_descriptors(DESCRIPTORS);
    let mut report = Report::default();
    let api = ApiServer::start().await;
    fill(&api, &args);
    report.part(&format!("{} Services, {} endpoints", args.services, args.services * args.pods));
    let begun = Instant::now();
    let cluster = Cluster::on(api).await;
    report.line(
        "from start to the first publication",
        format!("{:.2} s", begun.elapsed().as_secs_f64()),
    );
    let mesh = &cluster.mesh;
    report.line("without streams", Footprint::of(mesh.control_plane().id())?);
    let metrics = mesh.metrics().await;
    let published = metrics.sum("pillion_resources", &[("kind", "service")]);
    report.line("Services published", published);
    let account = Account::certified(mesh.api(), &mesh.state_dir(), "shop/web")?;
    let begun = Instant::now();
    let streams = push::open(&account, args.streams).await?;
    report.line(
        &format!("{} streams opened in", args.streams),
        format!("{:.1} s", begun.elapsed().as_secs_f64()),
    );
    report.line("with streams", Footprint::of(mesh.control_plane().id())?);
    let write = |address: IpAddr| {
        cluster.api.put(&slice(0, &[(address.to_string(), None)]));
    };
    push::time_changes(&mut report, mesh, streams, args.changes, None, write).await?;
    report.end();
    Ok(())
}

fn fill(api: &ApiServer, args: &Args) {
    api.namespace(NAMESPACE, &json!({}));
    put_pod(api, "web", "web-0", "127.0.0.1"); // whose all streams are
    for service in 0..args.services {
        let name = format!("s{service}");
        api.put(&json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
            "spec": {"clusterIP": IpAddr::from((0x0a60_0000_u32 + 10 + service as u32).to_be_bytes()),
                     "selector": {"app": name}, "type": "ClusterIP",
                     "ports": [{"name": "main", "port": 80, "targetPort": APP_PORT, "protocol": "TCP"}]},
        }));
        let pods: Vec<(String, Option<String>)> = (0..args.pods)
            .map(|pod| {
                let number = (service * args.pods + pod) as u32;
                let address = IpAddr::from((0x0a80_0000_u32 + 1 + number).to_be_bytes());
                (address.to_string(), Some(format!("{name}-{pod}")))
            })
            .collect();
        for (address, pod) in &pods {
            put_pod(api, &name, pod.as_deref().unwrap_or_default(), address);
        }
        api.put(&slice(service, &pods));
    }
}

/// A pod as large as they are, with what nobody reads.
fn put_pod(api: &ApiServer, app: &str, name: &str, address: &str) {
    let env: Vec<Value> = (0..10)
        .map(|one| json!({"name": format!("VARIABLE_{one}"), "value": "of some length"}))
        .collect();
    api.put(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE,
                     "labels": {"app": app, "pod-template-hash": "7d9f8c6b5d"},
                     "annotations": {"pillion.dev/sidecar": "enabled", "pillion.dev/injected": "0.1.0"}},
        "spec": {"serviceAccountName": app, "nodeName": "node-1", "containers": [{
            "name": "app", "image": "registry.example.org/app:7", "env": env,
            "ports": [{"name": "http", "containerPort": APP_PORT}]}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
                   "conditions": [{"type": "Ready", "status": "True"}]},
    }));
}

/// The EndpointSlice of a Service: addresses, and the pods there.
fn slice(service: usize, pods: &[(String, Option<String>)]) -> Value {
    let endpoint = |(address, pod): &(String, Option<String>)| {
        let mut endpoint = json!({"addresses": [address], "conditions": {"ready": true}});
        if let Some(pod) = pod {
            endpoint["targetRef"] = json!({"kind": "Pod", "name": pod, "namespace": NAMESPACE});
        }
        endpoint
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("s{service}-x"), "namespace": NAMESPACE,
                     "labels": {"kubernetes.io/service-name": format!("s{service}")}},
        "addressType": "IPv4",
        "ports": [{"name": "main", "port": APP_PORT, "protocol": "TCP"}],
        "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>(),
    })
}
