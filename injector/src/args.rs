//! The flags that both who injects files and who answers the webhook have.

use clap::Args;

use crate::quantity::Quantity;
use crate::settings::Resources;
use crate::variable::Variables;

/// What is injected: images, and what they are given.
#[derive(Debug, Clone, Args)]
pub struct InjectionArgs {
    /// Where the images pillion-proxy and pillion-init are, such as registry.example.org/mesh
    /// [default: none, the images of the node]
    #[arg(
        long,
        env = "PILLION_IMAGE_REGISTRY",
        value_name = "PREFIX",
        default_value = "",
        hide_default_value = true,
        help_heading = "Injection"
    )]
    pub image_registry: String,

    /// CPUs that are kept for each sidecar, where its pod says no other.
    #[arg(
        long,
        env = "PILLION_PROXY_CPU_REQUEST",
        value_name = "AMOUNT",
        default_value = "50m",
        help_heading = "Injection"
    )]
    pub proxy_cpu_request: Quantity,

    /// CPUs that each sidecar may use, and its workers [default: no limit; as many workers as CPUs
    /// are kept for it]
    #[arg(
        long,
        env = "PILLION_PROXY_CPU_LIMIT",
        value_name = "AMOUNT",
        help_heading = "Injection"
    )]
    pub proxy_cpu_limit: Option<Quantity>,

    /// Bytes that are kept for each sidecar, where its pod says no other.
    #[arg(
        long,
        env = "PILLION_PROXY_MEMORY_REQUEST",
        value_name = "AMOUNT",
        default_value = "32Mi",
        help_heading = "Injection"
    )]
    pub proxy_memory_request: Quantity,

    /// Bytes beyond which each sidecar is killed [default: no limit]
    #[arg(
        long,
        env = "PILLION_PROXY_MEMORY_LIMIT",
        value_name = "AMOUNT",
        help_heading = "Injection"
    )]
    pub proxy_memory_limit: Option<Quantity>,

    /// What each sidecar is told, where its pod says no other: a variable of `pillion-proxy`, such as
    /// PILLION_ACCESS_LOG=errors. May be given more than once, or with commas between several.
    #[arg(long, env = "PILLION_PROXY_ENV", value_name = "NAME=VALUE", help_heading = "Injection")]
    pub proxy_env: Vec<Variables>,
}

impl InjectionArgs {
    /// The reference of one of our images in this version.
    pub fn image(&self, name: &str, version: &str) -> String {
        match self.image_registry.trim_end_matches('/') {
            "" => format!("{name}:{version}"),
            registry => format!("{registry}/{name}:{version}"),
        }
    }

    /// What a sidecar is told whose pod says no other.
    pub fn variables(&self) -> Variables {
        Variables(self.proxy_env.iter().flat_map(|several| several.0.clone()).collect())
    }

    /// What a sidecar gets whose pod says no other.
    pub fn resources(&self) -> Resources {
        Resources {
            cpu_request: self.proxy_cpu_request.clone(),
            cpu_limit: self.proxy_cpu_limit.clone(),
            memory_request: self.proxy_memory_request.clone(),
            memory_limit: self.proxy_memory_limit.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    fn parse(flags: &[&str]) -> InjectionArgs {
        let command = InjectionArgs::augment_args(Command::new("test").no_binary_name(true));
        InjectionArgs::from_arg_matches(&command.get_matches_from(flags)).unwrap()
    }

    #[test]
    fn without_flags_all_is_standard() {
        let args = parse(&[]);
        assert_eq!(args.resources(), Resources::standard());
        assert_eq!(args.image("pillion-proxy", "1.2.3"), "pillion-proxy:1.2.3");
    }

    #[test]
    fn what_is_told_is_given_once_or_more_often() {
        let flags = [
            "--proxy-env",
            "PILLION_EGRESS=deny,PILLION_LOG_LEVEL=a=off,info",
            "--proxy-env=PILLION_ACCESS_LOG=all",
        ];
        let told = [
            ("PILLION_EGRESS", "deny"),
            ("PILLION_LOG_LEVEL", "a=off,info"),
            ("PILLION_ACCESS_LOG", "all"),
        ];
        let told = told.map(|(name, value)| (name, value.to_owned()));
        assert_eq!(parse(&flags).variables(), Variables(told.to_vec()));
        assert_eq!(parse(&[]).variables(), Variables::default());
    }

    #[test]
    fn a_registry_stands_before_the_name() {
        for registry in ["example.org:5000/mesh", "example.org:5000/mesh/"] {
            let image = parse(&["--image-registry", registry]).image("pillion-init", "1");
            assert_eq!(image, "example.org:5000/mesh/pillion-init:1");
        }
    }
}
