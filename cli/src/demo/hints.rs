//! What to try while the demo runs, and where to find things.

use super::conversation;
use super::load;
use super::plan::{ADMIN_PORT, CONTROL_ADMIN_PORT, Plan};
use super::start::Starter;

/// The hints for this demo.
pub(crate) fn lines(starter: &Starter<'_>) -> Vec<String> {
    let plan = starter.plan;
    let mut lines = vec!["Try, in another terminal:".to_owned()];
    lines.extend(commands(plan).map(|command| format!("  {command}")));
    lines.push(String::new());
    lines.push(format!(
        "Metrics: each sidecar at port {ADMIN_PORT}, the control plane at http://{}:{CONTROL_ADMIN_PORT}/metrics",
        plan.control_plane
    ));
    lines.push(match starter.otlp_endpoint {
        Some(url) => format!("Traces:  all sidecars send their spans to {url}"),
        None => "Traces:  off; turn on with --otlp-endpoint http://127.0.0.1:4317".into(),
    });
    lines.push(format!(
        "Objects: {}/*.yaml; edit them, and the mesh follows",
        starter.home.objects().display()
    ));
    lines.push(format!("Logs:    {}", starter.home.logs().display()));
    lines.push("Ctrl-C ends the demo, and all its processes with it.".into());
    lines
}

fn commands(plan: &Plan) -> [String; 4] {
    let entry = plan.entry();
    let admin = plan.replicas("web").map(|pod| pod.at(ADMIN_PORT)).next().unwrap_or(entry);
    [
        format!("curl -x http://{entry} {}", load::TARGET),
        format!("curl -Np -x http://{entry} telnet://{}", conversation::TARGET),
        format!("curl http://{admin}/metrics"),
        format!("curl http://{admin}/config"),
    ]
}
