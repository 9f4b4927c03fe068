//! The story of one pod.

use serde_json::Value;

use crate::outcome::{Fault, Outcome, Skip};
use crate::pod::Pod;
use crate::settings::Settings;
use crate::wishes::Wishes;
use crate::{container, patch, probe};

/// Decides what becomes of `object`: a Pod, or a template of pods (`spec.template` of a
/// Deployment). What was injected once is skipped the second time, whatever was added since.
pub fn inject(object: &Value, settings: &Settings) -> Outcome {
    let pod = match Pod::read(object) {
        Ok(pod) => pod,
        Err(fault) => return Outcome::Refused(vec![fault]),
    };
    match pod.skip() {
        Ok(None) => {}
        Ok(Some(skip)) => return Outcome::Skipped(skip),
        Err(faults) => return Outcome::Refused(faults),
    }
    let conflicts = pod.conflicts();
    let wishes = Wishes::read(&pod.annotations, &settings.resources, &settings.variables);
    let probes = probe::all(&pod);
    match (wishes, probes) {
        (Ok(wishes), Ok(probes)) if conflicts.is_empty() => {
            let containers = [
                container::init(&wishes, settings),
                container::proxy(&pod, &wishes, &probes, settings),
            ];
            let volumes = container::volumes(settings);
            let warnings = warnings(&pod, &wishes);
            let operations =
                patch::operations(&pod, object, containers, volumes, &settings.version);
            Outcome::Patched { operations, warnings }
        }
        (wishes, probes) => {
            let of_probes = probes.err().unwrap_or_default();
            let of_wishes = wishes.err().unwrap_or_default();
            Outcome::Refused(conflicts.into_iter().chain(of_wishes).chain(of_probes).collect())
        }
    }
}

/// Why `object`, read as by [`inject`], stays as it is, if so.
///
/// # Errors
/// What keeps it from being read as a pod, or a label or annotation that is neither `enabled` nor
/// `disabled`: it is refused.
pub fn skip(object: &Value) -> Result<Option<Skip>, Vec<Fault>> {
    Pod::read(object).map_err(|fault| vec![fault])?.skip()
}

/// What is in force, and yet not as whoever asked for it may think.
fn warnings(pod: &Pod, wishes: &Wishes) -> Vec<String> {
    if !wishes.is_strict {
        return Vec::new();
    }
    let warning = |place| {
        format!(
            "{place}: the sidecar refuses it, for it refuses plaintext and lets only httpGet \
                 probes without TLS through"
        )
    };
    probe::refused(pod).into_iter().map(warning).collect()
}
