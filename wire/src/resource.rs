//! A resource: something with a kind, a name and a version that is pushed as a whole.

use std::fmt;
use std::sync::Arc;

use model::inbound::Inbound;
use model::name::ServiceNameError;
use model::owner::Owner;
use model::route::ServiceRoutes;
use model::service::Service;
use prost::Message;
use sha2::{Digest, Sha256};

use crate::error::{DecodeError, Fault, address};
use crate::{inbound, owner, proto, routes, service};

/// The kind of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A Service with its endpoints, named `namespace/name`.
    Service,
    /// The routes attached to a Service, named as the Service is.
    Routes,
    /// What a workload lets in, named by the workload's address.
    Inbound,
    /// Who has an address, named by the address.
    Address,
}

/// What tells one resource from all others of a sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its name among those of the kind.
    pub name: Arc<str>,
}

/// What a resource says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A Service.
    Service(Service),
    /// The routes of a Service.
    Routes(ServiceRoutes),
    /// What a workload lets in.
    Inbound(Inbound),
    /// Who has an address.
    Address(Owner),
}

/// A resource as a sidecar holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Kind and name.
    pub key: Key,
    /// The version that the control plane gave it.
    pub version: String,
    /// What it says.
    pub body: Body,
}

impl Kind {
    /// The number of the kind on the wire.
    pub fn encode(self) -> i32 {
        let kind = match self {
            Self::Service => proto::ResourceKind::Service,
            Self::Routes => proto::ResourceKind::Routes,
            Self::Inbound => proto::ResourceKind::Inbound,
            Self::Address => proto::ResourceKind::Address,
        };
        kind.into()
    }

    /// The kind of a number on the wire; `None` for one that this version does not know.
    pub fn decode(number: i32) -> Option<Self> {
        match proto::ResourceKind::try_from(number) {
            Ok(proto::ResourceKind::Service) => Some(Self::Service),
            Ok(proto::ResourceKind::Routes) => Some(Self::Routes),
            Ok(proto::ResourceKind::Inbound) => Some(Self::Inbound),
            Ok(proto::ResourceKind::Address) => Some(Self::Address),
            Ok(proto::ResourceKind::Unspecified) | Err(_) => None,
        }
    }

    /// The kind for people and as the value of a metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Routes => "routes",
            Self::Inbound => "inbound",
            Self::Address => "address",
        }
    }
}

impl Key {
    /// The key of a kind and a name.
    pub fn new(kind: Kind, name: impl Into<Arc<str>>) -> Self {
        Self { kind, name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

impl Body {
    /// The kind that this is a body of.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
            Self::Routes(_) => Kind::Routes,
            Self::Inbound(_) => Kind::Inbound,
            Self::Address(_) => Kind::Address,
        }
    }
}

/// A resource as it is sent, made once and sent to many.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// Kind and name.
    pub key: Key,
    /// The version that its content has.
    pub version: Arc<str>,
    /// How large the message is, in bytes.
    pub size: usize,
    message: proto::Resource,
}

impl Encoded {
    /// Encodes a resource.
    pub fn new(name: &str, body: &Body) -> Self {
        let message = encode(name, body);
        Self {
            key: Key::new(body.kind(), name),
            version: message.version.as_str().into(),
            size: message.encoded_len(),
            message,
        }
    }

    /// The message.
    pub fn message(&self) -> &proto::Resource {
        &self.message
    }
}

/// The message of a resource, with the version that its content has.
pub fn encode(name: &str, body: &Body) -> proto::Resource {
    let encoded = match body {
        Body::Service(service) => proto::resource::Body::Service(service::encode(service)),
        Body::Routes(routes) => proto::resource::Body::Routes(routes::encode(routes)),
        Body::Inbound(inbound) => proto::resource::Body::Inbound(inbound::encode(inbound)),
        Body::Address(owner) => proto::resource::Body::Address(owner::encode(owner)),
    };
    let mut message =
        proto::Resource { name: name.into(), version: String::new(), body: Some(encoded) };
    message.version = version(&message);
    message
}

/// The resource that a message means.
///
/// # Errors
/// When a field has a value that cannot be; the error names the field.
pub fn decode(message: proto::Resource) -> Result<Resource, DecodeError> {
    let bad_name = |error: ServiceNameError| DecodeError::at("name", error);
    let body = match message.body.ok_or_else(|| DecodeError::at("body", Fault::Missing))? {
        proto::resource::Body::Service(body) => {
            let name = message.name.parse().map_err(bad_name)?;
            Body::Service(service::decode(body, name).map_err(|e| e.within("service"))?)
        }
        proto::resource::Body::Routes(body) => {
            let name = message.name.parse().map_err(bad_name)?;
            Body::Routes(routes::decode(body, name)?)
        }
        proto::resource::Body::Inbound(body) => {
            Body::Inbound(inbound::decode(body).map_err(|e| e.within("inbound"))?)
        }
        proto::resource::Body::Address(body) => {
            address(message.name.clone()).map_err(|fault| DecodeError::at("name", fault))?;
            Body::Address(owner::decode(body).map_err(|e| e.within("address"))?)
        }
    };
    let key = Key::new(body.kind(), message.name);
    Ok(Resource { key, version: message.version, body })
}

