//! Frames as they come, one after another: each is judged, and what it brings goes to its stream
//! (RFC 9113 §5, §6). What is wrong with a stream costs the stream, what is wrong with more the
//! connection.

use std::ops::Range;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Request, StatusCode};

use super::Role;
use super::bounds::{Bounds, Excess};
use super::error::{By, Error};
use super::fields::{self, Fields};
use super::frame::{HEAD, Head, MOST_WINDOW, PREFACE, Reason, flag, kind};
use super::hpack::Decoder;
use super::settings::{HEADER_TABLE, Settings};
use super::state::{LAST, LEAVING, State};
use crate::server::MAX_HEAD;
use crate::upgrade::is_extended;

/// Most frames that a block of fields may come in.
const MAX_PARTS: u32 = 64;

/// Most bytes that are to be written when another request begins.
const MOST_UNREAD: usize = 8 * MAX_HEAD;

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault(pub(super) Reason);

impl From<Excess> for Fault {
    fn from(excess: Excess) -> Self {
        tracing::debug!("connection ended: the other side sent too many {}", excess.0);
        Self(Reason::ENHANCE_YOUR_CALM)
    }
}

const PROTOCOL: Fault = Fault(Reason::PROTOCOL_ERROR);
const CLOSED: Fault = Fault(Reason::STREAM_CLOSED);
const FRAME_SIZE: Fault = Fault(Reason::FRAME_SIZE_ERROR);

/// What came of what was read.
#[derive(Debug)]
pub(super) enum Came {
    /// A request on this stream.
    Request(u32, Box<Request<()>>),
    /// Nothing more: the next frame takes so many bytes.
    Part(usize),
}

/// What is known of the frames before the next one.
#[derive(Debug)]
pub(super) struct Receiver {
    /// What is still to come of the preface.
    preface: &'static [u8],
    /// The other side has told its settings, which come first (RFC 9113 §3.4).
    greeted: bool,
    /// How often it has to acknowledge ours.
    unanswered: u32,
    decoder: Decoder,
    /// A block of fields whose end is still to come.
    block: Option<Block>,
    pub(super) bounds: Bounds,
    /// How much has come in whole frames, in bytes.
    came: u64,
    /// The largest frame that may come.
    most: usize,
    /// How many streams may be open.
    streams: u32,
    /// Whether a CONNECT may name a protocol (RFC 8441 §3).
    websocket: bool,
    /// Streams that were not begun when a newer one was, and may not be any more (RFC 9113 §5.1.1).
    skipped: Range<u32>,
}

/// A block of fields that has begun.
#[derive(Debug)]
struct Block {
    stream: u32,
    /// Nothing comes after it on the stream.
    last: bool,
    /// Its stream depends on itself (RFC 9113 §5.3.2), which is an error.
    on_itself: bool,
    bytes: BytesMut,
    /// In how many frames it came.
    parts: u32,
}

impl Receiver {
    pub(super) fn new(role: Role, settings: Settings, bounds: Bounds) -> Self {
        Self {
            preface: if matches!(role, Role::Server) { PREFACE } else { &[] },
            greeted: false,
            unanswered: 1,
            decoder: Decoder::new(HEADER_TABLE),
            block: None,
            bounds,
            came: 0,
            most: settings.frame as usize,
            streams: settings.streams,
            websocket: settings.websocket,
            skipped: 0..0,
        }
    }

    /// Takes up the frames in `read`, up to a request.
    ///
    /// # Errors
    /// Why the connection ends.
    pub(super) fn take(&mut self, state: &mut State, read: &mut BytesMut) -> Result<Came, Fault> {
        while !self.preface.is_empty() {
            let length = self.preface.len().min(read.len());
            if length == 0 {
                return Ok(Came::Part(self.preface.len()));
            }
            let (now, later) = self.preface.split_at(length);
            if read[..length] != *now {
                return Err(PROTOCOL);
            }
            read.advance(length);
            self.preface = later;
        }
        loop {
            let Some(head) = Head::read(read) else { return Ok(Came::Part(HEAD)) };
            if head.length > self.most {
                return Err(FRAME_SIZE);
            }
            let whole = HEAD + head.length;
            if read.len() < whole {
                return Ok(Came::Part(whole));
            }
            read.advance(HEAD);
            let payload = read.split_to(head.length);
            self.came += whole as u64;
            self.bounds.frame(head, Instant::now)?;
            if let Some(request) = self.frame(state, head, payload)? {
                return Ok(Came::Request(head.stream, request));
            }
        }
    }

