//! What was sent, how it went, and what was being restarted meanwhile.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::conductor::Step;

/// Failures that a report shows in full.
const SHOWN: usize = 20;

/// How long anything may take: far longer than the longest stream and all that delays it.
const LIMIT: Duration = Duration::from_secs(20);

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Http1Get,
    Http1Post,
    Http2,
    GrpcUnary,
    GrpcServerStream,
    GrpcBothWays,
    WebSocket,
}

impl Kind {
    /// All of them, with how many of each are begun in a second.
    pub(super) const RATES: [(Self, u32); 7] = [
        (Self::Http1Get, 60),
        (Self::Http1Post, 30),
        (Self::Http2, 60),
        (Self::GrpcUnary, 40),
        (Self::GrpcServerStream, 3),
        (Self::GrpcBothWays, 3),
        (Self::WebSocket, 4),
    ];
}

/// The memory of one run; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Record(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    started: Instant,
    stage: Mutex<Option<Step>>,
    samples: Mutex<Vec<Sample>>,
}

#[derive(Debug)]
struct Sample {
    kind: Kind,
    /// Since the start.
    began: Duration,
    took: Duration,
    /// What was being restarted at its beginning and at its end.
    stages: [Option<Step>; 2],
    failure: Option<String>,
}

impl Record {
    pub(super) fn start() -> Self {
        let (stage, samples) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Shared { started: Instant::now(), stage, samples }))
    }

    /// From now on this is being restarted, or nothing.
    pub(super) fn enter(&self, stage: Option<Step>) {
        *self.0.stage.lock().unwrap() = stage;
    }

    /// How many requests are over.
    pub(super) fn count(&self) -> usize {
        self.0.samples.lock().unwrap().len()
    }

    /// Waits for a request's end and keeps how it went.
    pub(super) async fn run(&self, kind: Kind, work: impl Future<Output = anyhow::Result<()>>) {
        let (began, before) = (Instant::now(), self.stage());
        let outcome = match tokio::time::timeout(LIMIT, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(anyhow::anyhow!("no end in {LIMIT:?}")),
        };
        let sample = Sample {
            kind,
            began: began.duration_since(self.0.started),
            took: began.elapsed(),
            stages: [before, self.stage()],
            failure: outcome.err().map(|error| format!("{error:#}")),
        };
        self.0.samples.lock().unwrap().push(sample);
    }

    fn stage(&self) -> Option<Step> {
        *self.0.stage.lock().unwrap()
    }

    /// All of it, once nothing more comes.
    pub(super) fn report(&self) -> Report {
        let length = self.0.started.elapsed();
        Report { length, samples: std::mem::take(&mut self.0.samples.lock().unwrap()) }
    }
}

/// A run that is over.
#[derive(Debug)]
pub(super) struct Report {
    length: Duration,
    samples: Vec<Sample>,
}

impl Report {
    /// # Panics
    /// When a request failed, when there were far fewer than the rates say, or none of a kind;
    /// shows the first failures.
    pub(super) fn assert_clean(&self, length: Duration) {
        let failures: Vec<_> =
            self.samples.iter().filter(|sample| sample.failure.is_some()).collect();
        let first: Vec<_> = failures.iter().take(SHOWN).map(ToString::to_string).collect();
        let (failed, all) = (failures.len(), self.samples.len());
        assert_eq!(
            failed,
            0,
            "{failed} of {all} requests failed; the first:\n{}",
            first.join("\n")
        );
        let wanted: u32 = Kind::RATES.iter().map(|(_, rate)| rate).sum();
        let least = length.as_secs() as usize * wanted as usize / 2;
        assert!(all >= least, "only {all} requests were sent, {least} are needed to tell");
        let kinds = self.by_kind(|_| true);
        for (kind, _) in Kind::RATES {
            assert!(kinds.contains_key(&kind), "no {kind:?} was sent");
        }
    }

    /// How long those of each kind took of which `counts` holds, the shortest first.
    fn by_kind(&self, counts: impl Fn(&Sample) -> bool) -> BTreeMap<Kind, Vec<Duration>> {
        let mut kinds = BTreeMap::<_, Vec<_>>::new();
        for sample in self.samples.iter().filter(|sample| counts(sample)) {
            kinds.entry(sample.kind).or_default().push(sample.took);
        }
        kinds.values_mut().for_each(|times| times.sort());
        kinds
    }

    fn table(
        &self,
        f: &mut fmt::Formatter<'_>,
        title: &str,
        counts: impl Fn(&Sample) -> bool,
    ) -> fmt::Result {
        let (p50, p99, max) = ("p50 ms", "p99 ms", "max ms");
        writeln!(f, "{title:34} {:>7} {p50:>9} {p99:>9} {max:>9}", "count")?;
        for (kind, times) in self.by_kind(counts) {
            let at = |part: usize| millis(times[(times.len() - 1) * part / 100]);
            let (p50, p99, max) = (at(50), at(99), at(100));
            let (name, count) = (format!("  {kind:?}"), times.len());
            writeln!(f, "{name:34} {count:>7} {p50:>9.1} {p99:>9.1} {max:>9.1}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, seconds) = (self.samples.len(), self.length.as_secs_f64());
        let failed = self.samples.iter().filter(|sample| sample.failure.is_some()).count();
        writeln!(f, "{all} requests in {seconds:.0} s, {failed} failed")?;
        self.table(f, "while nothing restarts", Sample::is_quiet)?;
        // Its clients wait until it is back.
        self.table(f, "while the client's sidecar does", Sample::waited)?;
        self.table(f, "while anything else does", |one| !one.is_quiet() && !one.waited())
    }
}

impl Sample {
    fn is_quiet(&self) -> bool {
        self.stages == [None, None]
    }

    fn waited(&self) -> bool {
        self.stages.contains(&Some(Step::ClientSidecar))
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, began, took, stages: [before, after], failure } = self;
        let during = |stage: &Option<Step>| {
            stage.map_or_else(|| "nothing".to_owned(), |step| format!("{step:?}"))
        };
        let (before, after, took) = (during(before), during(after), millis(*took));
        let what = failure.as_deref().unwrap_or("answered");
        write!(f, "{kind:?} at {:.2} s (restarting: {before}), ", began.as_secs_f64())?;
        write!(f, "after {took:.0} ms (restarting: {after}): {what}")
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
