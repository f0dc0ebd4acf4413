//! One gRPC call: what it asks for, its message, its answer (grpc/grpc doc/PROTOCOL-HTTP2.md).

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderName, Method};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::Status;

use super::answer::{Answer, failed, not_a_message};
use super::fault_of;
use super::seats::Seated;
use crate::control::rpc::{IDLE_LIMIT, SMALL_PACKET};
use crate::control::service::PREFIX;
use crate::metrics::control::{ControlMetrics, ProtocolFault, RpcMethod};
use crate::wire::grpc::{self, Assembler, Fault};

const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// What a request is.
pub(super) enum Asked {
    /// A call of the agent service.
    Call,
    /// A call in an encoding that is not spoken.
    Unsupported,
    /// Anything else.
    Page,
}

pub(super) fn asks_for(head: &Parts) -> Asked {
    let content = head.headers.get(CONTENT_TYPE);
    let content = content.map_or(&b""[..], |content| content.as_bytes());
    let Some(rest) = content.strip_prefix(grpc::CONTENT_TYPE.as_bytes()) else {
        return match head.method {
            Method::POST if head.uri.path().starts_with(PREFIX) => Asked::Unsupported,
            _ => Asked::Page,
        };
    };
    let encoding = rest.strip_prefix(b"+proto").unwrap_or(rest);
    match encoding {
        [] | [b';', ..] if head.method == Method::POST => Asked::Call,
        _ => Asked::Unsupported,
    }
}

/// A call that was admitted.
pub(super) struct Call {
    seated: Arc<Seated>,
    method: RpcMethod,
    deadline: Option<Instant>,
}

impl Call {
    /// What a request to the service calls.
    ///
    /// # Errors
    /// When it is nothing that there is, or in a form that is not understood.
    pub(super) fn new(seated: Arc<Seated>, head: &Parts) -> Result<Self, Status> {
        let given = |name: HeaderName| head.headers.get(name).map(|value| value.as_bytes());
        let deadline = match given(grpc::TIMEOUT) {
            None => None,
            Some(value) => {
                let time = grpc::timeout(value)
                    .ok_or_else(|| Status::internal("malformed grpc-timeout"))?;
                Instant::now().checked_add(time)
            }
        };
        let service = &seated.caller.service;
        let method = service.method(head.uri.path().as_bytes()).map_err(failed)?;
        if given(ENCODING).is_some_and(|encoding| encoding != b"identity") {
            seated.caller.begin(method).reject();
            return Err(Status::unimplemented("no compression is supported"));
        }
        Ok(Self {
            seated,
            method,
            deadline,
        })
    }

    /// Serves the call to its end.
    pub(super) async fn serve(
        self,
        mut body: RecvStream,
        mut respond: SendResponse<Bytes>,
        large: Arc<Semaphore>,
        metrics: ControlMetrics,
    ) {
        let outcome = tokio::select! {
            biased;
            // The agent gave up or broke a rule, or its connection is gone: what was begun for it is dropped.
            _reset = poll_fn(|cx| respond.poll_reset(cx)) => return blame(&mut body, &metrics).await,
            outcome = self.outcome(&mut body, large, &metrics) => outcome,
        };
        drop(body);
        Answer::call(outcome).finish(respond, metrics).await;
    }

    async fn outcome(
        self,
        body: &mut RecvStream,
        large: Arc<Semaphore>,
        metrics: &ControlMetrics,
    ) -> Result<Bytes, Status> {
        let answering = async {
            let call = self.seated.caller.begin(self.method);
            let read = timeout(IDLE_LIMIT, read(body, large));
            let (fault, status) = match read.await {
                Ok(Ok((message, _place))) => return call.answer(message).await.map_err(failed),
                Ok(Err(Unread::Message(fault))) => {
                    (ProtocolFault::GrpcMessage, not_a_message(fault))
                }
                // The stream is reset, which is seen before this is answered.
                Ok(Err(Unread::Stream(error))) => return Err(Status::cancelled(error.to_string())),
                Err(_) => {
                    let status = format!("the request did not come within {IDLE_LIMIT:?}");
                    (ProtocolFault::IdleStream, Status::deadline_exceeded(status))
                }
            };
            metrics.violated(fault);
            call.reject();
            Err(status)
        };
        match self.deadline {
            None => answering.await,
            Some(deadline) => timeout_at(deadline, answering)
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("the time of the call is over"))),
        }
    }
}

/// Counts the reset of a stream if a broken rule was the reason; one that ends the connection is counted with that.
async fn blame(body: &mut RecvStream, metrics: &ControlMetrics) {
    // What had come before; nothing comes any more that would have to be waited for.
    while let Some(data) = body.data().await {
        let Err(error) = data else { continue };
        if let Some(reason) = error.reason()
            && error.is_reset()
            && error.is_library()
        {
            metrics.violated(fault_of(reason));
        }
        return;
    }
}

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error(transparent)]
    Message(#[from] Fault),
    #[error(transparent)]
    Stream(#[from] h2::Error),
}

/// The message of a call, and the place that it has if it is large. While it waits for one, its window stays closed.
async fn read(
    body: &mut RecvStream,
    large: Arc<Semaphore>,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Unread> {
    let mut assembler = Assembler::default();
    let mut place = None;
    while let Some(data) = body.data().await.transpose()? {
        let length = data.len();
        assembler.push(data)?;
        if place.is_none() && assembler.held() > SMALL_PACKET {
            // Never closed, so there is always a place in the end.
            place = Arc::clone(&large).acquire_owned().await.ok();
        }
        body.flow_control().release_capacity(length)?;
    }
    // Metadata after the message means nothing.
    body.trailers().await?;
    Ok((assembler.finish()?, place))
}