    fn frame(
        &mut self,
        state: &mut State,
        head: Head,
        payload: BytesMut,
    ) -> Result<Option<Box<Request<()>>>, Fault> {
        let within = self
            .block
            .as_ref()
            .is_some_and(|block| head.kind != kind::CONTINUATION || head.stream != block.stream);
        let early = !self.greeted && (head.kind != kind::SETTINGS || head.has(flag::ACK));
        if within || early {
            return Err(PROTOCOL);
        }
        match head.kind {
            kind::DATA => self.data(state, head, payload.freeze())?,
            kind::HEADERS => return self.headers(state, head, payload),
            kind::CONTINUATION => return self.continuation(state, head, &payload),
            kind::WINDOW_UPDATE => self.window_update(state, head, &payload)?,
            kind::RST_STREAM => reset(state, head, &payload)?,
            kind::SETTINGS => self.settings(state, head, &payload)?,
            kind::PING => ping(state, head, &payload)?,
            kind::GOAWAY => goaway(state, head, &payload)?,
            kind::PRIORITY => self.priority(state, head, &payload)?,
            // No side of ours lets anything be pushed (RFC 9113 §8.4).
            kind::PUSH_PROMISE => return Err(PROTOCOL),
            _ => {}
        }
        Ok(None)
    }

    fn data(&mut self, state: &mut State, head: Head, mut data: Bytes) -> Result<(), Fault> {
        let id = begun(state, head)?;
        // Padding counts (RFC 9113 §6.1).
        if !state.window.take(head.length as u32) {
            return Err(Fault(Reason::FLOW_CONTROL_ERROR));
        }
        if head.has(flag::PADDED) {
            unpad(&mut data)?;
        }
        let last = head.has(flag::END_STREAM);
        let taken = match state.streams.get_mut(&id) {
            Some(stream) if stream.is_receiving() => {
                stream.incoming.data(data, head.length as u32, self.came, last)
            }
            _ => Err(None),
        };
        match taken {
            Ok(read) => {
                state.read(id, read);
                if last {
                    state.settle(id);
                }
                Ok(())
            }
            Err(reason) => {
                state.read(0, head.length);
                match reason {
                    Some(reason) => self.fault(state, id, reason),
                    None => self.late(state, id),
                }
            }
        }
    }

    fn headers(
        &mut self,
        state: &mut State,
        head: Head,
        payload: BytesMut,
    ) -> Result<Option<Box<Request<()>>>, Fault> {
        if head.stream == 0 {
            return Err(PROTOCOL);
        }
        let mut payload = payload.freeze();
        if head.has(flag::PADDED) {
            unpad(&mut payload)?;
        }
        let mut on_itself = false;
        if head.has(flag::PRIORITY) {
            let priority = payload.first_chunk::<5>().ok_or(FRAME_SIZE)?;
            on_itself = depends(priority) == head.stream;
            payload.advance(5);
        }
        let last = head.has(flag::END_STREAM);
        if !head.has(flag::END_HEADERS) {
            let bytes = BytesMut::from(&*payload);
            self.block = Some(Block { stream: head.stream, last, on_itself, bytes, parts: 1 });
            return Ok(None);
        }
        self.block(state, head.stream, last, on_itself, &payload)
    }

    fn continuation(
        &mut self,
        state: &mut State,
        head: Head,
        payload: &[u8],
    ) -> Result<Option<Box<Request<()>>>, Fault> {
        let mut block = self.block.take().ok_or(PROTOCOL)?;
        block.bytes.extend_from_slice(payload);
        block.parts += 1;
        if block.bytes.len() > MAX_HEAD || block.parts > MAX_PARTS {
            return Err(Excess("fields of one head").into());
        }
        if !head.has(flag::END_HEADERS) {
            self.block = Some(block);
            return Ok(None);
        }
        let Block { stream, last, on_itself, bytes, .. } = block;
        self.block(state, stream, last, on_itself, &bytes.freeze())
    }

