//! One unary call on a stream of its own, and what is seen of it.

#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap};
use tokio::time::timeout;
use tonic::Code;

use super::super::error::{DialError, Refusal, excerpt};
use super::super::transport::CALL_LIMIT;
use super::super::{Outcome, Rpc};
use super::session::{PIECE, Session};
use crate::logging::ErrorChain;
use crate::wire::grpc::{self, Assembler, Request, RequestTooLarge, Status};

/// What the control plane may take for the first call. On this side the limit of the whole dial holds.
const FIRST_LIMIT: Duration = Duration::from_secs(10);

/// Makes one attempt. [`Outcome::Retry`] and [`Outcome::Ambiguous`] mean that `session` is done for.
pub(in crate::upstream) async fn call(session: &Session, rpc: Rpc, body: &[Bytes]) -> Outcome {
    let mut written = false;
    let attempt = attempt(session, rpc, body, CALL_LIMIT, &mut written);
    let seen = timeout(CALL_LIMIT, attempt).await;
    let seen = seen.unwrap_or(Err(Fault::TimedOut(CALL_LIMIT)));
    if is_turned_away(&seen) {
        session.note_turned_away();
    }
    outcome(seen, written)
}

/// Asks whether the control plane takes this agent. That it has no such method is an answer too.
pub(super) async fn first(session: &Session) -> Result<(), DialError> {
    let mut written = false;
    match attempt(session, Rpc::UPDATE_STATS, &[], FIRST_LIMIT, &mut written).await {
        Ok(Answer::Message(_)) => Ok(()),
        Ok(Answer::Status(status)) if status.code == Code::Unimplemented => Ok(()),
        Ok(Answer::Status(status)) => Err(DialError::Refused(Refusal::of_status(&status))),
        Err(Fault::Http(status)) => Err(DialError::Refused(Refusal::new(status, &[]))),
        Err(Fault::Broken(error)) => Err(DialError::Http2(error)),
        Err(fault) => Err(DialError::NotGrpc(ErrorChain(&fault).to_string())),
    }
}

