//! The certificates that other sidecars have shown: all connections of one share them.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use rustls::pki_types::CertificateDer;

/// What one has shown, leaf first.
pub(crate) type Shown = Arc<[CertificateDer<'static>]>;

static HELD: LazyLock<Mutex<Held>> = LazyLock::new(Mutex::default);

/// What connections that are open hold, by its hash.
#[derive(Default)]
struct Held {
    by_hash: HashMap<u64, Weak<[CertificateDer<'static>]>>,
    seed: RandomState,
    /// At how many those are sorted out that nobody holds any more.
    full: usize,
}

/// `chain`, which others may hold already.
pub(crate) fn shared(chain: &[CertificateDer<'static>]) -> Shown {
    HELD.lock().unwrap_or_else(PoisonError::into_inner).share(chain)
}

impl Held {
    fn share(&mut self, chain: &[CertificateDer<'static>]) -> Shown {
        let hash = self.seed.hash_one(chain);
        if let Some(held) = self.by_hash.get(&hash).and_then(Weak::upgrade)
            && *held == *chain
        {
            return held;
        }
        if self.by_hash.len() >= self.full {
            self.by_hash.retain(|_, held| held.strong_count() > 0);
            self.full = 2 * self.by_hash.len() + 16;
        }
        let shown = Shown::from(chain);
        self.by_hash.insert(hash, Arc::downgrade(&shown));
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(of: &[u8]) -> Vec<CertificateDer<'static>> {
        vec![of.to_vec().into(), b"the issuer".to_vec().into()]
    }

    #[test]
    fn what_one_shows_twice_is_held_once_and_no_longer_than_it_is_used() {
        let mut held = Held::default();
        let first = held.share(&chain(b"web"));
        assert!(Arc::ptr_eq(&first, &held.share(&chain(b"web"))));
        assert_eq!(*held.share(&chain(b"api")), chain(b"api"));
        for number in 0..1000_u32 {
            held.share(&chain(&number.to_be_bytes()));
        }
        assert!(held.by_hash.len() < 100, "{} are held", held.by_hash.len());
        assert!(Arc::ptr_eq(&first, &held.share(&chain(b"web"))), "this one is still used");
    }

    #[test]
    fn nobody_is_taken_for_another_with_the_same_hash() {
        let mut held = Held::default();
        let web = held.share(&chain(b"web"));
        let hash = held.seed.hash_one(&chain(b"api")[..]);
        held.by_hash.insert(hash, Arc::downgrade(&web));
        assert_eq!(*held.share(&chain(b"api")), chain(b"api"));
    }
}
