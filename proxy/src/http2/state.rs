//! What the task of a connection and the handles of its streams share: the streams, what is to be
//! written, and the windows of the other side. Everything is written in the order in which it is
//! asked for; a stream has at most one piece that waits, and those that wait take turns.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use bytes::Bytes;
use http::{HeaderMap, Response};
use tokio::sync::Semaphore;

use super::error::{By, Error};
use super::fields;
use super::frame::{MOST_WINDOW, Reason, kind};
use super::stream::{Next, Stream};
use super::window::Window;
use super::writer::{Turn, Writer};
use super::{Role, Settings};

/// The largest number of a stream.
pub(super) const LAST: u32 = (1 << 31) - 1;

/// The PING by which a server that leaves learns that its GOAWAY has arrived.
pub(super) const LEAVING: [u8; 8] = *b"leaving.";

/// Streams that we have reset lately. What is still under way on them is passed over.
const REMEMBERED: usize = 100;

/// One connection, as its handles know it.
#[derive(Debug)]
pub(super) struct Shared(Mutex<State>);

impl Shared {
    pub(super) fn new(state: State) -> Arc<Self> {
        Arc::new(Self(Mutex::new(state)))
    }

    /// Only one thread uses a connection: the lock is free.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) role: Role,
    /// Boxed, for a connection that rests keeps the room for a few.
    pub(super) streams: HashMap<u32, Box<Stream>, foldhash::fast::RandomState>,
    pub(super) writer: Writer,
    /// Streams that have something to send, in turn.
    line: VecDeque<u32>,
    /// What all streams together may send us.
    pub(super) window: Window,
    stream_window: u32,
    /// The newest stream that the other side has opened.
    pub(super) newest: u32,
    /// The next stream that we open.
    next: u32,
    /// How many streams are open.
    pub(super) open: u32,
    /// How many streams of ours we want at most.
    streams_wanted: u32,
    /// Places for them.
    pub(super) places: Arc<Semaphore>,
    /// Places that are to go when they come back: the other side permits fewer than it did.
    owed: usize,
    /// The other side was told that we leave, and may not have heard it.
    pub(super) leaving: bool,
    /// The other side was told which stream is the last one that is served.
    pub(super) told: bool,
    /// The connection ends with the last stream that is open.
    pub(super) closing: bool,
    /// Why nothing is opened any more, where the other side said so.
    pub(super) gone: Option<Error>,
    /// Something came since the other side was last asked for a sign of life.
    pub(super) heard: bool,
    /// Streams that we have reset lately, the last [`REMEMBERED`].
    reset: VecDeque<u32>,
    /// Of the task that drives the connection.
    task: Option<Waker>,
    /// It is awake, or waits for something that will wake it.
    pub(super) awake: bool,
}

impl State {
    pub(super) fn new(role: Role, settings: Settings) -> Self {
        Self {
            role,
            streams: HashMap::default(),
            writer: Writer::new(role, settings),
            line: VecDeque::new(),
            window: Window::of_all(settings.window, settings.stream_window),
            stream_window: settings.stream_window,
            newest: 0,
            next: 1,
            open: 0,
            streams_wanted: settings.streams,
            places: Arc::new(Semaphore::new(settings.streams as usize)),
            owed: 0,
            leaving: false,
            told: false,
            closing: false,
            gone: None,
            heard: false,
            reset: VecDeque::new(),
            task: None,
            awake: true,
        }
    }

    /// The task of the connection, which rests from here on.
    pub(super) fn rest(&mut self, cx: &Context<'_>, awake: bool) {
        match &mut self.task {
            Some(task) => task.clone_from(cx.waker()),
            None => self.task = Some(cx.waker().clone()),
        }
        self.awake = awake;
    }

    /// There is something to do for the task of the connection.
    pub(super) fn stir(&mut self) {
        if !self.awake {
            self.awake = true;
            if let Some(task) = &self.task {
                task.wake_by_ref();
            }
        }
    }

    /// The number of the next stream of ours, while there are any left.
    pub(super) fn number(&mut self) -> Option<u32> {
        let id = self.next;
        self.next = id.checked_add(2).filter(|next| *next <= LAST)?;
        Some(id)
    }

    /// Begins a stream, of ours or of theirs, with two handles; gives it to be filled in.
    pub(super) fn begin(&mut self, id: u32) -> &mut Stream {
        self.open += 1;
        let stream = Stream::new(2, self.stream_window, self.writer.theirs.window);
        self.streams.entry(id).insert_entry(Box::new(stream)).into_mut()
    }

