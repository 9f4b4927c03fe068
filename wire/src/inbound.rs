//! What a sidecar lets in.

use model::inbound::{Inbound, InboundPort, Plaintext};
use model::name::ServiceNameError;

use crate::error::{DecodeError, Fault, each, port};
use crate::proto;
use crate::service::{decode_protocol, encode_protocol};

/// The message of an Inbound.
pub fn encode(inbound: &Inbound) -> proto::Inbound {
    let plaintext = match inbound.plaintext {
        None => proto::Plaintext::Unspecified,
        Some(Plaintext::Allow) => proto::Plaintext::Allow,
        Some(Plaintext::Deny) => proto::Plaintext::Deny,
    };
    proto::Inbound { ports: encode_ports(&inbound.ports), plaintext: plaintext.into() }
}

/// The Inbound that a message means.
///
/// # Errors
/// When a port is none; the error names it by its index. And when the policy is of a kind that this
/// version does not know: it could be stricter than any that it does.
pub fn decode(message: proto::Inbound) -> Result<Inbound, DecodeError> {
    let plaintext = match proto::Plaintext::try_from(message.plaintext) {
        Ok(proto::Plaintext::Unspecified) => None,
        Ok(proto::Plaintext::Allow) => Some(Plaintext::Allow),
        Ok(proto::Plaintext::Deny) => Some(Plaintext::Deny),
        Err(_) => return Err(DecodeError::at("plaintext", Fault::Missing)),
    };
    Ok(Inbound { ports: decode_ports(message.ports)?, plaintext })
}

/// The messages of a workload's ports.
pub(crate) fn encode_ports(ports: &[InboundPort]) -> Vec<proto::InboundPort> {
    let encode = |port: &InboundPort| proto::InboundPort {
        port: port.port.into(),
        protocol: encode_protocol(port.protocol),
        service: port.service.to_string(),
    };
    ports.iter().map(encode).collect()
}

/// The ports that the messages in a field `ports` mean.
pub(crate) fn decode_ports(
    messages: Vec<proto::InboundPort>,
) -> Result<Vec<InboundPort>, DecodeError> {
    each("ports", messages, |message| {
        Ok(InboundPort {
            port: port(message.port).map_err(|fault| DecodeError::at("port", fault))?,
            protocol: decode_protocol(message.protocol),
            service: message
                .service
                .parse()
                .map_err(|error: ServiceNameError| DecodeError::at("service", error))?,
        })
    })
}

#[cfg(test)]
mod tests {
    use model::service::Protocol;

    use super::*;

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        let service: model::name::ServiceName = "shop/api".parse().unwrap();
        let port = |port, protocol| InboundPort { port, protocol, service: service.clone() };
        for plaintext in [None, Some(Plaintext::Allow), Some(Plaintext::Deny)] {
            let ports = vec![port(8080, Protocol::Http2), port(9, Protocol::Opaque)];
            let inbound = Inbound { ports, plaintext };
            assert_eq!(decode(encode(&inbound)), Ok(inbound));
        }
    }

    #[test]
    fn a_bad_port_is_named() {
        let port = proto::InboundPort { port: 70_000, protocol: 0, service: "shop/api".into() };
        let error = decode(proto::Inbound { ports: vec![port], plaintext: 0 }).unwrap_err();
        assert_eq!(error.to_string(), "ports[0].port: 70000 is no port (1 to 65535)");
        let error = decode(proto::Inbound { ports: Vec::new(), plaintext: 9 }).unwrap_err();
        assert!(error.to_string().starts_with("plaintext: missing, or of a kind"), "{error}");
    }
}
