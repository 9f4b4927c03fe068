//! One trace over `web` -> `api` -> `data`, as an OTLP receiver gets it.

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tests::app::App;
use tests::client;
use tests::mesh::Mesh;
use tests::otlp::{Receiver, Span};
use tests::pod::{APP_PORT, Pod};
use tests::poll;
use tests::yaml;

/// Exporters gather spans for some seconds.
const EXPORTED: Duration = Duration::from_secs(30);

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// How the sidecar without a Service of its own is told to name itself.
const CLIENT_ONLY: &str = "shell";

struct Chain {
    shell: Pod,
    _pods: Vec<Pod>,
    _mesh: Mesh,
    receiver: Receiver,
}

impl Chain {
    /// `web` calls `api`, which calls `data`; every sidecar reports to the receiver.
    async fn open(objects: &str) -> Self {
        let services = ["shop/web", "shop/api", "shop/data"];
        let services: String =
            services.iter().map(|name| yaml::service(name, 80, APP_PORT)).collect();
        let mesh = Mesh::with_objects(services + objects).await;
        let receiver = Receiver::start(mesh.free_address()).await;
        let url = receiver.url();
        let flags = ["--otlp-endpoint", &url];
        let mut pods = Vec::new();
        for (name, next) in [("data", None), ("api", Some("data")), ("web", Some("api"))] {
            let address = mesh.free_address();
            let proxy = std::net::SocketAddr::new(address, 15001);
            let app = match next {
                Some(next) => App::http().calling(proxy, next),
                None => App::http(),
            };
            let pod = mesh.pod(&format!("shop/{name}")).address(address).app(app).flags(flags);
            let pod = pod.start().await;
            pods.push(pod);
        }
        let name = format!("OTEL_SERVICE_NAME={CLIENT_ONLY}");
        let shell = mesh.pod("shop/shell").flags(flags).under(["env", &name]).start().await;
        for (pod, target) in [(&shell, "web"), (&pods[2], "api"), (&pods[1], "data")] {
            pod.until_known(&format!("{target}.shop:80")).await;
        }
        Self { shell, _pods: pods, _mesh: mesh, receiver }
    }

    /// Sends one request in the trace of a caller that has begun one.
    async fn request(&self, path: &str, flags: &str) -> client::Answer {
        let mut request = client::request("GET", &format!("http://web.shop{path}"));
        let context = format!("00-{TRACE}-{CALLER}-{flags}");
        request.headers_mut().insert("traceparent", context.parse().unwrap());
        client::send(self.shell.proxy(), request).await.unwrap()
    }

    /// Waits for `count` spans of the trace.
    async fn spans(&self, count: usize) -> Trace {
        let spans = poll::until(&format!("{count} spans"), EXPORTED, async || {
            let mut spans = self.receiver.spans();
            spans.retain(|span| hex(&span.trace) == TRACE);
            if spans.len() >= count { Ok(spans) } else { Err(describe(&spans)) }
        })
        .await;
        Trace(spans)
    }
}

struct Trace(Vec<Span>);

impl Trace {
    /// The children of the span with this id, by their time.
    fn below(&self, id: &[u8]) -> Vec<&Span> {
        let mut children: Vec<&Span> = self.0.iter().filter(|span| span.parent == id).collect();
        children.sort_by_key(|span| span.start);
        children
    }

    /// The only child, which must be of this kind.
    fn only_below(&self, id: &[u8], kind: SpanKind) -> &Span {
        let children = self.below(id);
        assert_eq!(children.len(), 1, "one child is expected:\n{}", describe(&self.0));
        assert_eq!(children[0].kind, kind, "{}", describe(&self.0));
        children[0]
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

fn describe(spans: &[Span]) -> String {
    let line = |span: &Span| {
        let (id, parent) = (hex(&span.id), hex(&span.parent));
        format!(
            "{id} below {parent}: {} {} {:?} {:?}\n",
            span.process, span.name, span.kind, span.status
        )
    };
    spans.iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_caller_to_the_last_service() {
    let chain = Chain::open("").await;
    let answer = chain.request("/chain/x", "01").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["pod"], "data", "the chain's end answers");
    let trace = chain.spans(9).await;
    assert_eq!(trace.0.len(), 9, "{}", describe(&trace.0));
    let mut parent = unhex(CALLER);
    for (caller, callee) in [(CLIENT_ONLY, "web"), ("web", "api"), ("api", "data")] {
        let request = trace.only_below(&parent, SpanKind::Internal);
        let attempt = trace.only_below(&request.id, SpanKind::Client);
        let served = trace.only_below(&attempt.id, SpanKind::Server);
        for (span, pod) in [(request, caller), (attempt, caller), (served, callee)] {
            assert!(span.process.contains(pod), "{}", describe(&trace.0));
        }
        for span in [request, attempt, served] {
            assert_ne!(span.status, StatusCode::Error, "{}", describe(&trace.0));
            assert_eq!(span.attribute("http.response.status_code").as_deref(), Some("200"));
        }
        assert_eq!(attempt.attribute("http.request.resend_count"), None);
        parent.clone_from(&served.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_are_attempts_below_one_request() {
    let rule = "  - backendRefs: [{name: data, port: 80}]\n\
                \x20   retry: {codes: [503], attempts: 3, backoff: 10ms}";
    let chain = Chain::open(&yaml::route("shop/data", rule)).await;
    // No chain: web's application itself answers, so the retries are to be asked of data's.
    let mut request = client::request("GET", "http://data.shop/flaky/t/2");
    let context = format!("00-{TRACE}-{CALLER}-01");
    request.headers_mut().insert("traceparent", context.parse().unwrap());
    let answer = client::send(chain.shell.proxy(), request).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");

    let trace = chain.spans(7).await;
    let request = trace.only_below(&unhex(CALLER), SpanKind::Internal);
    assert_ne!(request.status, StatusCode::Error, "the request succeeded");
    let attempts = trace.below(&request.id);
    let resent: Vec<_> =
        attempts.iter().map(|span| span.attribute("http.request.resend_count")).collect();
    assert_eq!(resent, [None, Some("1".to_owned()), Some("2".to_owned())]);
    for (number, attempt) in attempts.iter().enumerate() {
        assert_eq!(attempt.kind, SpanKind::Client);
        let failed = attempt.status == StatusCode::Error;
        assert_eq!(failed, number < 2, "attempt {number}:\n{}", describe(&trace.0));
        let served = trace.only_below(&attempt.id, SpanKind::Server);
        assert_eq!(served.status == StatusCode::Error, number < 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_sidecar_is_an_error_of_the_span() {
    let chain = Chain::open("").await;
    let mut request = client::request("GET", "http://nothing.shop/");
    let context = format!("00-{TRACE}-{CALLER}-01");
    request.headers_mut().insert("traceparent", context.parse().unwrap());
    client::send(chain.shell.proxy(), request).await.unwrap();
    let trace = chain.spans(1).await;
    let request = trace.only_below(&unhex(CALLER), SpanKind::Internal);
    assert_eq!(request.status, StatusCode::Error);
    assert_eq!(request.attribute("error.type").as_deref(), Some("service_unknown"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_does_not_sample_is_obeyed() {
    let chain = Chain::open("").await;
    assert_eq!(chain.request("/chain/quiet", "00").await.status, 200);
    assert_eq!(chain.request("/chain/loud", "01").await.status, 200);
    let trace = chain.spans(9).await;
    assert_eq!(trace.0.len(), 9, "only the sampled request is there:\n{}", describe(&trace.0));
}
