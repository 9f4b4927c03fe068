//! Blocks of fields, written (RFC 7541 §6).
//!
//! Strings go out as they are: to code them costs more than their bytes. A field is added to the
//! peer's table when it is seen for the second time, so that what each request has anew (a path, an
//! identifier, a length) does not wash out what all have. A name that the static table lacks is
//! added once, with its second value, whatever that is.

use bytes::{BufMut, BytesMut};
use http::{HeaderName, HeaderValue};

use super::Pseudo;
use super::sent::Sent;
use super::table::{self, BEGINS_WITH, DYNAMIC, OVERHEAD};

/// `accept-encoding: gzip, deflate`, the only regular field that is static as a whole.
const GZIP_DEFLATE: usize = 16;

/// Names whose values nobody should guess by trying (RFC 7541 §7.1): `authorization`, `cookie`,
/// `proxy-authorization` and `set-cookie`.
const SECRET: [usize; 4] = [23, 32, 49, 55];

/// What writes the blocks of one connection, each after the other.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// There once it has a field that may go into the peer's table.
    sent: Option<Box<Sent>>,
    /// How large the peer's table is, in bytes.
    capacity: usize,
    /// The smallest that it was since the last block, where it changed.
    smallest: Option<usize>,
}

impl Encoder {
    /// For a peer with a table of 4,096 bytes, which both sides begin with.
    pub(crate) const fn new() -> Self {
        Self { sent: None, capacity: BEGINS_WITH, smallest: None }
    }

    /// Follows the peer's `SETTINGS_HEADER_TABLE_SIZE`, up to 4,096 bytes. The next block says so.
    pub(crate) fn resize(&mut self, most: usize) {
        let capacity = most.min(BEGINS_WITH);
        if capacity == self.capacity {
            return;
        }
        self.smallest = Some(self.smallest.unwrap_or(self.capacity).min(capacity));
        self.capacity = capacity;
        if let Some(sent) = &mut self.sent {
            sent.evict(capacity);
        }
    }

    /// Begins a block, with the changes of the table's size (RFC 7541 §4.2).
    pub(crate) fn begin(&mut self, out: &mut BytesMut) {
        if let Some(smallest) = self.smallest.take() {
            if smallest < self.capacity {
                out.put_slice(Head::of(Kind::Resized, smallest).written());
            }
            out.put_slice(Head::of(Kind::Resized, self.capacity).written());
        }
    }

    /// Writes a pseudo header.
    pub(crate) fn pseudo(&mut self, which: Pseudo, value: &[u8], out: &mut BytesMut) {
        let (name, whole) = match (which, value) {
            (Pseudo::Method, b"GET") => (2, 2),
            (Pseudo::Method, b"POST") => (2, 3),
            (Pseudo::Path, b"/") => (4, 4),
            (Pseudo::Path, b"/index.html") => (4, 5),
            (Pseudo::Scheme, b"http") => (6, 6),
            (Pseudo::Scheme, b"https") => (6, 7),
            (Pseudo::Status, b"200") => (8, 8),
            (Pseudo::Status, b"204") => (8, 9),
            (Pseudo::Status, b"206") => (8, 10),
            (Pseudo::Status, b"304") => (8, 11),
            (Pseudo::Status, b"400") => (8, 12),
            (Pseudo::Status, b"404") => (8, 13),
            (Pseudo::Status, b"500") => (8, 14),
            (Pseudo::Authority, _) => (1, 0),
            (Pseudo::Method, _) => (2, 0),
            (Pseudo::Path, _) => (4, 0),
            (Pseudo::Scheme, _) => (6, 0),
            (Pseudo::Status, _) => (8, 0),
            (Pseudo::Protocol, _) => (0, 0),
        };
        match whole {
            0 => self.write(name, which.name().as_bytes(), value, out),
            whole => out.put_slice(Head::of(Kind::Whole, whole).written()),
        }
    }

    /// Writes a regular field.
    pub(crate) fn field(&mut self, name: &HeaderName, value: &HeaderValue, out: &mut BytesMut) {
        let (text, bytes) = (name.as_str().as_bytes(), value.as_bytes());
        let index = table::named(text);
        if value.is_sensitive() || SECRET.contains(&index) {
            literal(Kind::Never, index, text, bytes, out);
        } else if index == GZIP_DEFLATE && bytes == b"gzip, deflate" {
            out.put_slice(Head::of(Kind::Whole, index).written());
        } else {
            self.write(index, text, bytes, out);
        }
    }

