//! One HTTP/1.1 request on a connection of its own: the answer with its body, or the connection after it
//! changed protocols.

use bytes::{Bytes, BytesMut};
use http::{Request, response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// An established connection, whatever it is made of.
pub(crate) type Io = Box<dyn Duplex>;

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Bytes of a response's head, at most; the same number guards browsers.
const MAX_HEAD: usize = 64 << 10;

/// Bytes of a response's body that are read. Only a short JSON message is of interest.
const MAX_BODY: usize = 4 << 10;

/// What came of a request.
pub(super) enum Answer {
    /// The connection is no longer HTTP; `read` are bytes of the new protocol that came already.
    Switched {
        head: response::Parts,
        io: Io,
        read: Bytes,
    },
    /// An ordinary response, with the first bytes of its body.
    Plain { head: response::Parts, body: Bytes },
}

/// Sends `request` and reads what comes. Unbounded in time.
pub(super) async fn exchange(io: Io, request: Request<Empty<Bytes>>) -> hyper::Result<Answer> {
    let connects = request.method() == http::Method::CONNECT;
    let (mut sender, connection) = http1::Builder::new()
        .title_case_headers(true)
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(io))
        .await?;
    let answer = async move {
        let mut response = sender.send_request(request).await?;
        let switched = response.status() == http::StatusCode::SWITCHING_PROTOCOLS
            || (connects && response.status().is_success());
        if !switched {
            let (head, body) = response.into_parts();
            return Ok(Answer::Plain {
                head,
                body: front_of(body).await,
            });
        }
        let upgraded = hyper::upgrade::on(&mut response).await?;
        let (head, _) = response.into_parts();
        Ok(match upgraded.downcast::<TokioIo<Io>>() {
            Ok(parts) => Answer::Switched {
                head,
                io: parts.io.into_inner(),
                read: parts.read_buf,
            },
            Err(whole) => Answer::Switched {
                head,
                io: Box::new(TokioIo::new(whole)),
                read: Bytes::new(),
            },
        })
    };
    tokio::pin!(answer);
    let connection = connection.with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // Done with the connection; the answer is in memory, or the error is the better one to report.
        ended = &mut connection => {
            ended?;
            answer.await
        }
    }
}

/// The body as far as it is of interest and arrives.
async fn front_of(mut body: Incoming) -> Bytes {
    let mut front = BytesMut::new();
    while front.len() < MAX_BODY
        && let Some(Ok(frame)) = body.frame().await
    {
        if let Some(data) = frame.data_ref() {
            front.extend_from_slice(&data[..data.len().min(MAX_BODY - front.len())]);
        }
    }
    front.freeze()
}
