//! One unary call on a stream of its own, and what is seen of it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::{AsyncWrite, Stream};
use tokio::time::timeout;

use super::super::error::excerpt;
use super::super::transport::CALL_LIMIT;
use super::super::{Outcome, Rpc};
use super::session::{Gone, Session};
use crate::logging::ErrorChain;
use crate::wire::drpc::{
    Assembler, Frames, Kind, MAX_HEADER, Packet, PacketTooLarge, ProtocolError, RemoteError, Writer,
};
use crate::wire::yamux::PIECE;

/// Each call has its stream, so dRPC's own numbering never gets past the first.
const STREAM_ID: u64 = 1;

/// Makes one attempt. [`Outcome::Retry`] and [`Outcome::Ambiguous`] mean that `session` is done for.
pub(in crate::upstream) async fn call(session: &Session, rpc: Rpc, body: &[Bytes]) -> Outcome {
    let mut written = false;
    let answer = match timeout(CALL_LIMIT, attempt(session, rpc, body, &mut written)).await {
        Ok(answer) => answer,
        Err(_) => Err(Fault::TimedOut),
    };
    match answer {
        Ok(answer) => answer,
        // It will not fit another time either.
        Err(Fault::RequestTooLarge(error)) => Outcome::Rejected(error.to_string()),
        Err(fault) if written => Outcome::Ambiguous(ErrorChain(&fault).to_string()),
        Err(fault) => Outcome::Retry(ErrorChain(&fault).to_string()),
    }
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Gone(#[from] Gone),
    #[error("no answer within {CALL_LIMIT:?}")]
    TimedOut,
    #[error("the stream ended without an answer")]
    Ended,
    #[error("{0:?} instead of an answer")]
    NoAnswer(Kind),
    #[error("the answer is broken")]
    Protocol(#[from] ProtocolError),
    #[error("the answer does not decode")]
    Undecodable(#[from] prost::DecodeError),
    #[error("the stream broke")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    RequestTooLarge(#[from] PacketTooLarge),
}

async fn attempt(
    session: &Session,
    rpc: Rpc,
    body: &[Bytes],
    written: &mut bool,
) -> Result<Outcome, Fault> {
    let mut request = Request::new(rpc, body)?;
    let mut call = session.open().await?;
    let mut assembler = Assembler::default();
    let answer = std::future::poll_fn(|cx| {
        // The answer first: an error may come before the request is written, and the peer then reads no
        // more of it.
        if let Poll::Ready(answer) = poll_answer(&mut call.stream, &mut assembler, cx) {
            return Poll::Ready(answer);
        }
        match ready!(request.poll_write(&mut call.stream, written, cx)) {
            Ok(()) => Poll::Pending,
            Err(fault) => Poll::Ready(Err(fault)),
        }
    })
    .await?;
    call.end();
    Ok(answer)
}

/// Reads until the packet that completes the call. A Message does: CloseSend may come late or never.
fn poll_answer(
    stream: &mut yamux::Stream,
    assembler: &mut Assembler,
    cx: &mut Context<'_>,
) -> Poll<Result<Outcome, Fault>> {
    loop {
        let Some(piece) = ready!(Pin::new(&mut *stream).poll_next(cx)).transpose()? else {
            return Poll::Ready(Err(Fault::Ended));
        };
        let mut bytes = piece.as_ref();
        while let Some(packet) = assembler.next(&mut bytes)? {
            if let Some(answer) = answer(packet)? {
                return Poll::Ready(Ok(answer));
            }
        }
    }
}

/// What a packet says of the call; metadata says nothing.
fn answer(packet: Packet) -> Result<Option<Outcome>, Fault> {
    match packet.kind {
        Kind::InvokeMetadata => Ok(None),
        Kind::Message if packet.id.stream == STREAM_ID => {
            // Of the reply only this is known here: it is a protobuf message.
            <() as prost::Message>::decode(packet.data.clone())?;
            Ok(Some(Outcome::Accepted(packet.data)))
        }
        Kind::Error => Ok(Some(match RemoteError::decode(&packet.data) {
            Ok(error) => {
                let text = format!("code {}: {}", error.code, excerpt(&error.text));
                if error.is_unknown_method() {
                    Outcome::Rejected(text)
                } else {
                    Outcome::Refused(text)
                }
            }
            Err(malformed) => Outcome::Refused(malformed.to_string()),
        })),
        kind => Err(Fault::NoAnswer(kind)),
    }
}

/// What is left to write of a request, in pieces of one yamux frame.
struct Request<'a> {
    writer: Writer,
    frames: Frames<'a, Bytes>,
    /// The end of the request is in a piece.
    ended: bool,
    /// The piece under way, reused for each, of which `sent` bytes are written.
    piece: BytesMut,
    sent: usize,
}

impl<'a> Request<'a> {
    fn new(rpc: Rpc, body: &'a [Bytes]) -> Result<Self, PacketTooLarge> {
        let length: usize = body.iter().map(Bytes::len).sum();
        let room = PIECE.min(length + rpc.path().len() + 3 * MAX_HEADER);
        let mut piece = BytesMut::with_capacity(room);
        let mut writer = Writer::new(STREAM_ID);
        writer.packet(Kind::Invoke, rpc.path().as_bytes(), &mut piece)?;
        let frames = writer.frames(Kind::Message, body)?;
        let mut request = Self {
            writer,
            frames,
            ended: false,
            piece,
            sent: 0,
        };
        request.fill()?;
        Ok(request)
    }

    /// Adds to the piece what fits, behind the last frame the end of the request.
    fn fill(&mut self) -> Result<(), PacketTooLarge> {
        self.frames.write_next(&mut self.piece, PIECE);
        if self.frames.is_done() && !self.ended && self.piece.len() + MAX_HEADER <= PIECE {
            self.ended = true;
            self.writer.packet(Kind::CloseSend, &[], &mut self.piece)?;
        }
        Ok(())
    }

    /// Writes as far as the stream takes it; ready when all is written.
    fn poll_write(
        &mut self,
        stream: &mut yamux::Stream,
        written: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        while !self.piece.is_empty() {
            let left = &self.piece[self.sent..];
            self.sent += ready!(Pin::new(&mut *stream).poll_write(cx, left))?;
            *written = true;
            if self.sent == self.piece.len() {
                self.piece.clear();
                self.sent = 0;
                self.fill()?;
            }
        }
        Poll::Ready(Ok(()))
    }
}
