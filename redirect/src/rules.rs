//! The decision: which connections go to the sidecar. Settings in, rules as plain data out.
//!
//! Only the first packet of a connection meets these rules (they are of type `nat`); the kernel
//! remembers the answer for the rest, so their number costs connections, not bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::settings::{Exclusions, Settings};
use crate::subnet::Subnet;

/// The one table that is ours, of family `inet`: one set of rules for IPv4 and IPv6.
pub const TABLE: &str = "pillion";

/// The name that every kernel gives the loopback interface.
pub const LOOPBACK: &str = "lo";

/// Rules that the kernel asks at one place, first to last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Where it is asked, which is its name too.
    pub hook: Hook,
    /// The first that matches decides; where none does, nothing is redirected.
    pub rules: Vec<Rule>,
}

/// Where the kernel asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// For what a process of this namespace sends.
    Output,
    /// For what comes into this namespace.
    Prerouting,
}

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Which connections.
    pub matches: Match,
    /// What happens to them.
    pub verdict: Verdict,
    /// Why, for whoever lists the rules.
    pub why: &'static str,
}

/// Which connections a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// Those whose socket this user id made.
    User(u32),
    /// Those that leave by loopback.
    ToLoopback,
    /// Those that come in by loopback.
    FromLoopback,
    /// All that is no TCP.
    NotTcp,
    /// All TCP.
    Tcp,
    /// Those to an address of this range.
    Destination(Subnet),
    /// Those from an address of this range.
    Source(Subnet),
    /// Those to this TCP port.
    Port(u16),
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes where it was sent.
    Return,
    /// It goes to this port of this host; the socket still tells where it was sent.
    Redirect(u16),
    /// If it is IPv4, the same at an address of loopback that its own destination's is made into
    /// ([`LOOPBACK_BITS`]). At one address for all, a client that had a port at one destination
    /// and takes it for another meets its old connection, which the host keeps for a minute
    /// (TIME_WAIT, RFC 9293 §3.6.1) and whose times and numbers do not follow: the SYN is lost.
    RedirectApart(u16),
}

/// What is kept of an IPv4 address, and what is set in it, so that it becomes one of 127.64.0.0/10:
/// never the first or the last of loopback, which are no host's.
pub const DESTINATION_BITS: Ipv4Addr = Ipv4Addr::new(0, 63, 255, 255);
/// See [`DESTINATION_BITS`].
pub const LOOPBACK_BITS: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 0);

impl Hook {
    /// The kernel's and nft's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Prerouting => "prerouting",
        }
    }
}

/// What stays as it is without a mesh: this host, and what a node offers its pods at link-local
/// addresses (cloud metadata, a DNS cache).
const HOST_AND_NODE: [(Subnet, &str); 4] = [
    (Subnet::v4(Ipv4Addr::new(127, 0, 0, 0), 8), "this host"),
    (Subnet::v6(Ipv6Addr::LOCALHOST, 128), "this host"),
    (Subnet::v4(Ipv4Addr::new(169, 254, 0, 0), 16), "link-local: the node"),
    (Subnet::v6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10), "link-local: the node"),
];

/// The chains that `settings` ask for.
pub fn chains(settings: &Settings) -> [Chain; 2] {
    [
        Chain { hook: Hook::Output, rules: output(settings) },
        Chain { hook: Hook::Prerouting, rules: prerouting(settings) },
    ]
}

fn output(settings: &Settings) -> Vec<Rule> {
    let mut rules = vec![
        pass(Match::User(settings.proxy_uid), "the sidecar itself"),
        pass(Match::ToLoopback, "this host"),
        pass(Match::NotTcp, "only TCP is carried"),
    ];
    rules.extend(HOST_AND_NODE.map(|(subnet, why)| pass(Match::Destination(subnet), why)));
    rules.extend(excluded(&settings.outbound, Match::Destination));
    let (matches, verdict) = (Match::Tcp, Verdict::RedirectApart(settings.outbound_port));
    rules.push(Rule { matches, verdict, why: "what the application sends" });
    rules.push(redirect(settings.outbound_port, "the same in IPv6"));
    rules
}

fn prerouting(settings: &Settings) -> Vec<Rule> {
    let mut rules = vec![
        pass(Match::FromLoopback, "this host"),
        pass(Match::NotTcp, "only TCP is carried"),
        pass(Match::Port(settings.mesh_port), "the mesh port"),
        pass(Match::Port(settings.admin_port), "the admin port"),
    ];
    rules.extend(excluded(&settings.inbound, Match::Source));
    rules.push(redirect(settings.inbound_port, "what reaches the workload"));
    rules
}

fn excluded(
    exclusions: &Exclusions,
    far_end: impl Fn(Subnet) -> Match,
) -> impl Iterator<Item = Rule> {
    let subnets = exclusions.subnets.iter().map(move |subnet| far_end(*subnet));
    let ports = exclusions.ports.iter().map(|port| Match::Port(*port));
    subnets.chain(ports).map(|matches| pass(matches, "excluded by a setting"))
}

