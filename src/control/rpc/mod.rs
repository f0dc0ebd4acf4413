//! The dRPC server on one stream: unary calls, one after the other (storj/drpc drpcmanager/manager.go,
//! drpcstream/stream.go, drpcmux/handle_rpc.go).

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{AsyncWrite, Stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::PollSemaphore;

use crate::wire::drpc::{
    Assembler, Kind, Packet, PacketTooLarge, ProtocolError, RemoteError, Writer, metadata,
};

/// How long a stream may go without a whole packet or an answer. The reference waits for ever; this is as long
/// as it waits for the second half of a close (yamux StreamCloseTimeout), and time for 4 MiB at 14 kB/s.
pub(super) const IDLE_LIMIT: Duration = Duration::from_secs(300);

/// Bytes of an unfinished packet beyond which its stream needs one of the places for large requests.
pub(super) const SMALL_PACKET: usize = 64 << 10;

/// Bytes of the text of an error, at most: it may repeat what the peer sent, such as the name of a method.
pub(super) const MAX_TEXT: usize = 4 << 10;

/// What answers the calls of a stream.
pub(super) trait Handler {
    /// A method that exists.
    type Method: Copy + Send;

    /// The method of that name, or what to answer for one that does not exist.
    fn method(&self, path: &[u8]) -> Result<Self::Method, RemoteError>;

    /// Answers a call. Dropped when the peer no longer wants the answer.
    fn call(
        &self,
        method: Self::Method,
        request: Bytes,
    ) -> impl Future<Output = Result<Bytes, RemoteError>> + Send;
}

/// Why a stream is not served any more.
#[derive(Debug)]
pub(super) enum Ended {
    /// The peer closed or reset it, or the session is gone.
    Closed,
    /// Nothing came for [`IDLE_LIMIT`], or an answer was not taken.
    Idle,
    /// The peer broke the protocol: the stream is closed without an Error packet.
    Violation(Violation),
    /// Writing failed.
    Broken(io::Error),
}

/// What a peer did that ends its stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum Violation {
    /// Frames that make no packet.
    #[error(transparent)]
    Frame(#[from] ProtocolError),
    /// A packet of a kind that has no place in a call under way.
    #[error("{0:?} inside a call")]
    Unexpected(Kind),
    /// Metadata that the reference would not read.
    #[error("malformed metadata")]
    Metadata,
}

/// Serves calls on `transport` until it ends. `large` has a place for each request of more than
/// [`SMALL_PACKET`] bytes that may be in memory at a time.
pub(super) async fn serve<T, P, H>(transport: &mut T, handler: &H, large: Arc<Semaphore>) -> Ended
where
    T: Stream<Item = io::Result<P>> + AsyncWrite + Unpin,
    P: AsRef<[u8]> + Unpin,
    H: Handler,
{
    let mut server = Server {
        transport,
        handler,
        large: PollSemaphore::new(large),
        place: None,
        assembler: Assembler::default(),
        piece: None,
        call: Call::None,
        answer: BytesMut::new(),
    };
    loop {
        match timeout(IDLE_LIMIT, std::future::poll_fn(|cx| server.poll(cx))).await {
            Ok(Ok(())) => {}
            Ok(Err(ended)) => return ended,
            Err(_) => return Ended::Idle,
        }
    }
}

struct Server<'a, T, P, H: Handler> {
    transport: &'a mut T,
    handler: &'a H,
    large: PollSemaphore,
    /// Held while a large request is put together or handled.
    place: Option<OwnedSemaphorePermit>,
    assembler: Assembler,
    /// What was read, and how much of it went to the assembler.
    piece: Option<(P, usize)>,
    call: Call<'a, H::Method>,
    /// What is left to write of an answer.
    answer: BytesMut,
}

type Answering<'a> = Pin<Box<dyn Future<Output = Result<Bytes, RemoteError>> + Send + 'a>>;

/// The call that a stream is at.
enum Call<'a, M> {
    /// There was none.
    None,
    /// The request has not come.
    Invoked { id: u64, method: M },
    /// The answer is being found.
    Running { id: u64, answering: Answering<'a> },
    /// Answered or given up: what still comes of it means nothing.
    Over { id: u64 },
}

impl<M> Call<'_, M> {
    fn id(&self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Invoked { id, .. } | Self::Running { id, .. } | Self::Over { id } => Some(*id),
        }
    }

    fn is_under_way(&self) -> bool {
        matches!(self, Self::Invoked { .. } | Self::Running { .. })
    }
}

