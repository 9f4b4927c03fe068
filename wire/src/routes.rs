//! The routes attached to a Service.

use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use model::name::{LabelError, ServiceName, ServiceNameError};
use model::route::{
    Action, Backend, BackendTarget, HeaderMatch, Match, PathMatch, Pattern, PatternError,
    QueryMatch, Retry, Route, RpcMatch, Rule, ServiceRoutes, Timeouts,
};

use crate::error::{DecodeError, Fault, each, each_value, port};
use crate::proto;

/// The message of a Service's routes. The Service's name travels in the resource around it.
pub fn encode(routes: &ServiceRoutes) -> proto::Routes {
    proto::Routes { routes: routes.routes.iter().map(encode_route).collect() }
}

/// The routes that a message means.
///
/// # Errors
/// When a field has a value that no route can have; the error names the field.
pub fn decode(message: proto::Routes, service: ServiceName) -> Result<ServiceRoutes, DecodeError> {
    Ok(ServiceRoutes { service, routes: each("routes", message.routes, decode_route)? })
}

fn encode_route(route: &Route) -> proto::Route {
    proto::Route {
        namespace: route.namespace.to_string(),
        name: route.name.clone(),
        ports: route.ports.iter().copied().map(u32::from).collect(),
        rules: route.rules.iter().map(encode_rule).collect(),
    }
}

fn decode_route(message: proto::Route) -> Result<Route, DecodeError> {
    let bad_namespace = |error: LabelError| DecodeError::at("namespace", error);
    Ok(Route {
        namespace: message.namespace.parse().map_err(bad_namespace)?,
        name: message.name,
        ports: each_value("ports", message.ports, port)?,
        rules: each("rules", message.rules, decode_rule)?,
    })
}

fn encode_rule(rule: &Rule) -> proto::Rule {
    let (backends, unsupported) = match &rule.action {
        Action::Forward(backends) => (backends.iter().map(encode_backend).collect(), None),
        Action::Unsupported(reason) => (Vec::new(), Some(reason.clone())),
    };
    proto::Rule {
        name: rule.name.clone(),
        matches: rule.matches.iter().map(encode_match).collect(),
        backends,
        unsupported,
        request_timeout_ms: rule.timeouts.request.map(millis),
        backend_request_timeout_ms: rule.timeouts.backend_request.map(millis),
        retry: rule.retry.as_ref().map(encode_retry),
    }
}

fn decode_rule(message: proto::Rule) -> Result<Rule, DecodeError> {
    let matches = each("matches", message.matches, decode_match)?;
    if matches.is_empty() {
        return Err(DecodeError::at("matches", Fault::Empty));
    }
    let action = match message.unsupported {
        Some(reason) => Action::Unsupported(reason),
        None => Action::Forward(each("backends", message.backends, decode_backend)?),
    };
    let retry = message.retry.map(decode_retry).transpose();
    Ok(Rule {
        name: message.name,
        matches,
        action,
        timeouts: Timeouts {
            request: message.request_timeout_ms.map(Duration::from_millis),
            backend_request: message.backend_request_timeout_ms.map(Duration::from_millis),
        },
        retry: retry.map_err(|error| error.within("retry"))?,
    })
}

fn encode_match(one: &Match) -> proto::Match {
    let header = |header: &HeaderMatch| name_value(header.name.as_str(), &header.value);
    let query = |query: &QueryMatch| name_value(&query.name, &query.value);
    proto::Match {
        path: Some(match &one.path {
            PathMatch::Exact(path) => proto::r#match::Path::Exact(path.clone()),
            PathMatch::Prefix(path) => proto::r#match::Path::Prefix(path.clone()),
            PathMatch::Rpc(rpc) => proto::r#match::Path::Rpc(encode_rpc(rpc)),
        }),
        method: one.method.as_ref().map(ToString::to_string),
        headers: one.headers.iter().map(header).collect(),
        query: one.query.iter().map(query).collect(),
    }
}

