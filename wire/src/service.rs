//! A Service with its endpoints.

use model::name::ServiceName;
use model::service::{Endpoint, MeshPeer, MeshProtocol, Protocol, Service, ServicePort, Target};

use crate::error::{DecodeError, Fault, address, each, each_value, port};
use crate::proto;

/// The message of a Service. Its name travels in the resource around it.
pub fn encode(service: &Service) -> proto::Service {
    proto::Service {
        addresses: service.addresses.iter().map(ToString::to_string).collect(),
        ports: service.ports.iter().map(encode_port).collect(),
        endpoints: service.endpoints.iter().map(encode_endpoint).collect(),
    }
}

/// The Service that a message means.
///
/// # Errors
/// When a field has a value that no Service can have; the error names the field.
pub fn decode(message: proto::Service, name: ServiceName) -> Result<Service, DecodeError> {
    Ok(Service {
        name,
        addresses: each_value("addresses", message.addresses, address)?,
        ports: each("ports", message.ports, decode_port)?,
        endpoints: each("endpoints", message.endpoints, decode_endpoint)?,
    })
}

/// The number of a protocol on the wire.
pub fn encode_protocol(protocol: Protocol) -> i32 {
    let protocol = match protocol {
        Protocol::Detect => proto::Protocol::Detect,
        Protocol::Http1 => proto::Protocol::Http1,
        Protocol::Http2 => proto::Protocol::Http2,
        Protocol::Opaque => proto::Protocol::Opaque,
    };
    protocol.into()
}

/// The protocol of a number on the wire. One that this version does not know is told from the
/// first bytes, which is always right if not always quick.
pub fn decode_protocol(number: i32) -> Protocol {
    match proto::Protocol::try_from(number) {
        Ok(proto::Protocol::Http1) => Protocol::Http1,
        Ok(proto::Protocol::Http2) => Protocol::Http2,
        Ok(proto::Protocol::Opaque) => Protocol::Opaque,
        Ok(proto::Protocol::Detect) | Err(_) => Protocol::Detect,
    }
}

fn encode_port(port: &ServicePort) -> proto::ServicePort {
    proto::ServicePort {
        port: port.port.into(),
        name: port.name.clone(),
        protocol: encode_protocol(port.protocol),
    }
}

fn decode_port(message: proto::ServicePort) -> Result<ServicePort, DecodeError> {
    Ok(ServicePort {
        port: port(message.port).map_err(|fault| DecodeError::at("port", fault))?,
        name: message.name,
        protocol: decode_protocol(message.protocol),
    })
}

fn encode_endpoint(endpoint: &Endpoint) -> proto::Endpoint {
    let (mesh_port, identity, tunnels_only) = encode_mesh(endpoint.mesh.as_ref());
    proto::Endpoint {
        address: endpoint.address.to_string(),
        workload: endpoint.workload.clone(),
        targets: endpoint.targets.iter().map(encode_target).collect(),
        mesh_port,
        identity,
        tunnels_only,
    }
}

fn decode_endpoint(message: proto::Endpoint) -> Result<Endpoint, DecodeError> {
    Ok(Endpoint {
        address: address(message.address).map_err(|fault| DecodeError::at("address", fault))?,
        workload: message.workload,
        targets: each("targets", message.targets, decode_target)?,
        mesh: decode_mesh(message.mesh_port, &message.identity, message.tunnels_only)?,
    })
}

/// The fields `mesh_port`, `identity` and `tunnels_only` of whoever a sidecar may stand in front
/// of.
pub(crate) fn encode_mesh(mesh: Option<&MeshPeer>) -> (u32, String, bool) {
    let encode = |mesh: &MeshPeer| {
        let tunnels_only = mesh.protocol == MeshProtocol::Hbone;
        (mesh.port.into(), mesh.identity.to_string(), tunnels_only)
    };
    mesh.map(encode).unwrap_or_default()
}

