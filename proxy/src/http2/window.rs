//! How much the other side may send, of one stream or of all (RFC 9113 §5.2).

/// A window that we give.
#[derive(Debug)]
pub(super) struct Window {
    /// How much is given back at once: little is not worth a frame.
    portion: u32,
    /// What may still come.
    left: u32,
    /// What was read, and is not given back yet.
    read: u32,
}

impl Window {
    /// A stream's, of so many bytes, all of which the other side knows.
    pub(super) const fn of_stream(most: u32) -> Self {
        Self { portion: most / 2, left: most, read: 0 }
    }

    /// The one of all streams, of which each may send `of_each`. It is given back in a stream's
    /// portions: if all streams but one are full and nobody reads them, that one still moves.
    pub(super) fn of_all(most: u32, of_each: u32) -> Self {
        Self { portion: most.min(of_each) / 2, left: most, read: 0 }
    }

    /// So many bytes have come; says whether they were permitted.
    pub(super) const fn take(&mut self, bytes: u32) -> bool {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// So many bytes were read; gives what the other side is to be given back.
    pub(super) const fn read(&mut self, bytes: u32) -> Option<u32> {
        self.read += bytes;
        if self.read < self.portion {
            return None;
        }
        let back = self.read;
        self.read = 0;
        self.left += back;
        Some(back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_may_come_again_and_no_more() {
        let mut window = Window::of_stream(100);
        assert!(window.take(80));
        assert!(!window.take(21));
        assert_eq!(window.read(49), None);
        assert!(!window.take(21), "it was not told");
        assert_eq!(window.read(1), Some(50));
        assert!(window.take(70));
        assert!(!window.take(1));
        assert_eq!(window.read(100), Some(100));
    }

    #[test]
    fn one_stream_moves_while_all_others_are_full() {
        let mut all = Window::of_all(100 * 40, 40);
        assert!(all.take(99 * 40), "nobody reads it");
        for _ in 0..1000 {
            assert!(all.take(20), "it is given back");
            assert_eq!(all.read(20), Some(20));
        }
    }
}
