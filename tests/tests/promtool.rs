//! The metrics pages as Prometheus's own tool judges them.

use std::path::Path;
use std::time::Duration;

use tests::mesh::Mesh;
use tests::metrics::{Metrics, page};
use tests::process::run;
use tests::tools;

use crate::shop::{API, Shop};

/// `promtool check metrics` reads the page from standard input, so a shell hands it over.
async fn assert_clean(mesh: &Mesh, name: &str, page: &str) {
    let promtool = tools::find("promtool", "prometheus");
    let file = mesh.logs().join(format!("{name}.metrics"));
    std::fs::write(&file, page).unwrap();
    let script = format!("'{}' check metrics < '{}'", promtool.display(), file.display());
    let output = run(Path::new("/bin/sh"), ["-c", &script], &[], Duration::from_secs(60)).await;
    let said = format!("{}{}", output.stdout, output.stderr);
    assert_eq!((output.code, said.as_str()), (Some(0), ""), "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metrics_page_is_clean_after_traffic_and_errors() {
    let shop = Shop::open().await;
    for path in ["/a", "/status/503", "/status/404"] {
        shop.web.get(&format!("{API}{path}")).await;
    }
    shop.web.get("http://nothing.shop/").await;
    let (web, api) = (shop.web.admin(), shop.api.admin());
    for (name, admin) in [("web", web), ("api", api), ("control-plane", shop.mesh.admin())] {
        assert_clean(&shop.mesh, name, &page(admin).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_that_dashboards_need_are_there() {
    let shop = Shop::open().await;
    shop.web.get(API).await;
    let metrics = shop.web.metrics().await;
    for name in [
        "pillion_requests_total",
        "pillion_request_duration_seconds_bucket",
        "pillion_tls_handshakes_total",
        "pillion_certificate_expiry_timestamp_seconds",
        "pillion_config_publication",
        "pillion_config_staleness_seconds",
        "pillion_control_plane_connected",
        "pillion_endpoints",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
    ] {
        assert!(metrics.has(name, &[]), "{name} is missing:\n{}", page(shop.web.admin()).await);
    }
    let lifetime = metrics.sum("pillion_certificate_lifetime_seconds", &[]);
    assert!((86_000.0..=86_400.0).contains(&lifetime), "{lifetime}");
}

/// Names that a client makes up must not become label values.
#[tokio::test(flavor = "multi_thread")]
async fn made_up_hosts_and_paths_do_not_grow_the_metrics() {
    let shop = Shop::open().await;
    shop.web.get("http://nothing.shop/").await;
    shop.web.get(API).await;
    let lines = async || page(shop.web.admin()).await.lines().count();
    let before = lines().await;
    for number in 0..100 {
        shop.web.get(&format!("http://made-up-{number}.shop/")).await;
        shop.web.get(&format!("{API}/made/up/{number}")).await;
    }
    assert_eq!(lines().await, before);
    let metrics = Metrics::scrape(shop.web.admin()).await;
    assert_eq!(metrics.sum("pillion_requests_total", &[("service", "unknown")]), 101.0);
}
