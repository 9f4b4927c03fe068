//! HTTPRoutes from a file to traffic: matches, their order, and what they do to a request.

use tests::app::App;
use tests::client::{self, request};
use tests::mesh::Mesh;
use tests::pod::{APP_PORT, Pod};
use tests::yaml;

const RULES: &str = "
  - matches: [{path: {type: Exact, value: /exact}}]
    backendRefs: [{name: exact, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /pre/fix}}]
    backendRefs: [{name: prefix, port: 80}]
  - matches: [{method: DELETE}]
    backendRefs: [{name: method, port: 80}]
  - matches: [{headers: [{name: X-Version, value: two}]}]
    backendRefs: [{name: header, port: 80}]
  - matches: [{queryParams: [{name: version, value: three}]}]
    backendRefs: [{name: query, port: 80}]
  - backendRefs: [{name: other, port: 80}]";

const BACKENDS: [&str; 6] = ["exact", "prefix", "method", "header", "query", "other"];

async fn open() -> (Pod, Vec<Pod>, Mesh) {
    let services = BACKENDS.iter().chain(&["api"]);
    let services = services.map(|name| yaml::service(&format!("shop/{name}"), 80, APP_PORT));
    let objects = services.collect::<String>() + &yaml::route("shop/api", RULES);
    let mesh = Mesh::with_objects(objects).await;
    let mut pods = Vec::new();
    for name in BACKENDS {
        pods.push(mesh.pod(&format!("shop/{name}")).app(App::http()).start().await);
    }
    let web = mesh.pod("shop/web").start().await;
    for name in BACKENDS {
        web.until_known(&format!("{name}.shop:80")).await;
    }
    (web, pods, mesh)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_goes_where_the_most_specific_match_says() {
    let (web, _pods, mesh) = open().await;
    assert_eq!(mesh.problems().await, Vec::<serde_json::Value>::new());
    let cases = [
        ("GET", "/exact", "", "exact"),
        ("GET", "/exact/", "", "other"),
        ("GET", "/pre/fix", "", "prefix"),
        ("GET", "/pre/fix/more", "", "prefix"),
        ("GET", "/pre/fixture", "", "other"),
        ("GET", "/Pre/fix", "", "other"),
        ("DELETE", "/x", "", "method"),
        ("DELETE", "/exact", "", "exact"),
        ("GET", "/x", "two", "header"),
        ("GET", "/x", "TWO", "other"),
        ("DELETE", "/x", "two", "method"),
        ("GET", "/x?version=three", "", "query"),
        ("GET", "/x?version=two&version=three", "", "other"),
        ("GET", "/x?version=three", "two", "header"),
        ("GET", "/", "", "other"),
    ];
    for (method, path, version, pod) in cases {
        let mut request = request(method, &format!("http://api.shop{path}"));
        if !version.is_empty() {
            request.headers_mut().insert("x-version", version.parse().unwrap());
        }
        let answer = client::send(web.proxy(), request).await.unwrap();
        assert_eq!(answer.status, 200, "{method} {path} {version}: {answer:?}");
        assert_eq!(answer.pod(), Some(pod), "{method} {path} {version}");
        assert_eq!(answer.json()["path"], path, "the path is not changed");
        assert_eq!(answer.json()["host"], "api.shop", "the Host is not changed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weight_of_nothing_gets_nothing_and_a_missing_backend_its_share_of_errors() {
    let (web, _pods, mesh) = open().await;
    let route = yaml::split_route("shop/api", &[("exact", 1), ("missing", 1), ("prefix", 0)]);
    let services: String =
        BACKENDS.iter().map(|name| yaml::service(&format!("shop/{name}"), 80, APP_PORT)).collect();
    mesh.write("mesh.yaml", &(services + &yaml::service("shop/api", 80, APP_PORT) + &route));
    tests::poll::until("the route is in force", tests::poll::SOON, async || {
        let answer = web.get("http://api.shop/").await;
        if answer.error() == Some("route_backend_invalid") { Ok(()) } else { Err(answer) }
    })
    .await;
    let mut errors = 0;
    for _ in 0..200 {
        let answer = web.get("http://api.shop/").await;
        match answer.status.as_u16() {
            200 => assert_eq!(answer.pod(), Some("exact")),
            500 => errors += 1,
            _ => panic!("{answer:?}"),
        }
    }
    assert!((60..=140).contains(&errors), "half of 200 must be errors: {errors}");
    let problems = mesh.problems().await;
    assert!(format!("{problems:?}").contains("missing"), "{problems:?}");
}

/// The client's sidecar knows `second` by then, as what `api` leads to.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_a_route_leads_to_keeps_its_own_routes() {
    let services =
        ["api", "second"].map(|name| yaml::service(&format!("shop/{name}"), 80, APP_PORT));
    let own = "\n  - matches: [{path: {type: Exact, value: /open}}]\
               \n    backendRefs: [{name: second, port: 80}]";
    let to_second = "\n  - backendRefs: [{name: second, port: 80}]";
    let routes = yaml::route("shop/api", to_second) + &yaml::route("shop/second", own);
    let mesh = Mesh::with_objects(services.concat() + &routes).await;
    assert_eq!(mesh.problems().await, Vec::<serde_json::Value>::new());
    let _pod = mesh.pod("shop/second").app(App::http()).start().await;
    let web = mesh.pod("shop/web").start().await;
    web.until_answered_by("http://api.shop/shut", 1).await;
    assert_eq!(web.get("http://second.shop/open").await.status, 200);
    let shut = web.get("http://second.shop/shut").await;
    assert_eq!((shut.status.as_u16(), shut.error()), (404, Some("route_not_found")), "{shut:?}");
}

/// The application could take it for the path of another route.
#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_can_be_read_in_two_ways_is_not_routed() {
    let (web, _pods, _mesh) = open().await;
    for path in ["/x/../exact", "/x/%2e%2E/exact", "/./exact", "/..;/exact"] {
        let answer = web.get(&format!("http://api.shop{path}")).await;
        assert_eq!((answer.status.as_u16(), answer.error()), (400, Some("bad_request")), "{path}");
        // A Service without routes is spoken to as if there were no mesh.
        assert_eq!(web.get(&format!("http://other.shop{path}")).await.status, 200, "{path}");
    }
}
