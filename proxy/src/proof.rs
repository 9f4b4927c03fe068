//! For how long a handshake's proof holds. A connection is believed until a certificate that
//! opened it ends, or until the peer's root is removed from the trust bundle; then it is drained,
//! and cut if that takes too long. Otherwise one that is busy for ever would outlive both.

use std::time::{Duration, SystemTime};

use certs::{Identity, Side, TrustBundle};
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::shown::{self, Shown};

/// How long what runs on a connection may go on after one of its certificates has ended.
const AFTER_EXPIRY: Duration = Duration::from_secs(3600);

/// How long after the peer's root was removed: whoever removes a root may do it in haste.
const AFTER_REMOVAL: Duration = Duration::from_secs(30);

/// What a connection's two ends have proved to each other.
#[derive(Debug, Clone)]
pub struct Proof {
    side: Side,
    chain: Shown,
    proved_at: SystemTime,
    not_after: SystemTime,
    /// The roots that the handshake went by.
    bundle: TrustBundle,
    newest: watch::Receiver<TrustBundle>,
}

/// Why a proof holds no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// One of the two certificates has ended.
    Expired,
    /// No root that we believe vouches for the peer any more.
    RootRemoved,
}

impl Over {
    /// How long what runs on the connection may go on.
    pub const fn grace(self) -> Duration {
        match self {
            Self::Expired => AFTER_EXPIRY,
            Self::RootRemoved => AFTER_REMOVAL,
        }
    }
}

impl Proof {
    /// What a handshake just finished has proved: `chain` (leaf first) was shown by the peer, on
    /// its `side`, to `own`. `newest` tells of the trust bundles to come.
    pub fn new(
        own: &Identity,
        side: Side,
        chain: &[CertificateDer<'static>],
        newest: watch::Receiver<TrustBundle>,
    ) -> Self {
        // A peer without a certificate has proved nothing, not even for a moment.
        let theirs = certs::peer_not_after(chain).unwrap_or(SystemTime::UNIX_EPOCH);
        Self {
            side,
            chain: shown::shared(chain),
            proved_at: SystemTime::now(),
            not_after: own.not_after().min(theirs),
            bundle: own.bundle().clone(),
            newest,
        }
    }

    /// When the first of the two certificates ends.
    pub const fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Resolves when the proof holds no more.
    pub async fn over(&self) -> Over {
        tokio::select! {
            () = sleep(self.not_after.duration_since(SystemTime::now()).unwrap_or_default()) => {
                Over::Expired
            }
            () = self.removed() => Over::RootRemoved,
        }
    }

    /// Resolves when the time for what runs on the connection is over, too; `retire` hears when
    /// nothing more may begin.
    pub async fn spent(&self, retire: impl FnOnce(Over)) -> Over {
        let over = self.over().await;
        retire(over);
        sleep(over.grace()).await;
        over
    }

    async fn removed(&self) {
        let mut newest = self.newest.clone();
        loop {
            if !self.is_vouched_for(&newest.borrow_and_update()) {
                return;
            }
            if newest.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// A bundle that is the same was asked in the handshake already.
    fn is_vouched_for(&self, bundle: &TrustBundle) -> bool {
        *bundle == self.bundle || bundle.vouches_for(self.side, &self.chain, self.proved_at)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use certs::{Authority, LeafKey, Roots};
    use model::spiffe::{SpiffeId, TrustDomain};
    use tempfile::TempDir;
    use tokio::time::timeout;

    use super::*;

    const LIFE: Duration = Duration::from_secs(24 * 3600);

    fn domain() -> TrustDomain {
        "example.org".parse().unwrap()
    }

    fn authority() -> Authority {
        let dir = TempDir::new().unwrap();
        Authority::open_or_create(dir.path(), &domain(), SystemTime::now()).unwrap()
    }

    fn both(a: &Authority, b: &Authority) -> TrustBundle {
        let roots = [a.roots(), b.roots()].concat();
        TrustBundle::of(domain(), Roots::from_ders(roots).unwrap())
    }

    fn identity(authority: &Authority, life: Duration, bundle: TrustBundle) -> Identity {
        let id: SpiffeId = "spiffe://example.org/ns/shop/sa/api".parse().unwrap();
        let key = LeafKey::generate().unwrap();
        let csr = key.csr(None).unwrap();
        let chain = authority.sign(&csr, &id, life, SystemTime::now()).unwrap().chain;
        Identity::new(&key, chain, bundle).unwrap()
    }

    /// How a proof stands after a moment.
    async fn stands(proof: &Proof) -> Option<Over> {
        timeout(Duration::from_millis(50), proof.over()).await.ok()
    }

    #[tokio::test]
    async fn a_proof_ends_with_the_first_of_the_two_certificates() {
        let authority = authority();
        let bundle = authority.bundle();
        let (_keep, newest) = watch::channel(bundle.clone());
        let long = identity(&authority, LIFE, bundle.clone());
        let short = identity(&authority, Duration::from_secs(3), bundle);
        let proofs = [(&long, &short), (&short, &long)]
            .map(|(own, peer)| Proof::new(own, Side::Client, peer.chain(), newest.clone()));
        for proof in &proofs {
            assert_eq!(proof.not_after(), short.not_after());
            assert_eq!(stands(proof).await, None);
        }
        for proof in &proofs {
            assert_eq!(proof.over().await, Over::Expired);
            assert!(SystemTime::now() >= short.not_after());
        }
        let nobody = Proof::new(&long, Side::Client, &[], newest);
        assert_eq!(stands(&nobody).await, Some(Over::Expired));
    }

    #[tokio::test]
    async fn a_proof_ends_with_its_root_and_with_no_other() {
        let (old, new) = (authority(), authority());
        let bundle = both(&old, &new);
        let (publish, newest) = watch::channel(bundle.clone());
        let own = identity(&new, LIFE, bundle.clone());
        let [from_old, from_new] = [&old, &new].map(|ca| identity(ca, LIFE, bundle.clone()));
        let of = |peer: &Identity| Proof::new(&own, Side::Server, peer.chain(), newest.clone());
        let (ends, stays) = (of(&from_old), of(&from_new));
        publish.send_replace(both(&new, &old));
        assert_eq!(stands(&ends).await, None, "the order of roots means nothing");
        publish.send_replace(new.bundle());
        assert_eq!(stands(&ends).await, Some(Over::RootRemoved));
        assert_eq!(stands(&stays).await, None);
        let retired = Cell::new(None);
        let spent = ends.spent(|over| retired.set(Some(over)));
        assert!(timeout(Duration::from_millis(50), spent).await.is_err(), "it is drained");
        assert_eq!(retired.get(), Some(Over::RootRemoved));
    }

    #[tokio::test]
    async fn a_root_removed_during_the_handshake_ends_the_proof_as_well() {
        let (old, new) = (authority(), authority());
        let own = identity(&old, LIFE, both(&old, &new));
        let (_keep, newest) = watch::channel(new.bundle());
        let proof = Proof::new(&own, Side::Client, own.chain(), newest);
        assert_eq!(stands(&proof).await, Some(Over::RootRemoved));
    }
}
