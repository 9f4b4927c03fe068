//! Who takes part in the demo, and at which addresses.

use std::net::{Ipv4Addr, SocketAddr};

/// The namespace that everything is in.
pub(crate) const NAMESPACE: &str = "demo";

/// The services, in the order of a request's way; then the TCP one.
pub(crate) const SERVICES: [&str; 4] = ["web", "api", "data", "echo"];

/// The port that every application listens on.
pub(crate) const APP_PORT: u16 = 8080;
/// The sidecars' port for what the application sends.
pub(crate) const OUTBOUND_PORT: u16 = 15001;
/// The sidecars' admin port.
pub(crate) const ADMIN_PORT: u16 = 15020;
/// The control plane's port for sidecars.
pub(crate) const CONTROL_PORT: u16 = 15010;
/// The control plane's admin port.
pub(crate) const CONTROL_ADMIN_PORT: u16 = 15014;

/// The ports of a sidecar, and what they are for.
const SIDECAR_PORTS: [(u16, &str); 4] = [
    (OUTBOUND_PORT, "the outbound port"),
    (15006, "the inbound plaintext port"),
    (15008, "the mesh port"),
    (ADMIN_PORT, "the admin port"),
];

/// What is peculiar about a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quirk {
    /// Nothing.
    None,
    /// It takes 40 to 80 ms longer.
    Slow,
    /// It fails 20 % of its requests.
    Failing,
}

/// One pod: a sidecar, and but for the client an application, at an address of their own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pod {
    /// Its name, such as `api-2`.
    pub(crate) name: &'static str,
    /// Its service, and service account.
    pub(crate) service: &'static str,
    /// What is peculiar about it.
    pub(crate) quirk: Quirk,
    /// Its loopback address.
    pub(crate) address: Ipv4Addr,
}

/// The pod that the demo's own client sends through: a sidecar without an application.
pub(crate) const CLIENT: &str = "client";

const PODS: [(&str, &str, Quirk); 8] = [
    (CLIENT, "client", Quirk::None),
    ("web-1", "web", Quirk::None),
    ("api-1", "api", Quirk::None),
    ("api-2", "api", Quirk::Slow),
    ("api-3", "api", Quirk::Failing),
    ("data-1", "data", Quirk::None),
    ("data-2", "data", Quirk::None),
    ("echo-1", "echo", Quirk::None),
];

/// Who takes part and where.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The control plane's address.
    pub(crate) control_plane: Ipv4Addr,
    /// The pods.
    pub(crate) pods: Vec<Pod>,
}

impl Plan {
    /// The demo on the addresses that follow `base`, which [`base_address`] has read.
    pub(crate) fn new(base: Ipv4Addr) -> Self {
        let at = |n: usize| {
            // invariant: `n` is at most PODS.len() + 1
            Ipv4Addr::from(u32::from(base).saturating_add(u32::try_from(n).unwrap_or(u32::MAX)))
        };
        let pods = PODS.iter().enumerate().map(|(n, &(name, service, quirk))| Pod {
            name,
            service,
            quirk,
            address: at(n + 1),
        });
        Self { control_plane: at(PODS.len() + 1), pods: pods.collect() }
    }

    /// The pod of this name.
    pub(crate) fn pod(&self, name: &str) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.name == name)
    }

    /// The pods of a service.
    pub(crate) fn replicas<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a Pod> {
        self.pods.iter().filter(move |pod| pod.service == service)
    }

    /// The pods that call a service, and so know how it fares.
    pub(crate) fn callers<'a>(&'a self, service: &str) -> impl Iterator<Item = &'a Pod> {
        let caller = match service {
            "api" => "web",
            "data" => "api",
            _ => "client",
        };
        self.replicas(caller)
    }

    /// Where the demo's client sends its requests.
    pub(crate) fn entry(&self) -> SocketAddr {
        // invariant: the client is the first of PODS
        SocketAddr::from((self.pods[0].address, OUTBOUND_PORT))
    }

    /// A base address that is not this plan's.
    pub(crate) const fn elsewhere(&self) -> Ipv4Addr {
        let [_, second, third, _] = self.control_plane.octets();
        Ipv4Addr::new(127, second, third.wrapping_add(1), 0)
    }

    /// Every address and port that is listened on, and for what.
    pub(crate) fn ports(&self) -> Vec<(SocketAddr, String)> {
        let of_control = [(CONTROL_PORT, "the port"), (CONTROL_ADMIN_PORT, "the admin port")]
            .map(|(port, what)| (port, format!("{what} of the control plane")));
        let mut ports: Vec<_> = of_control
            .into_iter()
            .map(|(port, what)| (SocketAddr::from((self.control_plane, port)), what))
            .collect();
        for pod in &self.pods {
            let app = (pod.name != CLIENT)
                .then(|| (pod.at(APP_PORT), format!("the application {}", pod.name)));
            let sidecar = SIDECAR_PORTS
                .map(|(port, what)| (pod.at(port), format!("{what} of {}'s sidecar", pod.name)));
            ports.extend(app.into_iter().chain(sidecar));
        }
        ports
    }
}

impl Pod {
    /// A port at the pod's address.
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.address, port))
    }
}

/// Reads the address before the first of the demo's.
///
/// # Errors
/// When it is no IPv4 address, or the addresses that follow are not all on loopback.
pub(crate) fn base_address(text: &str) -> Result<Ipv4Addr, String> {
    let base: Ipv4Addr = text.parse().map_err(|_| "not an IPv4 address".to_owned())?;
    let plan = Plan::new(base);
    let last = Ipv4Addr::new(127, 255, 255, 255);
    if base.is_loopback() && plan.control_plane < last {
        return Ok(base);
    }
    Err(format!(
        "the demo lives on {} addresses after this one, all of which must be loopback addresses \
         (127.0.0.1 to 127.255.255.254)",
        plan.pods.len() + 1
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_part_has_its_own_address_and_every_port_is_listed_once() {
        let plan = Plan::new(Ipv4Addr::new(127, 0, 2, 0));
        assert_eq!(plan.entry().to_string(), "127.0.2.1:15001");
        assert_eq!(plan.pod("api-3").unwrap().address, Ipv4Addr::new(127, 0, 2, 5));
        assert_eq!(plan.control_plane, Ipv4Addr::new(127, 0, 2, 9));
        assert_eq!(plan.elsewhere(), Ipv4Addr::new(127, 0, 3, 0));
        let ports = plan.ports();
        assert_eq!(ports.len(), 2 + 8 * 4 + 7);
        let distinct: BTreeSet<_> = ports.iter().map(|(address, _)| address).collect();
        assert_eq!(distinct.len(), ports.len());
    }

    #[test]
    fn each_service_has_replicas_and_callers() {
        let plan = Plan::new(Ipv4Addr::new(127, 0, 2, 0));
        let counts = SERVICES.map(|service| {
            (plan.replicas(service).count(), plan.callers(service).map(|pod| pod.service).last())
        });
        let expected = [(1, "client"), (3, "web"), (2, "api"), (1, "client")];
        assert_eq!(counts, expected.map(|(replicas, caller)| (replicas, Some(caller))));
    }

    #[test]
    fn only_loopback_will_do() {
        for good in ["127.0.0.0", "127.0.2.0", "127.1.2.3", "127.255.255.245"] {
            assert!(base_address(good).is_ok(), "{good}");
        }
        for bad in ["10.0.0.0", "127.255.255.246", "::1", "localhost", "126.255.255.255"] {
            assert!(base_address(bad).is_err(), "{bad}");
        }
    }
}
