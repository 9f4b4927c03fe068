//! The headers that Pillion itself writes. All of them are stripped wherever a request or a
//! response enters the mesh from an application: only a sidecar may set them.

use http::HeaderName;

/// Request, between sidecars: the application's port at the endpoint, in decimal.
pub const PORT: HeaderName = HeaderName::from_static("x-pillion-port");

/// Request, between sidecars: what the client spoke, `http/1.1` or `h2`, so that the
/// application is spoken to in the same version. HTTP/1.1 where it is missing.
pub const PROTOCOL: HeaderName = HeaderName::from_static("x-pillion-protocol");

/// Request, to the application: the SPIFFE ID that the calling sidecar proved.
pub const PEER: HeaderName = HeaderName::from_static("x-pillion-peer");

/// Response: the code of an error that a sidecar made ([`crate::code::ErrorCode`]).
pub const ERROR: HeaderName = HeaderName::from_static("x-pillion-error");

/// Request: how often it has gone through the mesh, in decimal. The application is shown it, for
/// one that passes on the headers of a request with those that it makes for it passes on this one
/// too, and only that tells a request that goes round in circles from a new one.
pub const HOPS: HeaderName = HeaderName::from_static("x-pillion-hops");

/// Every header above, and those of other proxies that could carry an identity.
pub static RESERVED: [HeaderName; 7] = [
    PORT,
    PROTOCOL,
    PEER,
    ERROR,
    HOPS,
    HeaderName::from_static("x-forwarded-client-cert"),
    HeaderName::from_static("l5d-client-id"),
];
