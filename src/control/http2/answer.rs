//! What is sent for a request: a page, or the end of a call.

use std::future::poll_fn;

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::control::handshake::Refusal;
use crate::control::http::Page;
use crate::control::rpc::{IDLE_LIMIT, MAX_TEXT};
use crate::control::service::{Failure, FailureKind};
use crate::metrics::control::{ControlMetrics, ProtocolFault};
use crate::wire::grpc;

/// Compressions that are understood, told to who uses another.
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// An answer: a head, data if there is any, and trailers if it is that of a call.
#[derive(Debug)]
pub(super) struct Answer {
    head: Response<()>,
    data: Bytes,
    trailers: Option<HeaderMap>,
}

impl Answer {
    /// A page, without what belongs to HTTP/1.1 (RFC 9113, section 8.2.2).
    pub(super) fn page(page: Page, method: &Method) -> Self {
        let (mut head, data) = page.into_parts();
        head.headers.remove(CONNECTION);
        head.headers.remove(UPGRADE);
        head.headers.insert(CONTENT_LENGTH, data.len().into());
        Self {
            head: Response::from_parts(head, ()),
            data: if method == Method::HEAD {
                Bytes::new()
            } else {
                data
            },
            trailers: None,
        }
    }

    /// The end of a call.
    pub(super) fn call(outcome: Result<Bytes, Status>) -> Self {
        let framed = outcome.and_then(|message| {
            grpc::body(&message).ok_or_else(|| {
                let length = message.len();
                tracing::error!(length, "an answer does not fit a message");
                Status::resource_exhausted(format!("the answer is too large: {length} bytes"))
            })
        });
        match framed {
            Ok(data) => {
                let mut head = Response::new(());
                let kind = HeaderValue::from_static(grpc::CONTENT_TYPE);
                head.headers_mut().insert(CONTENT_TYPE, kind);
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
                Self {
                    head,
                    data,
                    trailers: Some(trailers),
                }
            }
            Err(status) => {
                let mut head: Response<()> = status.into_http();
                let identity = HeaderValue::from_static("identity");
                head.headers_mut().insert(ACCEPT_ENCODING, identity);
                Self {
                    head,
                    data: Bytes::new(),
                    trailers: None,
                }
            }
        }
    }

    /// Sends it, and gives up on a peer that does not take it.
    pub(super) async fn finish(self, mut respond: SendResponse<Bytes>, metrics: ControlMetrics) {
        match timeout(IDLE_LIMIT, self.send(&mut respond)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "an answer was not taken"),
            Err(_) => {
                metrics.violated(ProtocolFault::IdleStream);
                respond.send_reset(Reason::CANCEL);
            }
        }
    }

    /// Sends it, at the pace at which the peer takes it.
    async fn send(self, respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
        let Self {
            head,
            mut data,
            trailers,
        } = self;
        let mut stream = respond.send_response(head, data.is_empty() && trailers.is_none())?;
        while !data.is_empty() {
            stream.reserve_capacity(data.len());
            while stream.capacity() == 0 {
                // `None`: the stream is reset, which sending then says.
                let Some(granted) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
                    break;
                };
                granted?;
            }
            let piece = data.split_to(stream.capacity().min(data.len()));
            stream.send_data(piece, data.is_empty() && trailers.is_none())?;
        }
        match trailers {
            Some(trailers) => stream.send_trailers(trailers),
            None => Ok(()),
        }
    }
}

/// What a refused dial is to a call: the agent tries again later whatever the reason, and reads its token again when
/// that was it.
pub(super) fn refused(refusal: &Refusal) -> Status {
    let code = match refusal.status {
        http::StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        _ => Code::Unavailable,
    };
    Status::new(code, refusal.body.message.clone())
}

/// What a failure of the service is to a call.
pub(super) fn failed(failure: Failure) -> Status {
    let Failure { kind, mut text } = failure;
    let code = match kind {
        FailureKind::UnknownMethod | FailureKind::Unimplemented => Code::Unimplemented,
        FailureKind::Invalid => Code::InvalidArgument,
        FailureKind::Failed => Code::Unknown,
    };
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    Status::new(code, text)
}

/// What a body that is not one message is to a call (grpc/grpc doc/statuscodes.md).
pub(super) fn not_a_message(fault: grpc::Fault) -> Status {
    use grpc::Fault::*;
    let code = match fault {
        Missing | TooMany => Code::Unimplemented,
        TooLarge(_) => Code::ResourceExhausted,
        Truncated | Compressed | Flag(_) => Code::Internal,
    };
    Status::new(code, fault.to_string())
}
