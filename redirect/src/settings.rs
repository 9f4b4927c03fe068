//! What the rules are made from, judged: only settings that make sense get this far.

use std::str::FromStr;

use crate::args::RuleArgs;
use crate::subnet::{Subnet, SubnetError};

/// The most entries of one list. All rules travel to the kernel as one message, which its socket
/// buffer bounds; four full lists fit.
const MOST: usize = 100;

/// What to redirect, and what not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The sidecar's port for what the application sends.
    pub outbound_port: u16,
    /// The sidecar's port for what reaches the workload.
    pub inbound_port: u16,
    /// The sidecar's port for other sidecars.
    pub mesh_port: u16,
    /// The sidecar's port for probes and metrics.
    pub admin_port: u16,
    /// The user id of the sidecar.
    pub proxy_uid: u32,
    /// What the application reaches directly.
    pub outbound: Exclusions,
    /// What reaches the workload directly.
    pub inbound: Exclusions,
}

/// What is not redirected, of one direction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exclusions {
    /// Destination ports.
    pub ports: Vec<u16>,
    /// Addresses of the other end.
    pub subnets: Vec<Subnet>,
}

/// A comma-separated list of ports, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports(pub Vec<u16>);

/// A comma-separated list of addresses and CIDRs, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subnets(pub Vec<Subnet>);

/// Two of the sidecar's ports are one: a connection could not be told from one of another kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} and {1} are both {2}; each needs a port of its own")]
pub struct SamePort(&'static str, &'static str, u16);

/// Why a text is no list of ports or subnets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// An entry is no port.
    #[error("`{0}` is no port from 1 to 65535")]
    Port(String),
    /// An entry is no subnet.
    #[error(transparent)]
    Subnet(#[from] SubnetError),
    /// There are too many.
    #[error("{0} entries are too many; at most {MOST} are possible")]
    Long(usize),
}

impl TryFrom<RuleArgs> for Settings {
    type Error = SamePort;

    fn try_from(args: RuleArgs) -> Result<Self, SamePort> {
        let ports = [
            ("--outbound-port", args.outbound_port),
            ("--inbound-port", args.inbound_port),
            ("--mesh-port", args.mesh_port),
            ("--admin-port", args.admin_port),
        ];
        for (index, (flag, port)) in ports.iter().enumerate() {
            if let Some((other, _)) = ports[..index].iter().find(|(_, earlier)| earlier == port) {
                return Err(SamePort(other, flag, *port));
            }
        }
        Ok(Self {
            outbound_port: args.outbound_port,
            inbound_port: args.inbound_port,
            mesh_port: args.mesh_port,
            admin_port: args.admin_port,
            proxy_uid: args.proxy_uid,
            outbound: Exclusions {
                ports: args.exclude_outbound_ports.0,
                subnets: args.exclude_outbound_subnets.0,
            },
            inbound: Exclusions {
                ports: args.exclude_inbound_ports.0,
                subnets: args.exclude_inbound_subnets.0,
            },
        })
    }
}

impl FromStr for Ports {
    type Err = ListError;

    fn from_str(text: &str) -> Result<Self, ListError> {
        let port = |entry: &str| match entry.parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(ListError::Port(entry.into())),
        };
        list(text, port).map(Self)
    }
}

impl FromStr for Subnets {
    type Err = ListError;

    fn from_str(text: &str) -> Result<Self, ListError> {
        list(text, |entry| Ok(entry.parse()?)).map(Self)
    }
}

/// The entries of a list. The empty text is the empty list: a template fills in nothing for
/// nothing.
fn list<T: PartialEq>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, ListError>,
) -> Result<Vec<T>, ListError> {
    let mut entries = Vec::new();
    if text.trim().is_empty() {
        return Ok(entries);
    }
    for entry in text.split(',') {
        let entry = parse(entry.trim())?;
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    if entries.len() > MOST { Err(ListError::Long(entries.len())) } else { Ok(entries) }
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    /// The settings of a line of flags.
    pub(crate) fn settings(flags: &str) -> Result<Settings, SamePort> {
        let line = ["redirect", "install"].into_iter().chain(flags.split_whitespace());
        let Command::Install { rules, .. } = Args::try_parse_from(line).unwrap().command else {
            panic!("{flags}")
        };
        rules.try_into()
    }

    #[test]
    fn a_port_for_two_things_is_refused_by_both_flags() {
        let error = settings("--mesh-port 15001").unwrap_err().to_string();
        assert_eq!(
            error,
            "--outbound-port and --mesh-port are both 15001; each needs a port of its own"
        );
    }

    #[test]
    fn lists_keep_their_order_and_each_entry_once() {
        let ports = |text: &str| text.parse::<Ports>().map(|ports| ports.0);
        assert_eq!(ports("25, 22,25"), Ok(vec![25, 22]));
        assert_eq!(ports(" "), Ok(vec![]));
        assert_eq!(ports("25,"), Err(ListError::Port(String::new())));
        assert_eq!(ports("0"), Err(ListError::Port("0".into())));
        let subnets: Subnets = "10.0.0.0/8, ::1,10.0.0.0/8".parse().unwrap();
        let written: Vec<_> = subnets.0.iter().map(ToString::to_string).collect();
        assert_eq!(written, ["10.0.0.0/8", "::1"]);
    }

    #[test]
    fn a_list_that_the_kernel_may_not_take_is_refused() {
        let text = |count: u16| (1..=count).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(text(100).parse::<Ports>().unwrap().0.len(), 100);
        assert_eq!(text(101).parse::<Ports>(), Err(ListError::Long(101)));
    }
}
