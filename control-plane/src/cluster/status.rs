//! Writes what there is to say of routes and policies into their status, as the holder of the
//! Lease: by server-side apply on the `status` subresource, and only where it says something else.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context, anyhow};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{MANAGER, now};
use crate::object::Key;
use crate::object::route::is_service;
use crate::statement::{CONTROLLER, Condition, Said, Statement, kind_of};

use super::Statements;

/// How long what could not be written rests before it is tried again.
const PAUSE: Duration = Duration::from_secs(5);

/// How long one may take to be written: less than a Lease holds.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Writes statuses.
pub(super) struct StatusWriter {
    client: Client,
    /// What the objects' statuses say, as far as this replica has seen to it.
    written: HashMap<Key, Statement>,
}

impl StatusWriter {
    pub(super) fn new(client: Client) -> Self {
        Self { client, written: HashMap::new() }
    }

    /// Writes for ever, while this replica leads.
    pub(super) async fn run(
        mut self,
        mut statements: Statements,
        mut leads: watch::Receiver<bool>,
    ) {
        loop {
            let newest = statements.borrow_and_update().clone();
            let complete = if *leads.borrow_and_update() {
                self.write_all(&newest, &leads).await
            } else {
                // Whoever leads meanwhile may write something else.
                self.written.clear();
                true
            };
            tokio::select! {
                changed = statements.changed() => if changed.is_err() { return },
                changed = leads.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(PAUSE), if !complete => {}
            }
        }
    }

    /// Says whether all of it is written. Who leads no more stops: what the next leader writes is newer.
    async fn write_all(&mut self, statements: &[Statement], leads: &watch::Receiver<bool>) -> bool {
        let there: HashSet<&Key> = statements.iter().map(|statement| &statement.key).collect();
        self.written.retain(|key, _| there.contains(key));
        let mut complete = true;
        for statement in statements {
            if self.written.get(&statement.key) == Some(statement) {
                continue;
            }
            if !*leads.borrow() {
                return false;
            }
            let written = timeout(WRITE_TIMEOUT, self.write(statement)).await;
            match written.unwrap_or_else(|_| Err(anyhow!("no answer in {WRITE_TIMEOUT:?}"))) {
                Ok(()) => {
                    self.written.insert(statement.key.clone(), statement.clone());
                }
                Err(error) => {
                    complete = false;
                    let reason = format!("{error:#}");
                    tracing::debug!(object = %statement.key, reason, "cannot write the status");
                }
            }
        }
        complete
    }

    async fn write(&self, statement: &Statement) -> anyhow::Result<()> {
        let kind = kind_of(&statement.key).context("a kind that nobody knows")?;
        let namespace = statement.key.namespace.as_ref().context("an object of no namespace")?;
        let resource = kind.resource();
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace.as_str(), &resource);
        let Some(object) = api.get_opt(&statement.key.name).await? else { return Ok(()) };
        if object.metadata.uid.as_deref() != Some(&*statement.instance.uid) {
            return Ok(()); // another object has its name now; what is said of that comes
        }
        let before = object.data.get("status").cloned().unwrap_or_default();
        let status = status(&before, &object.data["spec"], statement);
        if status == before {
            return Ok(());
        }
        let patch = json!({
            "apiVersion": resource.api_version, "kind": resource.kind,
            "metadata": {
                "name": statement.key.name,
                // The list of parents is one value: what others write into it must not be lost.
                "resourceVersion": object.metadata.resource_version,
            },
            "status": status,
        });
        let params = PatchParams::apply(MANAGER).force();
        api.patch_status(&statement.key.name, &params, &Patch::Apply(&patch)).await?;
        Ok(())
    }
}

/// The status that there must be of an object with this `spec`, with what others say in it.
fn status(before: &Value, spec: &Value, statement: &Statement) -> Value {
    let generation = statement.instance.generation;
    match &statement.said {
        Said::OfAll(conditions) => {
            json!({"conditions": stamped(conditions, generation, &before["conditions"])})
        }
        Said::OfParents(parents) => {
            let parents = parents.iter().map(|(reference, conditions)| (reference, conditions));
            of_parents(before, parents, generation)
        }
        Said::OfEach(conditions) => {
            let parents = spec["parentRefs"].as_array().into_iter().flatten();
            let ours =
                parents.filter(|one| is_service(one["group"].as_str(), one["kind"].as_str()));
            of_parents(before, ours.map(|reference| (reference, conditions)), generation)
        }
    }
}

fn of_parents<'s>(
    before: &Value,
    parents: impl Iterator<Item = (&'s Value, &'s Vec<Condition>)>,
    generation: i64,
) -> Value {
    let there = before["parents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ours = |one: &&Value| one["controllerName"] == CONTROLLER;
    let others = there.iter().filter(|one| !ours(one)).cloned();
    let own = |(reference, conditions): (&Value, &Vec<Condition>)| {
        let same = |one: &&Value| ours(one) && one["parentRef"] == *reference;
        let before = there.iter().find(same).unwrap_or(&Value::Null);
        json!({
            "parentRef": reference,
            "controllerName": CONTROLLER,
            "conditions": stamped(conditions, generation, &before["conditions"]),
        })
    };
    json!({"parents": others.chain(parents.map(own)).collect::<Vec<_>>()})
}

fn stamped(conditions: &[Condition], generation: i64, before: &Value) -> Vec<Value> {
    conditions.iter().map(|condition| stamp(condition, generation, before)).collect()
}

/// A condition as the API has it. Its time is that of its last change, not that of its writing.
fn stamp(condition: &Condition, generation: i64, before: &Value) -> Value {
    let status = if condition.holds { "True" } else { "False" };
    let same = |one: &&Value| one["type"] == condition.kind && one["status"] == status;
    let since = before.as_array().into_iter().flatten().find(same);
    let since = since.and_then(|one| one["lastTransitionTime"].as_str());
    json!({
        "type": condition.kind,
        "status": status,
        "reason": condition.reason,
        "message": condition.message,
        "observedGeneration": generation,
        "lastTransitionTime": since.map_or_else(now, ToOwned::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Instance;

    fn statement(holds: bool) -> Statement {
        let condition =
            Condition { kind: "Accepted", holds, reason: "Accepted", message: String::new() };
        Statement {
            key: Key::sample("HTTPRoute", "shop", "r"),
            instance: Instance { uid: "u".into(), generation: 2 },
            said: Said::OfParents(vec![(json!({"name": "api"}), vec![condition])]),
        }
    }

    #[test]
    fn what_others_say_stays_and_a_time_is_that_of_a_change() {
        let other = json!({"parentRef": {"name": "gateway"}, "controllerName": "example.com/c",
            "conditions": []});
        let ours = json!({"parentRef": {"name": "api"}, "controllerName": CONTROLLER,
            "conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted",
                "message": "", "observedGeneration": 2, "lastTransitionTime": "then"}]});
        let before = json!({"parents": [other, ours]});
        assert_eq!(status(&before, &json!({}), &statement(true)), before, "nothing to write");
        let after = status(&before, &json!({}), &statement(false));
        assert_eq!(after["parents"][0], other);
        let condition = &after["parents"][1]["conditions"][0];
        assert_eq!(condition["status"], "False");
        assert_ne!(condition["lastTransitionTime"], "then");
    }
}
