//! `redirect check`: what is wrong with the redirect in this network namespace.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::probe::{self, Flaw};
use crate::rules::excludes;
use crate::settings::Settings;
use crate::table::{self, State};

/// Where the probe connections go: addresses for documentation, behind which nobody is (RFC 5737
/// §3, RFC 3849 §2), so that a probe that is not redirected reaches nobody.
const PROBED: [(&str, IpAddr); 2] = [
    ("IPv4", IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
    ("IPv6", IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))),
];

/// What `check` found, in the order in which it looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Of the rules themselves.
    pub rules: Finding,
    /// Of a connection of each family, with the family's name.
    pub families: Vec<(&'static str, Finding)>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It is as it should be.
    Holds(String),
    /// It is not.
    Wrong(String),
    /// It could not be looked at, for this reason.
    NotChecked(String),
}

impl Report {
    /// Whether nothing is wrong, and the rules and one family at least were seen to be right.
    pub fn holds(&self) -> bool {
        let families = || self.families.iter().map(|(_, finding)| finding);
        matches!(self.rules, Finding::Holds(_))
            && families().any(|finding| matches!(finding, Finding::Holds(_)))
            && !self.is_wrong()
    }

    /// Whether something was seen to be wrong. What could not be looked at is not.
    pub fn is_wrong(&self) -> bool {
        let families = self.families.iter().map(|(_, finding)| finding);
        std::iter::once(&self.rules).chain(families).any(|one| matches!(one, Finding::Wrong(_)))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rules: {}", self.rules)?;
        self.families.iter().try_for_each(|(name, finding)| writeln!(f, "{name}: {finding}"))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds(text) => write!(f, "ok, {text}"),
            Self::Wrong(text) => write!(f, "wrong: {text}"),
            Self::NotChecked(text) => write!(f, "not checked: {text}"),
        }
    }
}

/// Compares the rules with `settings`, and opens a connection through them for IPv4 and IPv6.
/// Takes some seconds at most.
pub fn check(settings: &Settings) -> Report {
    let families = PROBED.map(|(name, address)| (name, family(settings, address)));
    Report { rules: rules(settings), families: families.into() }
}

fn rules(settings: &Settings) -> Finding {
    match table::state(settings) {
        Ok(State::Installed) => Finding::Holds("as these settings say".into()),
        Ok(State::Differs) => {
            Finding::Wrong("installed with other settings; run install again".into())
        }
        Ok(State::Absent) => Finding::Wrong("not installed; run install".into()),
        Err(error) => Finding::Wrong(format!("they cannot be read: {error}")),
    }
}

fn family(settings: &Settings, address: IpAddr) -> Finding {
    let (uid, port) = (rustix::process::geteuid().as_raw(), settings.outbound_port);
    if uid == settings.proxy_uid {
        return Finding::NotChecked(format!(
            "user id {uid} is the sidecar's, which the rules pass over; run it as another user"
        ));
    }
    if excludes(settings, address, port) {
        return Finding::NotChecked(format!(
            "the settings exclude {}, where the probe goes",
            SocketAddr::new(address, port)
        ));
    }
    finding(probe::probe(SocketAddr::new(address, port)))
}

fn finding(outcome: Result<(), Flaw>) -> Finding {
    match outcome {
        Ok(()) => Finding::Holds("redirected with the original destination kept".into()),
        Err(flaw @ Flaw::NoRoute(_)) => Finding::NotChecked(flaw.to_string()),
        Err(flaw) => Finding::Wrong(flaw.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(rules: &str, families: [&str; 2]) -> Report {
        let finding = |kind: &str| match kind {
            "ok" => Finding::Holds(String::new()),
            "wrong" => Finding::Wrong(String::new()),
            _ => Finding::NotChecked(String::new()),
        };
        let families = families.map(finding);
        Report {
            rules: finding(rules),
            families: ["IPv4", "IPv6"].into_iter().zip(families).collect(),
        }
    }

    #[test]
    fn all_is_well_only_when_something_was_seen_to_be() {
        let cases = [
            ("ok", ["ok", "ok"], true),
            ("ok", ["ok", "not"], true),
            ("ok", ["not", "ok"], true),
            ("ok", ["not", "not"], false),
            ("ok", ["ok", "wrong"], false),
            ("wrong", ["ok", "ok"], false),
            ("not", ["ok", "ok"], false),
        ];
        for (rules, families, holds) in cases {
            assert_eq!(report(rules, families).holds(), holds, "{rules} {families:?}");
        }
    }

    #[test]
    fn what_could_not_be_looked_at_is_not_wrong() {
        assert!(!report("ok", ["not", "not"]).is_wrong());
        assert!(report("wrong", ["not", "not"]).is_wrong());
        assert!(report("ok", ["ok", "wrong"]).is_wrong());
    }

    #[test]
    fn a_report_is_a_line_for_each_thing() {
        let report = Report {
            rules: Finding::Holds("as these settings say".into()),
            families: vec![
                ("IPv4", Finding::Wrong("oh".into())),
                ("IPv6", Finding::NotChecked("no".into())),
            ],
        };
        let expected = "rules: ok, as these settings say\nIPv4: wrong: oh\nIPv6: not checked: no\n";
        assert_eq!(report.to_string(), expected);
    }
}
