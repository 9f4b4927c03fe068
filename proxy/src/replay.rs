//! Request bodies that can be sent again.
//!
//! The first attempt streams the client's body through and keeps a copy, up to 64 KiB a request
//! and a bound over the whole proxy. Past either bound the copy is given up: the retry is lost,
//! never the request.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use model::code::ErrorCode;

use crate::body::BodyError;
use crate::upload::Upload;

/// Most bytes kept of one request's body.
const MOST_OF_ONE: usize = 64 * 1024;

/// Most bytes kept of all requests' bodies together.
const MOST_OF_ALL: usize = 16 * 1024 * 1024;

/// A piece below this length is copied where it is not the only one.
const SMALL: usize = 16 * 1024;

/// The bytes kept at this moment by all requests of the proxy.
#[derive(Debug, Default)]
pub struct ReplayBytes(AtomicUsize);

impl ReplayBytes {
    fn take(&self, bytes: usize) -> bool {
        let fits = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= MOST_OF_ALL);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The body of one request, from which each attempt gets its own reader.
#[derive(Debug)]
pub struct Replay(Arc<Mutex<Shared>>);

/// Reads the body for one attempt: first what is kept, then what the client still sends.
#[derive(Debug)]
pub struct Attempt {
    shared: Arc<Mutex<Shared>>,
    number: u32,
    next: usize,
    trailers_sent: bool,
}

#[derive(Debug)]
struct Shared {
    source: Upload,
    /// Why the client's part broke off.
    failure: Option<ErrorCode>,
    /// The attempt that may read; the connection of an earlier one may still hold its reader.
    current: u32,
    /// Of that attempt, while it waits for the client.
    waits: Option<Waker>,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    trailers: Option<HeaderMap>,
    ended: bool,
    given_up: bool,
    bound: Arc<ReplayBytes>,
}

impl Replay {
    /// The body `source`, counted against `bound`.
    pub fn new(source: Upload, bound: Arc<ReplayBytes>) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            source,
            failure: None,
            current: 0,
            waits: None,
            kept: Vec::new(),
            kept_bytes: 0,
            trailers: None,
            ended: false,
            given_up: false,
            bound,
        })))
    }

    /// Whether a further attempt can send the whole body.
    pub fn is_possible(&self) -> bool {
        !lock(&self.0).given_up
    }

    /// There is no further attempt: what is kept goes as soon as the last one has sent it.
    pub fn settle(&self) {
        lock(&self.0).given_up = true;
    }

    /// Why the client's part of the body broke off, if it did: whatever became of an attempt then
    /// is not the endpoint's fault.
    pub fn failure(&self) -> Option<ErrorCode> {
        lock(&self.0).failure
    }

    /// There is a further attempt, if not at once: readers of earlier ones fail from now on. One
    /// that read on meanwhile could read past what is kept, and leave the next without a beginning.
    pub fn supersede(&self) {
        lock(&self.0).supersede();
    }

    /// The reader of the next attempt.
    pub fn attempt(&self) -> Attempt {
        let number = lock(&self.0).supersede();
        Attempt { shared: Arc::clone(&self.0), number, next: 0, trailers_sent: false }
    }
}

/// A poisoned lock means that a reader panicked; the frames kept are whole all the same.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The number of the attempt that may read from now on.
    fn supersede(&mut self) -> u32 {
        self.current += 1;
        // The one before fails at once: it could hold its stream for as long as the client is silent.
        if let Some(earlier) = self.waits.take() {
            earlier.wake();
        }
        self.current
    }

    /// Keeps a copy of a frame just read, or gives up keeping any.
    fn keep(&mut self, data: &Bytes) {
        if self.given_up {
            return;
        }
        let fits = self.kept_bytes + data.len() <= MOST_OF_ONE;
        if fits && self.bound.take(data.len()) {
            self.kept_bytes += data.len();
            // A piece keeps what it was read with: of many small ones that would be much.
            let copied = !self.kept.is_empty() && data.len() < SMALL;
            self.kept.push(if copied { Bytes::copy_from_slice(data) } else { data.clone() });
        } else {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        self.given_up = true;
        self.kept = Vec::new();
        self.bound.give_back(std::mem::take(&mut self.kept_bytes));
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.bound.give_back(self.kept_bytes);
    }
}

impl http_body::Body for Attempt {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let shared = &mut *lock(&this.shared);
        if shared.current != this.number {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        if let Some(data) = shared.kept.get(this.next) {
            this.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        if shared.given_up && !shared.kept.is_empty() {
            shared.give_up();
            this.next = 0;
        }
        if shared.ended {
            let trailers = shared.trailers.clone().filter(|_| !this.trailers_sent);
            this.trailers_sent = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let polled = Pin::new(&mut shared.source).poll_frame(cx);
        shared.waits = polled.is_pending().then(|| cx.waker().clone());
        let frame = match ready!(polled) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                shared.failure = Some(error.code());
                shared.give_up();
                return Poll::Ready(Some(Err(error)));
            }
            None => {
                shared.ended = true;
                return Poll::Ready(None);
            }
        };
        if let Some(data) = frame.data_ref() {
            shared.keep(data);
            this.next = shared.kept.len();
        } else if let Some(trailers) = frame.trailers_ref() {
            shared.trailers = Some(trailers.clone());
            shared.ended = true;
            this.trailers_sent = true;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        let shared = lock(&self.shared);
        let all_read = self.next == shared.kept.len();
        all_read && shared.ended && (shared.trailers.is_none() || self.trailers_sent)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt;
    use http::Request;

    use super::*;
    use crate::http1::pipe::pipe;
    use crate::received::Received;

    /// The next data, if any is there.
    fn read(attempt: &mut Attempt) -> Option<Result<Bytes, BodyError>> {
        let next = poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut *attempt), cx));
        let frame = next.now_or_never()??;
        Some(frame.map(|frame| frame.into_data().unwrap()))
    }

    #[test]
    fn an_attempt_that_is_over_reads_nothing_that_another_will_need() {
        let (feed, piped) = pipe(None);
        let (parts, ()) = Request::post("/").body(()).unwrap().into_parts();
        let replay = Replay::new(Upload::new(Received::Piped(piped), &parts), Arc::default());
        let mut first = replay.attempt();
        feed.give(Ok(Frame::data(Bytes::from(vec![b'a'; MOST_OF_ONE]))), false);
        assert_eq!(read(&mut first).unwrap().unwrap().len(), MOST_OF_ONE);
        assert!(replay.is_possible());

        replay.supersede();
        feed.give(Ok(Frame::data(Bytes::from_static(b"b"))), true);
        assert!(matches!(read(&mut first), Some(Err(BodyError::Superseded))));
        assert!(replay.is_possible());

        let mut second = replay.attempt();
        assert_eq!(read(&mut second).unwrap().unwrap().len(), MOST_OF_ONE, "from the beginning");
        assert_eq!(read(&mut second).unwrap().unwrap(), "b");
        assert!(read(&mut second).is_none(), "the end");
    }

    #[test]
    fn the_bound_of_all_is_met_exactly() {
        let bytes = ReplayBytes::default();
        assert!(bytes.take(MOST_OF_ALL));
        assert!(!bytes.take(1));
        bytes.give_back(1);
        assert!(bytes.take(1));
    }
}
