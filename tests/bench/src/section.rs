//! The sections of the benchmark, and their cases.

use clap::ValueEnum;

use crate::case::{Case, REQUESTS};
use crate::load::Load;
use crate::stage::server::App;

/// A part of the benchmark that can be run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Section {
    /// Requests per second, and what one costs, at saturation
    Requests,
}

impl Section {
    /// All of them, in the order in which they run.
    pub(crate) const ALL: [Self; 1] = [Self::Requests];

    /// Its cases.
    pub(crate) fn cases(self) -> Vec<Case> {
        match self {
            Self::Requests => requests(),
        }
    }
}

fn requests() -> Vec<Case> {
    let case =
        |name: String, app, load| Case { section: "requests", name, app, load, unit: REQUESTS };
    let http1 = [1, 64, 512].map(|connections| {
        case(format!("http1-{connections}"), App::Http1, Load::Wrk { connections })
    });
    let http2 = [("http2", App::Http2), ("grpc", App::Grpc)].into_iter().flat_map(|(name, app)| {
        [(1, 1), (8, 16), (32, 16)].map(|(clients, streams)| {
            case(format!("{name}-{clients}x{streams}"), app, Load::H2load { clients, streams })
        })
    });
    http1.into_iter().chain(http2).collect()
}
