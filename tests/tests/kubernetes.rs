//! A mesh in a cluster: objects from an API server, identities by its tokens.

use serde_json::json;
use tests::apiserver::{ApiServer, Failure, Token};
use tests::cluster::{AUDIENCE, Cluster};
use tests::load::Load;
use tests::mesh::Options;
use tests::pod::Pod;
use tests::poll::{self, SOON};

const API: &str = "http://api.shop";

/// A client and a server in a cluster.
struct Shop {
    web: Pod,
    api: Pod,
    cluster: Cluster,
}

impl Shop {
    async fn open() -> Self {
        let cluster = Cluster::start().await;
        cluster.service("shop/api");
        let api = cluster.server("shop/api-1").await;
        cluster.endpoints("shop/api", &[&api]);
        let web = cluster.pod("shop/web-1").start().await;
        web.until_answered_by(API, 1).await;
        Self { web, api, cluster }
    }

    /// A change comes through: another pod of the Service takes traffic.
    async fn assert_follows(&self) {
        let other = self.cluster.server("shop/api-2").await;
        self.cluster.endpoints("shop/api", &[&self.api, &other]);
        self.web.until_answered_by(API, 2).await;
        self.cluster.endpoints("shop/api", &[&self.api]);
        poll::until_true("the other pod is left out", SOON, async || {
            let mut answers = Vec::new();
            for _ in 0..10 {
                answers.push(self.web.get(API).await.pod() == Some("api-1"));
            }
            answers.into_iter().all(|own| own)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_an_api_server_are_followed_and_calls_are_encrypted() {
    let shop = Shop::open().await;
    let answer = shop.web.get(API).await;
    assert_eq!(answer.pod(), Some("api-1"));
    let seen = shop.api.app().seen();
    let peer = seen.last().unwrap();
    assert!(format!("{peer:?}").contains("ns/shop/sa/web"), "{peer:?}");
    shop.assert_follows().await;
    // A route sends everything to a Service that is not there.
    shop.cluster.api.put(&json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "r", "namespace": "shop"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "api"}],
                 "rules": [{"backendRefs": [{"name": "gone", "port": 80}]}]},
    }));
    poll::until_true("the route is in force", SOON, async || shop.web.get(API).await.status == 500)
        .await;
    let api = &shop.cluster.api;
    assert!(api.remove("gateway.networking.k8s.io/v1", "HTTPRoute", "shop", "r"));
    shop.web.until_answered_by(API, 1).await;
}

