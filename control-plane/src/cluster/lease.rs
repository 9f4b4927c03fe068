//! Which of several replicas writes statuses and webhook bundles: the holder of a Lease
//! (`coordination.k8s.io/v1`). All replicas serve and sign, whoever holds it.
//!
//! A holder renews the Lease long before it ends, and stops to lead by its own clock before
//! others may take it. Whoever waits measures by its own clock too how long the Lease has stood
//! unchanged: clocks of different machines are never compared.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};
use model::name::Label;
use tokio::sync::watch;

use super::written;

/// The Lease.
const NAME: &str = "pillion-control-plane";

/// How long it holds without being renewed, in seconds.
const DURATION: u32 = 30;

/// How often it is renewed, or looked at by those that wait.
const EVERY: Duration = Duration::from_secs(5);

/// How long a single request about it may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long before its end the holder stops to lead: whoever cannot renew it finds that out at the
/// end of a try, and that is so much later at the most.
const MARGIN: Duration = Duration::from_secs(15);

/// A candidate for the Lease.
#[derive(Debug)]
pub struct Candidate {
    leases: Api<Lease>,
    /// This replica's name: its pod's.
    name: String,
    /// The Lease's version that was seen last, and since when it has stood.
    seen: Option<(String, Instant)>,
    /// When it was renewed last by us.
    renewed: Option<Instant>,
    leads: watch::Sender<bool>,
}

impl Candidate {
    /// A candidate of this name, and whether it leads.
    pub fn new(client: Client, namespace: &Label, name: String) -> (Self, watch::Receiver<bool>) {
        let (leads, watched) = watch::channel(false);
        let leases = Api::namespaced(client, namespace.as_str());
        (Self { leases, name, seen: None, renewed: None, leads }, watched)
    }

    /// Tries for ever to hold the Lease, until `end`; then it is given back.
    pub async fn run(mut self, mut end: watch::Receiver<bool>) {
        loop {
            // Before the API server counts: it may be slow to answer.
            let now = Instant::now();
            match tokio::time::timeout(PATIENCE, self.try_hold()).await {
                Ok(Ok(true)) => self.renewed = Some(now),
                Ok(Ok(false)) => self.renewed = None,
                Ok(Err(error)) => tracing::debug!(%error, "cannot renew the Lease {NAME}"),
                Err(_) => tracing::debug!("the Lease {NAME} is not answered for"),
            }
            self.show();
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = end.wait_for(|end| *end) => break,
            }
        }
        if *self.leads.borrow() {
            self.leads.send_replace(false);
            // Whoever waits finds out in half a minute, if not now.
            let _ = tokio::time::timeout(PATIENCE, self.release()).await;
        }
    }

    /// Whether this replica leads, by its own clock.
    fn show(&self) {
        let good = Duration::from_secs(DURATION.into()) - MARGIN;
        let leads = self.renewed.is_some_and(|at| at.elapsed() < good);
        self.leads.send_if_modified(|now| {
            if *now != leads {
                tracing::info!(leads, "the Lease {NAME}");
            }
            std::mem::replace(now, leads) != leads
        });
    }

    /// Takes or renews the Lease where it is free or ours. Says whether it is.
    async fn try_hold(&mut self) -> kube::Result<bool> {
        let lease = self.leases.get_opt(NAME).await?;
        let version = lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        let spec = lease.and_then(|lease| lease.spec);
        let holder = spec.as_ref().and_then(|spec| spec.holder_identity.clone());
        let ours = holder.as_deref() == Some(self.name.as_str());
        let free = holder.is_none_or(|holder| holder.is_empty()) || self.has_ended(&version, &spec);
        if !ours && !free {
            return Ok(false);
        }
        let transitions = spec.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        let now = Instant::now();
        match self.write(version, &self.name, transitions + i32::from(!ours)).await {
            Ok(lease) => {
                self.seen = lease.metadata.resource_version.map(|version| (version, now));
                Ok(true)
            }
            // Somebody else was first.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the Lease has stood unchanged for as long as it holds.
    fn has_ended(&mut self, version: &Option<String>, spec: &Option<LeaseSpec>) -> bool {
        let Some(version) = version else { return true };
        let seconds = spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
        match &self.seen {
            Some((seen, since)) if seen == version => {
                since.elapsed() > Duration::from_secs(seconds.unwrap_or_else(|| DURATION.into()))
            }
            _ => {
                self.seen = Some((version.clone(), Instant::now()));
                false
            }
        }
    }

    async fn release(&self) -> kube::Result<Lease> {
        let version = self.seen.as_ref().map(|(version, _)| version.clone());
        self.write(version, "", 0).await
    }

    /// Writes the Lease if it is still of this version; without one, makes it, which only one can.
    async fn write(
        &self,
        version: Option<String>,
        holder: &str,
        transitions: i32,
    ) -> kube::Result<Lease> {
        let is_there = version.is_some();
        let lease = lease(version, holder, transitions);
        if is_there {
            self.leases.replace(NAME, &written(), &lease).await
        } else {
            self.leases.create(&written(), &lease).await
        }
    }
}

/// The time in it is for people: nobody calculates with it.
fn lease(version: Option<String>, holder: &str, transitions: i32) -> Lease {
    let metadata =
        ObjectMeta { name: Some(NAME.into()), resource_version: version, ..ObjectMeta::default() };
    let spec = LeaseSpec {
        holder_identity: Some(holder.into()),
        lease_duration_seconds: i32::try_from(DURATION).ok(),
        lease_transitions: Some(transitions),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    };
    Lease { metadata, spec: Some(spec) }
}