impl<T, P, H> Server<'_, T, P, H>
where
    T: Stream<Item = io::Result<P>> + AsyncWrite + Unpin,
    P: AsRef<[u8]> + Unpin,
    H: Handler,
{
    /// Ready after each packet and each answer, so that the caller sees progress.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        // An answer that the peer does not take stops it from asking for more.
        if !self.answer.is_empty() {
            ready!(self.poll_write(cx)).map_err(Ended::Broken)?;
            return Poll::Ready(Ok(()));
        }
        // Packets before the answer: the end of the stream cancels a call, even one whose request came with it.
        if let Poll::Ready(packet) = self.poll_packet(cx)? {
            self.on_packet(packet)?;
            return Poll::Ready(Ok(()));
        }
        let Call::Running { id, answering } = &mut self.call else {
            return Poll::Pending;
        };
        let id = *id;
        let answer = ready!(answering.as_mut().poll(cx));
        self.finish(id, answer);
        Poll::Ready(Ok(()))
    }

    fn poll_packet(&mut self, cx: &mut Context<'_>) -> Poll<Result<Packet, Ended>> {
        loop {
            if let Some((piece, taken)) = &mut self.piece {
                if self.place.is_none() && self.assembler.held() > SMALL_PACKET {
                    // Never closed, so there is always a place in the end.
                    self.place = ready!(self.large.poll_acquire(cx));
                }
                let whole = piece.as_ref();
                let mut left = whole.get(*taken..).unwrap_or_default();
                let packet = self
                    .assembler
                    .next(&mut left)
                    .map_err(|error| Ended::Violation(error.into()))?;
                *taken = whole.len() - left.len();
                if left.is_empty() {
                    self.piece = None;
                }
                if let Some(packet) = packet {
                    return Poll::Ready(Ok(packet));
                }
            } else {
                match ready!(Pin::new(&mut *self.transport).poll_next(cx)) {
                    Some(Ok(piece)) => self.piece = Some((piece, 0)),
                    // Inside a packet too: that is how a call is given up that was not sent whole.
                    None | Some(Err(_)) => return Poll::Ready(Err(Ended::Closed)),
                }
            }
        }
    }

    fn on_packet(&mut self, packet: Packet) -> Result<(), Ended> {
        let id = packet.id.stream;
        let current = self.call.id() == Some(id);
        match packet.kind {
            Kind::Invoke | Kind::InvokeMetadata if current => {
                if self.call.is_under_way() {
                    return Err(Ended::Violation(Violation::Unexpected(packet.kind)));
                }
            }
            // A new call takes the place of the one before, whether that was answered or not.
            Kind::InvokeMetadata => {
                if !metadata::is_well_formed(&packet.data) {
                    return Err(Ended::Violation(Violation::Metadata));
                }
                self.call = Call::None;
            }
            Kind::Invoke => match self.handler.method(&packet.data) {
                Ok(method) => self.call = Call::Invoked { id, method },
                Err(error) => self.finish(id, Err(error)),
            },
            // The reference waits for an Invoke, and so does this.
            _ if !current => {}
            Kind::Message => {
                if let Call::Invoked { method, .. } = self.call {
                    let answering = Box::pin(self.handler.call(method, packet.data));
                    self.call = Call::Running { id, answering };
                }
            }
            Kind::CloseSend => {
                if let Call::Invoked { .. } = self.call {
                    let text = "EOF".to_owned();
                    self.finish(id, Err(RemoteError { code: 0, text }));
                }
            }
            Kind::Close | Kind::Cancel | Kind::Error => {
                self.call = Call::Over { id };
                self.leave();
            }
        }
        Ok(())
    }

    /// Ends a call with an answer, of which the first packet completes it for the peer.
    fn finish(&mut self, id: u64, answer: Result<Bytes, RemoteError>) {
        let mut writer = Writer::new(id);
        let written = match &answer {
            Ok(message) => writer
                .packet(Kind::Message, message, &mut self.answer)
                .and_then(|()| writer.packet(Kind::CloseSend, &[], &mut self.answer)),
            Err(error) => error_packet(&mut writer, error, &mut self.answer),
        };
        if let Err(too_large) = written {
            let text = format!("the answer is too large: {too_large}");
            tracing::error!(%too_large, "an answer does not fit a packet");
            // Far below the limit, so it fits.
            error_packet(
                &mut writer,
                &RemoteError { code: 0, text },
                &mut self.answer,
            )
            .unwrap_or_default();
        }
        self.call = Call::Over { id };
        self.leave();
    }

    /// Gives the place of a large request back once it is no longer in memory.
    fn leave(&mut self) {
        if self.assembler.held() <= SMALL_PACKET {
            self.place = None;
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.answer.is_empty() {
            let written = ready!(Pin::new(&mut *self.transport).poll_write(cx, &self.answer))?;
            self.answer.advance(written);
        }
        // Not kept for the next call, which may never come.
        self.answer = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

fn error_packet(
    writer: &mut Writer,
    error: &RemoteError,
    out: &mut BytesMut,
) -> Result<(), PacketTooLarge> {
    let mut error = error.clone();
    error
        .text
        .truncate(error.text.floor_char_boundary(MAX_TEXT));
    let mut payload = BytesMut::new();
    error.encode(&mut payload);
    writer.packet(Kind::Error, &payload, out)
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed"),
            Self::Idle => write!(f, "nothing came for {IDLE_LIMIT:?}"),
            Self::Violation(violation) => violation.fmt(f),
            Self::Broken(error) => error.fmt(f),
        }
    }
}
