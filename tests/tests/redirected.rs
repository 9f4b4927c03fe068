//! Connections that applications open as if there were no mesh, in pods with real sidecars: each
//! of it in a house of IPv4 and in one of IPv6.

use std::net::SocketAddr;

use tests::house::{House, Mesh, Options, Pod, Program, Stack};
use tests::poll::{self, SOON};

/// Makes two tests of each function.
macro_rules! over_ipv4_and_ipv6 {
    ($($test:ident,)*) => {$(
        mod $test {
            use tests::house::Stack;

            #[tokio::test(flavor = "multi_thread")]
            async fn over_ipv4() {
                super::$test(Stack::V4).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn over_ipv6() {
                super::$test(Stack::V6).await;
            }
        }
    )*};
}

over_ipv4_and_ipv6! {
    a_request_to_a_cluster_ip_goes_over_mutual_tls,
    a_server_that_speaks_first_is_heard_and_a_half_closed_connection_goes_on,
    a_client_that_ends_and_one_that_resets_are_told_apart_by_the_server,
    a_server_that_resets_before_a_word_is_said_leaves_nobody_waiting,
    a_pod_without_a_sidecar_reaches_one_that_has_one_in_plaintext,
    a_pod_with_a_sidecar_reaches_one_that_has_none_in_plaintext,
    what_an_application_says_to_itself_is_not_redirected,
}

async fn open(stack: Stack) -> House {
    House::start(Options { mesh: Mesh::On, stack, ..Options::default() }).await
}

/// `api`, an HTTP server, and `web`, a client.
async fn http(house: &House) -> (Pod, Pod) {
    let app = Program::peer(&["http", "8080", "api"]);
    let api = house.pod("shop/api").port(80, 8080).app(app);
    tokio::join!(Box::pin(api.start()), Box::pin(house.pod("shop/web").start()))
}

/// `api`, which greets and sends back what it gets, and `web`, a client.
async fn echo(house: &House) -> (Pod, Pod) {
    let app = Program::peer(&["echo", "7777", "hello\n"]);
    let api = house.pod("shop/api").port(7, 7777).app(app);
    tokio::join!(Box::pin(api.start()), Box::pin(house.pod("shop/web").start()))
}

async fn counted(pod: &Pod, metric: &str, labels: &[(&str, &str)]) {
    let what = format!("{} counts {metric} {labels:?}", pod.name());
    poll::until(&what, SOON, async || {
        let metrics = pod.metrics().await;
        if metrics.sum(metric, labels) >= 1.0 { Ok(()) } else { Err(metrics.show(metric)) }
    })
    .await;
}

async fn a_request_to_a_cluster_ip_goes_over_mutual_tls(stack: Stack) {
    let house = open(stack).await;
    let (api, web) = http(&house).await;
    let output = web.run(&Program::curl(&["http://api.shop/"])).await;
    assert_eq!(output.stdout, "api", "{output:?}");
    for (pod, direction) in [(&web, "outbound"), (&api, "inbound")] {
        let labels = [("direction", direction), ("tls", "mutual")];
        counted(pod, "pillion_requests_total", &labels).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_ipv6_and_one_over_ipv4_go_over_mutual_tls() {
    let house = open(Stack::Dual).await;
    let (api, web) = http(&house).await;
    for (version, requests) in [("-4", 1.0), ("-6", 2.0)] {
        let output = web.run(&Program::curl(&[version, "http://api/"])).await;
        assert_eq!(output.stdout, "api", "{version}: {output:?}");
        let labels = [("direction", "inbound"), ("tls", "mutual")];
        poll::until_true(&format!("{version} is counted"), SOON, async || {
            api.metrics().await.sum("pillion_requests_total", &labels) == requests
        })
        .await;
    }
}

async fn a_server_that_speaks_first_is_heard_and_a_half_closed_connection_goes_on(stack: Stack) {
    let house = open(stack).await;
    let (api, web) = echo(&house).await;
    let output = web.run(&Program::peer(&["half-close", "api:7", "one two"])).await;
    assert_eq!(output.stdout, "hello\none twobye after 7 bytes\n", "{output:?}");
    let labels = [("direction", "inbound"), ("tls", "mutual")];
    counted(&api, "pillion_tcp_connections_total", &labels).await;
}

async fn a_client_that_ends_and_one_that_resets_are_told_apart_by_the_server(stack: Stack) {
    let house = open(stack).await;
    let (api, web) = echo(&house).await;
    for (client, end) in [("half-close", "closed"), ("reset", "reset")] {
        let before = api.app_log().lines().count();
        let output = web.run(&Program::peer(&[client, "api:7", "x"])).await;
        assert_eq!(output.code, Some(0), "{output:?}");
        poll::until(&format!("the server sees that {client}"), SOON, async || {
            let log = api.app_log();
            let ends: Vec<&str> = log.lines().skip(before).collect();
            if ends == [end] { Ok(()) } else { Err(log) }
        })
        .await;
    }
}

/// As the kernel does for connections that a killed server has not accepted yet.
async fn a_server_that_resets_before_a_word_is_said_leaves_nobody_waiting(stack: Stack) {
    let house = open(stack).await;
    let app = Program::peer(&["slam", "7777"]);
    let start = |name: &str| house.pod(name).port(7, 7777).app(app.clone());
    let (meshed, plain) = (start("shop/meshed"), start("shop/plain").without_sidecar());
    let client = house.pod("shop/web");
    let (meshed, _plain, web) =
        tokio::join!(Box::pin(meshed.start()), Box::pin(plain.start()), Box::pin(client.start()));
    for name in ["meshed", "plain"] {
        let service = format!("shop/{name}");
        let labels = [("service", &*service), ("error", "upstream_reset")];
        // Until the endpoint is known, the sidecar itself resets.
        poll::until_true(&format!("{name} resets"), SOON, async || {
            let client = Program::peer(&["first-byte", &format!("{name}:7"), "", "1"]);
            let output = web.run(&client).await;
            assert!(output.stderr.contains("reset by peer"), "{name}: {output:?}");
            web.metrics().await.sum("pillion_tcp_connections_total", &labels) >= 1.0
        })
        .await;
    }
    let labels = [("direction", "inbound"), ("error", "upstream_reset")];
    counted(&meshed, "pillion_tcp_connections_total", &labels).await;
}

async fn a_pod_without_a_sidecar_reaches_one_that_has_one_in_plaintext(stack: Stack) {
    let house = open(stack).await;
    let app = Program::peer(&["http", "8080", "api"]);
    let api = house.pod("shop/api").port(80, 8080).app(app).start().await;
    let outside = house.pod("shop/outside").without_sidecar().start().await;
    assert_eq!(outside.get("http://api/").await.unwrap().text(), "api");
    let labels = [("direction", "inbound"), ("tls", "none")];
    counted(&api, "pillion_requests_total", &labels).await;
}

async fn a_pod_with_a_sidecar_reaches_one_that_has_none_in_plaintext(stack: Stack) {
    let house = open(stack).await;
    let app = Program::peer(&["http", "8080", "old"]);
    let old = house.pod("shop/old").port(80, 8080).app(app).without_sidecar().start();
    let (_old, web) = tokio::join!(Box::pin(old), Box::pin(house.pod("shop/web").start()));
    // A pod without a sidecar cannot tell when the mesh knows of it.
    poll::until("the endpoint is known", SOON, async || {
        let answer = web.get("http://old/").await.unwrap();
        if answer.text() == "old" { Ok(()) } else { Err(answer) }
    })
    .await;
    let labels = [("direction", "outbound"), ("tls", "none")];
    counted(&web, "pillion_requests_total", &labels).await;
}

async fn what_an_application_says_to_itself_is_not_redirected(stack: Stack) {
    let house = open(stack).await;
    let (api, _web) = http(&house).await;
    let own = SocketAddr::new(api.addresses().first, 8080).to_string();
    for host in ["127.0.0.1:8080", "[::1]:8080", &own] {
        assert_eq!(api.get(&format!("http://{host}/")).await.unwrap().text(), "api", "{host}");
    }
    let metrics = api.metrics().await;
    assert_eq!(metrics.sum("pillion_requests_total", &[]), 0.0);
}
