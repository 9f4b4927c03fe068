//! A receiver of spans: OTLP over gRPC, in the test's own process.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// The port of OTLP over gRPC.
const PORT: u16 = 4317;

/// A span that was received.
#[derive(Debug, Clone)]
pub struct Span {
    /// The name of the process: `service.name` of the resource.
    pub process: String,
    /// The span's name.
    pub name: String,
    /// 16 bytes.
    pub trace: Vec<u8>,
    /// 8 bytes.
    pub id: Vec<u8>,
    /// 8 bytes; empty for the root.
    pub parent: Vec<u8>,
    /// The kind.
    pub kind: SpanKind,
    /// The status.
    pub status: StatusCode,
    /// When it began, in nanoseconds since the epoch.
    pub start: u64,
    attributes: Vec<KeyValue>,
}

/// A running receiver; dropped, it is gone.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
    accepting: JoinHandle<()>,
}

struct Service(Arc<Mutex<Vec<Span>>>);

impl Receiver {
    /// Starts to listen.
    ///
    /// # Panics
    /// When the address is taken.
    pub async fn start(address: IpAddr) -> Self {
        let address = SocketAddr::new(address, PORT);
        let listener = TcpListener::bind(address).await.expect("the OTLP port");
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&spans)));
        Self { address, spans, accepting }
    }

    /// The URL for `--otlp-endpoint`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every span so far.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, spans: Arc<Mutex<Vec<Span>>>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.expect("a connection");
        let service = TraceServiceServer::new(Service(Arc::clone(&spans)));
        connections.spawn(async move {
            let service = TowerToHyperService::new(service);
            // An exporter that goes away has said what it had to say.
            let _ = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let mut spans = self.0.lock().unwrap();
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.map(|resource| resource.attributes);
            let process = attributes.as_deref().and_then(|all| find(all, "service.name"));
            let all = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(all.map(|span| Span {
                process: process.clone().unwrap_or_default(),
                kind: span.kind(),
                status: span.status.as_ref().map_or(StatusCode::Unset, |status| status.code()),
                name: span.name,
                trace: span.trace_id,
                id: span.span_id,
                parent: span.parent_span_id,
                start: span.start_time_unix_nano,
                attributes: span.attributes,
            }));
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Span {
    /// An attribute as text.
    pub fn attribute(&self, name: &str) -> Option<String> {
        find(&self.attributes, name)
    }
}

fn find(attributes: &[KeyValue], name: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    let AnyValue { value } = found.value.as_ref()?;
    Some(match value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::BoolValue(yes) => yes.to_string(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}
