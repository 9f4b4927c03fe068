//! GRPCRoutes from a file to traffic: which backend a call goes to, and what it gets without one.

use tests::app::App;
use tests::grpc::Note;
use tests::grpc::echo_client::EchoClient;
use tests::mesh::Mesh;
use tests::pod::{APP_PORT, Pod};
use tests::yaml;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

const SERVICE: &str = "pillion.test.v1.Echo";

/// A mesh in which `shop/api` has a GRPCRoute of these rules, over the Services `one` and `two`.
async fn open(rules: &str, more: &str) -> (EchoClient<Channel>, Vec<Pod>, Mesh) {
    let services = ["api", "one", "two"];
    let services = services.map(|name| yaml::service(&format!("shop/{name}"), 80, APP_PORT));
    let route = yaml::route("shop/api", rules).replace("kind: HTTPRoute", "kind: GRPCRoute");
    let mesh = Mesh::with_objects(services.concat() + &route + more).await;
    let mut pods = Vec::new();
    for name in ["one", "two"] {
        pods.push(mesh.pod(&format!("shop/{name}")).app(App::http()).start().await);
    }
    let web = mesh.pod("shop/web").start().await;
    for name in ["one", "two"] {
        web.until_known(&format!("{name}.shop:80")).await;
    }
    let endpoint = Endpoint::from_shared(format!("http://{}", web.proxy())).unwrap();
    let endpoint = endpoint.origin("http://api.shop:80".parse().unwrap());
    let client = EchoClient::new(endpoint.connect().await.unwrap());
    pods.push(web);
    (client, pods, mesh)
}

/// The pod that answers a unary call.
async fn unary(client: &mut EchoClient<Channel>, header: Option<&str>) -> Result<String, Status> {
    let mut request = Request::new(Note { text: "x".into(), ..Note::default() });
    if let Some(value) = header {
        request.metadata_mut().insert("x-version", value.parse().unwrap());
    }
    Ok(client.unary(request).await?.into_inner().pod)
}

/// The pod that answers a stream.
async fn streamed(client: &mut EchoClient<Channel>) -> Result<String, Status> {
    let call = Note { text: "x".into(), count: 1, ..Note::default() };
    let mut stream = client.server_stream(call).await?.into_inner();
    Ok(stream.message().await?.expect("one answer").pod)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_where_the_most_specific_match_says() {
    let rules = format!(
        "
  - matches: [{{method: {{service: {SERVICE}}}}}]
    backendRefs: [{{name: one, port: 80}}]
  - matches: [{{method: {{service: {SERVICE}, method: ServerStream}}}}]
    backendRefs: [{{name: two, port: 80}}]
  - matches: [{{method: {{service: {SERVICE}}}, headers: [{{name: x-version, value: two}}]}}]
    backendRefs: [{{name: two, port: 80}}]"
    );
    let (mut client, _pods, mesh) = open(&rules, "").await;
    assert_eq!(mesh.problems().await, Vec::<serde_json::Value>::new());
    assert_eq!(unary(&mut client, None).await.unwrap(), "one");
    assert_eq!(streamed(&mut client).await.unwrap(), "two");
    assert_eq!(unary(&mut client, Some("two")).await.unwrap(), "two");
    assert_eq!(unary(&mut client, Some("three")).await.unwrap(), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_alone_and_patterns_are_matched_and_the_rest_is_unimplemented() {
    let rules = "
  - matches: [{method: {method: Unary}}]
    backendRefs: [{name: one, port: 80}]
  - matches: [{method: {type: RegularExpression, service: 'pillion[.].+', method: 'Server.*'}}]
    backendRefs: [{name: two, port: 80}]";
    let (mut client, _pods, _mesh) = open(rules, "").await;
    assert_eq!(unary(&mut client, None).await.unwrap(), "one");
    assert_eq!(streamed(&mut client).await.unwrap(), "two");
    let none = tokio_stream::iter([Note::default()]);
    let status = client.client_stream(none).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_one_connection_are_split_by_weight() {
    let rules = "
  - backendRefs: [{name: one, port: 80, weight: 3}, {name: two, port: 80, weight: 1}]";
    let (mut client, _pods, _mesh) = open(rules, "").await;
    let mut ones = 0;
    for _ in 0..400 {
        ones += usize::from(unary(&mut client, None).await.unwrap() == "one");
    }
    // 300 expected; five standard deviations of 8.7 either way.
    assert!((257..=343).contains(&ones), "{ones} of 400");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpcroute_counts_in_place_of_an_httproute_that_says_so() {
    let rules = "
  - backendRefs: [{name: one, port: 80}]";
    let http = yaml::route("shop/api", "  - backendRefs: [{name: two, port: 80}]");
    let (mut client, _pods, mesh) = open(rules, &http).await;
    assert_eq!(unary(&mut client, None).await.unwrap(), "one");
    let problems = mesh.problems().await;
    assert_eq!(problems.len(), 1, "{problems:?}");
    let text = problems[0].to_string();
    assert!(text.contains("Conflicted") && text.contains("HTTPRoute"), "{text}");
}
