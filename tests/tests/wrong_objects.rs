//! Wrong objects: what is bad is named by file, object and field, by the control plane and by
//! `pillion check`; what is good stays in force.

use std::path::Path;

use serde_json::Value;
use tests::bins::bins;
use tests::mesh::Mesh;
use tests::poll::{self, SOON};
use tests::process::{Output, run};
use tests::yaml;

/// One fault: how the file is called, what it holds, and what a report must name.
struct Fault {
    file: &'static str,
    text: String,
    parts: &'static [&'static str],
}

fn faults() -> Vec<Fault> {
    let good = yaml::service("shop/api", 80, 8080);
    let route = yaml::split_route("shop/api", &[("api", 1)]);
    vec![
        Fault {
            file: "kind.yaml",
            text: good.replace("kind: Service", "kind: Servce"),
            parts: &["kind.yaml", "Servce", "Service"],
        },
        Fault {
            file: "field.yaml",
            text: good.replace("targetPort", "targetport"),
            parts: &["field.yaml", "shop/api", "spec.ports[0].targetport", "targetPort"],
        },
        Fault {
            file: "value.yaml",
            text: good.replace("port: 80,", "port: 99999,"),
            parts: &["value.yaml", "shop/api", "spec.ports[0].port", "99999"],
        },
        Fault {
            file: "route.yaml",
            text: route.replace("weight: 1", "weight: -1"),
            parts: &["route.yaml", "HTTPRoute", "shop/api", "spec.rules[0].backendRefs[0].weight"],
        },
        Fault {
            file: "duration.yaml",
            text: route
                .replace("  - backendRefs", "  - timeouts: {request: soon}\n    backendRefs"),
            parts: &["duration.yaml", "shop/api", "spec.rules[0].timeouts.request", "soon"],
        },
        Fault { file: "syntax.yaml", text: "kind: [Service\n".to_owned(), parts: &["syntax.yaml"] },
        Fault {
            file: "scalar.yaml",
            text: "just words\n".to_owned(),
            parts: &["scalar.yaml", "object"],
        },
    ]
}

async fn check(dir: &Path) -> Output {
    run(&bins().pillion, ["check", dir.to_str().unwrap()], &[], SOON).await
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_nothing_wrong_of_good_objects() {
    let dir = tempfile::tempdir().unwrap();
    let good = yaml::service("shop/api", 80, 8080) + &yaml::split_route("shop/api", &[("api", 1)]);
    std::fs::write(dir.path().join("good.yaml"), good).unwrap();
    let output = check(dir.path()).await;
    assert_eq!(output.code, Some(0), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_every_fault_and_fails() {
    for fault in faults() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(fault.file), &fault.text).unwrap();
        let output = check(dir.path()).await;
        assert_eq!(output.code, Some(1), "{}: {output:?}", fault.file);
        let said = format!("{}{}", output.stdout, output.stderr);
        for part in fault.parts {
            assert!(said.contains(part), "{}: {part:?} is missing in: {said}", fault.file);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_of_a_directory_that_is_not_there_says_so() {
    let output = check(Path::new("/no/such/directory")).await;
    assert!(matches!(output.code, Some(1 | 2)), "{output:?}");
    assert!(output.stderr.contains("/no/such/directory"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_object_in_two_files_is_reported_and_the_first_stays() {
    let mesh = Mesh::with_objects(yaml::service("shop/api", 80, 8080)).await;
    mesh.write("zz-again.yaml", &yaml::service("shop/api", 81, 8080));
    let problem = first_problem(&mesh).await;
    let text = problem.to_string();
    assert!(text.contains("zz-again.yaml") && text.contains("mesh.yaml"), "{text}");
    assert!(text.contains("duplicate"), "{text}");
    let web = mesh.pod("shop/web").start().await;
    assert_eq!(web.get("http://api.shop:80/").await.error(), Some("no_endpoints"));
    assert_eq!(web.get("http://api.shop:81/").await.error(), Some("port_unknown"));
    let output = check(&mesh.config_dir()).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    mesh.remove("zz-again.yaml");
    until_no_problem(&mesh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_plane_reports_every_fault_and_keeps_what_is_good() {
    let mesh = Mesh::with_objects(yaml::service("shop/good", 80, 8080)).await;
    let web = mesh.pod("shop/web").start().await;
    for fault in faults() {
        mesh.write(fault.file, &fault.text);
        let problem = first_problem(&mesh).await.to_string();
        let log = poll::until("the fault is logged", SOON, async || {
            let log = mesh.control_plane().log();
            let lines: Vec<_> = log.lines().filter(|line| line.contains(fault.file)).collect();
            if lines.is_empty() { Err(log) } else { Ok(lines.join("\n")) }
        })
        .await;
        for part in fault.parts {
            let name = part.rsplit('/').next().unwrap();
            assert!(problem.contains(name), "{}: {part:?} is missing in {problem}", fault.file);
            assert!(log.contains(part), "{}: {part:?} is missing in {log}", fault.file);
        }
        assert_eq!(
            web.get("http://good.shop/").await.error(),
            Some("no_endpoints"),
            "{}",
            fault.file
        );
        mesh.remove(fault.file);
        until_no_problem(&mesh).await;
    }
    assert!(mesh.control_plane().ended().is_none());
}

/// Objects that are bad from the start keep a control plane from nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_starts_with_bad_objects_beside_good_ones() {
    let bad = yaml::service("shop/bad", 80, 8080).replace("port: 80,", "port: 0,");
    let mesh = Mesh::with_objects(yaml::service("shop/good", 80, 8080) + &bad).await;
    let web = mesh.pod("shop/web").start().await;
    assert_eq!(web.get("http://good.shop/").await.error(), Some("no_endpoints"));
    assert_eq!(web.get("http://bad.shop/").await.error(), Some("service_unknown"));
    assert_eq!(mesh.problems().await.len(), 1);
}

async fn first_problem(mesh: &Mesh) -> Value {
    poll::until("a problem is reported", SOON, async || {
        mesh.problems().await.first().cloned().ok_or("no problem")
    })
    .await
}

async fn until_no_problem(mesh: &Mesh) {
    poll::until("no problem is left", SOON, async || match &mesh.problems().await[..] {
        [] => Ok(()),
        left => Err(left.to_vec()),
    })
    .await;
}
