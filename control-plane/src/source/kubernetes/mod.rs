//! The objects of a Kubernetes API server.
//!
//! A task for each kind ([`follow`]) lists and watches it for ever, a [`Mirror`] holds what they
//! tell against what was told before, and what differs goes on as a [`Batch`]. Whatever becomes of
//! the API server, nothing that runs is disturbed: what it said last stays in force, and how long
//! ago that was is measured ([`Contacts`]).

mod ask;
mod contact;
mod failure;
mod follow;
mod mirror;
mod news;
mod read;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::mpsc;

pub use contact::Contacts;
use mirror::Mirror;

use super::Batch;
use crate::object::Known;

/// What happens together in a cluster (a pod, its EndpointSlice) is told within this time of the
/// first of it, and published at once.
const GATHER: Duration = Duration::from_millis(20);

/// How many pieces of news may wait; a full queue makes the watches wait.
const QUEUE: usize = 1024;

/// Follows every kind that the mesh reads, until the receiver of the batches is gone.
pub fn spawn(client: Client, contacts: Arc<Contacts>, batches: mpsc::Sender<Batch>) {
    let (tell, told) = mpsc::channel(QUEUE);
    for kind in Known::ALL {
        let follower = follow::Follower::new(client.clone(), kind, tell.clone());
        tokio::spawn(follower.run(Arc::clone(&contacts)));
    }
    tokio::spawn(collect(told, batches));
}

/// Makes batches of what is told.
async fn collect(mut told: mpsc::Receiver<news::Told>, batches: mpsc::Sender<Batch>) {
    let mut mirror = Mirror::new(&Known::ALL);
    while let Some(first) = told.recv().await {
        mirror.take(first);
        let gathered = tokio::time::sleep(GATHER);
        tokio::pin!(gathered);
        loop {
            tokio::select! {
                Some(more) = told.recv() => mirror.take(more),
                () = &mut gathered => break,
            }
        }
        if let Some(batch) = mirror.batch()
            && batches.send(batch).await.is_err()
        {
            return;
        }
    }
}
