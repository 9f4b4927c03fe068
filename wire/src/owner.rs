//! Who has an address.

use model::name::ServiceNameError;
use model::owner::{Owner, Workload};

use crate::error::{DecodeError, Fault};
use crate::inbound::{decode_ports, encode_ports};
use crate::proto;
use crate::service::{decode_mesh, encode_mesh};

/// The message of an address's owner. The address travels as the name of the resource around it.
pub fn encode(owner: &Owner) -> proto::Address {
    let owner = match owner {
        Owner::Service(name) => proto::address::Owner::Service(name.to_string()),
        Owner::Workload(workload) => {
            let (mesh_port, identity, tunnels_only) = encode_mesh(workload.mesh.as_ref());
            proto::address::Owner::Workload(proto::Workload {
                name: workload.name.clone(),
                mesh_port,
                identity,
                ports: encode_ports(&workload.ports),
                tunnels_only,
            })
        }
    };
    proto::Address { owner: Some(owner) }
}

/// The owner that a message means.
///
/// # Errors
/// When a field has a value that cannot be; the error names the field.
pub fn decode(message: proto::Address) -> Result<Owner, DecodeError> {
    match message.owner.ok_or_else(|| DecodeError::at("owner", Fault::Missing))? {
        proto::address::Owner::Service(name) => name
            .parse()
            .map(Owner::Service)
            .map_err(|error: ServiceNameError| DecodeError::at("service", error)),
        proto::address::Owner::Workload(workload) => {
            decode_workload(workload).map(Owner::Workload).map_err(|e| e.within("workload"))
        }
    }
}

fn decode_workload(message: proto::Workload) -> Result<Workload, DecodeError> {
    Ok(Workload {
        name: message.name,
        mesh: decode_mesh(message.mesh_port, &message.identity, message.tunnels_only)?,
        ports: decode_ports(message.ports)?,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use model::inbound::InboundPort;
    use model::service::{MeshPeer, Protocol};

    use super::*;

    pub(crate) fn sample() -> Owner {
        let identity = "spiffe://cluster.local/ns/shop/sa/api".parse().unwrap();
        let service = "shop/api".parse().unwrap();
        Owner::Workload(Workload {
            name: "api-1".into(),
            mesh: Some(MeshPeer::pillion(15008, identity)),
            ports: vec![InboundPort { port: 8080, protocol: Protocol::Http1, service }],
        })
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        let service = Owner::Service("shop/api".parse().unwrap());
        let outside = Owner::Workload(Workload { name: "x".into(), mesh: None, ports: vec![] });
        for owner in [sample(), service, outside] {
            assert_eq!(decode(encode(&owner)), Ok(owner));
        }
    }

    #[test]
    fn a_bad_value_is_named_by_its_field() {
        let workload = |break_it: fn(&mut proto::Workload)| {
            let Some(proto::address::Owner::Workload(mut workload)) = encode(&sample()).owner
            else {
                panic!("a workload encodes as one")
            };
            break_it(&mut workload);
            proto::Address { owner: Some(proto::address::Owner::Workload(workload)) }
        };
        let service = Some(proto::address::Owner::Service("api".into()));
        let cases = [
            (proto::Address { owner: None }, "owner: missing"),
            (proto::Address { owner: service }, "service: \"api\" is not NAMESPACE/NAME"),
            (workload(|w| w.identity = "api".into()), "workload.identity: the SPIFFE ID"),
            (workload(|w| w.mesh_port = 0), "workload.identity: an identity without"),
            (workload(|w| w.ports[0].port = 0), "workload.ports[0].port: 0 is no port"),
        ];
        for (message, expected) in cases {
            let error = decode(message).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error:?} must begin with {expected:?}");
        }
    }
}
