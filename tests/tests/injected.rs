//! The examples of deploy/, injected and run as pods: container by container, as the patch says.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use tests::house::injected::Example;
use tests::house::{Pod, Program, Stack};
use tests::poll::{self, SOON};

/// Waits until the sum of a counter over these pods is at least this.
async fn counted(pods: &[Pod], metric: &str, labels: &[(&str, &str)]) {
    poll::until(&format!("{metric} {labels:?}"), SOON, async || {
        let mut sum = 0.0;
        for pod in pods {
            sum += pod.metrics().await.sum(metric, labels);
        }
        if sum >= 1.0 { Ok(()) } else { Err(sum) }
    })
    .await;
}

/// What the first pods sent to a Service that the second ones serve went over mutual TLS, and
/// nothing that they sent did not; what found nobody there counts as an error, and was not sent.
/// `metric` counts requests or connections by their ends.
async fn assert_mutual(metric: &str, clients: &[Pod], service: &str, servers: &[Pod]) {
    for (pods, direction) in [(clients, "outbound"), (servers, "inbound")] {
        let labels = [("direction", direction), ("service", service), ("tls", "mutual")];
        counted(pods, metric, &[&labels[..], &[("error", "")]].concat()).await;
    }
    for client in clients {
        let metrics = client.metrics().await;
        let plain = [("direction", "outbound"), ("tls", "none"), ("error", "")];
        let plain = metrics.sum(metric, &plain);
        assert_eq!(plain, 0.0, "{}", metrics.show(metric));
    }
}

/// All pods of these workloads, started at once.
async fn start<const N: usize>(example: &Example, workloads: [&str; N]) -> [Vec<Pod>; N] {
    let all = futures_util::future::join_all(workloads.map(|workload| example.start(workload)));
    all.await.try_into().expect("as many as were asked for")
}