    /// A whole block of fields: the head of a message, or its trailers.
    fn block(
        &mut self,
        state: &mut State,
        id: u32,
        last: bool,
        on_itself: bool,
        block: &Bytes,
    ) -> Result<Option<Box<Request<()>>>, Fault> {
        let mut fields = Fields::default();
        let decoded = self.decoder.decode(block, |field, size| fields.add(field, size));
        decoded.map_err(|_| Fault(Reason::COMPRESSION_ERROR))?;
        if fields.is_bomb() {
            return Err(Excess("bytes out of compressed ones").into());
        }
        if id.is_multiple_of(2) {
            return Err(PROTOCOL);
        }
        if matches!(state.role, Role::Server) && id > state.newest {
            if id > state.newest + 2 {
                self.skipped = state.newest + 1..id;
            }
            state.newest = id;
            return self.request(state, id, last, on_itself, fields);
        }
        if !state.was_begun(id) {
            return Err(PROTOCOL);
        }
        let Some(stream) = state.streams.get_mut(&id) else {
            // It is nobody's, and was not taken back: a client who sends it has lost count.
            return match state.role {
                Role::Server if self.skipped.contains(&id) => Err(PROTOCOL),
                Role::Server if !state.was_reset(id) => Err(CLOSED),
                _ => self.late(state, id).map(|()| None),
            };
        };
        if !stream.is_receiving() {
            self.late(state, id)?;
        } else if let Err(reason) = stream.incoming.fields(fields, last) {
            self.fault(state, id, reason)?;
        } else {
            state.settle(id);
        }
        Ok(None)
    }

    fn request(
        &mut self,
        state: &mut State,
        id: u32,
        last: bool,
        on_itself: bool,
        fields: Fields,
    ) -> Result<Option<Box<Request<()>>>, Fault> {
        // What comes after our last GOAWAY was left out by it.
        if state.told {
            return Ok(None);
        }
        // One who reads no answers must not have more and more of them written.
        if state.open >= self.streams || state.writer.out.length() > MOST_UNREAD {
            return self.fault(state, id, Reason::REFUSED_STREAM).map(|()| None);
        }
        if fields.is_too_large() {
            let mut response = http::Response::new(());
            *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            state.head(id, &response, true);
            return self.fault(state, id, Reason::NO_ERROR).map(|()| None);
        }
        let length = fields.length();
        let request = match fields.request() {
            Ok(request) if self.websocket || !is_extended(&request) => request,
            _ => return self.fault(state, id, Reason::PROTOCOL_ERROR).map(|()| None),
        };
        let left = length.filter(|_| request.method() != Method::CONNECT);
        if on_itself || (last && left.is_some_and(|left| left > 0)) {
            return self.fault(state, id, Reason::PROTOCOL_ERROR).map(|()| None);
        }
        let incoming = &mut state.begin(id).incoming;
        incoming.begun = true;
        incoming.ended = last;
        incoming.left = left;
        incoming.expects = !last && fields::expects(request.headers());
        Ok(Some(Box::new(request)))
    }

    fn window_update(
        &mut self,
        state: &mut State,
        head: Head,
        payload: &[u8],
    ) -> Result<(), Fault> {
        let bytes = u32::from_be_bytes(payload.try_into().map_err(|_| FRAME_SIZE)?);
        let bytes = i64::from(bytes & LAST);
        if head.stream == 0 {
            if bytes == 0 {
                return Err(PROTOCOL);
            }
            state.writer.window += bytes;
            let fits = state.writer.window <= MOST_WINDOW;
            return fits.then_some(()).ok_or(Fault(Reason::FLOW_CONTROL_ERROR));
        }
        let id = begun(state, head)?;
        let Some(stream) = state.streams.get_mut(&id) else { return Ok(()) };
        stream.outgoing.window += bytes;
        if bytes == 0 {
            return self.fault(state, id, Reason::PROTOCOL_ERROR);
        }
        if stream.outgoing.window > MOST_WINDOW {
            return self.fault(state, id, Reason::FLOW_CONTROL_ERROR);
        }
        state.offer(id);
        Ok(())
    }

