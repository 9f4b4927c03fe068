//! Who a sidecar is, by its pod's service-account token.
//!
//! The API server is asked (TokenReview), for our audience and never without one, and the answer
//! must name it. A token outlives its pod by some seconds in the API server's cache, so the pod
//! that it is bound to must be one that is watched, of this uid, and have the address that the
//! sidecar comes from. With its certificate a sidecar needs no token any more, but its pod must
//! still be there.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use certs::{MAX_TOKEN, ServiceAccount, ServiceAccountError};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::api::PostParams;
use kube::{Api, Client};
use model::spiffe::SpiffeId;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::hub::{Input, KnownPod};

/// How long the API server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a pod may be unknown to us, or known without its address: a sidecar may start before
/// the watch tells of it.
const UNKNOWN: Duration = Duration::from_secs(5);

/// How often the pod is looked for meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// How many reviews are under way at once, at most.
const AT_ONCE: usize = 64;

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Asks the API server whose tokens are.
#[derive(Debug, Clone)]
pub struct TokenReviews {
    reviews: Api<TokenReview>,
    audience: String,
    hub: mpsc::UnboundedSender<Input>,
    /// Whoever reaches the API may ask; the API server is not flooded with it.
    permits: Arc<Semaphore>,
}

/// Why a token proves nobody.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// Longer than tokens are.
    #[error("the token is {0} bytes long; at most {MAX_TOKEN} are taken")]
    TooLong(usize),
    /// The API server cannot be asked: the sidecar should try again.
    #[error("the API server cannot be asked now: {0}")]
    Unavailable(String),
    /// It is no token, or has expired, or is for another audience.
    #[error("the API server does not accept the token for the audience {audience:?}: {reason}")]
    NotAuthenticated {
        /// The audience that it must be for.
        audience: String,
        /// What the API server says.
        reason: String,
    },
    /// It is no service account's.
    #[error(transparent)]
    Account(#[from] ServiceAccountError),
    /// It is bound to no pod.
    #[error("the token of {0} is bound to no pod; a projected token is needed")]
    Unbound(ServiceAccount),
    /// The pod is not there, or another one has its name.
    #[error("there is no pod {0} with the uid that the token names")]
    NoPod(String),
    /// The pod has other addresses.
    #[error("the token is of pod {pod}, which has not the address {peer}")]
    Address {
        /// The pod.
        pod: String,
        /// Where the sidecar comes from.
        peer: IpAddr,
    },
    /// A certificate is shown from where no pod is that it could be of.
    #[error("no pod of {identity} has the address {peer}")]
    Gone {
        /// Whose certificate it is.
        identity: SpiffeId,
        /// Where the sidecar comes from.
        peer: IpAddr,
    },
}

/// The pod that a token is bound to.
#[derive(Debug, PartialEq, Eq)]
struct Bound {
    account: ServiceAccount,
    pod: String,
    uid: String,
}

impl TokenReviews {
    /// Takes tokens for this audience; the hub knows the pods.
    pub fn new(client: Client, audience: String, hub: mpsc::UnboundedSender<Input>) -> Self {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        Self { reviews: Api::all(client), audience, hub, permits }
    }

    /// The service account whose token it is, for a sidecar that comes from `peer`.
    pub(crate) async fn verify(
        &self,
        token: &str,
        peer: IpAddr,
    ) -> Result<ServiceAccount, ReviewError> {
        let bound = self.review(token).await?;
        let name = format!("{}/{}", bound.account.namespace(), bound.pod);
        let deadline = Instant::now() + UNKNOWN;
        loop {
            match self.pod(&bound).await.filter(|pod| pod.uid == bound.uid) {
                Some(pod) if pod.addresses.contains(&peer) => return Ok(bound.account),
                Some(pod) if !pod.addresses.is_empty() => {
                    return Err(ReviewError::Address { pod: name, peer });
                }
                _ if Instant::now() < deadline => sleep(LOOK).await,
                _ => return Err(ReviewError::NoPod(name)),
            }
        }
    }

    /// Confirms that a pod of this identity is at `peer`: a certificate alone would be renewed for
    /// ever, wherever its key has gone.
    pub(crate) async fn confirm(
        &self,
        identity: &SpiffeId,
        peer: IpAddr,
    ) -> Result<(), ReviewError> {
        let deadline = Instant::now() + UNKNOWN;
        loop {
            match self.is_at(identity, peer).await {
                Some(true) => return Ok(()),
                _ if Instant::now() < deadline => sleep(LOOK).await,
                Some(false) => return Err(ReviewError::Gone { identity: identity.clone(), peer }),
                None => {
                    let reason = "it has not told of all pods yet";
                    return Err(ReviewError::Unavailable(reason.into()));
                }
            }
        }
    }

