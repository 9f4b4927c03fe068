//! The demo's applications: small servers that know nothing of the mesh. What they send goes
//! through an ordinary HTTP proxy, which happens to be their sidecar.

mod api;
mod data;
mod echo;
mod server;
mod web;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use http::{HeaderMap, StatusCode, Uri};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::client::{Client, ClientError};

/// An application of the demo.
#[derive(Debug, Parser)]
#[command(name = "pillion demo-app", max_term_width = 100)]
struct AppArgs {
    /// Which one.
    role: Role,

    /// Where it listens.
    #[arg(long, value_name = "IP:PORT")]
    listen: SocketAddr,

    /// What it calls itself in its answers.
    #[arg(long, value_name = "REPLICA")]
    name: String,

    /// The HTTP proxy that its own requests go through.
    #[arg(long, value_name = "IP:PORT", required_if_eq_any = [("role", "web"), ("role", "api")])]
    proxy: Option<SocketAddr>,

    /// Be slow: wait this long, and up to twice as long, before each answer.
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = duration)]
    slow: Duration,

    /// Fail this share of the requests with 503.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    fail: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Calls api.
    Web,
    /// Calls data.
    Api,
    /// Calls nobody.
    Data,
    /// A TCP server that speaks first.
    Echo,
}

fn duration(text: &str) -> Result<Duration, String> {
    model::duration::parse(text).map_err(|error| error.to_string())
}

/// Runs an application until it is killed.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match daemon::settings::parse::<AppArgs>(args) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: AppArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(args.listen)
            .await
            .with_context(|| format!("cannot listen on {}", args.listen))?;
        serve(listener, args).await;
        Ok(())
    })
}

async fn serve(listener: TcpListener, args: AppArgs) {
    let proxy = args.proxy.unwrap_or(args.listen);
    match args.role {
        Role::Echo => echo::serve(listener, args.name).await,
        Role::Data => {
            let data = Arc::new(data::Data::new(args.name));
            server::serve(listener, move |_| std::future::ready(data.answer())).await;
        }
        Role::Api => {
            let api = Arc::new(api::Api::new(args.name, proxy, args.slow, args.fail));
            server::serve(listener, move |headers| Arc::clone(&api).answer(headers)).await;
        }
        Role::Web => {
            let web = Arc::new(web::Web::new(args.name, proxy));
            server::serve(listener, move |headers| Arc::clone(&web).answer(headers)).await;
        }
    }
}

/// How long a call of another application may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(9);

/// The headers that tie the spans of a trace together: applications pass them on.
const TRACE_HEADERS: [&str; 2] = ["traceparent", "tracestate"];

/// Another application, reached through the proxy.
#[derive(Debug)]
struct Callee {
    client: Client,
    uri: Uri,
}

impl Callee {
    fn new(proxy: SocketAddr, uri: &'static str) -> Self {
        Self { client: Client::new(proxy, CALL_TIMEOUT), uri: Uri::from_static(uri) }
    }

    /// Calls it, as a part of the request that had the headers `incoming`. What comes back is
    /// its answer in JSON, or what to answer instead.
    async fn call(&self, incoming: &HeaderMap) -> Result<Value, String> {
        let mut headers = HeaderMap::new();
        for name in TRACE_HEADERS {
            headers.extend(
                incoming
                    .get(name)
                    .map(|value| (http::HeaderName::from_static(name), value.clone())),
            );
        }
        let response = self.client.get(&self.uri, &headers).await;
        self.read(response).map_err(|reason| format!("{} {reason}", self.uri))
    }

    fn read(&self, response: Result<http::Response<Bytes>, ClientError>) -> Result<Value, String> {
        let response = response.map_err(|error| format!("gave {error}"))?;
        if response.status() != StatusCode::OK {
            let body = String::from_utf8_lossy(response.body());
            return Err(format!("answered {}: {body}", response.status()));
        }
        serde_json::from_slice(response.body()).map_err(|error| format!("is no JSON: {error}"))
    }
}