/// A mesh port without an identity is refused by the identity's own parser: such an endpoint
/// would be reached without knowing whom to expect there.
pub(crate) fn decode_mesh(
    mesh_port: u32,
    identity: &str,
    tunnels_only: bool,
) -> Result<Option<MeshPeer>, DecodeError> {
    match (mesh_port, identity) {
        (0, "") => Ok(None),
        (0, _) => Err(DecodeError::at("identity", Fault::IdentityWithoutPort)),
        (number, text) => Ok(Some(MeshPeer {
            port: port(number).map_err(|fault| DecodeError::at("mesh_port", fault))?,
            identity: text.parse().map_err(|error: model::spiffe::SpiffeIdError| {
                DecodeError::at("identity", error)
            })?,
            protocol: if tunnels_only { MeshProtocol::Hbone } else { MeshProtocol::Pillion },
        })),
    }
}

fn encode_target(target: &Target) -> proto::Target {
    proto::Target { port: target.port.into(), target: target.target.into() }
}

fn decode_target(message: proto::Target) -> Result<Target, DecodeError> {
    Ok(Target {
        port: port(message.port).map_err(|fault| DecodeError::at("port", fault))?,
        target: port(message.target).map_err(|fault| DecodeError::at("target", fault))?,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use model::spiffe::SpiffeId;

    use super::*;

    pub(crate) fn sample() -> Service {
        let endpoint = |last: u8, mesh: Option<MeshPeer>| Endpoint {
            address: [127, 0, 1, last].into(),
            workload: format!("api-{last}"),
            targets: vec![Target { port: 80, target: 8080 }, Target { port: 90, target: 9090 }],
            mesh,
        };
        let identity: SpiffeId = "spiffe://cluster.local/ns/shop/sa/api".parse().unwrap();
        let protocol = MeshProtocol::Hbone;
        let foreign = MeshPeer { port: 15008, identity: identity.clone(), protocol };
        Service {
            name: "shop/api".parse().unwrap(),
            addresses: vec!["10.96.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
            ports: vec![
                ServicePort { port: 80, name: Some("http".into()), protocol: Protocol::Http1 },
                ServicePort { port: 90, name: None, protocol: Protocol::Detect },
            ],
            endpoints: vec![
                endpoint(1, Some(MeshPeer::pillion(15008, identity))),
                endpoint(2, None),
                endpoint(3, Some(foreign)),
            ],
        }
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        let service = sample();
        assert_eq!(decode(encode(&service), service.name.clone()), Ok(service));
    }

    #[test]
    fn every_protocol_has_its_own_number_and_an_unknown_one_is_detected() {
        for protocol in [Protocol::Detect, Protocol::Http1, Protocol::Http2, Protocol::Opaque] {
            assert_eq!(decode_protocol(encode_protocol(protocol)), protocol);
        }
        assert_eq!(decode_protocol(4711), Protocol::Detect);
    }

    #[test]
    fn a_bad_value_is_named_by_its_field() {
        type Break = fn(&mut proto::Service);
        let cases: [(Break, &str); 8] = [
            (|s| s.addresses[1] = "localhost".into(), "addresses[1]: \"localhost\" is no IP"),
            (|s| s.ports[0].port = 0, "ports[0].port: 0 is no port"),
            (|s| s.ports[1].port = 65536, "ports[1].port: 65536 is no port"),
            (|s| s.endpoints[1].address.clear(), "endpoints[1].address: \"\" is no IP"),
            (|s| s.endpoints[0].targets[1].target = 0, "endpoints[0].targets[1].target: 0 is"),
            (|s| s.endpoints[0].identity = "api".into(), "endpoints[0].identity: the SPIFFE ID"),
            (|s| s.endpoints[0].mesh_port = 0, "endpoints[0].identity: an identity without"),
            (|s| s.endpoints[1].mesh_port = 15008, "endpoints[1].identity: the SPIFFE ID"),
        ];
        for (break_it, expected) in cases {
            let service = sample();
            let mut message = encode(&service);
            break_it(&mut message);
            let error = decode(message, service.name).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error:?} must begin with {expected:?}");
        }
    }
}
