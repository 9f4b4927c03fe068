//! Tables of fields: the one that all know (RFC 7541 Appendix A), and the one that a peer fills.

use std::collections::VecDeque;
use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::{Field, Pseudo};

/// What an entry counts for besides its name and value, in bytes (RFC 7541 §4.1).
pub(super) const OVERHEAD: usize = 32;

/// The capacity that both sides begin with, in bytes (RFC 9113 §6.5.2).
pub(super) const BEGINS_WITH: usize = 4096;

/// The index of the first entry that is not static.
pub(super) const DYNAMIC: usize = STATIC.len() + 1;

/// A field that an index stands for.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) field: Field,
    /// How long the name is, which a malformed field does not tell.
    pub(super) name: usize,
    /// What it counts for (RFC 7541 §4.1).
    pub(super) size: usize,
}

/// The static table and a peer's dynamic one behind it (RFC 7541 §2.3.3).
#[derive(Debug)]
pub(super) struct Table {
    /// The newest is first.
    entries: VecDeque<Entry>,
    /// The sizes of all entries; never more than `capacity`.
    used: usize,
    capacity: usize,
}

impl Table {
    pub(super) const fn new() -> Self {
        Self { entries: VecDeque::new(), used: 0, capacity: BEGINS_WITH }
    }

    pub(super) fn get(&self, index: usize) -> Option<&Entry> {
        match index.checked_sub(DYNAMIC) {
            Some(age) => self.entries.get(age),
            None => FIELDS.get(index.checked_sub(1)?),
        }
    }

    /// One that is larger than the table empties it, and is not kept (RFC 7541 §4.4).
    pub(super) fn add(&mut self, entry: Entry) {
        self.evict(self.capacity.saturating_sub(entry.size));
        if entry.size <= self.capacity {
            self.used += entry.size;
            self.entries.push_front(entry);
        }
    }

    pub(super) fn resize(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.evict(capacity);
    }

    /// Drops the oldest until the others count for no more than `most`.
    fn evict(&mut self, most: usize) {
        while self.used > most
            && let Some(oldest) = self.entries.pop_back()
        {
            self.used -= oldest.size;
        }
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> (usize, usize) {
        (self.entries.len(), self.used)
    }
}

/// The index of a static entry with this name, the first one; 0 where there is none.
pub(super) fn named(name: &[u8]) -> usize {
    let index = usize::from(BY_NAME[slot(name)]);
    match STATIC.get(index.wrapping_sub(1)) {
        Some((found, _)) if found.as_bytes() == name => index,
        _ => 0,
    }
}

static FIELDS: LazyLock<[Entry; STATIC.len()]> = LazyLock::new(|| {
    STATIC.map(|(name, value)| Entry {
        field: match Pseudo::named(name.as_bytes()) {
            Some(which) => Field::Pseudo(which, Bytes::from_static(value.as_bytes())),
            None => Field::Regular(HeaderName::from_static(name), HeaderValue::from_static(value)),
        },
        name: name.len(),
        size: name.len() + value.len() + OVERHEAD,
    })
});

/// The indices of regular names, each in a slot of its own.
const BY_NAME: [u8; 128] = {
    let mut slots = [0; 128];
    let mut index = 15_u8; // the first that is no pseudo header
    while (index as usize) < DYNAMIC {
        let slot = slot(STATIC[index as usize - 1].0.as_bytes());
        assert!(slots[slot] == 0, "two names in one slot");
        slots[slot] = index;
        index += 1;
    }
    slots
};

/// Where a name is found in `BY_NAME`; the factor was searched for.
const fn slot(name: &[u8]) -> usize {
    let [first, .., last] = name else { return 0 };
    let told = [*first, *last, name[name.len() / 2], name.len().to_le_bytes()[0]];
    (u32::from_le_bytes(told).wrapping_mul(0x7250_1c45) >> 25) as usize
}

/// RFC 7541 Appendix A; the first has index 1.
pub(super) const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