    /// Whether a stream of this number was ever begun.
    pub(super) const fn was_begun(&self, id: u32) -> bool {
        let theirs = (id % 2 == 1) == matches!(self.role, Role::Server);
        if theirs { id <= self.newest } else { id < self.next && matches!(self.role, Role::Client) }
    }

    /// Whether we have reset this stream not long ago.
    pub(super) fn was_reset(&self, id: u32) -> bool {
        self.reset.contains(&id)
    }

    /// Has the head of a response sent, or one before it.
    pub(super) fn head(&mut self, id: u32, response: &Response<()>, last: bool) {
        self.writer.block(id, last, |encoder, out| fields::write_response(encoder, response, out));
        self.stir();
    }

    /// Has this sent on a stream that waits with nothing else.
    pub(super) fn send(&mut self, id: u32, data: Bytes, next: Next) -> Result<(), Error> {
        let Some(stream) = self.streams.get_mut(&id) else { return Err(gone()) };
        if let Some(error) = &stream.failed {
            return Err(error.clone());
        }
        if !data.is_empty() {
            stream.outgoing.data = data;
        }
        stream.outgoing.next = next;
        self.offer(id);
        self.stir();
        Ok(())
    }

    /// Writes what there is of a stream at once, where nobody was there before; else it gets in
    /// line.
    pub(super) fn offer(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.outgoing.in_line || stream.outgoing.is_empty() {
            return;
        }
        let frames = if self.line.is_empty() { usize::MAX } else { 0 };
        let turn = self.writer.advance(id, &mut stream.outgoing, frames);
        self.after(id, turn);
    }

    /// Gives those who wait their turns, until the connection takes no more.
    pub(super) fn take_turns(&mut self) {
        while self.writer.window > 0 && !self.writer.out.is_full() {
            let Some(id) = self.line.pop_front() else { return };
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.outgoing.in_line = false;
            let turn = self.writer.advance(id, &mut stream.outgoing, 1);
            self.after(id, turn);
        }
    }