/// A path of a newer kind is an error, never "any path": traffic would go where nobody sent it.
fn decode_match(message: proto::Match) -> Result<Match, DecodeError> {
    let path = match message.path.ok_or_else(|| DecodeError::at("path", Fault::Missing))? {
        proto::r#match::Path::Exact(path) => PathMatch::Exact(path),
        proto::r#match::Path::Prefix(path) => PathMatch::Prefix(path),
        proto::r#match::Path::Rpc(rpc) => {
            PathMatch::Rpc(decode_rpc(rpc).map_err(|error| error.within("rpc"))?)
        }
    };
    let query = |q: proto::NameValue| QueryMatch { name: q.name, value: q.value };
    Ok(Match {
        path,
        method: message.method.map(decode_method).transpose()?,
        headers: each("headers", message.headers, decode_header)?,
        query: message.query.into_iter().map(query).collect(),
    })
}

fn encode_rpc(rpc: &RpcMatch) -> proto::RpcPath {
    let text = |pattern: &Option<Pattern>| pattern.as_ref().map(|p| p.as_str().into());
    proto::RpcPath { service: text(&rpc.service), method: text(&rpc.method) }
}

fn decode_rpc(message: proto::RpcPath) -> Result<RpcMatch, DecodeError> {
    let pattern = |field, text: Option<String>| {
        let parsed = text.map(|text| text.parse()).transpose();
        parsed.map_err(|error: PatternError| DecodeError::at(field, error))
    };
    Ok(RpcMatch {
        service: pattern("service", message.service)?,
        method: pattern("method", message.method)?,
    })
}

fn decode_method(text: String) -> Result<Method, DecodeError> {
    Method::from_bytes(text.as_bytes()).map_err(|_| DecodeError::at("method", Fault::Method(text)))
}

fn decode_header(message: proto::NameValue) -> Result<HeaderMatch, DecodeError> {
    let name = HeaderName::from_bytes(message.name.as_bytes())
        .map_err(|_| DecodeError::at("name", Fault::HeaderName(message.name)))?;
    Ok(HeaderMatch { name, value: message.value })
}

fn name_value(name: &str, value: &str) -> proto::NameValue {
    proto::NameValue { name: name.into(), value: value.into() }
}

fn encode_backend(backend: &Backend) -> proto::Backend {
    let target = match &backend.target {
        BackendTarget::Service { name, port } => {
            proto::backend::Target::Service(proto::BackendService {
                name: name.to_string(),
                port: (*port).into(),
            })
        }
        BackendTarget::Invalid(reason) => proto::backend::Target::Invalid(reason.clone()),
    };
    proto::Backend { weight: backend.weight, target: Some(target) }
}

fn decode_backend(message: proto::Backend) -> Result<Backend, DecodeError> {
    let target = match message.target.ok_or_else(|| DecodeError::at("target", Fault::Missing))? {
        proto::backend::Target::Service(service) => decode_backend_service(service)?,
        proto::backend::Target::Invalid(reason) => BackendTarget::Invalid(reason),
    };
    Ok(Backend { weight: message.weight, target })
}

fn decode_backend_service(message: proto::BackendService) -> Result<BackendTarget, DecodeError> {
    let bad_name = |error: ServiceNameError| DecodeError::at("service.name", error);
    Ok(BackendTarget::Service {
        name: message.name.parse().map_err(bad_name)?,
        port: port(message.port).map_err(|fault| DecodeError::at("service.port", fault))?,
    })
}

fn encode_retry(retry: &Retry) -> proto::Retry {
    proto::Retry {
        codes: retry.codes.iter().map(|code| code.as_u16().into()).collect(),
        attempts: retry.attempts,
        backoff_ms: retry.backoff.map(millis),
    }
}

fn decode_retry(message: proto::Retry) -> Result<Retry, DecodeError> {
    Ok(Retry {
        codes: each_value("codes", message.codes, decode_status)?,
        attempts: message.attempts,
        backoff: message.backoff_ms.map(Duration::from_millis),
    })
}

fn decode_status(code: u32) -> Result<StatusCode, Fault> {
    let status = u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok());
    status.ok_or(Fault::Status(code))
}