const fn pass(matches: Match, why: &'static str) -> Rule {
    Rule { matches, verdict: Verdict::Return, why }
}

const fn redirect(port: u16, why: &'static str) -> Rule {
    Rule { matches: Match::Tcp, verdict: Verdict::Redirect(port), why }
}

/// Whether a setting lets the application reach this address and port directly.
pub fn excludes(settings: &Settings, address: IpAddr, port: u16) -> bool {
    let Exclusions { ports, subnets } = &settings.outbound;
    ports.contains(&port) || subnets.iter().any(|subnet| subnet.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::settings;

    /// The rules of a chain for these flags, without their reasons.
    fn rules(flags: &str, hook: Hook) -> Vec<(Match, Verdict)> {
        let chains = chains(&settings(flags).unwrap());
        let chain = chains.into_iter().find(|chain| chain.hook == hook).unwrap();
        chain.rules.into_iter().map(|rule| (rule.matches, rule.verdict)).collect()
    }

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn what_an_application_sends_is_redirected_but_for_host_and_node() {
        let expected = [
            (Match::User(1337), Verdict::Return),
            (Match::ToLoopback, Verdict::Return),
            (Match::NotTcp, Verdict::Return),
            (Match::Destination(subnet("127.0.0.0/8")), Verdict::Return),
            (Match::Destination(subnet("::1")), Verdict::Return),
            (Match::Destination(subnet("169.254.0.0/16")), Verdict::Return),
            (Match::Destination(subnet("fe80::/10")), Verdict::Return),
            (Match::Tcp, Verdict::RedirectApart(15001)),
            (Match::Tcp, Verdict::Redirect(15001)),
        ];
        assert_eq!(rules("", Hook::Output), expected);
    }

    #[test]
    fn what_reaches_a_workload_is_redirected_but_for_mesh_and_admin() {
        let expected = [
            (Match::FromLoopback, Verdict::Return),
            (Match::NotTcp, Verdict::Return),
            (Match::Port(15008), Verdict::Return),
            (Match::Port(15020), Verdict::Return),
            (Match::Tcp, Verdict::Redirect(15006)),
        ];
        assert_eq!(rules("", Hook::Prerouting), expected);
    }

    #[test]
    fn each_setting_has_its_place() {
        use Verdict::{Redirect, RedirectApart, Return};
        let cases: [(&str, Hook, (Match, Verdict)); 10] = [
            ("--proxy-uid 7", Hook::Output, (Match::User(7), Return)),
            ("--outbound-port 7", Hook::Output, (Match::Tcp, RedirectApart(7))),
            ("--outbound-port 7", Hook::Output, (Match::Tcp, Redirect(7))),
            ("--inbound-port 7", Hook::Prerouting, (Match::Tcp, Redirect(7))),
            ("--mesh-port 7", Hook::Prerouting, (Match::Port(7), Return)),
            ("--admin-port 7", Hook::Prerouting, (Match::Port(7), Return)),
            ("--exclude-outbound-ports 7", Hook::Output, (Match::Port(7), Return)),
            ("--exclude-inbound-ports 7", Hook::Prerouting, (Match::Port(7), Return)),
            (
                "--exclude-outbound-subnets 10.0.0.0/8",
                Hook::Output,
                (Match::Destination(subnet("10.0.0.0/8")), Return),
            ),
            (
                "--exclude-inbound-subnets fd00::/8",
                Hook::Prerouting,
                (Match::Source(subnet("fd00::/8")), Return),
            ),
        ];
        for (flags, hook, rule) in cases {
            assert!(rules(flags, hook).contains(&rule), "{flags}");
            let other = if hook == Hook::Output { Hook::Prerouting } else { Hook::Output };
            assert!(!rules(flags, other).contains(&rule), "{flags}");
        }
    }

    #[test]
    fn only_the_last_rules_redirect() {
        let flags = "--exclude-outbound-ports 1,2 --exclude-inbound-ports 3 \
                     --exclude-outbound-subnets 10.0.0.0/8,::2 --exclude-inbound-subnets 10.0.0.1";
        for chain in chains(&settings(flags).unwrap()) {
            let returns = |rule: &Rule| rule.verdict == Verdict::Return;
            let first = chain.rules.iter().position(|rule| !returns(rule)).unwrap();
            let last = if chain.hook == Hook::Output { 2 } else { 1 };
            assert_eq!(chain.rules.len() - first, last, "{chain:?}");
            assert!(!chain.rules[first..].iter().any(returns), "{chain:?}");
        }
    }

    #[test]
    fn exclusions_are_told_for_an_address_and_port() {
        let flags = "--exclude-outbound-ports 25 --exclude-outbound-subnets 192.0.2.0/24";
        let settings = settings(flags).unwrap();
        let cases = [
            ("192.0.2.1", 80, true),
            ("192.0.3.1", 80, false),
            ("192.0.3.1", 25, true),
            ("2001:db8::1", 25, true),
            ("2001:db8::1", 80, false),
        ];
        for (address, port, excluded) in cases {
            assert_eq!(excludes(&settings, address.parse().unwrap(), port), excluded, "{address}");
        }
    }
}