    /// Writes a field, with the index of its name in the static table, or 0.
    fn write(&mut self, index: usize, name: &[u8], value: &[u8], out: &mut BytesMut) {
        let size = name.len() + value.len() + OVERHEAD;
        if size > self.capacity / 4 {
            return literal(Kind::Once, index, name, value, out);
        }
        let sent = self.sent.get_or_insert_with(|| Box::new(Sent::new()));
        let (named, both) = sent.hashes(name, value);
        let pair = sent.look(both);
        if let Some((age, entry)) = sent.at(pair)
            && entry.is(name, value)
        {
            return out.put_slice(Head::of(Kind::Whole, DYNAMIC + age).written());
        }
        let (mut index, mut adds, mut slots) = (index, pair.seen, [pair.slot, None]);
        if index == 0 {
            let found = sent.look(named);
            match sent.at(found) {
                Some((age, entry)) if entry.name() == name => index = DYNAMIC + age,
                _ => adds |= found.seen,
            }
            slots[1] = found.slot;
        }
        if adds {
            literal(Kind::Added, index, name, value, out);
            sent.evict(self.capacity - size);
            sent.add(name, value, slots);
        } else {
            literal(Kind::Once, index, name, value, out);
        }
    }
}

/// Writes a name, by its index where that is not 0, and a value (RFC 7541 §6.2).
fn literal(kind: Kind, index: usize, name: &[u8], value: &[u8], out: &mut BytesMut) {
    let mut head = Head::of(kind, index);
    if index == 0 {
        head.integer(Kind::String, name.len());
        out.put_slice(head.written());
        out.put_slice(name);
        head = Head::default();
    }
    head.integer(Kind::String, value.len());
    out.put_slice(head.written());
    out.put_slice(value);
}

/// What a number is the beginning of (RFC 7541 §5.2, §6).
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A field that a table has.
    Whole,
    /// One that is added to the peer's table.
    Added,
    /// One that is not.
    Once,
    /// One that nobody may add.
    Never,
    /// A change of the table's size.
    Resized,
    String,
}

/// A few numbers, one after another.
#[derive(Debug, Default)]
struct Head {
    bytes: [u8; 16],
    length: usize,
}

impl Head {
    #[inline]
    fn of(kind: Kind, number: usize) -> Self {
        let mut head = Self::default();
        head.integer(kind, number);
        head
    }