/// What the node gets of the application of a pod, in plaintext.
async fn json_from(example: &Example, pod: &Pod) -> Value {
    let answer = example.ask((pod.addresses().first, 8080).into(), "/").await.expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_through_the_shop_goes_over_mutual_tls() {
    let shop = Example::open("shop").await;
    let [data, api, web] = start(&shop, ["data", "api", "web"]).await;
    assert_eq!((data.len(), api.len(), web.len()), (2, 3, 1), "the replicas of the example");
    let answer = json_from(&shop, &web[0]).await;
    assert_eq!((&answer["service"], &answer["replica"]), (&json!("web"), &json!("web-0")));
    assert_eq!(answer["calls"]["service"], "api", "{answer}");
    assert_eq!(answer["calls"]["calls"]["service"], "data", "{answer}");
    assert_mutual("pillion_requests_total", &web, "demo/api", &api).await;
    assert_mutual("pillion_requests_total", &api, "demo/data", &data).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_both_ip_versions_are_told_both_of_their_addresses() {
    let shop = Example::open_with("shop", Stack::Dual, |_| ()).await;
    let [data, api] = start(&shop, ["data", "api"]).await;
    for version in ["-4", "-6"] {
        let output = api[0].run(&Program::curl(&[version, "http://data.demo/"])).await;
        let answer: Value = serde_json::from_str(&output.stdout).expect("JSON");
        assert_eq!(answer["service"], "data", "{version}: {output:?}");
    }
    assert_mutual("pillion_requests_total", &api[..1], "demo/data", &data).await;
    let environment = fs::read_to_string(format!("/proc/{}/environ", api[0].sidecar().id()));
    let all = api[0].addresses().all();
    let expected = format!("PILLION_ADDRESS={},{}", all[0], all[1]);
    assert!(environment.unwrap().split('\0').any(|variable| variable == expected), "{expected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_of_the_shop_is_told_whose_pod_calls() {
    let shop = Example::open_with("shop", Stack::V4, |pod| {
        if pod["metadata"]["labels"]["app"] == "data" {
            pod["spec"]["containers"][0]["image"] = json!("peer");
            pod["spec"]["containers"][0]["command"] = json!(["/peer", "headers", "8080"]);
        }
    });
    let shop = shop.await;
    let [_data, _api, web] = start(&shop, ["data", "api", "web"]).await;
    let answer = json_from(&shop, &web[0]).await;
    let seen = &answer["calls"]["calls"];
    assert_eq!(seen["x-pillion-peer"], "spiffe://mesh.test/ns/demo/sa/api", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_has_the_user_the_files_and_the_variables_of_the_patch_and_no_more() {
    let shop = Example::open("shop").await;
    let web = &shop.start("web").await[0];
    let proxy = shop.object("web-0")["spec"]["initContainers"][1].clone();
    assert_eq!(proxy["name"], "pillion-proxy");
    let process = format!("/proc/{}", web.sidecar().id());
    let read = |file: &str| fs::read_to_string(format!("{process}/{file}")).unwrap();
    let status = read("status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap().split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(field("Uid"), proxy["securityContext"]["runAsUser"].to_string());
    assert_eq!(field("Gid"), proxy["securityContext"]["runAsGroup"].to_string());
    assert_eq!(field("NoNewPrivs"), "1");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&field(set), 16), Ok(0), "{set}");
    }
    let environment = read("environ");
    let names = environment.split_terminator('\0').map(|one| one.split_once('=').unwrap().0);
    let asked = proxy["env"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap());
    assert_eq!(names.collect::<BTreeSet<_>>(), asked.chain(["PATH"]).collect());
    // Mount point and options are the fifth and sixth field (proc_pid_mountinfo(5)).
    let mounts = read("mountinfo");
    let mounts: Vec<Vec<&str>> = mounts.lines().map(|line| line.split(' ').collect()).collect();
    let options = |at: &str| {
        let mount = mounts.iter().find(|mount| mount[4] == at);
        mount.unwrap_or_else(|| panic!("nothing is mounted at {at}: {mounts:?}"))[5]
    };
    assert!(options("/").starts_with("ro,"), "{mounts:?}");
    for mount in proxy["volumeMounts"].as_array().unwrap() {
        let mode = if mount["readOnly"] == true { "ro," } else { "rw," };
        assert!(options(mount["mountPath"].as_str().unwrap()).starts_with(mode), "{mounts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kubelets_probe_reaches_an_application_whose_sidecar_refuses_plaintext() {
    let shop = Example::open_with("shop", Stack::V4, |pod| {
        pod["metadata"]["annotations"] = json!({"pillion.dev/inbound-plaintext": "deny"});
    });
    let shop = shop.await;
    // That it becomes ready is what its probe says.
    let [data, api] = start(&shop, ["data", "api"]).await;
    let place = (api[0].addresses().first, 8080).into();
    let probed = shop.ask(place, "/healthz").await.unwrap();
    assert_eq!((probed.status.as_u16(), &probed.json()["service"]), (200, &json!("api")));
    let refused = shop.ask(place, "/").await.unwrap();
    assert_eq!(refused.status, 403, "{refused:?}");
    // From its own pod it goes through the mesh.
    let answer = api[0].get("http://api.demo/").await.unwrap();
    assert_eq!(answer.json()["calls"]["service"], "data", "{answer:?}");
    assert_mutual("pillion_requests_total", &api, "demo/data", &data).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_nats_go_over_mutual_tls() {
    let nats = Example::open("nats").await;
    let [broker, consumer, publisher] = start(&nats, ["broker", "consumer", "publisher"]).await;
    poll::until("the consumer gets a message", SOON, async || {
        let log = consumer[0].app_log();
        if log.contains("INFO\n") && log.contains("got hello ") { Ok(()) } else { Err(log) }
    })
    .await;
    // Connections are counted when they have ended.
    for client in [&consumer[0], &publisher[0]] {
        client.kill_app();
    }
    for clients in [&consumer, &publisher] {
        assert_mutual("pillion_tcp_connections_total", clients, "messages/broker", &broker).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_fetches_its_page_over_mutual_tls_and_its_pod_ends() {
    let example = Example::open("job").await;
    let server = example.start("server").await;
    let job = example.start("fetch").await;
    let status = job[0].app_end().await;
    assert_eq!(status.code(), Some(0), "{}", job[0].app_log());
    let page = include_str!("../../deploy/examples/job/page.txt");
    assert_eq!(job[0].app_log().trim_end(), page.trim_end());
    assert_mutual("pillion_requests_total", &job, "work/server", &server).await;
    let status = job[0].end_sidecar().await;
    assert_eq!(status.code(), Some(0), "the sidecar ends well, and so does the Job");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_replica_of_a_statefulset_is_reached_by_its_own_name_over_mutual_tls() {
    let example = Example::open("statefulset").await;
    let [store, reader] = start(&example, ["store", "reader"]).await;
    assert_eq!(store.len(), 3);
    // Another client than the example's: a replica that asks its neighbour.
    let answer = store[0].get("http://store-1.store.store:8080/").await.unwrap();
    assert_eq!(answer.text(), "store-1");
    assert_mutual("pillion_requests_total", &store[..1], "store/store", &store[1..2]).await;
    for pod in &store {
        let said = format!("{name}.store.store:8080 is {name}\n", name = pod.name());
        poll::until(&said, SOON, async || {
            let log = reader[0].app_log();
            if log.contains(&said) { Ok(()) } else { Err(log) }
        })
        .await;
        let own = std::slice::from_ref(pod);
        let labels = [("direction", "inbound"), ("service", "store/store"), ("tls", "mutual")];
        counted(own, "pillion_requests_total", &labels).await;
    }
    assert_mutual("pillion_requests_total", &reader, "store/store", &store).await;
}
