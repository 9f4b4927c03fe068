//! The rules in nft's own syntax, as `nft list table inet pillion` prints them, for a reader to
//! judge before they are in force, or for `nft -f`.

use std::fmt::{self, Display, Formatter};
use std::net::Ipv4Addr;

use crate::expression::PRIORITY;
use crate::rules::{Chain, DESTINATION_BITS, LOOPBACK, LOOPBACK_BITS, Match, Rule, TABLE, Verdict};
use crate::subnet::Subnet;

/// Shows the chains as one table.
#[derive(Debug)]
pub struct Table<'a>(pub &'a [Chain]);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        for (index, chain) in self.0.iter().enumerate() {
            let hook = chain.hook.name();
            if index > 0 {
                writeln!(f)?;
            }
            writeln!(f, "\tchain {hook} {{")?;
            writeln!(f, "\t\ttype nat hook {hook} priority {PRIORITY}; policy accept;")?;
            for rule in &chain.rules {
                writeln!(f, "\t\t{rule}")?;
            }
            writeln!(f, "\t}}")?;
        }
        writeln!(f, "}}")
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} comment \"{}\"", self.matches, self.verdict, self.why)
    }
}

impl Display for Match {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "meta skuid {uid}"),
            Self::ToLoopback => write!(f, "oifname \"{LOOPBACK}\""),
            Self::FromLoopback => write!(f, "iifname \"{LOOPBACK}\""),
            Self::NotTcp => write!(f, "meta l4proto != tcp"),
            Self::Tcp => write!(f, "meta l4proto tcp"),
            Self::Destination(subnet) => write!(f, "{} daddr {subnet}", family(subnet)),
            Self::Source(subnet) => write!(f, "{} saddr {subnet}", family(subnet)),
            Self::Port(port) => write!(f, "tcp dport {port}"),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Return => write!(f, "return"),
            Self::Redirect(port) => write!(f, "redirect to :{port}"),
            Self::RedirectApart(port) => {
                // nft's: a bit that is set need not have been cleared before.
                let kept =
                    Ipv4Addr::from_bits(DESTINATION_BITS.to_bits() | LOOPBACK_BITS.to_bits());
                write!(f, "dnat ip to ip daddr & {kept} | {LOOPBACK_BITS}:{port}")
            }
        }
    }
}

const fn family(subnet: &Subnet) -> &'static str {
    if subnet.address().is_ipv4() { "ip" } else { "ip6" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::chains;
    use crate::settings::tests::settings;

    #[test]
    fn a_reader_sees_every_rule_and_its_reason() {
        let flags = "--exclude-outbound-ports 25 --exclude-inbound-subnets 10.9.0.0/16,fd00::7";
        let text = Table(&chains(&settings(flags).unwrap())).to_string();
        let expected = r#"table inet pillion {
	chain output {
		type nat hook output priority -100; policy accept;
		meta skuid 1337 return comment "the sidecar itself"
		oifname "lo" return comment "this host"
		meta l4proto != tcp return comment "only TCP is carried"
		ip daddr 127.0.0.0/8 return comment "this host"
		ip6 daddr ::1 return comment "this host"
		ip daddr 169.254.0.0/16 return comment "link-local: the node"
		ip6 daddr fe80::/10 return comment "link-local: the node"
		tcp dport 25 return comment "excluded by a setting"
		meta l4proto tcp dnat ip to ip daddr & 127.127.255.255 | 127.64.0.0:15001 comment "what the application sends"
		meta l4proto tcp redirect to :15001 comment "the same in IPv6"
	}

	chain prerouting {
		type nat hook prerouting priority -100; policy accept;
		iifname "lo" return comment "this host"
		meta l4proto != tcp return comment "only TCP is carried"
		tcp dport 15008 return comment "the mesh port"
		tcp dport 15020 return comment "the admin port"
		ip saddr 10.9.0.0/16 return comment "excluded by a setting"
		ip6 saddr fd00::7 return comment "excluded by a setting"
		meta l4proto tcp redirect to :15006 comment "what reaches the workload"
	}
}
"#;
        assert_eq!(text, expected);
    }
}