    fn settings(&mut self, state: &mut State, head: Head, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(PROTOCOL);
        }
        if head.has(flag::ACK) {
            if !payload.is_empty() {
                return Err(FRAME_SIZE);
            }
            self.unanswered = self.unanswered.checked_sub(1).ok_or(PROTOCOL)?;
            return Ok(());
        }
        self.greeted = true;
        // Before what they bring about: a table of HPACK may be larger from here on (RFC 7541 §4.2).
        state.writer.frame(kind::SETTINGS, flag::ACK, 0, []);
        state.take_settings(payload).map_err(Fault)
    }

    fn priority(&mut self, state: &mut State, head: Head, payload: &[u8]) -> Result<(), Fault> {
        if head.stream == 0 {
            return Err(PROTOCOL);
        }
        let priority: &[u8; 5] = payload.try_into().map_err(|_| FRAME_SIZE)?;
        if depends(priority) == head.stream {
            return self.fault(state, begun(state, head)?, Reason::PROTOCOL_ERROR);
        }
        Ok(())
    }

    /// Something came on a stream on which nothing may come any more. What was under way when we
    /// reset it is passed over.
    fn late(&mut self, state: &mut State, id: u32) -> Result<(), Fault> {
        if state.was_reset(id) { Ok(()) } else { self.fault(state, id, Reason::STREAM_CLOSED) }
    }

    /// The other side broke the rules on a stream, or asks for one too many: it is reset, whether it
    /// is open or not.
    fn fault(&mut self, state: &mut State, id: u32, reason: Reason) -> Result<(), Fault> {
        if state.streams.get(&id).is_some_and(|stream| !stream.is_closed()) {
            state.end(id, Error::Reset { by: By::Rules, reason });
        } else {
            state.writer.reset(id, reason);
            state.remember(id);
        }
        self.bounds.fault(Instant::now())?;
        Ok(())
    }
}

/// The stream of a frame, which must have been begun (RFC 9113 §5.1).
const fn begun(state: &State, head: Head) -> Result<u32, Fault> {
    if head.stream != 0 && state.was_begun(head.stream) { Ok(head.stream) } else { Err(PROTOCOL) }
}

/// Leaves of a payload what is no padding (RFC 9113 §6.1, §6.2).
fn unpad(payload: &mut Bytes) -> Result<(), Fault> {
    let padding = usize::from(*payload.first().ok_or(FRAME_SIZE)?);
    payload.advance(1);
    let length = payload.len().checked_sub(padding).ok_or(PROTOCOL)?;
    payload.truncate(length);
    Ok(())
}

/// The stream that another one depends on (RFC 9113 §5.3.2, §6.3).
const fn depends([a, b, c, d, _]: &[u8; 5]) -> u32 {
    u32::from_be_bytes([*a & 0x7f, *b, *c, *d])
}

fn reset(state: &mut State, head: Head, payload: &[u8]) -> Result<(), Fault> {
    let reason = Reason(u32::from_be_bytes(payload.try_into().map_err(|_| FRAME_SIZE)?));
    let id = begun(state, head)?;
    if let Some(stream) = state.streams.get_mut(&id)
        && !stream.is_closed()
    {
        stream.fail(Error::Reset { by: By::Peer, reason });
        state.settle(id);
    }
    Ok(())
}

fn ping(state: &mut State, head: Head, payload: &[u8]) -> Result<(), Fault> {
    if head.stream != 0 {
        return Err(PROTOCOL);
    }
    let payload: [u8; 8] = payload.try_into().map_err(|_| FRAME_SIZE)?;
    if !head.has(flag::ACK) {
        state.writer.frame(kind::PING, flag::ACK, 0, payload);
    } else if payload == LEAVING && state.leaving {
        state.leave_now();
    }
    Ok(())
}

fn goaway(state: &mut State, head: Head, payload: &[u8]) -> Result<(), Fault> {
    if head.stream != 0 {
        return Err(PROTOCOL);
    }
    let [a, b, c, d, e, f, g, h] = *payload.first_chunk::<8>().ok_or(FRAME_SIZE)?;
    let last = u32::from_be_bytes([a & 0x7f, b, c, d]);
    let reason = Reason(u32::from_be_bytes([e, f, g, h]));
    state.told_to_go(last, Error::GoAway { by: By::Peer, reason });
    Ok(())
}
