//! Where a peer plays: two pods, each a network namespace, joined by a cable; the server pod's
//! applications; and how to start programs there.

pub(crate) mod certs;
pub(crate) mod files;
mod mark;
pub(crate) mod netns;
pub(crate) mod program;
pub(crate) mod server;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

use tests::process::Process;

use self::files::Files;
use self::netns::Namespace;
use self::program::Program;

/// The client pod's address.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// The server pod's address.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// Two pods, the second with running applications.
#[derive(Debug)]
pub(crate) struct Pods {
    // Dropped in this order: processes before their namespaces.
    servers: Vec<Process>,
    /// Where the load runs.
    pub(crate) client: Namespace,
    /// Where the applications run.
    pub(crate) server: Namespace,
    /// For configurations and logs.
    pub(crate) dir: PathBuf,
}

impl Pods {
    /// Makes them for the peer of this name.
    ///
    /// # Errors
    /// When a namespace or a file cannot be made.
    pub(crate) fn start(files: &Files, peer: &str) -> anyhow::Result<Self> {
        let dir = files.topology(peer)?;
        let client = Namespace::create(&format!("{peer}-client"))?;
        let server = Namespace::create(&format!("{peer}-server"))?;
        client.join(
            ("eth0", &format!("{CLIENT}/24")),
            &server,
            ("eth0", &format!("{SERVER}/24")),
        )?;
        // ClusterIPs exist in no interface; a connection to one needs a route to be redirected.
        client.ip(&format!("route add default via {SERVER}\n"))?;
        server.ip(&format!("route add default via {CLIENT}\n"))?;
        settle(&client)?;
        settle(&server)?;
        let servers = server::start(files, &server, &dir)?;
        Ok(Self { servers, client, server, dir })
    }

    /// The processes of the applications.
    pub(crate) fn servers(&self) -> impl Iterator<Item = u32> {
        self.servers.iter().map(Process::id)
    }

    /// Applies nftables rules in a pod.
    ///
    /// # Errors
    /// When they are wrong.
    pub(crate) fn rules(&self, namespace: &Namespace, rules: &str) -> anyhow::Result<()> {
        let file = self.dir.join("rules.nft");
        std::fs::write(&file, rules)?;
        let nft = Program::find("nft", "nftables").root().args(["-f", &file.to_string_lossy()]);
        nft.run(namespace, std::time::Duration::from_secs(10))?;
        Ok(())
    }

    /// A file of this topology.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The directory for logs.
    pub(crate) fn logs(&self) -> &Path {
        &self.dir
    }
}

/// Thousands of connections a second, for minutes: ports and the kernel's table of redirected
/// connections must not run out. Neither is what is measured.
fn settle(namespace: &Namespace) -> anyhow::Result<()> {
    let settings = "net.ipv4.ip_local_port_range=16384 65000\n\
                    net.ipv4.tcp_tw_reuse=1\n\
                    net.ipv4.tcp_max_syn_backlog=8192\n\
                    net.core.somaxconn=8192\n\
                    net.netfilter.nf_conntrack_tcp_timeout_time_wait=1\n\
                    net.netfilter.nf_conntrack_tcp_timeout_close=1\n";
    let script = settings
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| format!("echo '{value}' >/proc/sys/{}\n", name.replace('.', "/")));
    let script: String = script.collect();
    let shell = Program::app("/bin/sh").root().args(["-ec", &script]);
    shell.run(namespace, std::time::Duration::from_secs(10))?;
    Ok(())
}

/// An application's address in its pod.
pub(crate) fn in_pod(app: server::App) -> SocketAddr {
    SocketAddrV4::new(SERVER, app.port()).into()
}
