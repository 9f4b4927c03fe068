//! Spans: off, and then free of cost, until an OTLP endpoint is set.
//!
//! An outbound request is a span of kind INTERNAL with one child of kind CLIENT for each attempt;
//! an inbound request is a span of kind SERVER. The context travels in W3C `traceparent` and
//! `tracestate`; a caller's decision to sample is kept.

use std::fmt::Display;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use model::code::ErrorCode;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{Status, TraceContextExt, TracerProvider};
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::registry::LookupSpan;

use crate::telemetry::metrics::Direction;

/// The target of every span that is exported; the log leaves it out.
pub const TARGET: &str = "pillion::span";

/// How a service is called of which nobody has said anything (OpenTelemetry's semantic conventions).
const NOBODY: &str = "unknown_service";

/// Makes spans, if an endpoint for them is set.
#[derive(Debug, Default)]
pub struct Tracing {
    provider: Option<SdkTracerProvider>,
}

impl Tracing {
    /// Starts to export to the OTLP/gRPC `endpoint`. Must run inside the runtime that exports.
    ///
    /// # Errors
    /// When the endpoint is no URL.
    pub fn start(
        endpoint: &str,
        sample_ratio: f64,
        service: &str,
        namespace: &str,
    ) -> Result<Self, opentelemetry_otlp::ExporterBuildError> {
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sample_ratio))))
            .with_resource(resource(service, namespace))
            .build();
        Ok(Self { provider: Some(provider) })
    }

    /// The layer that turns tracing's spans into OpenTelemetry's.
    pub fn layer<S>(&self) -> Option<impl Layer<S> + Send + Sync + use<S>>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let tracer = self.provider.as_ref()?.tracer("pillion");
        let ours = FilterFn::new(|metadata| metadata.target() == TARGET);
        Some(tracing_opentelemetry::layer().with_tracer(tracer).with_filter(ours))
    }

    /// The span of a whole request, below the context that `headers` bring.
    pub fn request(&self, direction: Direction, method: &Method, headers: &HeaderMap) -> Span {
        if self.provider.is_none() {
            return Span::none();
        }
        let kind = match direction {
            Direction::Outbound => "internal",
            Direction::Inbound => "server",
        };
        let span = tracing::info_span!(
            target: TARGET,
            "request",
            otel.name = method.as_str(),
            otel.kind = kind,
            http.request.method = method.as_str(),
        );
        let parent = TraceContextPropagator::new().extract(&Fields(headers));
        // Fails only for a span that has begun already, and this one has not.
        let _ = span.set_parent(parent);
        span
    }

    /// The span of one attempt (1 is the first) of the request with span `request`.
    pub fn attempt(
        &self,
        request: &Span,
        method: &Method,
        number: u32,
        endpoint: impl Display,
    ) -> Span {
        if self.provider.is_none() {
            return Span::none();
        }
        let span = tracing::info_span!(
            target: TARGET,
            parent: request,
            "attempt",
            otel.name = method.as_str(),
            otel.kind = "client",
            http.request.method = method.as_str(),
        );
        span.set_attribute("network.peer.address", endpoint.to_string());
        if number > 1 {
            span.set_attribute("http.request.resend_count", i64::from(number) - 1);
        }
        span
    }

    /// Writes the context of `span` into the headers of the request that goes out under it.
    pub fn inject(&self, span: &Span, headers: &mut HeaderMap) {
        if self.provider.is_some() {
            TraceContextPropagator::new().inject_context(&span.context(), &mut FieldsMut(headers));
        }
    }

    /// Sends what is not sent yet. Blocks for some seconds at the most.
    pub fn shutdown(&self) {
        if let Some(provider) = &self.provider
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "some spans were not exported");
        }
    }
}

/// What spans are of: the service that the environment names, as OpenTelemetry's library reads it,
/// or else this one.
fn resource(service: &str, namespace: &str) -> Resource {
    let name = Key::from_static_str("service.name");
    let told = Resource::builder().build().get(&name);
    let told = told.filter(|told| !told.as_str().starts_with(NOBODY));
    Resource::builder()
        .with_attribute(KeyValue::new(name, told.unwrap_or_else(|| service.to_owned().into())))
        .with_attribute(KeyValue::new("service.namespace", namespace.to_owned()))
        .build()
}

/// Notes how a request or an attempt ended on its span.
pub fn ended(span: &Span, status: Option<u16>, error: Option<ErrorCode>) {
    if span.is_disabled() {
        return;
    }
    if let Some(status) = status {
        span.set_attribute("http.response.status_code", i64::from(status));
    }
    if let Some(error) = error {
        span.set_attribute("error.type", error.as_str());
        span.set_status(Status::error(error.describe()));
    } else if let Some(status) = status.filter(|status| *status >= 500) {
        span.set_attribute("error.type", status.to_string());
        span.set_status(Status::error(""));
    }
}

/// The trace that `span` belongs to, for the access log.
pub fn trace_id(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let id = context.span().span_context().trace_id();
    (id != opentelemetry::TraceId::INVALID).then(|| id.to_string())
}

struct Fields<'a>(&'a HeaderMap);

impl Extractor for Fields<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct FieldsMut<'a>(&'a mut HeaderMap);

impl Injector for FieldsMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (key.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
            self.0.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_of_the_workload_where_nobody_says_otherwise() {
        let resource = resource("api", "shop");
        let said = |name| resource.get(&Key::from_static_str(name)).map(|value| value.to_string());
        assert_eq!(said("service.name"), Some("api".to_owned()));
        assert_eq!(said("service.namespace"), Some("shop".to_owned()));
    }
}