    async fn review(&self, token: &str) -> Result<Bound, ReviewError> {
        if token.len() > MAX_TOKEN {
            return Err(ReviewError::TooLong(token.len()));
        }
        let audiences = Some(vec![self.audience.clone()]);
        let spec = TokenReviewSpec { token: token.into(), audiences };
        let review = TokenReview { spec, ..TokenReview::default() };
        let params = PostParams::default();
        let ask = async {
            let _permit = self.permits.acquire().await;
            self.reviews.create(&params, &review).await
        };
        match timeout(PATIENCE, ask).await {
            Ok(Ok(answer)) => judge(answer, &self.audience),
            Ok(Err(error)) => Err(ReviewError::Unavailable(error.to_string())),
            Err(_) => Err(ReviewError::Unavailable("no answer within 10 s".into())),
        }
    }

    async fn pod(&self, bound: &Bound) -> Option<KnownPod> {
        let (found, answer) = oneshot::channel();
        let namespace = bound.account.namespace().clone();
        let question = Input::FindPod { namespace, name: bound.pod.clone(), found };
        self.hub.send(question).ok()?;
        answer.await.ok()?
    }

    async fn is_at(&self, identity: &SpiffeId, address: IpAddr) -> Option<bool> {
        let (found, answer) = oneshot::channel();
        let question = Input::FindHolder { identity: identity.clone(), address, found };
        self.hub.send(question).ok()?;
        answer.await.ok()?
    }
}

/// An API server that knows no audiences leaves them out of its answer: then the token may be
/// anybody's for anything.
fn judge(answer: TokenReview, audience: &str) -> Result<Bound, ReviewError> {
    let status = answer.status.unwrap_or_default();
    let refuse =
        |reason: String| ReviewError::NotAuthenticated { audience: audience.into(), reason };
    if status.authenticated != Some(true) {
        return Err(refuse(status.error.unwrap_or_else(|| "it says no reason".into())));
    }
    if !status.audiences.unwrap_or_default().iter().any(|named| named == audience) {
        return Err(refuse("its answer does not name the audience".into()));
    }
    bound(status.user.unwrap_or_default())
}

fn bound(user: UserInfo) -> Result<Bound, ReviewError> {
    let account: ServiceAccount = user.username.unwrap_or_default().parse()?;
    let mut extra = user.extra.unwrap_or_default();
    let mut one = |name: &str| match extra.remove(name).unwrap_or_default().as_slice() {
        [one] if !one.is_empty() => Some(one.clone()),
        _ => None,
    };
    match (one(POD_NAME), one(POD_UID)) {
        (Some(pod), Some(uid)) => Ok(Bound { account, pod, uid }),
        _ => Err(ReviewError::Unbound(account)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// An answer that is good, with these parts of its status in place of the good ones.
    fn judged(parts: Value) -> Result<Bound, String> {
        let mut status = json!({
            "authenticated": true, "audiences": ["pillion.dev"],
            "user": {"username": "system:serviceaccount:shop:api",
                     "extra": {POD_NAME: ["api-1"], POD_UID: ["u"]}},
        });
        for (field, value) in parts.as_object().unwrap() {
            status[field] = value.clone();
        }
        let answer = json!({"metadata": {}, "spec": {"token": ""}, "status": status});
        let answer = serde_json::from_value(answer).unwrap();
        judge(answer, "pillion.dev").map_err(|error| error.to_string())
    }

    #[test]
    fn an_answer_must_name_the_audience_an_account_and_a_pod() {
        let account = "system:serviceaccount:shop:api".parse().unwrap();
        let good = Bound { account, pod: "api-1".into(), uid: "u".into() };
        assert_eq!(judged(json!({})), Ok(good));
        let user = |name: &str, extra: Value| json!({"user": {"username": name, "extra": extra}});
        let name = "system:serviceaccount:shop:api";
        let cases = [
            (json!({"authenticated": false, "error": "oh"}), "does not accept the token"),
            (json!({"authenticated": null}), "does not accept the token"),
            (json!({"audiences": ["another"]}), "does not name the audience"),
            (json!({"audiences": null}), "does not name the audience"),
            (user("system:node:one", json!({POD_NAME: ["a"], POD_UID: ["u"]})), "is not system:"),
            (user(name, json!({POD_NAME: ["a"]})), "is bound to no pod"),
            (user(name, json!({POD_UID: ["u"]})), "is bound to no pod"),
            (user(name, json!({POD_NAME: ["a", "b"], POD_UID: ["u"]})), "is bound to no pod"),
            (user(name, json!({POD_NAME: [""], POD_UID: [""]})), "is bound to no pod"),
        ];
        for (parts, expected) in cases {
            let error = judged(parts.clone()).unwrap_err();
            assert!(error.contains(expected), "{parts}: {error:?} must contain {expected:?}");
        }
    }
}
