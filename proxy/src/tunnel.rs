//! A stream of HTTP/2 as a connection: what CONNECT makes of it (RFC 9113 §8.5). Unlike a hyper
//! upgrade it can tell an orderly end from a broken one, in both directions: a half-close is
//! END_STREAM, a TCP reset is RST_STREAM with CONNECT_ERROR. A reset with any code, NO_ERROR too, cuts
//! off what END_STREAM has not ended before; after it, it takes nothing away.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::carried::{Carried, Pieces};
use crate::fill::Pace;
use crate::http2::{self, Reason, RecvStream, SendStream};
use crate::server::MESH_FRAME;

/// Most bytes that are handed to the stream at once.
const PIECE: usize = MESH_FRAME as usize;

/// One stream, after the CONNECT on it was granted. Dropped before its end, it is cancelled: the
/// other side sees that nobody wants it any more.
#[derive(Debug)]
pub struct Tunnel {
    send: SendStream,
    receive: RecvStream,
    unread: Bytes,
    /// Whether the other side has ended its half.
    heard_all: bool,
    /// Whether we have ended ours.
    ended: bool,
}

impl Tunnel {
    /// The two halves of a stream.
    pub const fn new(send: SendStream, receive: RecvStream) -> Self {
        Self { send, receive, unread: Bytes::new(), heard_all: false, ended: false }
    }
}

impl Carried for Tunnel {
    fn reset(&mut self) {
        self.send.reset(Reason::CONNECT_ERROR);
    }

    fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            // One that is over has ended already.
            let _ = self.send.end();
        }
    }
}

impl Tunnel {
    /// Resolves when something is unread, or all was heard.
    fn poll_unread(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(self.receive.poll_data(cx)) {
                None => {
                    self.heard_all = true;
                    break;
                }
                Some(data) => self.unread = data.map_err(broken)?,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Pieces for Tunnel {
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        _: &mut Pace,
        _: &mut BytesMut,
    ) -> Poll<io::Result<Bytes>> {
        ready!(self.poll_unread(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.unread)))
    }

    fn poll_give(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>> {
        ready!(self.send.poll_ready(cx)).map_err(broken)?;
        let piece = bytes.split_to(bytes.len().min(PIECE));
        Poll::Ready(self.send.data(piece, false).map_err(broken))
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_unread(cx))?;
        let bytes = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread[..bytes]);
        self.unread.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.send.poll_ready(cx)).map_err(broken)?;
        let piece = Bytes::copy_from_slice(&buf[..buf.len().min(PIECE)]);
        let bytes = piece.len();
        self.send.data(piece, false).map_err(broken)?;
        Poll::Ready(Ok(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Carried::end(&mut *self);
        let sent = ready!(self.send.poll_ready(cx));
        // Who has said all and wants to hear no more resets the stream (RFC 9113 §8.1), and
        // misses nothing.
        Poll::Ready(if self.heard_all { Ok(()) } else { sent.map_err(broken) })
    }
}

/// What the end of a stream means for the connection in it: one that is cancelled was given up,
/// any other was cut off.
fn broken(error: http2::Error) -> io::Error {
    let kind = match error.reason() {
        Some(Reason::CANCEL) => io::ErrorKind::ConnectionAborted,
        _ => io::ErrorKind::ConnectionReset,
    };
    io::Error::new(kind, error)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::http2::{Carries, Connection, Settings};

    const PATIENCE: Duration = Duration::from_secs(10);

    const SETTINGS: Settings = Settings {
        window: 1 << 20,
        stream_window: 1 << 16,
        streams: 100,
        frame: 1 << 14,
        head: 1 << 14,
        websocket: false,
    };

    /// The two ends of one tunnel.
    async fn tunnel() -> (Tunnel, Tunnel) {
        let (near, far) = duplex(1 << 20);
        let server = tokio::spawn(async move {
            let mut connection = Connection::server(far, SETTINGS, Carries::Own, PATIENCE);
            let (request, mut send) = connection.accept().await.unwrap().unwrap();
            tokio::spawn(async move { while connection.accept().await.unwrap().is_some() {} });
            send.respond(&http::Response::new(()), false).unwrap();
            Tunnel::new(send, request.into_body())
        });
        let (opener, connection) = Connection::client(near, SETTINGS, PATIENCE);
        tokio::spawn(connection.run());
        let request = http::Request::connect("10.0.0.1:80").body(()).unwrap();
        let (answer, send) = opener.place().await.unwrap().send(&request, false).unwrap();
        let receive = answer.await.unwrap().into_body();
        (Tunnel::new(send, receive), server.await.unwrap())
    }

    #[tokio::test]
    async fn each_half_ends_by_itself_and_nothing_is_lost() {
        let (mut client, mut server) = tunnel().await;
        let sent = vec![7; 3 * PIECE + 1];
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            let mut read = Vec::new();
            client.read_to_end(&mut read).await.unwrap();
            read
        });
        let mut read = Vec::new();
        server.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, expected);
        server.write_all(b"after the end").await.unwrap();
        server.shutdown().await.unwrap();
        drop(server);
        assert_eq!(writing.await.unwrap(), b"after the end");
    }

    /// Whose stream is then reset with NO_ERROR (RFC 9113 §8.1).
    #[tokio::test]
    async fn one_who_has_said_all_may_leave_first() {
        let (mut client, mut server) = tunnel().await;
        client.write_all(b"question").await.unwrap();
        let mut read = [0; 8];
        server.read_exact(&mut read).await.unwrap();
        server.write_all(b"answer").await.unwrap();
        server.shutdown().await.unwrap();
        drop(server);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"answer");
        client.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn what_is_cut_off_does_not_look_whole() {
        for (end, expected) in [
            ((|tunnel| tunnel.reset()) as fn(&mut Tunnel), io::ErrorKind::ConnectionReset),
            (|tunnel| tunnel.send.reset(Reason::NO_ERROR), io::ErrorKind::ConnectionReset),
            (|_| {}, io::ErrorKind::ConnectionAborted),
        ] {
            let (mut client, mut server) = tunnel().await;
            client.write_all(b"half of i").await.unwrap();
            let mut read = [0; 9];
            server.read_exact(&mut read).await.unwrap();
            end(&mut client);
            drop(client);
            assert_eq!(server.read(&mut read).await.unwrap_err().kind(), expected);
        }
    }
}
