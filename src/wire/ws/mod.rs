//! WebSocket messages as one byte stream.
//!
//! Message edges carry no meaning (coder/websocket netconn.go): what is written is joined into messages of
//! up to [`MAX_MESSAGE`] bytes, what is received is read through. Serves either end of a connection, over
//! any sink and stream of messages.

#[cfg(test)]
mod tests;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{AsyncRead, AsyncWrite, Sink, Stream};
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};

/// Bytes of one message as written here: two full dRPC frames, so that a busy connection pays for one
/// system call where it would pay for four. Far below the 4 MiB that older peers enforce.
pub const MAX_MESSAGE: usize = 128 << 10;

/// Bytes of one received message, at most; the reference asks for as many (codersdk/drpcsdk/transport.go).
pub const MAX_RECEIVED: usize = 4 << 20;

/// Bytes read from the socket at once. Replies are small, and an idle process is to stay small.
const READ_BUFFER: usize = 16 << 10;

/// Limits for a WebSocket that [`ByteStream`] runs over.
pub fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        // Messages are joined here already: each goes to the socket at once.
        .write_buffer_size(0)
        // A message that the socket does not take, and the control frames beside it.
        .max_write_buffer_size(2 * MAX_MESSAGE)
        .max_message_size(Some(MAX_RECEIVED))
        .max_frame_size(Some(MAX_RECEIVED))
}

/// What the owner of a [`ByteStream`] sees and asks of the connection while a multiplexer holds the stream.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Beat>);

#[derive(Debug, Default)]
struct Beat {
    received: AtomicU64,
    pongs: AtomicU64,
    ping: AtomicBool,
}

impl Pulse {
    /// Messages received so far, control messages included: a sign of life whenever it has changed.
    pub fn received(&self) -> u64 {
        self.0.received.load(Ordering::Relaxed)
    }

    /// Pongs received so far.
    pub fn pongs(&self) -> u64 {
        self.0.pongs.load(Ordering::Relaxed)
    }

    /// Has a ping sent when the stream is polled next.
    pub fn ping(&self) {
        self.0.ping.store(true, Ordering::Relaxed);
    }
}

/// The byte stream. Memory: one unread message, and [`MAX_MESSAGE`] bytes to be sent.
///
/// A flush is put off until the reader has nothing left to do, or until it is asked for a second time with
/// nothing written in between: yamux flushes after each of its frames, and they are to share a message.
#[derive(Debug)]
pub struct ByteStream<S> {
    ws: S,
    unread: Bytes,
    unsent: BytesMut,
    /// Something was written, here or below, that may not have reached the socket.
    dirty: bool,
    /// A flush was asked for since the last write.
    flush_asked: bool,
    ended: Option<Ended>,
    closing: Closing,
    pulse: Pulse,
}

/// How reading came to its end.
#[derive(Clone, Debug)]
enum Ended {
    /// The peer closed with 1000 or 1001.
    Clean,
    Failed(io::ErrorKind, String),
}

#[derive(Clone, Copy, Debug)]
enum Closing {
    No,
    Queued,
    Sent,
}

impl<S> ByteStream<S>
where
    S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin,
{
    /// Takes over an established connection.
    pub fn new(ws: S) -> Self {
        Self {
            ws,
            unread: Bytes::new(),
            unsent: BytesMut::new(),
            dirty: false,
            flush_asked: false,
            ended: None,
            closing: Closing::No,
            pulse: Pulse::default(),
        }
    }

    /// The handle that stays with the owner.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Hands what was written to the WebSocket, as one message.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.unsent.is_empty() {
            ready!(Pin::new(&mut self.ws).poll_ready(cx)).map_err(io_error)?;
            let message = Message::Binary(self.unsent.split().freeze());
            Pin::new(&mut self.ws)
                .start_send(message)
                .map_err(io_error)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Brings everything that was written or asked for to the socket.
    fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        if self.pulse.0.ping.load(Ordering::Relaxed) {
            ready!(Pin::new(&mut self.ws).poll_ready(cx)).map_err(io_error)?;
            self.pulse.0.ping.store(false, Ordering::Relaxed);
            self.dirty = true;
            Pin::new(&mut self.ws)
                .start_send(Message::Ping(Bytes::new()))
                .map_err(io_error)?;
        }
        ready!(Pin::new(&mut self.ws).poll_flush(cx)).map_err(io_error)?;
        self.dirty = false;
        Poll::Ready(Ok(()))
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        let message = ready!(Pin::new(&mut self.ws).poll_next(cx));
        if let Some(Ok(message)) = &message {
            self.pulse.0.received.fetch_add(1, Ordering::Relaxed);
            if message.is_pong() {
                self.pulse.0.pongs.fetch_add(1, Ordering::Relaxed);
            }
        }
        Poll::Ready(message)
    }

    /// Answers what must not come with a close, as far as the socket takes it at once.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn refuse(&mut self, cx: &mut Context<'_>, code: CloseCode) -> Result<(), Error> {
        let mut ws = Pin::new(&mut self.ws);
        if let Poll::Ready(ready) = ws.as_mut().poll_ready(cx) {
            ready?;
            ws.as_mut().start_send(close(code))?;
        }
        match ws.poll_flush(cx) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }
}