    /// Writes a number (RFC 7541 §5.1).
    #[inline]
    fn integer(&mut self, kind: Kind, number: usize) {
        let (mark, prefix) = match kind {
            Kind::Whole => (0x80, 0x7f),
            Kind::Added => (0x40, 0x3f),
            Kind::Once => (0, 0x0f),
            Kind::Never => (0x10, 0x0f),
            Kind::Resized => (0x20, 0x1f),
            Kind::String => (0, 0x7f),
        };
        let [mut low, ..] = number.to_le_bytes();
        if number < usize::from(prefix) {
            return self.push(mark | low);
        }
        self.push(mark | prefix);
        let mut rest = number - usize::from(prefix);
        while rest >= 0x80 {
            [low, ..] = rest.to_le_bytes();
            self.push(low | 0x80);
            rest >>= 7;
        }
        [low, ..] = rest.to_le_bytes();
        self.push(low);
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    #[inline]
    fn written(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
impl Encoder {
    /// How many entries the peer's table has, and what they count for.
    pub(super) fn used(&self) -> (usize, usize) {
        self.sent.as_ref().map_or((0, 0), |sent| sent.used())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::Decoder;
    use super::super::tests::{lines, unhex, write};
    use super::*;

    /// What four of seven encoders come to at least: by its seed one takes a field that is new for one
    /// that it has seen, once in 16,000 fields, for a group has four slots with 16 bits of a hash.
    fn mostly<T: Ord>(run: impl Fn() -> T) -> T {
        let mut runs = [(); 7].map(|()| run());
        runs.sort();
        let [_, _, _, median, ..] = runs;
        median
    }

    #[test]
    fn a_field_is_one_byte_from_its_third_time_on() {
        for field in [":authority: shop", ":path: /cart", "accept: */*", "x-mine: 1", "x-empty: "] {
            let (lengths, entries) = mostly(|| {
                let mut encoder = Encoder::new();
                ([(); 4].map(|()| write(&mut encoder, field).len()), encoder.used().0)
            });
            assert!(lengths[0] > 1 && lengths[1] > 1, "{field}");
            assert_eq!(lengths[2..], [1, 1], "{field}");
            assert_eq!(entries, 1, "{field}");
        }
    }

    #[test]
    fn what_is_new_each_time_is_not_added() {
        let used = mostly(|| {
            let mut encoder = Encoder::new();
            for number in 0..100 {
                for name in [":path", "content-length", "etag"] {
                    write(&mut encoder, &format!("{name}: {number}"));
                }
            }
            encoder.used()
        });
        assert_eq!(used, (0, 0));
        let mut encoder = Encoder::new();
        let long = format!("etag: {}", "a".repeat(989)); // 1,025 bytes: more than a quarter
        assert_eq!([(); 3].map(|()| write(&mut encoder, &long).len()), [994; 3]);
        assert_eq!(encoder.used(), (0, 0));
    }

    #[test]
    fn a_name_is_added_once() {
        let (lengths, used) = mostly(|| {
            let mut encoder = Encoder::new();
            let lengths =
                [1, 2, 3, 4].map(|id| write(&mut encoder, &format!("x-request-id: {id}")).len());
            (lengths, encoder.used())
        });
        assert_eq!(lengths, [16, 16, 4, 4]);
        assert_eq!(used, (1, 45));
    }

    /// Two of many lines that the slots take for one, by what `hash` gives of each.
    fn twins(lines: impl Iterator<Item = String>, hash: impl Fn(&str) -> u64) -> [String; 2] {
        let mut seen = HashMap::new();
        for line in lines.take(100_000) {
            if let Some(first) = seen.insert(Sent::kept(hash(&line)), line.clone()) {
                return [first, line];
            }
        }
        panic!("no two among so many");
    }

    #[test]
    fn who_has_the_hash_of_another_is_not_taken_for_it() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
        let sent = &**encoder.sent.insert(Box::new(Sent::new()));
        let hashes = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            sent.hashes(name.as_bytes(), value.as_bytes())
        };
        let values = twins((0..).map(|number| format!("x-id: {number}")), |line| hashes(line).1);
        let names = twins((0..).map(|number| format!("x-{number}: a")), |line| hashes(line).0);
        for [known, twin] in [values, names] {
            let other = format!("{known}b");
            // The third time it has an entry, and so has its name.
            for line in [&known, &known, &other, &known, &twin] {
                let block = write(&mut encoder, line);
                assert_eq!(lines(&mut decoder, &block).unwrap(), [line.as_str()]);
            }
        }
    }

    #[test]
    fn secrets_are_never_added() {
        for field in ["authorization: a", "cookie: a", "set-cookie: a", "proxy-authorization: a"] {
            let mut encoder = Encoder::new();
            for _ in 0..3 {
                let block = write(&mut encoder, field);
                assert_eq!(block[0] & 0xf0, 0x10);
                assert_eq!(lines(&mut Decoder::new(4096), &block), Ok(vec![format!("{field}!")]));
            }
            assert_eq!(encoder.used(), (0, 0));
        }
        assert_eq!(write(&mut Encoder::new(), "x-key: a!"), b"\x10\x05x-key\x01a");
    }

    #[test]
    fn changes_of_size_are_announced() {
        for (sizes, announced) in [
            (&[][..], ""),
            (&[4096, 65536], ""),
            (&[0], "20"),
            (&[100, 65536], "3f453fe11f"),
            (&[300, 100, 200], "3f453fa901"),
            (&[256], "3fe101"),
        ] {
            let (mut encoder, mut out) = (Encoder::new(), BytesMut::new());
            for &size in sizes {
                encoder.resize(size);
            }
            encoder.begin(&mut out);
            assert_eq!(out, unhex(announced), "{sizes:?}");
            encoder.begin(&mut out);
            assert_eq!(out, unhex(announced), "{sizes:?}, once");
        }
    }
}
