//! What deploy/ applies to a cluster, as the control plane reads it. Schemas and posture are judged by
//! tests/manifests/check.py.

use std::time::Duration;

use tests::bins::{bins, workspace};
use tests::process::run;
use tests::tools::kustomize;

#[tokio::test]
async fn the_objects_of_every_example_are_what_the_control_plane_accepts() {
    let examples = std::fs::read_dir(workspace().join("deploy/examples")).unwrap();
    let mut count = 0;
    for example in examples.map(|entry| entry.unwrap().path()) {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("example.yaml"), kustomize(&example).await).unwrap();
        let args = ["check", home.path().to_str().unwrap()];
        let output = run(&bins().pillion, args, &[], Duration::from_secs(60)).await;
        assert_eq!(output.code, Some(0), "{}: {output:?}", example.display());
        assert!(output.stdout.contains(" Service, "), "{output:?}");
        count += 1;
    }
    assert!(count >= 4, "shop, nats, job, statefulset");
}
