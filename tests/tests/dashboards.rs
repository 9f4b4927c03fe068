//! The dashboards and alerts ask only for metrics and labels that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tests::bins::workspace;
use tests::metrics::page;
use tests::process::run;
use tests::promql::{Query, read};
use tests::tools;

use crate::shop::{API, Shop};

/// What a scrape adds to every sample (deploy/prometheus/scrape.yaml), and a histogram to its buckets.
const ADDED: [&str; 5] = ["job", "instance", "namespace", "pod", "le"];

/// The labels of each metric, by name.
type Catalogue = BTreeMap<String, BTreeSet<String>>;

/// The tables of docs/METRICS.md: `| name | kind | labels | text |`.
fn documented() -> Catalogue {
    let text = std::fs::read_to_string(workspace().join("docs/METRICS.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `pillion_"));
    let mut found = Catalogue::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels: BTreeSet<String> =
            cells[3].split(',').map(|label| label.trim().trim_matches('`').to_owned()).collect();
        let labels = labels.into_iter().filter(|label| !label.is_empty()).collect();
        found.insert(cells[1].trim_matches('`').to_owned(), labels);
    }
    assert!(found.len() > 30, "{found:?}");
    found
}

/// The name that a sample belongs to: a histogram has three.
fn family(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

/// Every dashboard's query and every alert's expression, with where it stands.
fn queries() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in dashboards() {
        let text = std::fs::read_to_string(&file).unwrap();
        let place = file.file_name().unwrap().to_str().unwrap();
        collect(&serde_json::from_str(&text).unwrap(), place, &mut found);
    }
    found.extend(alerts());
    found
}

fn dashboards() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(workspace().join("deploy/dashboards")).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    let files: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|e| e == "json")).collect();
    assert_eq!(files.len(), 5, "mesh, service, workload, identity, control plane: {files:?}");
    files
}

/// The strings under `expr`, and those of variables: `label_values(SELECTOR, label)`.
fn collect(value: &Value, place: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if key == "expr" => {
                        found.push((place.to_owned(), text.clone()));
                    }
                    Value::String(text) if text.starts_with("label_values(") => {
                        found.push((place.to_owned(), variable(text)));
                    }
                    _ => collect(value, place, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, place, found)),
        _ => {}
    }
}

/// `label_values(SELECTOR, label)` as the query that asks the same.
fn variable(text: &str) -> String {
    let inner = text.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap();
    let (selector, label) = inner.rsplit_once(',').unwrap();
    format!("sum by ({}) ({selector})", label.trim())
}

fn rules() -> PathBuf {
    workspace().join("deploy/prometheus/rules.yaml")
}

fn alerts() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(rules()).unwrap();
    let mut found = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(mut expression) = line.trim().strip_prefix("expr: ").map(str::to_owned) else {
            continue;
        };
        if expression == ">-" {
            let indent = |line: &str| line.len() - line.trim_start().len();
            expression.clear();
            while let Some(more) = lines.next_if(|next| indent(next) > indent(line)) {
                expression = expression + " " + more.trim();
            }
        }
        found.push(("rules.yaml".to_owned(), expression));
    }
    assert_eq!(found.len(), text.matches("- alert: ").count());
    found
}

fn faults(query: &Query, catalogue: &Catalogue) -> Vec<String> {
    let mut faults = Vec::new();
    let mut known: BTreeSet<&str> = ADDED.into();
    for (metric, asked) in &query.selectors {
        let Some(labels) = catalogue.get(family(metric)) else {
            if !metric.starts_with("process_") {
                faults.push(format!("there is no metric {metric}"));
            }
            continue;
        };
        known.extend(labels.iter().map(String::as_str));
        let wrong = asked
            .iter()
            .filter(|label| !labels.contains(*label) && !ADDED.contains(&label.as_str()));
        faults.extend(wrong.map(|label| format!("{metric} has no label {label}")));
    }
    let wrong = query.grouped.iter().filter(|label| !known.contains(label.as_str()));
    faults.extend(wrong.map(|label| format!("no metric of the query has a label {label}")));
    faults
}

