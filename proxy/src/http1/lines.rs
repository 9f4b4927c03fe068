//! Lines of a head or of trailers, found in bytes that come bit by bit.

use std::ops::Range;

/// How a line may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// In CR LF, and it has no other CR (RFC 9112 §2.2).
    Strictly,
    /// In LF too, as a recipient may accept (§2.2).
    Leniently,
}

/// How far a block of lines was looked through.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Where the line begins that has not ended yet.
    line: usize,
    /// The first byte that was not looked at.
    next: usize,
}

/// A line that does not end as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadLine;

impl Lines {
    /// Where the block ends that begins at the start of `bytes`, its empty line included; `None`
    /// while it is not whole. It starts anew after that.
    pub(super) fn end(&mut self, bytes: &[u8], ends: Ends) -> Result<Option<usize>, BadLine> {
        while let Some(found) = memchr::memchr(b'\n', &bytes[self.next..]) {
            let feed = self.next + found;
            let line = trimmed(bytes, self.line..feed, ends)?;
            (self.line, self.next) = (feed + 1, feed + 1);
            if line.is_empty() {
                *self = Self::default();
                return Ok(Some(feed + 1));
            }
        }
        self.next = bytes.len();
        Ok(None)
    }
}

/// The line without its end.
pub(super) fn trimmed(bytes: &[u8], line: Range<usize>, ends: Ends) -> Result<&[u8], BadLine> {
    let line = &bytes[line];
    match (line.strip_suffix(b"\r"), ends) {
        (Some(line), Ends::Strictly) if memchr::memchr(b'\r', line).is_none() => Ok(line),
        (_, Ends::Strictly) => Err(BadLine),
        (line_without, Ends::Leniently) => Ok(line_without.unwrap_or(line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(bytes: &[u8], ends: Ends) -> Result<Option<usize>, BadLine> {
        let whole = Lines::default().end(bytes, ends);
        let mut lines = Lines::default();
        let one_by_one = (1..=bytes.len()).find_map(|length| {
            let found = lines.end(&bytes[..length], ends);
            (found != Ok(None)).then_some(found)
        });
        assert_eq!(one_by_one.unwrap_or(Ok(None)), whole, "{}", bytes.escape_ascii());
        whole
    }

    #[test]
    fn a_block_ends_with_an_empty_line() {
        assert_eq!(end(b"a\r\nb\r\n\r\nc", Ends::Strictly), Ok(Some(8)));
        assert_eq!(end(b"a\r\nb\r\n", Ends::Strictly), Ok(None));
        assert_eq!(end(b"\r\n", Ends::Strictly), Ok(Some(2)));
        assert_eq!(end(b"a\nb\n\nc", Ends::Leniently), Ok(Some(5)));
    }

    #[test]
    fn a_bare_cr_or_lf_is_no_end_of_a_line() {
        for bytes in [b"a\n".as_slice(), b"a\r\nb\rc\r\n", b"a\r\n\n", b"\n"] {
            assert_eq!(end(bytes, Ends::Strictly), Err(BadLine), "{}", bytes.escape_ascii());
        }
    }
}
