//! The show: load, failures on purpose, and what comes of it, second by second.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval_at, sleep};

use super::DemoArgs;
use super::chaos::{Act, Chaos};
use super::error::DemoError;
use super::figures::{Figures, add};
use super::load::{Load, Tally};
use super::metrics::Values;
use super::plan::{NAMESPACE, Pod, Quirk, SERVICES};
use super::process::Fleet;
use super::scrape::Scraper;
use super::screen::{Screen, ServiceView, View};
use super::signals::{Came, Signals};
use super::start::{PATIENCE, Starter, application, not_ready, sidecar};
use super::summary::Summary;

/// The time from one look at the sidecars to the next.
const TICK: Duration = Duration::from_secs(1);

/// How many looks the figures of the table are made of: those of one second jump about.
const WINDOW: usize = 5;

/// The time after which the metrics tell of everything that was answered.
const SETTLE: Duration = Duration::from_millis(300);

/// The mesh with load on it.
#[derive(Debug)]
pub(crate) struct Show<'a> {
    args: &'a DemoArgs,
    starter: &'a Starter<'a>,
    fleet: &'a mut Fleet,
    scraper: Scraper,
    chaos: Chaos,
    start: Instant,
    /// How much the counters grew since the start.
    total: Values,
    /// How much they grew lately, look by look, and in how long a time.
    lately: VecDeque<(Duration, Values)>,
    looked: Instant,
    /// The pods that are killed at the moment.
    killed: Vec<&'static str>,
    news: Vec<(Duration, String)>,
    hints: Vec<String>,
}

impl<'a> Show<'a> {
    /// A mesh that is ready and has no load yet.
    pub(crate) async fn new(
        args: &'a DemoArgs,
        starter: &'a Starter<'a>,
        fleet: &'a mut Fleet,
    ) -> Self {
        let now = Instant::now();
        let mut show = Self {
            args,
            starter,
            fleet,
            scraper: Scraper::new(starter.plan, now),
            chaos: Chaos::new(args.length),
            start: now,
            total: Values::new(),
            lately: VecDeque::new(),
            looked: now,
            killed: Vec::new(),
            news: Vec::new(),
            hints: super::hints::lines(starter),
        };
        // What the first requests counted is no part of the measured time.
        sleep(SETTLE).await;
        show.scraper.scrape().await;
        (show.start, show.looked) = (Instant::now(), Instant::now());
        show
    }

    /// Runs to its end, or to the signal that ends it.
    pub(crate) async fn run(mut self, signals: &mut Signals) -> Result<Summary, DemoError> {
        let load = Load::start(self.starter.plan.entry(), self.args.rate);
        let came = self.play(&load, signals).await?;
        if let (Some(Came { name, code }), Some(_)) = (came, self.args.length) {
            return Err(DemoError::Stopped { name, code });
        }
        let tally = load.stop().await;
        let length = self.start.elapsed();
        sleep(SETTLE).await;
        self.look().await?;
        Ok(Summary::new(&tally, &self.total, length, self.args.rate))
    }

    async fn play(
        &mut self,
        load: &Load,
        signals: &mut Signals,
    ) -> Result<Option<Came>, DemoError> {
        let mut screen = Screen::new(self.args.json);
        screen.begin(&self.hints);
        let mut ticks = interval_at((self.start + TICK).into(), TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = self.args.length.map(|length| self.start + length);
        loop {
            let act = self.chaos.next();
            tokio::select! {
                biased;
                came = signals.recv() => return Ok(Some(came)),
                () = until(end) => return Ok(None),
                () = until(act.map(|(at, _)| self.start + at)) => self.act().await?,
                _ = ticks.tick() => {
                    self.look().await?;
                    self.draw(&mut screen, &load.tally()).await;
                }
            }
        }
    }

    /// Does what goes wrong next.
    async fn act(&mut self) -> Result<(), DemoError> {
        let Some((_, act)) = self.chaos.next() else { return Ok(()) };
        self.chaos.advance();
        let (Act::Kill(name) | Act::Restart(name)) = act;
        let Some(pod) = self.starter.plan.pod(name) else { return Ok(()) };
        match act {
            Act::Kill(_) => self.kill(pod).await?,
            Act::Restart(_) => self.restart(pod)?,
        }
        Ok(())
    }

    async fn kill(&mut self, pod: &Pod) -> Result<(), DemoError> {
        // Its metrics go with it: what it has counted so far is read before.
        self.look().await?;
        self.scraper.gone(pod.name);
        self.fleet.kill(&sidecar(pod.name)).await?;
        self.fleet.kill(&application(pod.name)).await?;
        self.killed.push(pod.name);
        self.tell(format!("{} killed on purpose: application and sidecar, SIGKILL", pod.name));
        Ok(())
    }

    fn restart(&mut self, pod: &Pod) -> Result<(), DemoError> {
        self.starter.start_pod(self.fleet, pod)?;
        self.killed.retain(|name| *name != pod.name);
        self.scraper.returned(pod.name, Instant::now());
        self.tell(format!("{} started again", pod.name));
        Ok(())
    }

    fn tell(&mut self, what: String) {
        self.news.push((self.start.elapsed(), what));
    }

    /// Looks after the processes, and asks the sidecars how things are.
    async fn look(&mut self) -> Result<(), DemoError> {
        self.fleet.check()?;
        let grown = self.scraper.scrape().await;
        if let Some((pod, trouble)) = self.scraper.silent(PATIENCE, Instant::now()) {
            return Err(not_ready(self.fleet, sidecar(pod), trouble.to_owned()));
        }
        add(&mut self.total, &grown);
        self.lately.push_back((self.looked.elapsed(), grown));
        self.looked = Instant::now();
        if self.lately.len() > WINDOW {
            self.lately.pop_front();
        }
        Ok(())
    }

    async fn draw(&self, screen: &mut Screen, tally: &Tally) {
        let (mut over, mut grown) = (Duration::ZERO, Values::new());
        for (time, values) in &self.lately {
            over += *time;
            add(&mut grown, values);
        }
        let plan = self.starter.plan;
        let mut services = Vec::new();
        for name in SERVICES {
            let states = self.scraper.endpoints(plan, name).await;
            let figures = Figures::of(&grown, &format!("{NAMESPACE}/{name}"));
            services.push(ServiceView {
                name,
                figures,
                over,
                replicas: self.replicas(name, &states),
            });
        }
        screen.show(&View {
            elapsed: self.start.elapsed(),
            length: self.args.length,
            requests: tally.all(),
            failures: tally.failed(),
            services,
            errors: &tally.failures,
            news: &self.news,
            hints: &self.hints,
        });
    }

    /// The replicas that there should be, in the state that the service's callers know.
    fn replicas(
        &self,
        service: &str,
        states: &BTreeMap<IpAddr, String>,
    ) -> Vec<(&'static str, String, &'static str)> {
        let replicas = self.starter.plan.replicas(service).map(|pod| {
            let known = states.get(&IpAddr::V4(pod.address)).map(String::as_str);
            let state = match known {
                _ if self.killed.contains(&pod.name) => "killed",
                Some(state) => state,
                None => "not known",
            };
            (pod.name, state.to_owned(), quirk(pod))
        });
        replicas.collect()
    }
}

const fn quirk(pod: &Pod) -> &'static str {
    match pod.quirk {
        Quirk::None => "",
        Quirk::Slow => "slow",
        Quirk::Failing => "fails 20 %",
    }
}

/// Waits for a moment; for ever, where there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => pending().await,
    }
}