/// What the control plane answered.
#[derive(Debug)]
enum Answer {
    /// A message, and the status OK.
    Message(Bytes),
    /// Another status.
    Status(Status),
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    RequestTooLarge(#[from] RequestTooLarge),
    /// Also of the one stream: refused, reset, or left out by a GOAWAY.
    #[error(transparent)]
    Broken(#[from] h2::Error),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// Something before the control plane, most likely, which may or may not have passed the request on.
    #[error("{0} instead of gRPC")]
    Http(StatusCode),
    #[error("an answer without a status")]
    NoStatus,
    #[error(transparent)]
    Reply(#[from] grpc::Fault),
    #[error("the answer does not decode")]
    Undecodable(#[from] prost::DecodeError),
}

impl Fault {
    /// Whether it proves that the request was not handled, whatever was written of it (RFC 9113, section 8.7). A
    /// GOAWAY is the error of those streams alone which it leaves out; others go on, or break with the connection.
    fn excludes_handling(&self) -> bool {
        match self {
            Self::Broken(error) if error.is_remote() => {
                error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM)
            }
            _ => false,
        }
    }
}

fn is_turned_away(seen: &Result<Answer, Fault>) -> bool {
    match seen {
        Ok(Answer::Status(status)) => {
            matches!(status.code, Code::Unauthenticated | Code::PermissionDenied)
        }
        Err(Fault::Http(status)) => {
            matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        }
        _ => false,
    }
}

/// What was seen of a call of which something was written, or nothing.
fn outcome(seen: Result<Answer, Fault>, written: bool) -> Outcome {
    let in_doubt = |text| match written {
        true => Outcome::Ambiguous(text),
        false => Outcome::Retry(text),
    };
    let turned_away = is_turned_away(&seen);
    match seen {
        Ok(Answer::Message(message)) => Outcome::Accepted(message),
        Ok(Answer::Status(status)) => {
            let text = format!("{:?}: {}", status.code, excerpt(&status.text));
            match status.code {
                _ if turned_away => Outcome::Retry(text),
                Code::Unimplemented => Outcome::Rejected(text),
                // Said by whatever is on the way as well, when it does not know what became of the request.
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => {
                    in_doubt(text)
                }
                _ => Outcome::Refused(text),
            }
        }
        // It will not fit another time either.
        Err(Fault::RequestTooLarge(error)) => Outcome::Rejected(error.to_string()),
        Err(fault) => {
            let text = excerpt(&ErrorChain(&fault).to_string());
            match turned_away || fault.excludes_handling() {
                true => Outcome::Retry(text),
                false => in_doubt(text),
            }
        }
    }
}

async fn attempt(
    session: &Session,
    rpc: Rpc,
    body: &[Bytes],
    limit: Duration,
    written: &mut bool,
) -> Result<Answer, Fault> {
    let request = Request::new(body)?;
    let mut call = session.open(rpc, limit).await?;
    let mut writing = Writing::new(request);
    let mut reading = Reading::Head(&mut call.answer);
    poll_fn(|cx| {
        // The answer first: an error may come before the request is written, and the peer then reads no more of it.
        if let Poll::Ready(answer) = reading.poll(cx) {
            return Poll::Ready(answer);
        }
        match ready!(writing.poll(&mut call.request, written, cx)) {
            Ok(()) => Poll::Pending,
            // The answer may have come meanwhile.
            Err(error) => match reading.poll(cx) {
                Poll::Ready(answer) => Poll::Ready(answer),
                Poll::Pending => Poll::Ready(Err(error.into())),
            },
        }
    })
    .await
}

/// How far an answer has come.
enum Reading<'a> {
    Head(&'a mut ResponseFuture),
    Body {
        stream: RecvStream,
        reply: Assembler,
    },
}

impl Reading<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, Fault>> {
        loop {
            match self {
                Self::Head(response) => {
                    let response = ready!(Pin::new(response).poll(cx))?;
                    let (head, stream) = response.into_parts();
                    // An answer without a message may be all head.
                    if let Some(status) = Status::read(&head.headers) {
                        return Poll::Ready(answer(status, Assembler::default()));
                    }
                    if head.status != StatusCode::OK || !is_grpc(&head.headers) {
                        return Poll::Ready(Err(Fault::Http(head.status)));
                    }
                    let reply = Assembler::default();
                    *self = Self::Body { stream, reply };
                }
                Self::Body { stream, reply } => {
                    if let Some(chunk) = ready!(stream.poll_data(cx)).transpose()? {
                        let length = chunk.len();
                        reply.push(chunk)?;
                        stream.flow_control().release_capacity(length)?;
                        continue;
                    }
                    let trailers = ready!(stream.poll_trailers(cx))?;
                    let status = trailers.as_ref().and_then(Status::read);
                    let status = status.ok_or(Fault::NoStatus)?;
                    return Poll::Ready(answer(status, std::mem::take(reply)));
                }
            }
        }
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(grpc::CONTENT_TYPE.as_bytes()))
}

fn answer(status: Status, reply: Assembler) -> Result<Answer, Fault> {
    if status.code != Code::Ok {
        return Ok(Answer::Status(status));
    }
    let message = reply.finish()?;
    // Of the reply only this is known here: it is a protobuf message.
    <() as prost::Message>::decode(message.clone())?;
    Ok(Answer::Message(message))
}

/// What is left to write of a request, in pieces of one frame.
struct Writing<'a> {
    request: Request<'a>,
    /// What is to be written next.
    piece: BytesMut,
    ended: bool,
}

impl<'a> Writing<'a> {
    fn new(request: Request<'a>) -> Self {
        Self {
            request,
            piece: BytesMut::new(),
            ended: false,
        }
    }

    /// Writes as far as the stream takes it; ready when all is written, or when the peer wants no more of it.
    fn poll(
        &mut self,
        stream: &mut SendStream<Bytes>,
        written: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), h2::Error>> {
        while !self.ended {
            if self.piece.is_empty() {
                let length = PIECE.min(self.request.remaining());
                self.piece.reserve(length);
                self.request.write_next(&mut self.piece, length);
            }
            stream.reserve_capacity(self.piece.len());
            while stream.capacity() == 0 {
                if ready!(stream.poll_capacity(cx)).transpose()?.is_none() {
                    return Poll::Ready(Ok(()));
                }
            }
            let taken = stream.capacity().min(self.piece.len());
            let taken = self.piece.split_to(taken).freeze();
            self.ended = self.piece.is_empty() && self.request.remaining() == 0;
            stream.send_data(taken, self.ended)?;
            *written = true;
        }
        Poll::Ready(Ok(()))
    }
}
