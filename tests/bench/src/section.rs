//! The sections of the benchmark, and their cases.

use clap::ValueEnum;

use crate::case::{CONNECTIONS, Case, GIB, REQUESTS};
use crate::load::{Load, Rate, Way};
use crate::stage::server::App;

/// A part of the benchmark that can be run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Section {
    /// Requests per second, and what one costs, at saturation
    Requests,
    /// What is added to a request's time, at rates that do not saturate
    Latency,
    /// New connections per second, and what one costs
    Connections,
    /// A large transfer, down and up
    Bulk,
    /// What must be reached: only the cases that say so
    Targets,
}

impl Section {
    /// Those that have cases of their own, in the order in which they run.
    pub(crate) const ALL: [Self; 4] =
        [Self::Requests, Self::Latency, Self::Connections, Self::Bulk];

    /// Its cases.
    pub(crate) fn cases(self) -> Vec<Case> {
        match self {
            Self::Requests => requests(),
            Self::Latency => latency(),
            Self::Connections => connections(),
            Self::Bulk => bulk(),
            Self::Targets => {
                let all = Self::ALL.into_iter().flat_map(Self::cases);
                all.filter(|case| crate::targets::decides(&case.name)).collect()
            }
        }
    }
}

/// At saturation: the load waits for each answer and then asks again.
fn requests() -> Vec<Case> {
    let case = |name, app, load| Case { section: "requests", name, app, load, unit: REQUESTS };
    let http1 = [1, 64, 512].map(|connections| {
        let load = Load::Wrk { connections, close: false };
        case(format!("http1-{connections}"), App::Http1, load)
    });
    let http2 = [("http2", App::Http2), ("grpc", App::Grpc)].into_iter().flat_map(|(name, app)| {
        [(1, 1), (8, 16), (32, 16)].map(|(clients, streams)| {
            case(format!("{name}-{clients}x{streams}"), app, Load::H2load { clients, streams })
        })
    });
    http1.into_iter().chain(http2).collect()
}

/// In an open loop.
fn latency() -> Vec<Case> {
    let case = |name: &str, connections, rate| Case {
        section: "latency",
        name: name.to_owned(),
        app: App::Http1,
        load: Load::Open { connections, rate },
        unit: REQUESTS,
    };
    vec![
        case("rate-1000", 16, Rate::Fixed(1000.0)),
        case("rate-70%-of-envoy", 64, Rate::OfEnvoy(0.7)),
    ]
}

fn connections() -> Vec<Case> {
    let case = |name: &str, app, load| Case {
        section: "connections",
        name: name.to_owned(),
        app,
        load,
        unit: CONNECTIONS,
    };
    vec![
        case("connections-http", App::Http1, Load::Wrk { connections: 16, close: true }),
        case("connections-tcp", App::Bytes, Load::Connect { at_once: 16 }),
    ]
}

fn bulk() -> Vec<Case> {
    let case = |name: &str, app, way| Case {
        section: "bulk",
        name: name.to_owned(),
        app,
        load: Load::Bulk(way),
        unit: GIB,
    };
    vec![
        case("bulk-http-down", App::Http1, Way::Down),
        case("bulk-http-up", App::Upload, Way::Up),
        case("bulk-tcp-down", App::Bytes, Way::Down),
        case("bulk-tcp-up", App::Bytes, Way::Up),
    ]
}
