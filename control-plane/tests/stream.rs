//! The API as a sidecar sees it: a real process, real TLS, real files.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by panicking

mod common;

use std::time::Duration;

use certs::LeafKey;
use common::{PATIENCE, Plane, hello, identity, names, pinned, registration, with_certificate};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Code;
use wire::{Kind, proto};

fn service(name: &str, port: u16) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: shop}}, \
         spec: {{ports: [{{port: {port}}}]}}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_is_told_what_it_subscribes_to_and_what_changes() {
    let plane = Plane::start(&(service("api", 80) + &service("other", 80)));
    let mut sidecar = plane.join("shop", hello(&["shop/api"])).await;
    assert_eq!(names(&sidecar.update().await), ["inbound 127.0.1.1", "service shop/api"]);
    sidecar.subscribe("shop/gone").await;
    assert_eq!(names(&sidecar.update().await), ["-shop/gone"]);
    sidecar.subscribe("shop/other").await;
    assert_eq!(names(&sidecar.update().await), ["service shop/other"]);
    plane.write(&(service("api", 81) + &service("other", 80) + &service("gone", 80)));
    assert_eq!(names(&sidecar.update().await), ["service shop/api", "service shop/gone"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_resource_is_reported_and_comes_again_when_it_changes() {
    let plane = Plane::start(&service("api", 80));
    let mut sidecar = plane.join("shop", hello(&["shop/api"])).await;
    let rejected = proto::Rejected {
        kind: Kind::Service.encode(),
        name: "shop/api".into(),
        version: "1".into(),
        reason: "for a test".into(),
    };
    sidecar.update_but(vec![rejected]).await;
    let line = plane.until_logged("a sidecar refused a resource");
    assert!(line.contains("for a test") && line.contains("service shop/api"), "{line}");
    assert!(plane.get("/metrics").await.contains("pillion_nacks_total{kind=\"service\"} 1"));
    plane.write(&service("api", 81));
    assert_eq!(names(&sidecar.update().await), ["service shop/api"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_resumes_after_a_kill_without_a_full_resend() {
    let mut plane = Plane::start(&(service("api", 80) + &service("b", 80)));
    let mut sidecar = plane.join("shop", hello(&["shop/api", "shop/b"])).await;
    let update = sidecar.update().await;
    let known = update.resources.iter().map(|resource| proto::Known {
        kind: wire::resource::kind_of(resource).unwrap().encode(),
        name: resource.name.clone(),
        version: resource.version.clone(),
    });
    let known: Vec<_> = known.collect();
    plane.kill();
    plane.write(&(service("api", 80) + &service("b", 81)));
    let plane = Plane::start_in(plane.dir.clone());
    let hello = proto::Hello { known, ..hello(&["shop/api", "shop/b"]) };
    let mut sidecar = plane.join("shop", hello).await;
    assert_eq!(names(&sidecar.update().await), ["service shop/b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_workload_is_an_endpoint_while_its_stream_lives() {
    let plane = Plane::start(&service("api", 80));
    let mut client = plane.join("web", hello(&["shop/api", "shop/own"])).await;
    client.update().await;
    let mut one = plane.join("shop", registration("shop/api", "127.0.1.2")).await;
    client.until_endpoints("shop/api", &["127.0.1.2"]).await;
    let inbound = one.update().await;
    let Some(proto::resource::Body::Inbound(inbound)) = &inbound.resources[0].body else {
        panic!("the first resource is its Inbound: {inbound:?}")
    };
    assert_eq!(inbound.ports[0].port, 8080);
    let _two = plane.join("shop", registration("shop/api", "127.0.1.3")).await;
    client.until_endpoints("shop/api", &["127.0.1.2", "127.0.1.3"]).await;
    let _own = plane.join("shop", registration("shop/own", "127.0.1.4")).await;
    client.until_endpoints("shop/own", &["127.0.1.4"]).await;
    drop(one);
    client.until_endpoints("shop/api", &["127.0.1.3"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_forgets_no_registered_workload() {
    let mut plane = Plane::start(&service("api", 80));
    let one = plane.join("shop", registration("shop/api", "127.0.1.2")).await;
    let mut client = plane.join("web", hello(&["shop/api"])).await;
    client.until_endpoints("shop/api", &["127.0.1.2"]).await;
    common::until_saved(plane.dir.path(), "127.0.1.2").await;
    plane.kill();
    drop(one);
    let plane = Plane::start_in(plane.dir.clone());
    let mut client = plane.join("web", hello(&["shop/api"])).await;
    client.until_endpoints("shop/api", &["127.0.1.2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_registers_for_a_service_of_another_namespace() {
    let plane = Plane::start(&service("api", 80));
    let mut sidecar = plane.join("web", registration("shop/api", "127.0.1.2")).await;
    let status = sidecar.next().await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert!(status.message().contains("web") && status.message().contains("shop"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_registers_at_an_address_that_is_anothers() {
    let plane = Plane::start(&service("api", 80));
    let mut sidecar = plane.join("shop", registration("shop/api", "10.0.0.9")).await;
    let status = sidecar.next().await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    let said = "registration: of 10.0.0.9, but the connection comes from 127.0.0.1";
    assert_eq!(status.message(), said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_for_the_proved_identity_and_opens_the_next_stream() {
    let plane = Plane::start(&service("api", 80));
    let mut sidecar = plane.join("shop", hello(&[])).await;
    sidecar.update().await;
    let key = LeafKey::generate().unwrap();
    let someone_else = "spiffe://cluster.local/ns/bank/sa/vault".parse().unwrap();
    let csr = key.csr(Some(&someone_else)).unwrap();
    let certificate = sidecar.certificate(csr).await.unwrap();
    let id = identity(&key, &certificate);
    assert_eq!(id.id().as_str(), "spiffe://cluster.local/ns/shop/sa/x");
    let tls = with_certificate(&key, &certificate);
    let mut again = plane.open(tls, None, hello(&["shop/api"])).await.unwrap();
    assert_eq!(names(&again.update().await).len(), 2);
    let status = again.certificate(vec![1, 2, 3]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let status = sidecar.certificate(vec![0; 20_000]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_good_proof_nobody_is_let_in() {
    let (plane, other) = (Plane::start(""), Plane::start(""));
    let good = plane.token("shop", "x", Duration::from_secs(600));
    let foreign = other.token("shop", "x", Duration::from_secs(600));
    let cases = [(None, "neither"), (Some(foreign.as_str()), "token"), (Some("x.y.z"), "token")];
    for (token, expected) in cases {
        let Err(status) = plane.open(pinned(&good), token, hello(&[])).await else {
            panic!("{token:?} is let in")
        };
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
        assert!(status.message().contains(expected), "{status}");
    }
    let Err(status) = plane.open(pinned(&foreign), Some(&foreign), hello(&[])).await else {
        panic!("a sidecar of another mesh believes this control plane")
    };
    assert!(status.message().starts_with("handshake"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_refused_as_that() {
    let plane = Plane::start("");
    let token = plane.token("shop", "x", Duration::from_secs(1));
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    loop {
        match plane.open(pinned(&token), Some(&token), hello(&[])).await {
            Ok(_) => assert!(std::time::Instant::now() < deadline, "it never expires"),
            Err(status) => {
                assert_eq!(status.code(), Code::Unauthenticated, "{status}");
                assert!(status.message().contains("expired"), "{status}");
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_message_must_be_hello() {
    let plane = Plane::start("");
    let mut sidecar =
        plane.join("shop", proto::Hello { address: "nowhere".into(), ..hello(&[]) }).await;
    let status = sidecar.next().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("address"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_sigterm_streams_end_with_unavailable_and_the_process_with_0() {
    let mut plane = Plane::start(&service("api", 80));
    let mut sidecar = plane.join("shop", hello(&["shop/api"])).await;
    sidecar.update().await;
    let ended = tokio::spawn(async move { sidecar.next().await.unwrap_err() });
    let code = tokio::task::spawn_blocking(move || (plane.terminate(), plane)).await.unwrap().0;
    assert_eq!(code, Some(0));
    let status = timeout(PATIENCE, ended).await.unwrap().unwrap();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("shutting down"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_are_shown_and_logged_once_until_they_are_repaired() {
    let plane = Plane::start(&service("api", 80));
    let mut sidecar = plane.join("shop", hello(&["shop/api"])).await;
    sidecar.update().await;
    plane.write(&service("api", 81).replace("ports:", "prts:"));
    let line = plane.until_logged("unknown field");
    assert!(line.contains("a.yaml:1: Service shop/api: spec.prts: unknown field"), "{line}");
    let answer = plane.get("/problems").await;
    assert!(answer.contains("\"severity\": \"error\"") && answer.contains("spec.prts"), "{answer}");
    assert!(plane.get("/ready").await.starts_with("HTTP/1.1 200"));
    plane.write(&service("api", 82));
    plane.until_logged("repaired: a.yaml:1: Service shop/api: spec.prts");
    assert_eq!(names(&sidecar.update().await), ["service shop/api"], "81 was never in force");
    let metrics = plane.get("/metrics").await;
    assert!(metrics.contains("pillion_problems{cause=\"unknown_field\"} 0"), "{metrics}");
    assert!(metrics.contains("process_resident_memory_bytes"), "{metrics}");
}

/// Waits until the other end has closed a connection, before a handshake that does not come is given up.
async fn until_closed(mut socket: TcpStream) {
    let ended = timeout(Duration::from_secs(5), socket.read(&mut [0])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_bounded_apart_from_sidecars_and_sidecars_as_well() {
    let plane = Plane::start_for(16);
    let mut sidecars = vec![plane.join("shop", hello(&["shop/api"])).await];
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(TcpStream::connect(plane.api).await.unwrap());
    }
    // Two of sixteen may be strangers, and a sidecar finds a place beside them.
    for stranger in silent.drain(..3) {
        until_closed(stranger).await;
    }
    sidecars.push(plane.join("shop", hello(&["shop/api"])).await);
    drop(silent);
    while sidecars.len() < 16 {
        sidecars.push(plane.join("shop", hello(&["shop/api"])).await);
    }
    until_closed(TcpStream::connect(plane.api).await.unwrap()).await;
    for sidecar in &mut sidecars {
        assert_eq!(names(&sidecar.update().await), ["inbound 127.0.1.1", "-shop/api"]);
    }
    let metrics = plane.get("/metrics").await;
    let refused = metrics.lines().find(|line| line.contains("_refused_total{port=\"api\"}"));
    let refused: u32 = refused.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(refused >= 4, "three who said nothing, and one too many: {refused}");
}
