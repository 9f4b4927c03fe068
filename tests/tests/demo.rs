//! `pillion demo`: the first thing that anybody runs.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tests::bins::bins;
use tests::net::Net;
use tests::poll::{self, SOON};
use tests::process::{Process, run};

/// Starting, ten seconds of load and leaving, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn ten_seconds_succeed_with_no_failure_and_all_of_it_over_mutual_tls() {
    let net = Net::reserve();
    let base = net.base().to_string();
    let args = ["demo", "--for", "10s", "--json", "--base-address", &base];
    let output = run(&bins().pillion, args, &[], LIMIT).await;
    assert_eq!(output.code, Some(0), "{}\n{}", output.stdout, output.stderr);
    let summary: Value = serde_json::from_str(&output.stdout)
        .unwrap_or_else(|error| panic!("standard output is no JSON ({error}): {}", output.stdout));
    assert_eq!(summary["failures"], 0, "{summary:#}");
    assert_eq!(summary["mtls_share"].as_f64(), Some(1.0), "{summary:#}");
    assert!(summary["requests"].as_u64().is_some_and(|count| count > 100), "{summary:#}");
    assert!(summary["retries"].as_u64().is_some_and(|count| count > 0), "{summary:#}");
    let services = summary["services"].to_string();
    for service in ["web", "api", "data"] {
        assert!(services.contains(service), "{service} is missing: {summary:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_a_clear_error_and_nothing_stays_behind() {
    let net = Net::reserve();
    let taken = SocketAddr::new(net.next(), 15008);
    let _listener = TcpListener::bind(taken).unwrap();
    let base = net.base().to_string();
    let output =
        run(&bins().pillion, ["demo", "--for", "5s", "--base-address", &base], &[], LIMIT).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains(&taken.to_string()), "the port is named: {}", output.stderr);
    assert!(output.stderr.lines().count() < 20, "a message, no dump: {}", output.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_leaves_no_process_and_no_file() {
    assert_gone_after(Signal::INT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_leaves_no_process() {
    assert_gone_after(Signal::KILL).await;
}

async fn assert_gone_after(signal: Signal) {
    let net = Net::reserve();
    let temp = tempfile::tempdir().unwrap();
    let base = net.base().to_string();
    let args = ["demo", "--base-address", &base];
    let environment = [("TMPDIR", temp.path().to_str().unwrap())];
    let mut demo = Process::start("demo", temp.path(), &bins().pillion, args, &environment);
    let id = demo.id();
    // Eight pods, each a sidecar and all but one with an application, and the control plane.
    let children = poll::until("the demo's processes run", LIMIT, async || {
        if let Some(status) = demo.ended() {
            panic!("the demo has ended: {status}\n{}", demo.log());
        }
        let children = descendants(id);
        if children.len() >= 10 { Ok(children) } else { Err(children) }
    })
    .await;
    demo.signal(signal);
    demo.wait(SOON).await;
    poll::until("its processes are gone", SOON, async || {
        let left: Vec<_> = children.iter().filter(|child| child.lives()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    if signal == Signal::INT {
        let left: Vec<_> =
            fs::read_dir(temp.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(left, ["demo.log"], "the demo's files are gone");
    }
}

/// A process, told from a later one with the same id by its start.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Child {
    id: u32,
    start: String,
}

impl Child {
    fn lives(&self) -> bool {
        stat(self.id).is_some_and(|stat| stat.start == self.start && stat.state != "Z")
    }
}

struct Stat {
    state: String,
    parent: u32,
    start: String,
}

/// `/proc/ID/stat` (proc(5)): the name is in parentheses and may hold anything.
fn stat(id: u32) -> Option<Stat> {
    let text = fs::read_to_string(Path::new("/proc").join(id.to_string()).join("stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        state: (*fields.first()?).to_owned(),
        parent: fields.get(1)?.parse().ok()?,
        start: (*fields.get(19)?).to_owned(),
    })
}

fn descendants(of: u32) -> BTreeSet<Child> {
    let ids = || {
        let names = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(|name| name.parse::<u32>().ok())
    };
    let all: Vec<(u32, Stat)> = ids().filter_map(|id| Some((id, stat(id)?))).collect();
    let mut family = BTreeSet::from([of]);
    loop {
        let children = all.iter().filter(|(_, stat)| family.contains(&stat.parent));
        let found: Vec<u32> =
            children.map(|(id, _)| *id).filter(|id| !family.contains(id)).collect();
        if found.is_empty() {
            break;
        }
        family.extend(found);
    }
    let children = all.into_iter().filter(|(id, _)| *id != of && family.contains(id));
    children.map(|(id, stat)| Child { id, start: stat.start }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_flag_of_the_demo_is_a_usage_error() {
    let output = run(&bins().pillion, ["demo", "--jsn"], &[], SOON).await;
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.stderr.contains("--json"), "the nearest flag is named: {}", output.stderr);
}
