//! Finds the rule that a request falls under.

mod holds;

use std::cmp::Reverse;
use std::sync::Arc;

use http::{HeaderMap, Method};
use rand::Rng;

use super::{Action, Backend, Match, PathMatch, Pattern, Route, RpcMatch, Rule, ServiceRoutes};

/// The routes of one Service port, ready to be asked: every match of every rule of every route
/// that applies, the one that takes precedence first.
#[derive(Debug, Clone)]
pub struct Router {
    candidates: Vec<Candidate>,
}

/// One match with the rule that it leads to.
#[derive(Debug, Clone)]
struct Candidate {
    wanted: Match,
    route: Arc<str>,
    rule_label: Arc<str>,
    rule: Arc<Rule>,
}

/// The rule that a request falls under.
#[derive(Debug, Clone, Copy)]
pub struct Selected<'a> {
    /// The route, `namespace/name`, as metrics and logs name it.
    pub route: &'a Arc<str>,
    /// The rule's name, or where it has none its place in the route, from 0.
    pub rule_label: &'a Arc<str>,
    /// The rule.
    pub rule: &'a Arc<Rule>,
}

impl Router {
    /// Compiles the routes that apply to `port`; `None` where there are none, so that the
    /// Service's own endpoints serve the port (GEP-1294, "Route presence").
    pub fn new(routes: &ServiceRoutes, port: u16) -> Option<Self> {
        let mut applicable = routes.routes.iter().filter(|route| route.is_for(port)).peekable();
        applicable.peek()?;
        let mut candidates: Vec<_> = applicable.flat_map(candidates).collect();
        // Stable: equals stay in the order of routes, rules and matches as given.
        candidates.sort_by_cached_key(|candidate| precedence(&candidate.wanted));
        Some(Self { candidates })
    }

    /// The rule for a request, `None` where no rule matches: the answer then is 404, never the
    /// Service's own endpoints (Gateway API, HTTPRouteRule.matches).
    ///
    /// `path` and `query` are the two parts of the request's target as it came in, before and
    /// after the first `?`. The path is compared as it is, byte by byte: one that could be read in
    /// another way is for whoever asks to refuse before. Nothing is allocated.
    pub fn find(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Option<Selected<'_>> {
        let mut candidates = self.candidates.iter();
        let found = candidates.find(|found| found.wanted.holds(method, path, query, headers))?;
        let Candidate { route, rule_label, rule, .. } = found;
        Some(Selected { route, rule_label, rule })
    }
}

impl Rule {
    /// One of the backends, each with the likelihood of its weight over the sum of weights.
    ///
    /// `None` where there is none to choose, or the rule forwards nothing: the answer then is
    /// 500 (Gateway API, HTTPRouteRule.backendRefs).
    pub fn choose_backend(&self, rng: &mut impl Rng) -> Option<&Backend> {
        let Action::Forward(backends) = &self.action else { return None };
        let total: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
        if total == 0 {
            return None;
        }
        let mut point = rng.random_range(0..total);
        backends.iter().find(|backend| {
            let weight = u64::from(backend.weight);
            let hit = point < weight;
            point = point.saturating_sub(weight);
            hit
        })
    }
}

fn candidates(route: &Route) -> impl Iterator<Item = Candidate> {
    let name: Arc<str> = format!("{}/{}", route.namespace, route.name).into();
    route.rules.iter().enumerate().flat_map(move |(place, rule)| {
        let route = Arc::clone(&name);
        let rule_label: Arc<str> = rule.name.clone().unwrap_or_else(|| place.to_string()).into();
        let shared = Arc::new(rule.clone());
        rule.matches.iter().map(move |wanted| Candidate {
            wanted: wanted.clone(),
            route: Arc::clone(&route),
            rule_label: Arc::clone(&rule_label),
            rule: Arc::clone(&shared),
        })
    })
}

/// What sorts a match before others, least first: an exact path, the longest prefix, a method,
/// the most headers, the most query parameters (Gateway API, HTTPRouteRule.matches). In terms of
/// gRPC that is service and method, the service alone, the method alone (GRPCRouteRule.matches).
fn precedence(wanted: &Match) -> impl Ord + use<> {
    let path = path_precedence(&wanted.path);
    Reverse((path, wanted.method.is_some(), wanted.headers.len(), wanted.query.len()))
}

