//! InboundPolicies: plaintext refused and let in again while the mesh goes on, and what the
//! kubelet may do in the meantime.

use tests::app::App;
use tests::client::{self, Http1, Http2, request};
use tests::load::Load;
use tests::pod::Pod;
use tests::poll::{self, SOON};

use crate::shop::{API, Shop};

const PROBES: &str = r#"[{"port":8080,"path":"/healthz"}]"#;

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: pillion.dev/v1alpha1\nkind: InboundPolicy\n\
         metadata: {{name: {name}, namespace: shop}}\nspec: {{{spec}}}\n---\n"
    )
}

/// The status that a new plaintext connection gets; `None` where it is closed.
async fn plaintext(pod: &Pod, path: &str) -> Option<u16> {
    let answer = client::get_direct(pod.inbound(), path).await.ok()?;
    Some(answer.status.as_u16())
}

async fn until_plaintext(pod: &Pod, expected: Option<u16>) {
    poll::until("the policy is in force", SOON, async || {
        let found = plaintext(pod, "/").await;
        if found == expected { Ok(()) } else { Err(found) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_is_refused_and_let_in_again_under_load() {
    let shop = Shop::open().await;
    assert_eq!(plaintext(&shop.api, "/").await, Some(200));
    let load = Load::get(shop.web.proxy(), &format!("{API}/"), 200);
    let mut old = Http1::connect(shop.api.inbound()).await.unwrap();
    assert_eq!(old.send(request("GET", "http://api.shop/")).await.unwrap().status, 200);
    for _ in 0..3 {
        shop.mesh.write("policy.yaml", &policy("strict", "plaintext: Deny"));
        until_plaintext(&shop.api, None).await;
        let answer = old.send(request("GET", "http://api.shop/")).await;
        assert_eq!(answer.expect("an old connection is not cut").status, 200);
        load.run_for(100).await;
        shop.mesh.remove("policy.yaml");
        until_plaintext(&shop.api, Some(200)).await;
    }
    load.stop().await.assert_clean(300);
    let labels = [("direction", "inbound"), ("error", "port_denied")];
    let metrics = shop.api.metrics().await;
    assert!(
        metrics.sum("pillion_tcp_connections_total", &labels) >= 3.0,
        "{}",
        metrics.show("pillion_tcp_connections_total")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_overrules_the_flag_and_selects_by_labels() {
    let shop = Shop::open().await;
    let flags = ["--inbound-plaintext", "deny"];
    let builder = shop.mesh.pod("shop/strict").app(App::http()).flags(flags);
    let strict = builder.start().await;
    assert_eq!(plaintext(&strict, "/").await, None);
    let object = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: strict, namespace: shop, \
         labels: {{app: strict}}}}\nspec: {{containers: [{{name: app}}]}}\n\
         status: {{podIP: {}}}\n---\n",
        strict.address()
    );
    let open = policy("open", "selector: {matchLabels: {app: strict}}, plaintext: Allow");
    shop.mesh.write("policy.yaml", &(object + &open));
    until_plaintext(&strict, Some(200)).await;
    let problems = shop.mesh.problems().await;
    assert!(problems.is_empty(), "{problems:?}");
    let both = policy("a", "plaintext: Deny") + &policy("b", "plaintext: Allow");
    shop.mesh.write("policy.yaml", &both);
    until_plaintext(&shop.api, None).await;
    let problems = shop.mesh.problems().await;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].to_string().contains("InboundPolicy shop/a selects"), "{problems:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_broken_when_the_control_plane_starts_is_in_force_as_it_was() {
    let shop = Shop::open().await;
    shop.mesh.write("policy.yaml", &policy("strict", "plaintext: Deny"));
    until_plaintext(&shop.api, None).await;
    shop.mesh.write("policy.yaml", &policy("strict", "plaintext: Perhaps"));
    poll::until("it is refused", SOON, async || match shop.mesh.problems().await.len() {
        1 => Ok(()),
        other => Err(other),
    })
    .await;
    shop.mesh.control_plane().kill();
    shop.mesh.restart_control_plane().await;
    let late = shop.mesh.pod("shop/late").app(App::http()).start().await;
    assert_eq!((plaintext(&late, "/").await, plaintext(&shop.api, "/").await), (None, None));
    assert_eq!(shop.mesh.problems().await.len(), 1);
    shop.mesh.remove("policy.yaml");
    until_plaintext(&late, Some(200)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_knows_no_policy_yet_lets_no_plaintext_in() {
    let shop = Shop::open().await;
    let token = shop.mesh.token("shop", "late", "1h").await;
    shop.mesh.control_plane().kill();
    let flags = ["--token-file", token.to_str().unwrap(), "--probes", PROBES];
    let builder = shop.mesh.pod("shop/late").app(App::http()).without_token().flags(flags);
    let pod = builder.start_unready().await;
    until_plaintext(&pod, Some(403)).await;
    assert_eq!(plaintext(&pod, "/healthz").await, Some(200), "it must be found healthy to start");
    shop.mesh.restart_control_plane().await;
    until_plaintext(&pod, Some(200)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_probes_are_let_in_where_plaintext_is_refused() {
    let shop = Shop::open().await;
    shop.mesh.write("policy.yaml", &policy("strict", "plaintext: Deny"));
    let builder = shop.mesh.pod("shop/probed").app(App::http()).flags(["--probes", PROBES]);
    let pod = builder.start().await;
    until_plaintext(&shop.api, None).await;
    until_plaintext(&pod, Some(403)).await;
    let served = pod.app().requests();
    assert_eq!(plaintext(&pod, "/healthz").await, Some(200));
    let mut http2 = Http2::connect(pod.inbound()).await.unwrap();
    let ask = |method: &str, path: &str| request(method, &format!("http://probed.shop{path}"));
    assert_eq!(http2.send(ask("GET", "/healthz")).await.unwrap().status, 200);
    assert_eq!(pod.app().requests(), served + 2);
    for (method, path) in
        [("GET", "/"), ("GET", "/healthz/"), ("GET", "/healthz?a=b"), ("POST", "/healthz")]
    {
        let answer = client::send(pod.inbound(), ask(method, path)).await.unwrap();
        assert_eq!(answer.status, 403, "{method} {path}");
        let answer = http2.send(ask(method, path)).await.unwrap();
        assert_eq!(answer.status, 403, "{method} {path} over HTTP/2");
    }
    let switch = b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\n\
                   upgrade: websocket\r\n\r\n";
    let answer = client::raw(pod.inbound(), switch).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer:?}");
    let bytes = client::raw(pod.inbound(), b"PING\r\n").await.unwrap_or_default();
    assert_eq!(bytes, "");
    assert_eq!(pod.app().requests(), served + 2, "nothing else reached the application");
    assert_eq!(shop.web.get("http://probed.shop:8080/").await.status, 200);
}
