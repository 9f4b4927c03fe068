//! Of several replicas one leads.

#![allow(clippy::unwrap_used)] // tests fail by panicking

use std::time::Duration;

use control_plane::cluster::lease::Candidate;
use kube::{Client, Config};
use tests::apiserver::ApiServer;
use tests::poll;
use tokio::sync::watch;

/// Half a minute that the Lease holds, and what a busy machine adds.
const PATIENCE: Duration = Duration::from_secs(90);

/// A replica that tries to lead.
struct Replica {
    leads: watch::Receiver<bool>,
    end: watch::Sender<bool>,
    running: tokio::task::JoinHandle<()>,
}

impl Replica {
    fn start(api: &ApiServer, name: &str) -> Self {
        let config = Config::new(format!("http://{}", api.address()).parse().unwrap());
        let client = Client::try_from(config).unwrap();
        let namespace = "pillion-system".parse().unwrap();
        let (candidate, leads) = Candidate::new(client, &namespace, name.into());
        let (end, ending) = watch::channel(false);
        Self { leads, end, running: tokio::spawn(candidate.run(ending)) }
    }

    fn leads(&self) -> bool {
        *self.leads.borrow()
    }
}

async fn until_one_leads(replicas: &[&Replica]) -> usize {
    poll::until("one replica leads", PATIENCE, async || {
        replicas.iter().position(|replica| replica.leads()).ok_or("none leads")
    })
    .await
}

fn holder(api: &ApiServer) -> String {
    let lease =
        api.get("coordination.k8s.io/v1", "Lease", "pillion-system", "pillion-control-plane");
    lease.unwrap()["spec"]["holderIdentity"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_and_another_does_when_it_leaves_or_is_lost() {
    let api = ApiServer::start().await;
    api.namespace("pillion-system", &serde_json::json!({}));
    let names = ["a", "b", "c", "d"];
    let replicas: Vec<Replica> = names.iter().map(|name| Replica::start(&api, name)).collect();
    let all: Vec<&Replica> = replicas.iter().collect();
    let first = until_one_leads(&all).await;
    // Longer than two tries: nobody else comes to lead while it is renewed.
    for _ in 0..120 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(replicas.iter().filter(|replica| replica.leads()).count() <= 1);
    }
    assert!(replicas[first].leads());
    assert_eq!(holder(&api), names[first]);
    // One that leaves gives the Lease back.
    replicas[first].end.send_replace(true);
    let rest: Vec<&Replica> =
        all.iter().copied().filter(|one| !std::ptr::eq(*one, all[first])).collect();
    let second = rest[until_one_leads(&rest).await];
    assert!(!replicas[first].leads());
    // One that is lost does not.
    second.running.abort();
    let rest: Vec<&Replica> = rest.into_iter().filter(|one| !std::ptr::eq(*one, second)).collect();
    let begun = std::time::Instant::now();
    until_one_leads(&rest).await;
    assert!(begun.elapsed() > Duration::from_secs(20), "a Lease that holds is taken from nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_cannot_renew_stops_to_lead_before_others_may() {
    let api = ApiServer::start().await;
    api.namespace("pillion-system", &serde_json::json!({}));
    let replica = Replica::start(&api, "a");
    until_one_leads(&[&replica]).await;
    let begun = std::time::Instant::now();
    api.stop().await;
    poll::until_true("it leads no more", PATIENCE, async || !replica.leads()).await;
    // The Lease holds for 30 s from before the API server went away.
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}