#[test]
fn every_query_asks_for_metrics_and_labels_that_are_documented() {
    let catalogue = documented();
    let mut wrong = Vec::new();
    for (place, text) in queries() {
        let query = read(&text);
        assert!(!query.selectors.is_empty(), "{place}: no metric in {text}");
        wrong.extend(
            faults(&query, &catalogue).into_iter().map(|fault| format!("{place}: {fault}: {text}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_query_for_what_is_not_there_is_found() {
    let catalogue = documented();
    for text in [
        "sum(pillion_request_total)",
        r#"rate(pillion_requests_total{services="a"}[5m])"#,
        "sum by (services) (pillion_requests_total)",
    ] {
        assert_eq!(faults(&read(text), &catalogue).len(), 1, "{text}");
    }
}

/// The documentation is what the queries are held against: what runs must agree with it.
#[tokio::test(flavor = "multi_thread")]
async fn every_sample_of_a_running_mesh_has_the_documented_labels() {
    let exported = exported().await;
    let mut missing = documented();
    for (name, labels) in exported.iter().filter(|(name, _)| name.starts_with("pillion_")) {
        assert_eq!(Some(labels), documented().get(name), "{name}");
        missing.remove(name);
    }
    // What has no labels is exported from the start; what has some, once there is something to count.
    missing.retain(|_, labels| labels.is_empty());
    assert!(missing.is_empty(), "documented and not exported: {missing:?}");
    for (place, text) in queries() {
        for (name, _) in
            read(&text).selectors.iter().filter(|(name, _)| name.starts_with("process_"))
        {
            assert!(exported.contains_key(name), "{place}: nobody exports {name}");
        }
    }
}

/// What two sidecars and a control plane export after some traffic.
async fn exported() -> Catalogue {
    let shop = Shop::open().await;
    for path in ["/a", "/status/503"] {
        shop.web.get(&format!("{API}{path}")).await;
    }
    let mut found = Catalogue::new();
    for admin in [shop.web.admin(), shop.api.admin(), shop.mesh.admin()] {
        for line in page(admin).await.lines().filter(|line| !line.starts_with('#')) {
            let (name, mut labels) = read(line).selectors.remove(0);
            labels.remove("le");
            let before = found.insert(family(&name).to_owned(), labels.clone());
            assert!(before.is_none_or(|before| before == labels), "{line}");
        }
    }
    found
}

#[tokio::test]
async fn promtool_accepts_the_alerts_and_the_scrape_configuration() {
    let promtool = tools::find("promtool", "prometheus");
    let home = tempfile::tempdir().unwrap();
    let scrape = home.path().join("scrape.yaml");
    std::fs::write(&scrape, without_discovery()).unwrap();
    judge(&promtool, &["check", "rules"], &rules()).await;
    judge(&promtool, &["check", "config", "--syntax-only"], &scrape).await;
}

#[tokio::test]
async fn alerts_fire_for_what_they_are_meant_for_and_for_nothing_else() {
    let promtool = tools::find("promtool", "prometheus");
    let cases = workspace().join("tests/prometheus/alerts.yaml");
    judge(&promtool, &["test", "rules"], &cases).await;
}

/// The scrape configuration without its `kubernetes_sd_configs`: Debian's promtool is built without
/// them. What is left are the jobs and their relabelling.
fn without_discovery() -> String {
    let text = std::fs::read_to_string(workspace().join("deploy/prometheus/scrape.yaml")).unwrap();
    let (mut kept, mut inside) = (String::new(), false);
    for line in text.lines() {
        inside = line == "    kubernetes_sd_configs:" || (inside && line.starts_with("      "));
        if !inside {
            kept = kept + line + "\n";
        }
    }
    assert!(kept.contains("relabel_configs") && !kept.contains("kubernetes_sd"), "{kept}");
    kept
}

async fn judge(promtool: &Path, command: &[&str], file: &Path) {
    let args = command.iter().copied().chain([file.to_str().unwrap()]);
    let output = run(promtool, args, &[], Duration::from_secs(60)).await;
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
}
