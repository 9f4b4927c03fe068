//! What was typed: the flags of `pillion-proxy redirect`, each with its environment variable.
//! Those of the ports have the names that the sidecar has for them: both can read one environment.

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::settings::{Ports, Subnets};

/// Redirect a pod's TCP traffic to its sidecar.
///
/// Writes nftables rules into the network namespace that it runs in, and touches no other rules
/// there. Needs the capability NET_ADMIN and nothing else.
#[derive(Debug, Parser)]
#[command(name = "pillion-proxy redirect", version, max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done with the rules.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write the rules and try them; those of an earlier install are replaced in one transaction
    Install {
        #[command(flatten)]
        #[allow(missing_docs)]
        rules: RuleArgs,

        /// Print the rules in nft's syntax and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Take the rules away; no other rules are touched
    Remove,
    /// Say whether the rules are there and redirect, by a connection through them
    Check {
        #[command(flatten)]
        #[allow(missing_docs)]
        rules: RuleArgs,
    },
}

/// The flags that the rules are made from.
#[derive(Debug, Clone, ClapArgs)]
pub struct RuleArgs {
    /// The sidecar's port for what the application sends.
    #[arg(long, env = "PILLION_OUTBOUND_PORT", value_name = "PORT", default_value_t = 15001, help_heading = "Ports", value_parser = port())]
    pub outbound_port: u16,

    /// The sidecar's port for what reaches the workload without the mesh.
    #[arg(long, env = "PILLION_INBOUND_PORT", value_name = "PORT", default_value_t = 15006, help_heading = "Ports", value_parser = port())]
    pub inbound_port: u16,

    /// The sidecar's port for other sidecars: never redirected.
    #[arg(long, env = "PILLION_MESH_PORT", value_name = "PORT", default_value_t = 15008, help_heading = "Ports", value_parser = port())]
    pub mesh_port: u16,

    /// The sidecar's port for probes and metrics: never redirected.
    #[arg(long, env = "PILLION_ADMIN_PORT", value_name = "PORT", default_value_t = 15020, help_heading = "Ports", value_parser = port())]
    pub admin_port: u16,

    /// The user id that the sidecar runs as: what it sends is not redirected to itself.
    #[arg(long, env = "PILLION_PROXY_UID", value_name = "UID", default_value_t = 1337, value_parser = clap::value_parser!(u32).range(..i64::from(u32::MAX)))]
    pub proxy_uid: u32,

    /// Ports to which the application connects directly, such as 25,3306.
    #[arg(
        long,
        env = "PILLION_EXCLUDE_OUTBOUND_PORTS",
        value_name = "PORT,...",
        default_value = "",
        hide_default_value = true,
        help_heading = "Exclusions"
    )]
    pub exclude_outbound_ports: Ports,

    /// The workload's ports that are reached directly.
    #[arg(
        long,
        env = "PILLION_EXCLUDE_INBOUND_PORTS",
        value_name = "PORT,...",
        default_value = "",
        hide_default_value = true,
        help_heading = "Exclusions"
    )]
    pub exclude_inbound_ports: Ports,

    /// Addresses to which the application connects directly, such as 10.0.0.0/8,fd00::7.
    #[arg(
        long,
        env = "PILLION_EXCLUDE_OUTBOUND_SUBNETS",
        value_name = "CIDR,...",
        default_value = "",
        hide_default_value = true,
        help_heading = "Exclusions"
    )]
    pub exclude_outbound_subnets: Subnets,

    /// Addresses that reach the workload directly.
    #[arg(
        long,
        env = "PILLION_EXCLUDE_INBOUND_SUBNETS",
        value_name = "CIDR,...",
        default_value = "",
        hide_default_value = true,
        help_heading = "Exclusions"
    )]
    pub exclude_inbound_subnets: Subnets,
}

fn port() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn refusal(flag: &str) -> String {
        Args::try_parse_from(["redirect", "install", flag]).unwrap_err().to_string()
    }

    #[test]
    fn the_definition_holds() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_bad_value_is_refused_by_the_name_of_its_flag() {
        let cases = [
            ("--outbound-port=0", "--outbound-port", "0 is not in 1..=65535"),
            ("--exclude-outbound-ports=80,x", "--exclude-outbound-ports", "`x` is no port"),
            (
                "--exclude-inbound-subnets=10.0.0.1/8",
                "--exclude-inbound-subnets",
                "did you mean 10.0.0.0/8?",
            ),
            ("--proxy-uid=4294967295", "--proxy-uid", "is not in 0..4294967295"),
        ];
        for (flag, name, reason) in cases {
            let message = refusal(flag);
            assert!(message.contains(name) && message.contains(reason), "{flag}: {message}");
        }
    }

    #[test]
    fn empty_lists_are_lists_of_nothing() {
        let flags = ["--exclude-outbound-ports=", "--exclude-outbound-subnets="];
        let args = Args::try_parse_from(["redirect", "install"].into_iter().chain(flags)).unwrap();
        let Command::Install { rules, .. } = args.command else { panic!("{args:?}") };
        assert!(rules.exclude_outbound_ports.0.is_empty());
        assert!(rules.exclude_outbound_subnets.0.is_empty());
    }
}
