//! Reads a directory once, and says everything that is wrong with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use crate::problem::Problem;
use crate::source::directory::Directory;
use crate::translate::{Settings, translate};
use crate::world::World;

/// What there is in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How many good objects of each kind.
    pub objects: BTreeMap<&'static str, usize>,
    /// All problems, also those of references between objects.
    pub problems: Vec<Problem>,
}

/// Checks a directory as a control plane with these settings would read it.
pub fn check(directory: &Path, settings: &Settings) -> Report {
    let mut world = World::default();
    let batch = Directory::new(directory).scan(Instant::now()).batch.unwrap_or_default();
    batch.events.into_iter().for_each(|event| world.apply(event));
    let mut problems = batch.problems;
    problems.extend(translate(&world, &[], settings).problems);
    Report { objects: world.counts(), problems }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write(
            "a.yaml",
            "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}]}}\n\
             ---\n{apiVersion: v1, kind: Servce, metadata: {name: b}}\n",
        );
        write(
            "b.yaml",
            "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r}, \
             spec: {parentRefs: [{group: '', kind: Service, name: a}], \
             rules: [{backendRefs: [{name: gone, port: 80}]}]}}",
        );
        let settings = Settings {
            trust_domain: "cluster.local".parse().unwrap(),
            service_range: "10.96.0.0/12".parse().unwrap(),
            wait_for_pods: false,
        };
        let report = check(dir.path(), &settings);
        assert_eq!(report.objects, BTreeMap::from([("HTTPRoute", 1), ("Service", 1)]));
        let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("a.yaml:2: kind: unknown kind \"Servce\""), "{problems:?}");
        assert!(
            problems[1].starts_with(
                "b.yaml:1: HTTPRoute default/r: spec.rules[0].backendRefs[0]: BackendNotFound"
            ),
            "{problems:?}"
        );
    }
}
