//! HTTPRoute and GRPCRoute as data: what a request is matched by and where it goes.
//!
//! The semantics are those of Gateway API v1 (`httproute_types.go`, `grpcroute_types.go`) and
//! GEP-1294 for the mesh. A gRPC method is a path, `/SERVICE/METHOD`, so one kind of match does.
//! [`Router`] holds the matches of all routes of a Service in the order of their precedence.

mod find;
mod pattern;

use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use serde::Serialize;

pub use find::{Router, Selected};
pub use pattern::{Pattern, PatternError};

use crate::name::{Label, ServiceName};

/// All routes attached to one Service, oldest first, then by `namespace/name`
/// (Gateway API's order of precedence between routes).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceRoutes {
    /// The Service that the routes name as parent.
    pub service: ServiceName,
    /// The routes.
    pub routes: Vec<Route>,
}

/// One route's rules for the parent Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The route's namespace.
    pub namespace: Label,
    /// The route's name: a DNS-1123 subdomain, so no [`Label`].
    pub name: String,
    /// The Service ports it applies to; empty for all (`parentRefs[].port` unset).
    pub ports: Vec<u16>,
    /// Its rules, in the order of the object.
    pub rules: Vec<Rule>,
}

impl Route {
    /// Whether it applies to a port of the Service.
    pub fn is_for(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.contains(&port)
    }
}

/// One rule: any of the matches, and what is done then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// `rules[].name`, where it has one.
    pub name: Option<String>,
    /// Never empty: Gateway API's default is one match of every path.
    pub matches: Vec<Match>,
    /// What a request that matches gets.
    pub action: Action,
    /// `rules[].timeouts`.
    pub timeouts: Timeouts,
    /// `rules[].retry`.
    pub retry: Option<Retry>,
}

/// What a request that matches a rule gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Sent to one of the backends by weight. With none, or all of weight 0: 500.
    Forward(Vec<Backend>),
    /// The rule asks for something this version does not do (the text says what): 500, for a
    /// filter MUST NOT be skipped (Gateway API, HTTPRouteRule.filters).
    Unsupported(String),
}

/// One weighted backend of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// Its share: weight over the sum of weights, 0 is never chosen.
    pub weight: u32,
    /// Where it goes.
    pub target: BackendTarget,
}

/// Where a backend reference points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendTarget {
    /// A Service and its port.
    Service {
        /// The Service.
        name: ServiceName,
        /// Its port.
        port: u16,
    },
    /// The reference cannot be resolved (the text says why): 500 for its share.
    Invalid(String),
}

/// One match: all of its parts must hold (AND); the matches of a rule are alternatives (OR).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Match {
    /// On the path, without the query.
    pub path: PathMatch,
    /// On the method, where set.
    #[serde(serialize_with = "as_text")]
    pub method: Option<Method>,
    /// On headers; names are unique, the first of equivalent ones counts.
    pub headers: Vec<HeaderMatch>,
    /// On query parameters; names are unique and compared exactly.
    pub query: Vec<QueryMatch>,
}

impl Match {
    /// The match that Gateway API puts where a rule has none: every path.
    pub const fn any() -> Self {
        Self {
            path: PathMatch::Prefix(String::new()),
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
        }
    }
}

/// How a path is matched. Paths are compared byte by byte, case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// A prefix of whole path elements, kept without a trailing `/`: `/abc` matches `/abc`,
    /// `/abc/` and `/abc/d`, not `/abcd`; empty matches all.
    Prefix(String),
    /// A gRPC method by patterns, as `/SERVICE/METHOD`.
    Rpc(RpcMatch),
}

/// A gRPC method, by patterns of its two names. Without either it is every call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RpcMatch {
    /// On the service with its package, where set.
    pub service: Option<Pattern>,
    /// On the method, where set.
    pub method: Option<Pattern>,
}

/// A header and the exact value it must have; repeated header lines count joined by a comma.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeaderMatch {
    /// The name, compared without case.
    #[serde(serialize_with = "display")]
    pub name: HeaderName,
    /// The value, compared exactly.
    pub value: String,
}

/// A query parameter and the exact value it must have; of a repeated one the first counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueryMatch {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// `rules[].timeouts`: `None` is no timeout (also written `0s`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Timeouts {
    /// For the whole request, from its head to the end of the response head.
    pub request: Option<Duration>,
    /// For each attempt.
    pub backend_request: Option<Duration>,
}

impl Timeouts {
    /// Bounds the whole request by `limit` as well; says whether that is the shorter bound.
    pub fn shorten(&mut self, limit: Duration) -> bool {
        let shorter = self.request.is_none_or(|request| limit < request);
        if shorter {
            self.request = Some(limit);
        }
        shorter
    }
}

/// `rules[].retry` (GEP-1731).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retry {
    /// Response codes that are tried again; connection errors always are.
    #[serde(serialize_with = "as_numbers")]
    pub codes: Vec<StatusCode>,
    /// How often at the most, after the first attempt.
    pub attempts: u32,
    /// The least time between two attempts.
    pub backoff: Option<Duration>,
}

fn display<S: serde::Serializer>(value: &impl std::fmt::Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

fn as_text<S: serde::Serializer>(value: &Option<Method>, to: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(Method::as_str).serialize(to)
}

fn as_numbers<S: serde::Serializer>(codes: &[StatusCode], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(codes.iter().map(StatusCode::as_u16))
}