/// Does what to the API server, under load, and expects that nothing is lost and that changes are
/// followed after it.
async fn assert_undisturbed(trouble: impl AsyncFnOnce(&Shop)) {
    let shop = Shop::open().await;
    let load = Load::get(shop.web.proxy(), API, 100);
    trouble(&shop).await;
    shop.assert_follows().await;
    load.run_for(50).await;
    load.stop().await.assert_clean(50);
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_that_break_end_or_expire_disturb_nothing() {
    assert_undisturbed(async |shop| {
        let faults = shop.cluster.api.faults();
        faults.break_watches();
        shop.assert_follows().await;
        faults.end_watches();
        shop.assert_follows().await;
        shop.cluster.api.compact();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_disturbs_nothing() {
    assert_undisturbed(async |shop| {
        shop.cluster.api.stop().await;
        poll::until("the staleness grows", SOON, async || {
            let metrics = shop.cluster.mesh.metrics().await;
            let stale = metrics.sum("pillion_source_staleness_seconds", &[("kind", "Pod")]);
            if stale > 2.0 { Ok(()) } else { Err(stale) }
        })
        .await;
        // What it forgets meanwhile cannot be told one by one.
        shop.cluster.api.compact();
        shop.cluster.api.resume().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_has_enough_is_asked_later() {
    assert_undisturbed(async |shop| {
        let faults = shop.cluster.api.faults();
        faults.fail(None, 12, Failure::too_many_requests(1));
        faults.break_watches();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_read_page_by_page_where_they_cannot_be_streamed() {
    assert_undisturbed(async |shop| {
        let api = &shop.cluster.api;
        for index in 0..1200 {
            api.put(&json!({"apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": {"name": format!("a{index}"), "namespace": "shop"}}));
        }
        api.faults().refuse_streaming_lists();
        api.compact();
        poll::until("every page is read", SOON, async || {
            let metrics = shop.cluster.mesh.metrics().await;
            let accounts = metrics.sum("pillion_objects", &[("kind", "ServiceAccount")]);
            if accounts == 1200.0 { Ok(()) } else { Err(accounts) }
        })
        .await;
        let listed = api
            .asked()
            .into_iter()
            .any(|asked| asked.verb == "list" && asked.resource == "serviceaccounts");
        assert!(listed);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_while_the_control_plane_is_away_is_seen_when_it_is_back() {
    let shop = Shop::open().await;
    let other = shop.cluster.server("shop/api-2").await;
    shop.cluster.mesh.control_plane().kill();
    shop.cluster.endpoints("shop/api", &[&other]);
    shop.cluster.mesh.restart_control_plane().await;
    poll::until_true("only the other pod answers", SOON, async || {
        shop.web.get(API).await.pod() == Some("api-2")
    })
    .await;
    let seen = format!("{:?}", shop.cluster.mesh.problems().await);
    assert_eq!(seen, "[]");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_token_of_a_pod_that_is_there_lets_a_sidecar_in() {
    let cluster = Cluster::start().await;
    let address = cluster.mesh.free_address();
    let uid = cluster.pod_object("shop/api-1", address);
    let good = || Token::new("shop", "api", AUDIENCE).bound_to("api-1", &uid);
    let cases = [
        (
            "audience",
            Token { audiences: vec!["another".into()], ..good() },
            "does not accept the token",
        ),
        ("unbound", Token::new("shop", "api", AUDIENCE), "is bound to no pod"),
        ("uid", good().bound_to("api-1", "another"), "there is no pod shop/api-1"),
        ("name", good().bound_to("api-2", &uid), "there is no pod shop/api-2"),
    ];
    for (name, token, expected) in cases {
        assert_refused(&cluster, name, token, address, expected).await;
    }
    let elsewhere = cluster.mesh.free_address();
    assert_refused(&cluster, "address", good(), elsewhere, "has not the address").await;
    let sidecar = start_by(&cluster, "good", good(), address).await;
    sidecar.until_ready().await;
    // A token stays good for some seconds after its pod is gone.
    drop(sidecar);
    assert!(cluster.api.remove("v1", "Pod", "shop", "api-1"));
    assert_refused(&cluster, "gone", good(), address, "there is no pod shop/api-1").await;
}

/// Its key may be anywhere by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_of_no_use_to_the_control_plane_once_its_pod_is_gone() {
    let options = Options { certificate_lifetime: Some("10s"), ..Options::default() };
    let cluster = Cluster::with(ApiServer::start().await, options).await;
    let sidecar = cluster.pod("shop/web-1").start().await;
    let renewals = [("result", "ok")];
    poll::until_true("it is renewed while its pod is there", SOON, async || {
        let metrics = sidecar.metrics().await;
        metrics.sum("pillion_certificate_renewals_total", &renewals) >= 2.0
    })
    .await;
    assert!(cluster.api.remove("v1", "Pod", "shop", "web-1"));
    poll::until("neither renewed nor let in again", SOON, async || {
        let log = sidecar.sidecar().log();
        let refused = "no pod of spiffe://mesh.test/ns/shop/sa/web has the address";
        if log.contains(refused) { Ok(()) } else { Err(log) }
    })
    .await;
    poll::until_true("it is ready no more once its certificate has ended", SOON, async || {
        tests::client::get_direct(sidecar.admin(), "/ready").await.unwrap().status == 503
    })
    .await;
}

async fn start_by(cluster: &Cluster, name: &str, token: Token, address: std::net::IpAddr) -> Pod {
    let token = cluster.token_file(name, token);
    let pod = cluster.mesh.pod(&format!("shop/{name}")).address(address).without_token().flags([
        "--token-file",
        token.to_str().unwrap(),
        "--trust-bundle-file",
        cluster.mesh.bundle().to_str().unwrap(),
    ]);
    pod.start_unready().await
}

async fn assert_refused(
    cluster: &Cluster,
    name: &str,
    token: Token,
    address: std::net::IpAddr,
    expected: &str,
) {
    let sidecar = start_by(cluster, name, token, address).await;
    poll::until(&format!("{name}: refused with {expected:?}"), SOON, async || {
        let log = sidecar.sidecar().log();
        if log.contains(expected) { Ok(()) } else { Err(log) }
    })
    .await;
    let admin = tests::client::get_direct(sidecar.admin(), "/ready").await.unwrap();
    assert_eq!(admin.status, 503, "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_the_gateway_api_is_served_and_its_crds_are_noticed() {
    let shop = Shop::open().await;
    shop.cluster.api.uninstall("httproutes");
    shop.cluster.api.compact();
    shop.cluster.mesh.restart_control_plane().await;
    shop.web.until_answered_by(API, 1).await;
    let version = "gateway.networking.k8s.io/v1";
    let resource = tests::apiserver::Resource::custom(version, "httproutes", "HTTPRoute");
    shop.cluster.api.install(resource);
    shop.cluster.api.put(&json!({
        "apiVersion": version, "kind": "HTTPRoute", "metadata": {"name": "r", "namespace": "shop"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "api"}],
                 "rules": [{"backendRefs": [{"name": "gone", "port": 80}]}]},
    }));
    poll::until_true("the route is in force", SOON, async || shop.web.get(API).await.status == 500)
        .await;
}
