//! One run: the load, and what the proxies and the machine did meanwhile.

use std::time::{Duration, Instant};

use crate::case::Case;
use crate::cpu;
use crate::load::{Outcome, Scale};
use crate::peer::Topology;
use crate::sample::{Figure, Sample};
use crate::stage::program::Core;

/// What closing connections may take until its CPU time is looked at.
const SETTLE: Duration = Duration::from_millis(50);

/// Runs a case once against a peer.
pub(crate) fn run(case: &Case, topology: &Topology, round: u32, scale: &Scale) -> Sample {
    let before = Instant::now();
    let readings = Readings::take(topology);
    let outcome = case.load.run(topology, case.app, scale);
    std::thread::sleep(SETTLE);
    let after = Readings::take(topology);
    let noise = after.noise_since(&readings, before.elapsed());
    let mut sample = Sample {
        section: case.section.to_owned(),
        case: case.name.clone(),
        app: case.app,
        peer: topology.peer.name.clone(),
        round,
        noise,
        ..Sample::default()
    };
    match outcome {
        Err(error) => sample.failure = Some(format!("{error:#}")),
        Ok(outcome) => {
            sample.failure = verdict(&outcome);
            fill(&mut sample, case, &outcome, &after, &readings);
        }
    }
    sample
}

/// A run with errors is none: fast answers may be wrong ones.
fn verdict(outcome: &Outcome) -> Option<String> {
    if outcome.errors > 0 {
        return Some(format!("{} errors of {}", outcome.errors, outcome.done));
    }
    (outcome.done == 0.0).then(|| "nothing was done".to_owned())
}

fn fill(sample: &mut Sample, case: &Case, outcome: &Outcome, after: &Readings, from: &Readings) {
    let [outbound, inbound] = [0, 1].map(|end| after.proxies[end] - from.proxies[end]);
    let per = case.unit.amount / outcome.done.max(1e-9);
    let total = (outbound.total + inbound.total) * per;
    let ticks = outbound + inbound;
    let user = ticks.user / (ticks.user + ticks.system).max(1e-9);
    let figures = &mut sample.figures;
    for (figure, value) in [Figure::P50, Figure::P99, Figure::P999]
        .into_iter()
        .zip(outcome.latency.into_iter().flatten())
    {
        figures.insert(figure, value);
    }
    figures.insert(Figure::Rate, outcome.done / outcome.seconds);
    if total > 0.0 {
        figures.insert(Figure::Cpu, total);
        figures.insert(Figure::User, total * user);
        figures.insert(Figure::System, total * (1.0 - user));
        figures.insert(Figure::Outbound, outbound.total * per);
        figures.insert(Figure::Inbound, inbound.total * per);
    }
}

/// All clocks at one moment.
struct Readings {
    proxies: [cpu::Time; 2],
    beside: f64,
    processors: [cpu::Processor; 2],
}

impl Readings {
    fn take(topology: &Topology) -> Self {
        let driver = cpu::of_ended_children();
        Self {
            proxies: topology.cpu(),
            beside: topology.cpu_beside().total + driver,
            processors: [Core::Load, Core::Proxy].map(|core| cpu::processor(core.number())),
        }
    }

    /// The share of the time in which the processors worked for others.
    fn noise_since(&self, before: &Self, time: Duration) -> [f64; 2] {
        let proxies: f64 =
            [0, 1].iter().map(|end| self.proxies[*end].total - before.proxies[*end].total).sum();
        let ours = [self.beside - before.beside, proxies];
        [0, 1].map(|core| {
            let (now, then) = (self.processors[core], before.processors[core]);
            let foreign = (now.busy - then.busy - ours[core]).max(0.0) + now.stolen - then.stolen;
            foreign / time.as_secs_f64()
        })
    }
}