/// Gateway API durations are whole milliseconds of at most 99999 hours (GEP-2257).
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> ServiceRoutes {
        let service = |name: &str, weight| Backend {
            weight,
            target: BackendTarget::Service { name: name.parse().unwrap(), port: 80 },
        };
        let invalid =
            Backend { weight: 3, target: BackendTarget::Invalid("BackendNotFound".into()) };
        let forward = Rule {
            name: Some("first".into()),
            matches: vec![Match::any(), narrow_match()],
            action: Action::Forward(vec![service("shop/api", 90), service("b/c", 0), invalid]),
            timeouts: Timeouts { request: Some(Duration::from_secs(3)), backend_request: None },
            retry: Some(Retry {
                codes: vec![StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE],
                attempts: 2,
                backoff: Some(Duration::from_millis(25)),
            }),
        };
        let unsupported = Rule {
            name: None,
            matches: vec![Match::any(), rpc_match()],
            action: Action::Unsupported("filter RequestMirror".into()),
            timeouts: Timeouts::default(),
            retry: None,
        };
        let route = Route {
            namespace: "shop".parse().unwrap(),
            name: "api.v1".into(),
            ports: vec![80, 90],
            rules: vec![forward, unsupported],
        };
        ServiceRoutes { service: "shop/api".parse().unwrap(), routes: vec![route] }
    }

    fn narrow_match() -> Match {
        let header = HeaderName::from_static("x-version");
        Match {
            path: PathMatch::Exact("/one".into()),
            method: Some(Method::GET),
            headers: vec![HeaderMatch { name: header, value: "2".into() }],
            query: vec![QueryMatch { name: "q".into(), value: String::new() }],
        }
    }

    fn rpc_match() -> Match {
        let method = Some("Get.*".parse().unwrap());
        Match { path: PathMatch::Rpc(RpcMatch { service: None, method }), ..Match::any() }
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        let routes = sample();
        assert_eq!(decode(encode(&routes), routes.service.clone()), Ok(routes));
    }

    #[test]
    fn a_bad_value_is_named_by_its_field() {
        type Break = fn(&mut proto::Route);
        let cases: [(Break, &str); 10] = [
            (|r| r.namespace = "Shop".into(), "namespace: \"Shop\" is not a DNS-1123 label"),
            (|r| r.ports[1] = 0, "ports[1]: 0 is no port"),
            (|r| r.rules[0].matches.clear(), "rules[0].matches: the list is empty"),
            (|r| r.rules[0].matches[1].path = None, "rules[0].matches[1].path: missing"),
            (
                |r| r.rules[0].matches[1].method = Some("G T".into()),
                "rules[0].matches[1].method: \"G T\" is no HTTP method",
            ),
            (
                |r| r.rules[0].matches[1].headers[0].name = "a b".into(),
                "rules[0].matches[1].headers[0].name: \"a b\" is no header name",
            ),
            (
                |r| {
                    let rpc = proto::RpcPath { service: Some("(a".into()), method: None };
                    r.rules[1].matches[1].path = Some(proto::r#match::Path::Rpc(rpc));
                },
                "rules[1].matches[1].rpc.service: \"(a\" is no regular expression",
            ),
            (|r| r.rules[0].backends[2].target = None, "rules[0].backends[2].target: missing"),
            (
                |r| r.rules[0].backends[0] = backend("api", 80),
                "rules[0].backends[0].service.name: \"api\" is not NAMESPACE/NAME",
            ),
            (
                |r| r.rules[0].retry.as_mut().unwrap().codes[1] = 1000,
                "rules[0].retry.codes[1]: 1000 is no HTTP status",
            ),
        ];
        for (break_it, expected) in cases {
            let routes = sample();
            let mut message = encode(&routes);
            break_it(&mut message.routes[0]);
            let error = decode(message, routes.service).unwrap_err().to_string();
            let expected = format!("routes[0].{expected}");
            assert!(error.starts_with(&expected), "{error:?} must begin with {expected:?}");
        }
    }

    fn backend(name: &str, port: u32) -> proto::Backend {
        let service = proto::BackendService { name: name.into(), port };
        proto::Backend { weight: 1, target: Some(proto::backend::Target::Service(service)) }
    }
}
