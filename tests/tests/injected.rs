//! The examples of deploy/, injected and run as pods: container by container, as the patch says.

use tests::house::Pod;
use tests::house::injected::Example;
use tests::poll::{self, SOON};

/// Waits until the sum of a counter over these pods is at least this.
async fn counted(pods: &[Pod], least: f64, metric: &str, labels: &[(&str, &str)]) {
    poll::until(&format!("{metric} {labels:?}"), SOON, async || {
        let mut sum = 0.0;
        for pod in pods {
            sum += pod.metrics().await.sum(metric, labels);
        }
        if sum >= least { Ok(()) } else { Err(sum) }
    })
    .await;
}

/// A call of the first pods to a Service that the second ones serve was over mutual TLS, and none
/// was not.
async fn assert_mutual(clients: &[Pod], service: &str, servers: &[Pod]) {
    for (pods, direction) in [(clients, "outbound"), (servers, "inbound")] {
        let labels = [("direction", direction), ("service", service), ("tls", "mutual")];
        counted(pods, 1.0, "pillion_requests_total", &labels).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_through_the_shop_goes_over_mutual_tls() {
    let shop = Example::open("shop").await;
    let start = ["data", "api", "web"].map(|workload| shop.start(workload));
    let [data, api, web] = &futures_util::future::join_all(start).await[..] else { unreachable!() };
    let output = web[0].run(&tests::house::Program::curl(&["http://web.demo/"])).await;
    let answer: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(answer["service"], "web", "{answer}");
    assert_eq!(answer["calls"]["service"], "api", "{answer}");
    assert_eq!(answer["calls"]["calls"]["service"], "data", "{answer}");
    assert_mutual(web, "demo/api", api).await;
    assert_mutual(api, "demo/data", data).await;
}