    fn after(&mut self, id: u32, turn: Turn) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        match turn {
            Turn::Shut => {}
            Turn::Waits => {
                stream.outgoing.in_line = true;
                self.line.push_back(id);
            }
            Turn::Done if stream.outgoing.ended => {
                stream.outgoing.wake();
                // What nobody reads is not waited for either.
                if stream.handles == 0 && !stream.incoming.ended {
                    self.reset(id, self.unwanted());
                } else {
                    self.settle(id);
                }
            }
            Turn::Done => stream.outgoing.wake(),
        }
    }

    /// What is told to one whose message nobody reads to its end: a server that has answered
    /// needs no more of it (RFC 9113 §8.1).
    const fn unwanted(&self) -> Reason {
        match self.role {
            Role::Server => Reason::NO_ERROR,
            Role::Client => Reason::CANCEL,
        }
    }

    /// Resets a stream, because nobody wants it any more.
    pub(super) fn reset(&mut self, id: u32, reason: Reason) {
        self.end(id, Error::reset(reason));
    }

    /// Ends a stream that is open with a reset.
    pub(super) fn end(&mut self, id: u32, error: Error) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.is_closed() {
            return;
        }
        let reason = error.reason().unwrap_or(Reason::CANCEL);
        stream.fail(error);
        self.writer.reset(id, reason);
        self.remember(id);
        self.settle(id);
        self.stir();
    }

    /// What still comes on this stream is to be passed over.
    pub(super) fn remember(&mut self, id: u32) {
        if self.reset.len() == REMEMBERED {
            self.reset.pop_front();
        }
        self.reset.push_back(id);
    }

    /// A handle of a stream is gone.
    pub(super) fn release(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.handles -= 1;
        if stream.handles > 0 {
            return;
        }
        match (stream.outgoing.ends(), stream.outgoing.ended, stream.incoming.ended) {
            (false, _, _) => self.reset(id, Reason::CANCEL),
            (true, true, false) => self.reset(id, self.unwanted()),
            // Closed, or on its way there by itself.
            (true, _, _) => {}
        }
        self.settle(id);
    }

    /// Nobody reads what comes on a stream.
    pub(super) fn unread(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.incoming.unwanted = true;
        let bytes = stream.incoming.data.clear();
        self.read(0, bytes);
    }

    /// So many bytes were read of a stream, or of none that is left.
    pub(super) fn read(&mut self, id: u32, bytes: usize) {
        // invariant: more than the window of a connection cannot come.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if let Some(back) = self.window.read(bytes) {
            self.writer.frame(kind::WINDOW_UPDATE, 0, 0, back.to_be_bytes());
            self.stir();
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        // Of what nobody wants there need not come more.
        if stream.incoming.ended || stream.incoming.unwanted {
            return;
        }
        if let Some(back) = stream.incoming.window.read(bytes) {
            self.writer.frame(kind::WINDOW_UPDATE, 0, id, back.to_be_bytes());
            self.stir();
        }
    }

    /// Counts a stream as open no more once it is closed, and forgets it once nobody holds it. One
    /// of ours keeps its place until then: what came on it and was not read fills the window of all.
    pub(super) fn settle(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if !stream.is_closed() {
            return;
        }
        if !std::mem::replace(&mut stream.over, true) {
            self.open -= 1;
        }
        if std::mem::take(&mut stream.outgoing.in_line) {
            self.line.retain(|waiting| *waiting != id);
        }
        if stream.handles == 0
            && let Some(place) = self.streams.remove(&id).and_then(|stream| stream.place)
            && self.owed > 0
        {
            self.owed -= 1;
            place.forget();
        }
        if self.closing && self.is_idle() {
            self.stir();
        }
    }

    /// Whether no stream is open.
    pub(super) const fn is_idle(&self) -> bool {
        self.open == 0
    }

    /// Takes up settings of the other side.
    ///
    /// # Errors
    /// What the connection ends with.
    pub(super) fn take_settings(&mut self, payload: &[u8]) -> Result<(), Reason> {
        let before = self.writer.theirs;
        self.writer.theirs.read(payload, &mut self.writer.encoder)?;
        let now = self.writer.theirs;
        self.permit(self.permitted(before.streams), self.permitted(now.streams));
        self.widen(now.window - before.window)
    }

    fn permitted(&self, theirs: Option<u32>) -> usize {
        theirs.unwrap_or(self.streams_wanted).min(self.streams_wanted) as usize
    }

    /// How many streams of ours the other side takes, as far as we want them.
    pub(super) fn most(&self) -> usize {
        self.permitted(self.writer.theirs.streams)
    }

    /// The other side permits so many streams of ours.
    fn permit(&mut self, before: usize, now: usize) {
        if now >= before {
            let more = now - before;
            let paid = more.min(self.owed);
            self.owed -= paid;
            self.places.add_permits(more - paid);
        } else {
            let fewer = before - now;
            self.owed += fewer - self.places.forget_permits(fewer);
        }
    }

    /// The other side changed how much each stream may send.
    fn widen(&mut self, by: i64) -> Result<(), Reason> {
        if by == 0 {
            return Ok(());
        }
        let mut waiting = Vec::new();
        for (id, stream) in &mut self.streams {
            stream.outgoing.window += by;
            if stream.outgoing.window > MOST_WINDOW {
                return Err(Reason::FLOW_CONTROL_ERROR);
            }
            if !stream.outgoing.is_empty() {
                waiting.push(*id);
            }
        }
        waiting.into_iter().for_each(|id| self.offer(id));
        Ok(())
    }

    /// A server tells that it leaves: what is under way to it is served (RFC 9113 §6.8).
    pub(super) fn leave(&mut self) {
        if !self.leaving && !self.closing {
            self.leaving = true;
            self.writer.goaway(LAST, Reason::NO_ERROR);
            self.writer.frame(kind::PING, 0, 0, LEAVING);
            self.stir();
        }
    }

    /// All that was sent before it heard so has come.
    pub(super) fn leave_now(&mut self) {
        self.leaving = false;
        self.closing = true;
        self.told = true;
        self.writer.goaway(self.newest, Reason::NO_ERROR);
    }

    /// The other side leaves, and begins nothing above this stream.
    pub(super) fn told_to_go(&mut self, last: u32, error: Error) {
        self.closing = true;
        self.places.close();
        if matches!(self.role, Role::Client) {
            self.fail_above(last, &error);
        }
        self.gone.get_or_insert(error);
    }

    /// The connection is over: every stream that has not ended fails.
    pub(super) fn fail(&mut self, error: &Error) {
        self.closing = true;
        self.places.close();
        self.gone.get_or_insert_with(|| error.clone());
        self.fail_above(0, error);
    }

    /// Every stream above this one fails.
    pub(super) fn fail_above(&mut self, last: u32, error: &Error) {
        let failing: Vec<u32> = self.streams.keys().copied().filter(|id| *id > last).collect();
        for id in failing {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            if !stream.is_closed() {
                stream.fail(error.clone());
            }
            self.settle(id);
        }
    }
}

/// What a handle of a stream is told that has ended.
pub(super) const fn gone() -> Error {
    Error::Reset { by: By::Us, reason: Reason::STREAM_CLOSED }
}

/// The trailers of a message, boxed for [`Next`].
pub(super) fn trailers(fields: HeaderMap) -> Next {
    Next::Trailers(Box::new(fields))
}
