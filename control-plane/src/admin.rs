//! The admin server: whether the control plane lives, is ready, and what it counts.

use std::net::SocketAddr;
use std::sync::Arc;

use daemon::admin::{self, Answer};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::hub::Views;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::source::kubernetes::Contacts;

/// What the admin server tells of.
#[derive(Debug)]
pub struct Shown {
    /// What is published, and what is wrong.
    pub views: Views,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// When the API server was heard of, where objects come from one.
    pub contacts: Option<Arc<Contacts>>,
    /// How far the control plane is in its life.
    pub phase: watch::Receiver<Phase>,
}

/// How far the control plane is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It has no authority yet.
    Starting,
    /// It serves.
    Serving,
    /// It serves those who have not heard yet that it is about to end.
    Leaving,
}

/// Answers one request. Problems quote the configuration, so they are for this machine only.
pub fn answer(shown: &Shown, request: &Request<Incoming>, peer: SocketAddr) -> Answer {
    let Shown { views, metrics, .. } = shown;
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return admin::text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served\n");
    }
    match request.uri().path() {
        "/live" => admin::text(StatusCode::OK, "live\n"),
        "/ready" => ready(shown),
        "/metrics" => {
            if let Some(contacts) = &shown.contacts {
                metrics.staleness(&contacts.staleness());
            }
            admin::metrics(&metrics.registry)
        }
        "/problems" if admin::is_local(peer.ip()) => problems(&views.problems.now()),
        "/problems" => admin::text(StatusCode::FORBIDDEN, "only from this machine\n"),
        _ => admin::text(StatusCode::NOT_FOUND, "there are /live, /ready, /metrics, /problems\n"),
    }
}

fn ready(shown: &Shown) -> Answer {
    let is_read = shown.views.publications.borrow().number > 0;
    let reason = match *shown.phase.borrow() {
        Phase::Starting => "not ready: there is no certificate authority yet\n",
        Phase::Serving if is_read => return admin::text(StatusCode::OK, "ready\n"),
        Phase::Serving => "not ready: the configuration is not read yet; /problems may say why\n",
        Phase::Leaving => "not ready: it is about to end\n",
    };
    admin::text(StatusCode::SERVICE_UNAVAILABLE, reason)
}

fn problems(problems: &[Problem]) -> Answer {
    let describe = |problem: &Problem| {
        let mut described = serde_json::to_value(problem)?;
        described["severity"] = serde_json::to_value(problem.cause.severity())?;
        described["text"] = problem.to_string().into();
        Ok(described)
    };
    let described: serde_json::Result<Vec<_>> = problems.iter().map(describe).collect();
    match described.and_then(|list| serde_json::to_vec_pretty(&list)) {
        Ok(body) => admin::json(StatusCode::OK, body),
        Err(error) => admin::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
