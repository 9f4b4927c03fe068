//! What is wrong with a message, and where in it.

use std::fmt::Display;
use std::net::IpAddr;

use model::name::{LabelError, ServiceNameError};
use model::route::PatternError;
use model::spiffe::SpiffeIdError;

/// A message that cannot be used: the field by its path, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {fault}")]
pub struct DecodeError {
    /// The path of the field, as in `endpoints[3].identity`.
    pub field: String,
    /// What is wrong with its value.
    pub fault: Fault,
}

/// What is wrong with the value of a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It must be set and is not; or it is set to something newer than this version.
    #[error("missing, or of a kind that this version does not know")]
    Missing,
    /// No IP address.
    #[error("{0:?} is no IP address")]
    Address(String),
    /// No TCP port.
    #[error("{0} is no port (1 to 65535)")]
    Port(u32),
    /// No name of a Service.
    #[error(transparent)]
    ServiceName(#[from] ServiceNameError),
    /// No name of a namespace.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// No SPIFFE ID.
    #[error(transparent)]
    Identity(#[from] SpiffeIdError),
    /// An identity without a mesh port: nobody would listen there.
    #[error("an identity without a mesh port")]
    IdentityWithoutPort,
    /// No HTTP method.
    #[error("{0:?} is no HTTP method")]
    Method(String),
    /// No name of an HTTP header.
    #[error("{0:?} is no header name")]
    HeaderName(String),
    /// No regular expression.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// No HTTP status.
    #[error("{0} is no HTTP status")]
    Status(u32),
    /// A list that must have something in it has nothing.
    #[error("the list is empty")]
    Empty,
}

impl DecodeError {
    /// An error at `field` itself.
    pub(crate) fn at(field: impl Into<String>, fault: impl Into<Fault>) -> Self {
        Self { field: field.into(), fault: fault.into() }
    }

    /// The same error, seen from the message that holds this one in its field `outer`.
    pub(crate) fn within(self, outer: impl Display) -> Self {
        Self { field: format!("{outer}.{}", self.field), fault: self.fault }
    }
}

/// Decodes each item of the repeated field `field`; an error names the item by its index.
pub(crate) fn each<T, U>(
    field: &str,
    items: Vec<T>,
    decode: impl Fn(T) -> Result<U, DecodeError>,
) -> Result<Vec<U>, DecodeError> {
    items
        .into_iter()
        .enumerate()
        .map(|(index, item)| {
            decode(item).map_err(|error| error.within(format_args!("{field}[{index}]")))
        })
        .collect()
}

/// Parses each value of the repeated field `field`; an error names the value by its index.
pub(crate) fn each_value<T, U>(
    field: &str,
    items: Vec<T>,
    parse: impl Fn(T) -> Result<U, Fault>,
) -> Result<Vec<U>, DecodeError> {
    items
        .into_iter()
        .enumerate()
        .map(|(index, item)| {
            parse(item).map_err(|fault| DecodeError::at(format!("{field}[{index}]"), fault))
        })
        .collect()
}

/// A TCP port, 1 to 65535.
pub(crate) fn port(number: u32) -> Result<u16, Fault> {
    u16::try_from(number).ok().filter(|port| *port != 0).ok_or(Fault::Port(number))
}

/// A textual IP address.
pub(crate) fn address(text: String) -> Result<IpAddr, Fault> {
    text.parse().map_err(|_| Fault::Address(text.chars().take(64).collect()))
}
