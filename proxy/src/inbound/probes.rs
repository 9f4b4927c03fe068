//! The kubelet's probes: it has no identity in the mesh, and a pod that refuses plaintext must still
//! be found healthy.

use std::io;
use std::str::FromStr;

use ::http::header::UPGRADE;
use ::http::{Method, Request, Response};
use serde::Deserialize;
use tokio::time::timeout;

use super::{Arrival, Caller, http, plaintext};
use crate::body::Body;
use crate::exchange::Exchange;
use crate::placed::Socket;
use crate::received::Received;
use crate::relay::Session;
use crate::server::{self, HEAD_TIMEOUT};
use crate::sniff::{Spoken, sniff};
use crate::telemetry::metrics::Direction;
use crate::worker::Worker;

/// The HTTP probes of a pod's containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probes(Vec<Probe>);

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Probe {
    port: u16,
    /// With the query, where there is one.
    path: String,
}

/// Why a text is no list of probes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbesError {
    /// It is no JSON of this shape.
    #[error("not a list as in [{{\"port\":8080,\"path\":\"/healthz\"}}]: {0}")]
    Form(String),
    /// The port of one is none.
    #[error("[{0}].port: 0 is no port (1 to 65535)")]
    Port(usize),
    /// The path of one is none.
    #[error("[{0}].path: {1:?} must begin with '/'")]
    Path(usize, String),
}

impl FromStr for Probes {
    type Err = ProbesError;

    fn from_str(text: &str) -> Result<Self, ProbesError> {
        let probes: Vec<Probe> =
            serde_json::from_str(text).map_err(|error| ProbesError::Form(error.to_string()))?;
        for (index, probe) in probes.iter().enumerate() {
            if probe.port == 0 {
                return Err(ProbesError::Port(index));
            }
            if !probe.path.starts_with('/') {
                return Err(ProbesError::Path(index, probe.path.clone()));
            }
        }
        Ok(Self(probes))
    }
}

impl Probes {
    /// Whether there is any at this port of the application.
    pub fn any_at(&self, port: u16) -> bool {
        self.0.iter().any(|probe| probe.port == port)
    }

    /// Whether a request to this port is one of them: a GET of exactly such a path, without a body,
    /// that asks for no other protocol; behind a switch anything could follow.
    fn has<B: http_body::Body>(&self, port: u16, request: &Request<B>) -> bool {
        let target = request.uri().path_and_query().map(|target| target.as_str());
        let same = |probe: &Probe| probe.port == port && Some(probe.path.as_str()) == target;
        request.method() == Method::GET
            && !request.headers().contains_key(UPGRADE)
            && request.body().is_end_stream()
            && self.0.iter().any(same)
    }
}

/// Serves a connection to a port that refuses plaintext and has probes, until it ends.
pub(super) async fn serve(worker: Worker, arrival: Arrival, socket: Socket) {
    let sniffed = timeout(HEAD_TIMEOUT, sniff(socket)).await;
    let (spoken, io) = match sniffed.unwrap_or_else(|late| Err(io::Error::from(late))) {
        Ok((Spoken::Other, _)) => {
            let (mesh, label) = (&worker.mesh, worker.mesh.own_label());
            let refusal = plaintext::refusal();
            return Session::open(mesh, Direction::Inbound, label).fail(refusal);
        }
        Ok(http) => http,
        Err(error) => return tracing::debug!(%error, "inbound: connection lost"),
    };
    let drain = worker.mesh.drain.clone();
    let handle = |request| answer(worker.clone(), arrival.clone(), request);
    let refuse = |bad| arrival.refuse_unread(&worker.mesh, bad);
    if let Err(error) = server::serve(spoken, io, &drain, handle, refuse).await {
        tracing::debug!(%error, "inbound: connection ended with an error");
    }
}

async fn answer(
    worker: Worker,
    arrival: Arrival,
    mut request: Request<Received>,
) -> Response<Body> {
    let port = arrival.application.address.port();
    if worker.mesh.config.probes.has(port, &request) {
        return http::handle(&worker, Caller::Connection(arrival), &mut request).await;
    }
    let exchange = Exchange::open(&worker.mesh, Direction::Inbound, &request);
    arrival.refuse(exchange, &plaintext::refusal())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probes() -> Probes {
        r#"[{"port":8080,"path":"/healthz"},{"port":9090,"path":"/ready?full=1"}]"#.parse().unwrap()
    }

    #[test]
    fn only_a_get_of_exactly_such_a_path_is_a_probe() {
        let cases = [
            (8080, "GET", "/healthz", true),
            (8080, "GET", "http://10.0.0.1:8080/healthz", true),
            (9090, "GET", "/ready?full=1", true),
            (8080, "POST", "/healthz", false),
            (8080, "HEAD", "/healthz", false),
            (8080, "CONNECT", "/healthz", false),
            (9090, "GET", "/healthz", false),
            (80, "GET", "/healthz", false),
            (8080, "GET", "/healthz/", false),
            (8080, "GET", "/healthz?a=b", false),
            (8080, "GET", "/healthz/../admin", false),
            (8080, "GET", "/Healthz", false),
            (8080, "GET", "//healthz", false),
            (9090, "GET", "/ready", false),
        ];
        for (port, method, target, expected) in cases {
            let request = Request::builder().method(method).uri(target);
            let request = request.body(String::new()).unwrap();
            assert_eq!(probes().has(port, &request), expected, "{port} {method} {target}");
        }
    }

    #[test]
    fn a_body_or_a_switch_of_protocols_is_no_part_of_a_probe() {
        let request = || Request::get("/healthz");
        let with_body = request().body(String::from("x")).unwrap();
        assert!(!probes().has(8080, &with_body));
        let upgrade = request().header("upgrade", "anything").body(String::new()).unwrap();
        assert!(!probes().has(8080, &upgrade));
    }

    #[test]
    fn a_wrong_list_says_what_is_wrong() {
        assert_eq!("[]".parse(), Ok(Probes::default()));
        let cases = [
            ("", "not a list"),
            ("{}", "not a list"),
            (r#"[{"port":8080}]"#, "missing field `path`"),
            (r#"[{"port":70000,"path":"/"}]"#, "not a list"),
            (r#"[{"port":80,"path":"/","host":"a"}]"#, "unknown field `host`"),
            (r#"[{"port":80,"path":"/"},{"port":0,"path":"/"}]"#, "[1].port: 0 is no port"),
            (r#"[{"port":80,"path":"healthz"}]"#, "[0].path: \"healthz\" must begin"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Probes>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error:?} must contain {expected:?}");
        }
    }
}
