//! How much the other side may send, of one stream or of all (RFC 9113 §5.2).

/// A window that we give.
#[derive(Debug)]
pub(super) struct Window {
    most: u32,
    /// What may still come.
    left: u32,
    /// What was read, and is not given back yet.
    read: u32,
}

impl Window {
    /// One of so many bytes, all of which the other side knows.
    pub(super) const fn new(most: u32) -> Self {
        Self { most, left: most, read: 0 }
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

    /// So many bytes were read; gives what the other side is to be given back. Little is not worth
    /// a frame.
    pub(super) const fn read(&mut self, bytes: u32) -> Option<u32> {
        self.read += bytes;
        if self.read < self.most / 2 {
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
        let mut window = Window::new(100);
        assert!(window.take(80));
        assert!(!window.take(21));
        assert_eq!(window.read(49), None);
        assert!(!window.take(21), "it was not told");
        assert_eq!(window.read(1), Some(50));
        assert!(window.take(70));
        assert!(!window.take(1));
        assert_eq!(window.read(100), Some(100));
    }
}
