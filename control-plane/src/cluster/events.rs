//! Events (`events.k8s.io/v1`): where an injection was skipped or refused, and where an object is
//! not in force as it is written.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::MANAGER;
use super::webhook::Told;
use crate::object::Key;
use crate::problem::{Problem, Severity};
use crate::statement::kind_of;

/// The longest note (Kubernetes, Event.note).
const LONGEST_NOTE: usize = 1024;

/// Events in a row, at most; the others are in the log and at /problems.
const MOST: usize = 50;

/// How long a single one may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells what happens as Events.
pub(super) struct Teller(Recorder);

impl Teller {
    /// In the name of this replica.
    pub(super) fn new(client: Client, replica: String) -> Self {
        let reporter = Reporter { controller: MANAGER.into(), instance: Some(replica) };
        Self(Recorder::new(client, reporter))
    }

    /// Tells of pods whose injection was skipped or refused, on their owners: the pod itself may
    /// not come to be.
    pub(super) async fn tell_injections(self, mut told: mpsc::Receiver<Told>) {
        while let Some(Told { request, note, refused }) = told.recv().await {
            let (type_, reason) = if refused {
                (EventType::Warning, "InjectionRefused")
            } else {
                (EventType::Normal, "InjectionSkipped")
            };
            self.tell(type_, reason, "Inject", &note, &owner(&request)).await;
        }
    }

    /// Tells of objects that are refused, each fault once, while this replica leads.
    pub(super) async fn tell_problems(
        self,
        mut problems: watch::Receiver<Arc<Vec<Problem>>>,
        mut leads: watch::Receiver<bool>,
    ) {
        let mut known: HashSet<(Key, String)> = HashSet::new();
        loop {
            tokio::select! {
                changed = problems.changed() => if changed.is_err() { return },
                changed = leads.changed() => if changed.is_err() { return },
            }
            if !*leads.borrow_and_update() {
                continue;
            }
            let now = Arc::clone(&problems.borrow_and_update());
            let refused = now.iter().filter(|one| one.cause.severity() == Severity::Error);
            let named: Vec<(Key, String, &Problem)> = refused
                .filter_map(|one| {
                    let note = format!("{}: {}", one.field, one.message);
                    Some((one.object.clone()?, note, one))
                })
                .collect();
            known.retain(|(key, note)| named.iter().any(|(k, n, _)| k == key && n == note));
            for (key, note, problem) in named.into_iter().take(MOST) {
                if known.insert((key.clone(), note.clone())) {
                    let object = reference(&key, problem);
                    self.tell(EventType::Warning, "Refused", "Read", &note, &object).await;
                }
            }
        }
    }

    /// An Event that cannot be written is not worth more than a line in the log.
    async fn tell(
        &self,
        type_: EventType,
        reason: &str,
        action: &str,
        note: &str,
        object: &ObjectReference,
    ) {
        let note: String = note.chars().take(LONGEST_NOTE / 4).collect();
        let event = Event {
            type_,
            reason: reason.into(),
            note: Some(note),
            action: action.into(),
            secondary: None,
        };
        match tokio::time::timeout(PATIENCE, self.0.publish(&event, object)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "cannot write an Event"),
            Err(_) => tracing::debug!("an Event is not answered for"),
        }
    }
}

/// The controller of a pod that is to be made, or the pod itself where it has none.
fn owner(request: &Value) -> ObjectReference {
    let metadata = &request["object"]["metadata"];
    let owners = metadata["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    let controls = |owner: &&Value| owner["controller"] == true;
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let namespace = text(&request["namespace"]);
    match owners.iter().find(controls) {
        Some(owner) => ObjectReference {
            api_version: text(&owner["apiVersion"]),
            kind: text(&owner["kind"]),
            name: text(&owner["name"]),
            uid: text(&owner["uid"]),
            namespace,
            ..ObjectReference::default()
        },
        None => ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: text(&metadata["name"]),
            namespace,
            ..ObjectReference::default()
        },
    }
}

fn reference(key: &Key, problem: &Problem) -> ObjectReference {
    let instance = problem.origin.as_ref().and_then(|origin| origin.instance.as_ref());
    ObjectReference {
        api_version: kind_of(key).map(|kind| kind.resource().api_version),
        kind: Some(key.kind.into()),
        name: Some(key.name.clone()),
        namespace: key.namespace.as_ref().map(ToString::to_string),
        uid: instance.map(|instance| instance.uid.to_string()),
        ..ObjectReference::default()
    }
}
