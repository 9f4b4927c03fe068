//! A client's side: streams are opened, and answered.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Method, Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::Error;
use super::fields;
use super::handles::{RecvStream, SendStream};
use super::state::{Shared, gone};
use super::stream::Expected;

/// Opens streams on a connection, which ends when it was dropped and the last of them has ended.
#[derive(Debug, Clone)]
pub(crate) struct Opener(Arc<Owner>);

#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
}

/// The permission to open one stream.
#[derive(Debug)]
pub(crate) struct Opening {
    shared: Arc<Shared>,
    place: OwnedSemaphorePermit,
}

/// Resolves with the response.
#[derive(Debug)]
pub(crate) struct Answer(Option<RecvStream>);

impl Opener {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let places = Arc::clone(&shared.lock().places);
        Self(Arc::new(Owner { shared, places }))
    }

    /// How many streams the other side carries at the same time, as far as we want them.
    pub(crate) fn most(&self) -> u32 {
        u32::try_from(self.0.shared.lock().most()).unwrap_or(u32::MAX)
    }

    /// Resolves when the other side takes one stream more.
    ///
    /// # Errors
    /// That it takes none any more, and why.
    pub(crate) async fn place(&self) -> Result<Opening, Error> {
        let place = Arc::clone(&self.0.places).acquire_owned().await;
        match place {
            Ok(place) => Ok(Opening { shared: Arc::clone(&self.0.shared), place }),
            Err(_) => Err(self.0.shared.lock().gone.clone().unwrap_or_else(gone)),
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closing = true;
        state.stir();
    }
}

impl Opening {
    /// Opens a stream with a request.
    ///
    /// # Errors
    /// That the connection takes none any more.
    pub(crate) fn send<B>(
        self,
        request: &Request<B>,
        last: bool,
    ) -> Result<(Answer, SendStream), Error> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        if let Some(error) = &state.gone {
            return Err(error.clone());
        }
        let Some(id) = state.number() else {
            // All are used up.
            state.closing = true;
            state.places.close();
            return Err(Error::exhausted());
        };
        let stream = state.begin(id);
        stream.incoming.expected = match *request.method() {
            Method::HEAD => Expected::Nothing,
            Method::CONNECT => Expected::Tunnel,
            _ => Expected::Body,
        };
        stream.place = Some(self.place);
        stream.outgoing.ended = last;
        state.writer.block(id, last, |encoder, out| fields::write_request(encoder, request, out));
        state.stir();
        drop(guard);
        let receive = RecvStream::new(Arc::clone(&self.shared), id, false, None);
        Ok((Answer(Some(receive)), SendStream::new(self.shared, id)))
    }
}

impl Future for Answer {
    type Output = Result<Response<RecvStream>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(receive) = &mut self.0 else { return Poll::Pending };
        let head = ready!(receive.poll_head(cx));
        let receive = self.0.take().ok_or_else(gone)?;
        Poll::Ready(head.map(|head| head.map(|()| receive)))
    }
}
