//! Blocks of fields, read (RFC 7541 §6).

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue};

use super::table::{Entry, OVERHEAD, Table};
use super::{BadBlock, Field, Pseudo, huffman};

/// The largest number that is read; the bounds of a block and a table are far below it.
const LARGEST: u64 = 1 << 28;

/// What reads the blocks of one connection, each after the other.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: Table,
    /// How large the peer may make the table, in bytes.
    most: usize,
}

impl Decoder {
    /// Of a peer who may have a table of `most` bytes (our `SETTINGS_HEADER_TABLE_SIZE`). It begins
    /// with 4,096 all the same, for the peer does so before it knows.
    pub(crate) const fn new(most: usize) -> Self {
        Self { table: Table::new(), most }
    }

    /// Gives each field of a whole block to `each`, with its size (RFC 7541 §4.1). The fields of a
    /// bad block that stand before the fault are given too.
    pub(crate) fn decode(
        &mut self,
        block: &Bytes,
        mut each: impl FnMut(Field, usize),
    ) -> Result<(), BadBlock> {
        let mut input = Input { block, at: 0, clear: BytesMut::new() };
        let mut begun = false;
        while let Some(first) = input.next() {
            match first {
                0x80.. => {
                    let index = input.integer(first, 0x7f)?;
                    let entry = self.table.get(index).ok_or(BadBlock)?;
                    each(entry.field.clone(), entry.size);
                }
                0x40.. => {
                    let entry = self.literal(&mut input, (first, 0x3f), true)?;
                    each(entry.field.clone(), entry.size);
                    self.table.add(entry);
                }
                0x20.. if begun => return Err(BadBlock), // §4.2: only at the beginning
                0x20.. => {
                    let capacity = input.integer(first, 0x1f)?;
                    if capacity > self.most {
                        return Err(BadBlock);
                    }
                    self.table.resize(capacity);
                    continue;
                }
                _ => {
                    let mut entry = self.literal(&mut input, (first, 0x0f), false)?;
                    if let (0x10.., Field::Regular(_, value)) = (first, &mut entry.field) {
                        value.set_sensitive(true);
                    }
                    each(entry.field, entry.size);
                }
            }
            begun = true;
        }
        Ok(())
    }

    /// Reads a literal (RFC 7541 §6.2), whose first byte has the index of its name in the bits
    /// `prefix`. One that is `kept` holds nothing of the block.
    #[inline]
    fn literal(
        &self,
        input: &mut Input<'_>,
        (first, prefix): (u8, u8),
        kept: bool,
    ) -> Result<Entry, BadBlock> {
        let (name, length) = match input.integer(first, prefix)? {
            0 => input.name()?,
            index => {
                let entry = self.table.get(index).ok_or(BadBlock)?;
                (Name::of(&entry.field), entry.name)
            }
        };
        let value = input.value(kept)?;
        let size = length + value.len() + OVERHEAD;
        Ok(Entry { field: name.with(value), name: length, size })
    }
}

/// A name that has no value yet.
enum Name {
    Pseudo(Pseudo),
    Regular(HeaderName),
    Malformed,
}

impl Name {
    fn of(field: &Field) -> Self {
        match field {
            Field::Pseudo(which, _) => Self::Pseudo(*which),
            Field::Regular(name, _) => Self::Regular(name.clone()),
            Field::Malformed => Self::Malformed,
        }
    }

    fn new(name: &[u8]) -> Self {
        if name.first() == Some(&b':') {
            return Pseudo::named(name).map_or(Self::Malformed, Self::Pseudo);
        }
        HeaderName::from_lowercase(name).map_or(Self::Malformed, Self::Regular)
    }

    fn with(self, value: Bytes) -> Field {
        if let [b' ' | b'\t', ..] | [.., b' ' | b'\t'] = *value {
            return Field::Malformed;
        }
        match self {
            Self::Pseudo(which) if visible(&value) => Field::Pseudo(which, value),
            Self::Regular(name) => HeaderValue::from_maybe_shared(value)
                .map_or(Field::Malformed, |value| Field::Regular(name, value)),
            Self::Pseudo(_) | Self::Malformed => Field::Malformed,
        }
    }
}

/// Whether it has only bytes that `HeaderValue` takes too.
fn visible(value: &[u8]) -> bool {
    // All of it, and no end on the first: that is done many bytes at once.
    !value.iter().fold(false, |found, &byte| found | (byte != b'\t' && byte.is_ascii_control()))
}

/// A block, and how far it was read.
struct Input<'a> {
    block: &'a Bytes,
    at: usize,
    /// Where Huffman coded strings are written in clear: one buffer for the whole block.
    clear: BytesMut,
}

impl Input<'_> {
    #[inline]
    fn next(&mut self) -> Option<u8> {
        let byte = *self.block.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// A number that begins with the bits `prefix` of `first` (RFC 7541 §5.1).
    #[inline]
    fn integer(&mut self, first: u8, prefix: u8) -> Result<usize, BadBlock> {
        let begun = first & prefix;
        if begun < prefix { Ok(usize::from(begun)) } else { self.continued(begun) }
    }

    fn continued(&mut self, begun: u8) -> Result<usize, BadBlock> {
        let mut number = u64::from(begun);
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.next().ok_or(BadBlock)?;
            number += u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                let number = Some(number).filter(|number| *number <= LARGEST);
                return number.and_then(|number| usize::try_from(number).ok()).ok_or(BadBlock);
            }
        }
        Err(BadBlock)
    }

    /// Where the next string is, and whether it is Huffman coded (RFC 7541 §5.2).
    #[inline]
    fn string(&mut self) -> Result<(Range<usize>, bool), BadBlock> {
        let first = self.next().ok_or(BadBlock)?;
        let length = self.integer(first, 0x7f)?;
        let string = self.at..self.at + length;
        if string.end > self.block.len() {
            return Err(BadBlock);
        }
        self.at = string.end;
        Ok((string, first >= 0x80))
    }

    /// Appends to `clear` what is coded there.
    fn uncode(&mut self, coded: Range<usize>) -> Result<(), BadBlock> {
        if self.clear.capacity() == 0 {
            self.clear.reserve((self.block.len() - coded.start) * 8 / 5); // enough for all of them
        }
        huffman::decode(&self.block[coded], &mut self.clear)
    }

    /// The next string as a name, and its length.
    fn name(&mut self) -> Result<(Name, usize), BadBlock> {
        let (string, coded) = self.string()?;
        if !coded {
            return Ok((Name::new(&self.block[string.clone()]), string.len()));
        }
        self.uncode(string)?;
        let name = (Name::new(&self.clear), self.clear.len());
        self.clear.clear();
        Ok(name)
    }

    /// The next string; one that is `kept` has a buffer of its own.
    fn value(&mut self, kept: bool) -> Result<Bytes, BadBlock> {
        let (string, coded) = self.string()?;
        if !coded {
            if kept {
                return Ok(Bytes::copy_from_slice(&self.block[string]));
            }
            return Ok(self.block.slice(string));
        }
        self.uncode(string)?;
        if !kept {
            return Ok(self.clear.split().freeze());
        }
        let value = Bytes::copy_from_slice(&self.clear);
        self.clear.clear();
        Ok(value)
    }
}

#[cfg(test)]
impl Decoder {
    /// How many entries the table has, and what they count for.
    pub(super) fn used(&self) -> (usize, usize) {
        self.table.used()
    }
}
