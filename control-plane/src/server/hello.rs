//! The first message of a stream: who and where the workload is, and what it registers.

use std::net::IpAddr;

use model::name::ServiceName;
use tonic::Status;
use wire::proto;
use wire::service::decode_protocol;

use super::authenticate::Proved;
use crate::registry::Lease;

/// The longest name of an instance, and the longest version, that is taken from a sidecar.
const LONGEST_TEXT: usize = 253;

/// A Hello whose parts are checked.
#[derive(Debug)]
pub(super) struct Hello {
    /// The sidecar's version, for the log.
    pub(super) version: String,
    /// Its name, for people.
    pub(super) instance: String,
    /// The workload's address.
    pub(super) address: IpAddr,
    /// What it registers.
    pub(super) lease: Option<Lease>,
    /// Services to subscribe to.
    pub(super) services: Vec<String>,
    /// Addresses to subscribe to.
    pub(super) addresses: Vec<String>,
    /// What it holds.
    pub(super) known: Vec<proto::Known>,
}

/// Checks the first message of a sidecar that proved to be `proved`.
pub(super) fn parse(message: Option<proto::SyncRequest>, proved: &Proved) -> Result<Hello, Status> {
    let Some(proto::sync_request::Kind::Hello(hello)) = message.and_then(|message| message.kind)
    else {
        return Err(Status::invalid_argument("the first message must be Hello"));
    };
    let address = parse_address(&hello.address)?;
    let instance = printable(&hello.instance);
    let lease = match hello.registration {
        Some(registration) => Some(parse_lease(&registration, address, &instance, proved)?),
        None => None,
    };
    let version = printable(&hello.version);
    let (services, addresses, known) = (hello.services, hello.addresses, hello.known);
    Ok(Hello { version, instance, address, lease, services, addresses, known })
}

fn parse_address(text: &str) -> Result<IpAddr, Status> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| Status::invalid_argument(format!("address: {text:.64?} is no IP address")))?;
    if address.is_unspecified() || address.is_multicast() {
        let message = format!("address: {address} is no address that a workload can have");
        return Err(Status::invalid_argument(message));
    }
    Ok(address)
}

/// Whoever serves a Service is of its namespace: otherwise any workload could take over the
/// traffic of any other.
fn parse_lease(
    registration: &proto::Registration,
    address: IpAddr,
    instance: &str,
    proved: &Proved,
) -> Result<Lease, Status> {
    let service: ServiceName = registration
        .service
        .parse()
        .map_err(|error| Status::invalid_argument(format!("registration.service: {error}")))?;
    if service.namespace != proved.namespace {
        return Err(Status::permission_denied(format!(
            "a workload of namespace {} ({}) cannot register for Service {service} of namespace {}",
            proved.namespace, proved.identity, service.namespace
        )));
    }
    let service_port = match registration.service_port {
        0 => None,
        number => Some(port(number, "service_port")?),
    };
    Ok(Lease {
        service,
        address,
        app_port: port(registration.app_port, "app_port")?,
        service_port,
        mesh_port: port(registration.mesh_port, "mesh_port")?,
        protocol: decode_protocol(registration.protocol),
        identity: proved.identity.clone(),
        workload: if instance.is_empty() { address.to_string() } else { instance.into() },
    })
}

fn port(number: u32, field: &str) -> Result<u16, Status> {
    u16::try_from(number).ok().filter(|port| *port != 0).ok_or_else(|| {
        let message = format!("registration.{field}: {number} is no port (1 to 65535)");
        Status::invalid_argument(message)
    })
}

/// What a sidecar says of itself goes into logs and to other sidecars: no control characters.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn proved() -> Proved {
        Proved {
            identity: "spiffe://cluster.local/ns/shop/sa/api".parse().unwrap(),
            namespace: "shop".parse().unwrap(),
        }
    }

    fn message() -> proto::Hello {
        proto::Hello {
            address: "127.0.1.1".into(),
            instance: "api\n-1".into(),
            registration: Some(proto::Registration {
                service: "shop/api".into(),
                app_port: 8080,
                mesh_port: 15008,
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn parsed(hello: proto::Hello) -> Result<Hello, Status> {
        let kind = Some(proto::sync_request::Kind::Hello(hello));
        parse(Some(proto::SyncRequest { kind }), &proved())
    }

    #[test]
    fn a_registration_becomes_a_lease_of_the_proved_identity() {
        let lease = parsed(message()).unwrap().lease.unwrap();
        assert_eq!((lease.app_port, lease.service_port, lease.mesh_port), (8080, None, 15008));
        assert_eq!(lease.identity, proved().identity);
        assert_eq!(lease.workload, "api-1", "without control characters");
    }

    #[test]
    fn what_is_wrong_is_said() {
        type Break = fn(&mut proto::Hello);
        let cases: [(Break, Code, &str); 7] = [
            (|h| h.address = "here".into(), Code::InvalidArgument, "address: \"here\" is no IP"),
            (|h| h.address = "0.0.0.0".into(), Code::InvalidArgument, "0.0.0.0 is no address"),
            (|h| h.address = "ff02::1".into(), Code::InvalidArgument, "ff02::1 is no address"),
            (
                |h| h.registration.as_mut().unwrap().service = "other/api".into(),
                Code::PermissionDenied,
                "of namespace shop (spiffe://cluster.local/ns/shop/sa/api) cannot register for \
                 Service other/api of namespace other",
            ),
            (
                |h| h.registration.as_mut().unwrap().service = "api".into(),
                Code::InvalidArgument,
                "registration.service: \"api\" is not NAMESPACE/NAME",
            ),
            (
                |h| h.registration.as_mut().unwrap().app_port = 0,
                Code::InvalidArgument,
                "registration.app_port: 0 is no port",
            ),
            (
                |h| h.registration.as_mut().unwrap().mesh_port = 70_000,
                Code::InvalidArgument,
                "registration.mesh_port: 70000 is no port",
            ),
        ];
        for (break_it, code, expected) in cases {
            let mut hello = message();
            break_it(&mut hello);
            let status = parsed(hello).unwrap_err();
            assert_eq!(status.code(), code, "{status}");
            assert!(status.message().contains(expected), "{status} must contain {expected:?}");
        }
        let status = parse(None, &proved()).unwrap_err();
        assert_eq!(status.message(), "the first message must be Hello");
    }
}
