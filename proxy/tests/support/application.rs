//! An application that speaks HTTP/2 and counts what it is asked to do.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::runtime::Runtime;

/// How much `/large` and `/pieces` send, in bytes.
pub(crate) const LARGE: usize = 64 * 1024 * 1024;

/// The application. It answers `/x` when it has read the body, `/hold` never, `/large` with much
/// and `/pieces` with much in pieces of ten bytes.
pub(crate) struct Application {
    pub(crate) address: SocketAddr,
    pub(crate) counts: Arc<Counts>,
    _runtime: Runtime,
}

/// What was asked of it.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Requests at this moment, and the most there ever were.
    pub(crate) open: AtomicUsize,
    pub(crate) most: AtomicUsize,
    /// Bytes of responses that it got rid of.
    pub(crate) sent: AtomicUsize,
    /// Requests that it read whole, with their trailers.
    pub(crate) whole: Mutex<Vec<(Request<()>, HeaderMap)>>,
}

impl Application {
    pub(crate) fn start(address: [u8; 4]) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = tokio::net::TcpListener::bind((IpAddr::from(address), 0));
        let listener = runtime.block_on(listener).unwrap();
        let address = listener.local_addr().unwrap();
        let counts: Arc<Counts> = Arc::default();
        let application = Self { address, counts: Arc::clone(&counts), _runtime: runtime };
        application._runtime.spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let counts = Arc::clone(&counts);
                let service = service_fn(move |request| answer(request, Arc::clone(&counts)));
                let connection = http2::Builder::new(TokioExecutor::new())
                    .max_concurrent_streams(1000)
                    .serve_connection(TokioIo::new(socket), service);
                tokio::spawn(connection);
            }
        });
        application
    }

    pub(crate) fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }

    pub(crate) fn sent(&self) -> usize {
        self.counts.sent.load(Ordering::SeqCst)
    }

    /// The most requests at the same time since this was asked last.
    pub(crate) fn take_most(&self) -> usize {
        self.counts.most.swap(0, Ordering::SeqCst)
    }

    /// The requests that it read whole since this was asked last.
    pub(crate) fn take(&self) -> Vec<(Request<()>, HeaderMap)> {
        std::mem::take(&mut self.counts.whole.lock().unwrap())
    }
}

/// Counts a request for as long as its stream is there.
struct Open(Arc<Counts>);

impl Open {
    fn new(counts: Arc<Counts>) -> Self {
        let open = counts.open.fetch_add(1, Ordering::SeqCst) + 1;
        counts.most.fetch_max(open, Ordering::SeqCst);
        Self(counts)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn answer(
    request: Request<Incoming>,
    counts: Arc<Counts>,
) -> Result<Response<Answer>, hyper::Error> {
    let open = Open::new(Arc::clone(&counts));
    let (parts, mut body) = request.into_parts();
    let answer = |piece: usize, left| {
        Ok(Response::new(Answer { piece: Bytes::from(vec![b'a'; piece]), left, _open: open }))
    };
    match parts.uri.path() {
        "/hold" => pending().await,
        "/large" => return answer(16 * 1024, LARGE),
        "/pieces" => return answer(10, LARGE),
        _ => {}
    }
    let mut trailers = HeaderMap::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(fields) = frame?.into_trailers() {
            trailers = fields;
        }
    }
    counts.whole.lock().unwrap().push((Request::from_parts(parts, ()), trailers));
    let answer = answer(5, 5)?;
    Ok(answer.map(|answer| Answer { piece: Bytes::from_static(b"whole"), ..answer }))
}

/// A body of one piece again and again.
struct Answer {
    piece: Bytes,
    left: usize,
    _open: Open,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let piece = self.piece.clone();
        self.left = self.left.saturating_sub(piece.len());
        self._open.0.sent.fetch_add(piece.len(), Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}
