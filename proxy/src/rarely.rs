//! A future that is waited for beside something busier. Whoever waits for both is woken by the busy
//! one again and again; this one is polled only when it was woken itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// A future that seldom moves.
pub(crate) struct Rarely<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    /// Rings the bell.
    waker: Waker,
}

struct Bell {
    rung: AtomicBool,
    /// The task that waits.
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future> Rarely<F> {
    /// `future`, to be polled when it is woken.
    pub(crate) fn new(future: F) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: AtomicWaker::new() });
        let waker = Arc::clone(&bell).into();
        Self { future: Box::pin(future), bell, waker }
    }
}

impl<F: Future> Future for Rarely<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.bell.task.register(cx.waker());
        if !this.bell.rung.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        this.bell.rung.swap(false, Ordering::Acquire);
        this.future.as_mut().poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_when_it_is_woken_and_not_with_its_neighbour() {
        let (tell, mut told) = oneshot::channel();
        let polled = Cell::new(0);
        let mut rare = Rarely::new(poll_fn(|cx| {
            polled.set(polled.get() + 1);
            Pin::new(&mut told).poll(cx)
        }));
        for _ in 0..10 {
            tokio::select! {
                biased;
                _ = &mut rare => panic!("nobody has told it"),
                () = tokio::task::yield_now() => {}
            }
        }
        assert_eq!(polled.get(), 1);
        tell.send(7).unwrap();
        assert_eq!(rare.await, Ok(7));
        assert_eq!(polled.get(), 2);
    }
}
