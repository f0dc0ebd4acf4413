//! The byte stream under the multiplexer, with a referee on it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{AsyncRead, AsyncWrite, Sink, Stream};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::wire::ws::ByteStream;
use crate::wire::yamux::{HEADER, Header, Referee, Verdict, Violation};

/// Bytes of a frame that nobody wants, thrown away at a time.
const SKIP: usize = 4 << 10;

/// Passes frames that break no rule. The first that does ends reading with an error that holds the [`Violation`],
/// after the WebSocket was closed with 1011, as coderd closes a session that it cannot serve.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: ByteStream<S>,
    referee: Referee,
    reading: Reading,
    writing: Writing,
}

/// Where reading stands in the frames of the peer.
#[derive(Debug)]
enum Reading {
    /// In a header, of which so much has come.
    Header([u8; HEADER], usize),
    /// In a header that is delivered, of which so much was handed on; a body of that length follows.
    Deliver([u8; HEADER], usize, u32),
    /// In a body that is delivered, of which so much is missing.
    Body(u32),
    /// In a body that is not.
    Skip(u32),
}

/// Where writing stands in the frames of this end.
#[derive(Debug)]
enum Writing {
    Header([u8; HEADER], usize),
    Body(u32),
}

const START: Reading = Reading::Header([0; HEADER], 0);

impl<S> Guarded<S> {
    pub(super) fn new(stream: ByteStream<S>, max_streams: usize) -> Self {
        Self {
            stream,
            referee: Referee::new(max_streams),
            reading: START,
            writing: Writing::Header([0; HEADER], 0),
        }
    }

    /// Shows the referee what was written.
    fn wrote(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.writing {
                Writing::Header(header, have) => {
                    let taken = fill(header, have, bytes);
                    bytes = bytes.get(taken..).unwrap_or_default();
                    if *have == HEADER {
                        // The multiplexer writes nothing that does not decode.
                        let body = Header::decode(*header).map_or(0, |header| {
                            self.referee.sent(&header);
                            header.body()
                        });
                        self.writing = if body == 0 {
                            Writing::Header([0; HEADER], 0)
                        } else {
                            Writing::Body(body)
                        };
                    }
                }
                Writing::Body(left) => {
                    let taken = bytes.len().min(*left as usize);
                    bytes = bytes.get(taken..).unwrap_or_default();
                    *left -= taken as u32;
                    if *left == 0 {
                        self.writing = Writing::Header([0; HEADER], 0);
                    }
                }
            }
        }
    }
}

/// Copies what is missing of a header; returns how much that was.
fn fill(header: &mut [u8; HEADER], have: &mut usize, bytes: &[u8]) -> usize {
    let missing = header.get_mut(*have..).unwrap_or_default();
    let length = missing.len().min(bytes.len());
    for (to, from) in missing.iter_mut().zip(bytes) {
        *to = *from;
    }
    *have += length;
    length
}

impl<S> Guarded<S>
where
    S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin,
{
    /// Judges the header that has come whole.
    fn judge(&mut self, header: [u8; HEADER], cx: &mut Context<'_>) -> io::Result<Reading> {
        let judged = Header::decode(header).and_then(|decoded| {
            let verdict = self.referee.received(&decoded)?;
            Ok((verdict, decoded.body()))
        });
        match judged {
            Ok((Verdict::Deliver, body)) => Ok(Reading::Deliver(header, 0, body)),
            Ok((Verdict::Skip, body)) => Ok(Reading::Skip(body)),
            Err(violation) => Err(self.end(violation, cx)),
        }
    }

    fn end(&mut self, violation: Violation, cx: &mut Context<'_>) -> io::Error {
        if let Err(error) = self.stream.refuse(cx, CloseCode::Error) {
            tracing::debug!(%error, "the close after a violation was not sent");
        }
        io::Error::new(io::ErrorKind::InvalidData, violation)
    }
}

impl<S> AsyncRead for Guarded<S>
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
            if let Err(violation) = this.referee.check() {
                return Poll::Ready(Err(this.end(violation, cx)));
            }
            match &mut this.reading {
                Reading::Header(header, have) => {
                    let missing = header.get_mut(*have..).unwrap_or_default();
                    match ready!(Pin::new(&mut this.stream).poll_read(cx, missing))? {
                        0 if *have == 0 => return Poll::Ready(Ok(0)),
                        0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                        length => *have += length,
                    }
                    if *have == HEADER {
                        let header = *header;
                        this.reading = this.judge(header, cx)?;
                    }
                }
                Reading::Deliver(header, given, body) => {
                    let left = header.get(*given..).unwrap_or_default();
                    let length = left.len().min(buf.len());
                    for (to, from) in buf.iter_mut().zip(left) {
                        *to = *from;
                    }
                    *given += length;
                    if *given == HEADER {
                        this.reading = if *body == 0 {
                            START
                        } else {
                            Reading::Body(*body)
                        };
                    }
                    return Poll::Ready(Ok(length));
                }
                Reading::Body(left) => {
                    let room = buf.len().min(*left as usize);
                    let buf = buf.get_mut(..room).unwrap_or_default();
                    let length = ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
                    *left -= length as u32;
                    if *left == 0 {
                        this.reading = START;
                    }
                    return Poll::Ready(Ok(length));
                }
                Reading::Skip(0) => this.reading = START,
                Reading::Skip(left) => {
                    let mut waste = [0; SKIP];
                    let room = SKIP.min(*left as usize);
                    let waste = waste.get_mut(..room).unwrap_or_default();
                    match ready!(Pin::new(&mut this.stream).poll_read(cx, waste))? {
                        0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                        length => *left -= length as u32,
                    }
                }
            }
        }
    }
}

impl<S> AsyncWrite for Guarded<S>
where
    S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length = ready!(Pin::new(&mut this.stream).poll_write(cx, buf))?;
        this.wrote(buf.get(..length).unwrap_or_default());
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_close(cx)
    }
}