/// The kind of a message that may not decode, so that even a resource that is refused can be
/// named; `None` when its body is of a kind that this version does not know.
pub fn kind_of(message: &proto::Resource) -> Option<Kind> {
    match message.body.as_ref()? {
        proto::resource::Body::Service(_) => Some(Kind::Service),
        proto::resource::Body::Routes(_) => Some(Kind::Routes),
        proto::resource::Body::Inbound(_) => Some(Kind::Inbound),
        proto::resource::Body::Address(_) => Some(Kind::Address),
    }
}

/// The version of a resource, from its name and content alone: equal content has an equal
/// version, in every process and for ever, so that a resumed stream sends only what differs.
///
/// 64 bits of SHA-256 over the encoded message, in hex. The message has no map field, so its
/// encoding is always the same.
fn version(message: &proto::Resource) -> String {
    let digest = Sha256::digest(message.encode_to_vec());
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use model::inbound::InboundPort;
    use model::service::Protocol;

    use super::*;

    fn bodies() -> [(&'static str, Body); 4] {
        let port = InboundPort {
            port: 8080,
            protocol: Protocol::Http1,
            service: "shop/api".parse().unwrap(),
        };
        [
            ("shop/api", Body::Service(service::tests::sample())),
            ("shop/api", Body::Routes(routes::tests::sample())),
            ("127.0.1.1", Body::Inbound(Inbound { ports: vec![port], plaintext: None })),
            ("127.0.1.1", Body::Address(owner::tests::sample())),
        ]
    }

    #[test]
    fn every_kind_comes_back_as_it_was_also_through_bytes() {
        for (name, body) in bodies() {
            let message = encode(name, &body);
            assert_eq!(kind_of(&message), Some(body.kind()));
            let message = proto::Resource::decode(message.encode_to_vec().as_slice()).unwrap();
            let version = message.version.clone();
            let key = Key::new(body.kind(), name);
            assert_eq!(decode(message), Ok(Resource { key, version, body }));
        }
    }

    #[test]
    fn the_version_follows_name_and_content() {
        let [(name, body), ..] = bodies();
        let version = encode(name, &body).version;
        assert_eq!(version.len(), 16);
        assert_eq!(version, encode(name, &body).version);
        assert_ne!(version, encode("shop/other", &body).version);
        let mut changed = service::tests::sample();
        changed.endpoints.pop();
        assert_ne!(version, encode(name, &Body::Service(changed)).version);
    }

    #[test]
    fn the_version_is_the_same_in_every_process() {
        let body = Body::Inbound(Inbound::default());
        assert_eq!(encode("127.0.1.1", &body).version, "95d6ed8132727554");
    }

    #[test]
    fn a_kind_has_one_number_and_a_newer_one_is_unknown() {
        for kind in [Kind::Service, Kind::Routes, Kind::Inbound, Kind::Address] {
            assert_eq!(Kind::decode(kind.encode()), Some(kind));
        }
        assert_eq!(Kind::decode(0), None);
        assert_eq!(Kind::decode(99), None);
    }

    #[test]
    fn a_bad_resource_is_named_by_its_field() {
        let none = proto::Resource { name: "a/b".into(), version: "1".into(), body: None };
        assert!(decode(none).unwrap_err().to_string().starts_with("body: missing"));
        let [(_, body), ..] = bodies();
        let error = decode(encode("api", &body)).unwrap_err().to_string();
        assert!(error.starts_with("name: \"api\" is not NAMESPACE/NAME"), "{error}");
        let [.., (_, body)] = bodies();
        let error = decode(encode("api", &body)).unwrap_err().to_string();
        assert!(error.starts_with("name: \"api\" is no IP"), "{error}");
        let [(_, body), ..] = bodies();
        let mut message = encode("shop/api", &body);
        let Some(proto::resource::Body::Service(service)) = &mut message.body else {
            panic!("a Service encodes as one")
        };
        service.endpoints[1].identity = "api".into();
        let error = decode(message).unwrap_err().to_string();
        assert!(error.starts_with("service.endpoints[1].identity: "), "{error}");
    }
}