impl<S> AsyncRead for ByteStream<S>
where
    S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            if !this.unread.is_empty() {
                let length = this.unread.len().min(buf.len());
                this.unread.copy_to_slice(&mut buf[..length]);
                return Poll::Ready(Ok(length));
            }
            match &this.ended {
                None => {}
                Some(Ended::Clean) => return Poll::Ready(Ok(0)),
                Some(Ended::Failed(kind, text)) => {
                    return Poll::Ready(Err(io::Error::new(*kind, text.clone())));
                }
            }
            let Poll::Ready(message) = this.poll_message(cx) else {
                if (this.dirty || this.pulse.0.ping.load(Ordering::Relaxed))
                    && let Poll::Ready(pushed) = this.poll_push(cx)
                {
                    pushed?;
                }
                return Poll::Pending;
            };
            match message {
                Some(Ok(Message::Binary(data))) => this.unread = data,
                // Answered by the WebSocket itself, on the next poll.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => {
                    let answered = this.refuse(cx, CloseCode::Unsupported);
                    let note = if answered.is_ok() {
                        ""
                    } else {
                        " (and the close was not sent)"
                    };
                    let text = format!("text message received, expected binary{note}");
                    this.ended = Some(Ended::Failed(io::ErrorKind::InvalidData, text));
                }
                Some(Ok(Message::Close(frame))) => {
                    this.ended = Some(Ended::by_close(frame));
                    // The echo is queued; whether it arrives changes nothing here.
                    if let Poll::Ready(Err(error)) = Pin::new(&mut this.ws).poll_flush(cx)
                        && !matches!(error, Error::ConnectionClosed | Error::AlreadyClosed)
                    {
                        this.ended = Some(Ended::failed(error));
                    }
                }
                Some(Err(error)) => this.ended = Some(Ended::failed(error)),
                None => this.ended = Some(Ended::Clean),
            }
        }
    }
}

impl<S> AsyncWrite for ByteStream<S>
where
    S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.unsent.len() == MAX_MESSAGE {
            ready!(this.poll_drain(cx))?;
        }
        let length = buf.len().min(MAX_MESSAGE - this.unsent.len());
        this.unsent.extend_from_slice(&buf[..length]);
        this.dirty = true;
        this.flush_asked = false;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.dirty && !this.flush_asked {
            this.flush_asked = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.dirty {
            this.poll_push(cx)
        } else {
            Poll::Ready(Ok(()))
        }
    }

    /// Sends close 1000 after everything that was written and waits for the peer's; unbounded in time.
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.ended.is_some() {
                return Poll::Ready(Ok(()));
            }
            match this.closing {
                Closing::No => {
                    ready!(this.poll_drain(cx))?;
                    ready!(Pin::new(&mut this.ws).poll_ready(cx)).map_err(io_error)?;
                    this.closing = Closing::Queued;
                    Pin::new(&mut this.ws)
                        .start_send(close(CloseCode::Normal))
                        .map_err(io_error)?;
                }
                Closing::Queued => {
                    ready!(Pin::new(&mut this.ws).poll_flush(cx)).map_err(io_error)?;
                    this.closing = Closing::Sent;
                }
                // Peers end an orderly close in many ways; each of them is the end.
                Closing::Sent => match ready!(this.poll_message(cx)) {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => this.ended = Some(Ended::Clean),
                    Some(Ok(_)) => {}
                },
            }
        }
    }
}

impl Ended {
    fn by_close(frame: Option<CloseFrame>) -> Self {
        match frame {
            Some(frame) if matches!(frame.code, CloseCode::Normal | CloseCode::Away) => Self::Clean,
            Some(CloseFrame { code, reason }) => Self::Failed(
                io::ErrorKind::ConnectionAborted,
                format!(
                    "closed by the peer with {} {:?}",
                    u16::from(code),
                    reason.as_str()
                ),
            ),
            None => Self::Failed(
                io::ErrorKind::ConnectionAborted,
                "closed by the peer without a close code".to_owned(),
            ),
        }
    }

    fn failed(error: Error) -> Self {
        let error = io_error(error);
        Self::Failed(error.kind(), error.to_string())
    }
}

fn close(code: CloseCode) -> Message {
    Message::Close(Some(CloseFrame {
        code,
        reason: "".into(),
    }))
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "closed by the peer without a WebSocket close",
        ),
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}
