//! The mesh port as OpenSSL, which knows nothing of Pillion, sees it; and who is sent to.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tests::app::App;
use tests::mesh::Mesh;
use tests::pod::APP_PORT;
use tests::poll::{self, SOON};
use tests::process::{Output, run};
use tests::{tools, yaml};

use crate::shop::{API, Shop};

/// Runs `openssl s_client` against `address` with ALPN h2 and nothing to say.
async fn s_client(address: SocketAddr, flags: &[&str]) -> Output {
    let address = address.to_string();
    let args = ["s_client", "-connect", &address, "-alpn", "h2"].into_iter();
    openssl(args.chain(flags.iter().copied())).await
}

async fn openssl(args: impl IntoIterator<Item = &str>) -> Output {
    run(&tools::find("openssl", "openssl"), args, &[], Duration::from_secs(30)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_1_3_is_spoken_with_a_chain_that_verifies_against_the_bundle() {
    let shop = Shop::open().await;
    let bundle = shop.mesh.bundle();
    let flags = ["-tls1_3", "-CAfile", bundle.to_str().unwrap(), "-verify_return_error"];
    let output = s_client(shop.api.mesh_port(), &flags).await;
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(said.contains("TLSv1.3"), "{said}");
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    assert!(said.contains("ALPN protocol: h2"), "{said}");
    assert!(!said.contains("Post-Handshake New Session Ticket"), "no tickets: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_does_not_verify_against_another_root() {
    let shop = Shop::open().await;
    let own = own_authority(&shop.mesh).await;
    let flags = ["-tls1_3", "-CAfile", own.certificate.to_str().unwrap(), "-verify_return_error"];
    let output = s_client(shop.api.mesh_port(), &flags).await;
    assert_ne!(output.code, Some(0), "{}", output.stdout);
    assert!(format!("{}{}", output.stdout, output.stderr).contains("verify error"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn older_versions_of_tls_are_refused() {
    let shop = Shop::open().await;
    for version in ["-tls1_2", "-tls1_1", "-tls1"] {
        let output = s_client(shop.api.mesh_port(), &[version, "-cipher", "ALL:@SECLEVEL=0"]).await;
        let said = format!("{}{}", output.stdout, output.stderr);
        assert_ne!(output.code, Some(0), "{version}: {said}");
        assert!(said.contains("Cipher is (NONE)"), "{version}: {said}");
        assert!(
            said.contains("alert protocol version") || said.contains("alert handshake"),
            "{version}: {said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_has_exactly_one_uri_which_is_the_identity() {
    let shop = Shop::open().await;
    let output = s_client(shop.api.mesh_port(), &["-tls1_3"]).await;
    let pem = shop.mesh.logs().join("leaf.pem");
    std::fs::write(&pem, first_certificate(&output.stdout)).unwrap();
    let args = ["x509", "-in", pem.to_str().unwrap(), "-noout", "-ext"];
    let extensions = "subjectAltName,keyUsage,extendedKeyUsage,basicConstraints";
    let shown = openssl(args.into_iter().chain([extensions])).await.stdout;
    assert_eq!(shown.matches("URI:").count(), 1, "{shown}");
    assert!(shown.contains(&format!("URI:{}", Shop::identity("api"))), "{shown}");
    for other in ["DNS:", "IP Address:", "email:"] {
        assert!(!shown.contains(other), "{shown}");
    }
    assert!(shown.contains("Digital Signature"), "{shown}");
    assert!(!shown.contains("Certificate Sign") && !shown.contains("CA:TRUE"), "{shown}");
}

fn first_certificate(text: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----\n";
    let start = text.find("-----BEGIN CERTIFICATE-----").expect("a certificate");
    let end = text[start..].find(END).expect("its end") + start + END.len();
    &text[start..end]
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_client_certificate_nothing_is_served() {
    let shop = Shop::open().await;
    // Until the client reads, TLS 1.3 lets it believe that it was let in (RFC 8446 §4.4.2.4).
    let output = s_client(shop.api.mesh_port(), &["-tls1_3", "-ign_eof"]).await;
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(said.contains("alert certificate required"), "{said}");
    assert_refused(&shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_of_another_authority_is_refused() {
    let shop = Shop::open().await;
    let own = own_authority(&shop.mesh).await;
    let files = [own.certificate.to_str().unwrap(), own.key.to_str().unwrap()];
    let flags = ["-tls1_3", "-ign_eof", "-cert", files[0], "-key", files[1]];
    let output = s_client(shop.api.mesh_port(), &flags).await;
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(said.contains("alert"), "{said}");
    assert_refused(&shop).await;
}

async fn assert_refused(shop: &Shop) {
    poll::until("the failed handshake is counted", SOON, async || {
        let metrics = shop.api.metrics().await;
        let all = metrics.sum("pillion_tls_handshakes_total", &[("direction", "inbound")]);
        let good = metrics
            .sum("pillion_tls_handshakes_total", &[("direction", "inbound"), ("result", "ok")]);
        if all > good { Ok(()) } else { Err(metrics.show("pillion_tls_handshakes_total")) }
    })
    .await;
    assert_eq!(shop.api.app().requests(), 0);
}

/// A self-signed certificate with an identity of the mesh, and its key.
struct Own {
    certificate: PathBuf,
    key: PathBuf,
}

async fn own_authority(mesh: &Mesh) -> Own {
    let file = |name: &str| -> PathBuf { Path::new(&mesh.logs()).join(name) };
    let own = Own { certificate: file("own.pem"), key: file("own.key") };
    let san = format!("subjectAltName=URI:{}", Shop::identity("web"));
    let args = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=own",
        "-addext",
        &san,
        "-out",
    ];
    let paths = [own.certificate.to_str().unwrap(), "-keyout", own.key.to_str().unwrap()];
    let output = openssl(args.into_iter().chain(paths)).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    own
}

/// The Pod object says `data` where a sidecar with the identity `api` answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_with_another_identity_than_its_endpoints_is_not_sent_to() {
    let mesh = Mesh::start().await;
    let impostor = mesh.pod("shop/api").app(App::http()).unregistered().start().await;
    let objects = yaml::service("shop/data", 80, APP_PORT)
        + &yaml::endpoints("shop/data", APP_PORT, &[impostor.address()])
        + &yaml::pod("shop/data-1", "data", impostor.address());
    mesh.write("data.yaml", &objects);
    let web = mesh.pod("shop/web").start().await;
    web.until_known("data.shop:80").await;
    let answer = web.get("http://data.shop/secret").await;
    let expected = (503, Some("tls_peer_identity_mismatch"));
    assert_eq!((answer.status.as_u16(), answer.error()), expected, "{answer:?}");
    assert_eq!(impostor.app().requests(), 0);

    let repaired = objects.replace("serviceAccountName: data", "serviceAccountName: api");
    mesh.write("data.yaml", &repaired);
    poll::until("the right identity is sent to", SOON, async || {
        let answer = web.get("http://data.shop/").await;
        if answer.status == 200 { Ok(()) } else { Err(answer) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hybrid_key_exchange_is_what_sidecars_use() {
    let shop = Shop::open().await;
    assert_eq!(shop.web.get(API).await.status, 200);
    let output = s_client(shop.api.mesh_port(), &["-tls1_3"]).await;
    // OpenSSL 3.5 knows the hybrid group, older ones X25519; never a weaker one.
    let said = output.stdout;
    assert!(said.contains("X25519"), "{said}");
}
