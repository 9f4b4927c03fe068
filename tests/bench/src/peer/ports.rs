//! How the proxies that are not ours tell applications apart: each has a port on both ends.

use crate::stage::Pods;
use crate::stage::program::User;
use crate::stage::server::App;

/// The first port for what is redirected.
const OUTBOUND: u16 = 15_001;

/// The first port of the mesh.
const MESH: u16 = 15_101;

/// Where the client pod's sidecar hears what is meant for an application.
pub(super) fn outbound(app: App) -> u16 {
    OUTBOUND + nth(app)
}

/// Where the server pod's sidecar hears it.
pub(super) fn mesh(app: App) -> u16 {
    MESH + nth(app)
}

fn nth(app: App) -> u16 {
    // invariant: ALL has every App, and few.
    App::ALL.iter().zip(0..).find(|(other, _)| **other == app).map_or(0, |(_, nth)| nth)
}

/// Redirects what the client pod sends to an application to the sidecar's port for it.
///
/// # Errors
/// When the rules cannot be installed.
pub(super) fn redirect(pods: &Pods) -> anyhow::Result<()> {
    let to = App::ALL.map(|app| format!("{} : {}", app.port(), outbound(app))).join(", ");
    install(pods, &format!("redirect to :tcp dport map {{ {to} }}"))
}

/// Redirects all of it to one port, as the rules of Pillion do: at an address of loopback for each
/// destination, so that no connection meets an old one of another destination.
///
/// # Errors
/// When the rules cannot be installed.
pub(super) fn redirect_all(pods: &Pods) -> anyhow::Result<()> {
    install(pods, &format!("dnat ip to ip daddr & 127.127.255.255 | 127.64.0.0:{OUTBOUND}"))
}

fn install(pods: &Pods, verdict: &str) -> anyhow::Result<()> {
    let (uid, apps) = (User::Sidecar.id(), App::ALL.map(|app| app.port().to_string()).join(", "));
    let rules = format!(
        "add table inet bench\n\
         add chain inet bench output {{ type nat hook output priority -100; }}\n\
         add rule inet bench output meta skuid {uid} return\n\
         add rule inet bench output oifname \"lo\" return\n\
         add rule inet bench output tcp dport {{ {apps} }} {verdict}\n"
    );
    pods.rules(&pods.client, &rules)
}