/// What it matches by, then the lengths. The API counts characters. Of two prefixes of one path,
/// more bytes are more characters; of two patterns that hold for one name, the text of the pattern
/// counts, where the standard leaves it open. The exact text comes before a pattern.
fn path_precedence(path: &PathMatch) -> (u8, usize, usize) {
    let length = |pattern: &Option<Pattern>| pattern.as_ref().map_or(0, |p| p.as_str().len());
    match path {
        PathMatch::Exact(_) => (5, 0, 0),
        PathMatch::Prefix(prefix) if prefix.is_empty() => (0, 0, 0),
        PathMatch::Prefix(prefix) => (3, prefix.len(), 0),
        PathMatch::Rpc(RpcMatch { service, method }) => {
            let by = match (service, method) {
                (Some(_), Some(_)) => 4,
                (Some(_), None) => 2,
                (None, Some(_)) => 1,
                (None, None) => 0,
            };
            (by, length(service), length(method))
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::holds::tests::{request, wanted};
    use super::*;
    use crate::route::{BackendTarget, Timeouts};

    fn rule(lines: &[&str]) -> Rule {
        Rule {
            name: None,
            matches: lines.iter().map(|line| wanted(line)).collect(),
            action: Action::Forward(Vec::new()),
            timeouts: Timeouts::default(),
            retry: None,
        }
    }

    fn route(name: &str, ports: &[u16], rules: &[&[&str]]) -> Route {
        Route {
            namespace: "shop".parse().unwrap(),
            name: name.into(),
            ports: ports.to_vec(),
            rules: rules.iter().map(|lines| rule(lines)).collect(),
        }
    }

    fn router(routes: Vec<Route>) -> Router {
        let service = "shop/api".parse().unwrap();
        Router::new(&ServiceRoutes { service, routes }, 80).unwrap()
    }

    /// What a request finds, `route/rule`.
    fn found(router: &Router, line: &str) -> String {
        let (method, path, query, headers) = request(line);
        let found = router.find(&method, path, query, &headers);
        found.map_or_else(
            || "none".into(),
            |found| format!("{}/{}", found.route.trim_start_matches("shop/"), found.rule_label),
        )
    }

    fn check(router: &Router, cases: &[(&str, &str)]) {
        for (request, wanted) in cases {
            assert_eq!(found(router, request), *wanted, "{request}");
        }
    }

    /// Conformance: HTTPRouteMatching, -PathMatchOrder, -MethodMatching, -QueryParamMatching.
    #[test]
    fn precedence_within_a_route() {
        let order: &[&[&str]] = &[
            &["/match", "=/match/exact/one", "/ v:one"],
            &["/match/prefix", "PATCH /", "/ a=b"],
            &["/match/prefix/one", "=/match/exact", "/ v:one w:two"],
            &["PATCH /match/prefix", "/match/prefix v:one w:two", "/ a=b c=d"],
        ];
        let cases = [
            // an exact path before all, then the longest prefix
            ("PATCH /match/exact/one v:one w:two", "r/0"),
            ("GET /match/exact/two", "r/0"),
            ("GET /match/exact v:one", "r/2"),
            ("GET /match/prefix/one/any v:one w:two", "r/2"),
            ("GET /match/prefix/any", "r/1"),
            // then a method, before any number of headers
            ("PATCH /match/prefix v:one w:two", "r/3"),
            ("PATCH / v:one w:two", "r/1"),
            // then headers, before any number of query parameters
            ("GET /match/prefix v:one w:two", "r/3"),
            ("GET / v:one w:two", "r/2"),
            ("GET /?a=b&c=d v:one", "r/0"),
            ("GET /?a=b&c=d", "r/3"),
            ("GET /?a=b&c=e", "r/1"),
            ("GET /", "none"),
        ];
        check(&router(vec![route("r", &[], order)]), &cases);
    }

    #[test]
    fn precedence_between_grpc_methods() {
        let order: &[&[&str]] = &[
            &["/", "~/|Get"],
            &["~/|Get.*"],
            &["~/shop[.].*|"],
            &["/shop.Cart"],
            &["~/shop[.]Cart|Get.*"],
            &["=/shop.Cart/Get"],
            &["=/shop.Cart/Get v:1", "~/| v:1"],
        ];
        let cases = [
            ("POST /shop.Cart/Get", "r/5"),
            ("POST /shop.Cart/Get v:1", "r/6"),
            ("POST /shop.Cart/GetAll", "r/4"),
            ("POST /shop.Cart/Put", "r/3"),
            ("POST /shop.Stock/Get", "r/2"),
            ("POST /web.Page/Get", "r/1"),
            ("POST /web.Page/Put v:1", "r/6"),
            ("POST /web.Page/Put", "r/0"),
        ];
        check(&router(vec![route("r", &[], order)]), &cases);
    }

    #[test]
    fn equals_go_by_the_order_of_routes_then_rules() {
        let old = route("old", &[], &[&["/a"], &["/ x:1"], &["/ y:1"]]);
        let new = route("new", &[], &[&["/a", "/ x:1", "=/a/b"], &["/"]]);
        let cases = [
            ("GET /a", "old/0"),
            ("GET /a/b", "new/0"),
            ("GET / x:1 y:1", "old/1"),
            ("GET / y:1", "old/2"),
            ("GET /", "new/1"),
        ];
        check(&router(vec![old, new]), &cases);
    }

    #[test]
    fn routes_apply_to_their_ports() {
        let service: crate::name::ServiceName = "shop/api".parse().unwrap();
        let routes = vec![route("web", &[80, 81], &[&["/"]]), route("admin", &[90], &[&["/"]])];
        let routes = ServiceRoutes { service, routes };
        let label = |port| {
            let router = Router::new(&routes, port)?;
            Some(found(&router, "GET /"))
        };
        assert_eq!(label(80).as_deref(), Some("web/0"));
        assert_eq!(label(90).as_deref(), Some("admin/0"));
        assert_eq!(label(70), None, "no route: the Service as plain Kubernetes has it");
    }

    #[test]
    fn labels_name_the_route_and_the_rule() {
        let mut named = route("r", &[], &[&["/a"], &["/b"]]);
        named.rules[1].name = Some("checkout".into());
        let router = router(vec![named]);
        assert_eq!(found(&router, "GET /b"), "r/checkout");
        let headers = HeaderMap::new();
        let selected = router.find(&Method::GET, "/a", None, &headers).unwrap();
        assert_eq!((&**selected.route, &**selected.rule_label), ("shop/r", "0"));
        assert_eq!(selected.rule.matches, [wanted("/a")]);
    }

    fn weighted(weights: &[u32]) -> Rule {
        let target = |n: usize| BackendTarget::Invalid(n.to_string());
        let backends = weights.iter().enumerate();
        let backends =
            backends.map(|(n, weight)| Backend { weight: *weight, target: target(n) }).collect();
        Rule { action: Action::Forward(backends), ..rule(&["/"]) }
    }

    #[test]
    fn backends_are_chosen_by_weight() {
        let mut rng = SmallRng::seed_from_u64(3);
        let weights = [0, 70, 0, 20, 10];
        let rule = weighted(&weights);
        let mut counts = [0; 5];
        for _ in 0..10_000 {
            let chosen = rule.choose_backend(&mut rng).unwrap();
            let BackendTarget::Invalid(n) = &chosen.target else { panic!() };
            counts[n.parse::<usize>().unwrap()] += 1;
        }
        for (count, weight) in counts.into_iter().zip(weights) {
            assert!(i64::from(weight * 100).abs_diff(count) <= 200, "{counts:?}");
            assert_eq!(count == 0, weight == 0);
        }
    }

    #[test]
    fn without_weight_there_is_no_backend() {
        let mut rng = SmallRng::seed_from_u64(3);
        for weights in [&[][..], &[0], &[0, 0]] {
            assert_eq!(weighted(weights).choose_backend(&mut rng), None);
        }
        let unsupported = Rule { action: Action::Unsupported("mirror".into()), ..rule(&["/"]) };
        assert_eq!(unsupported.choose_backend(&mut rng), None);
        assert!(weighted(&[u32::MAX; 3]).choose_backend(&mut rng).is_some());
    }
}
