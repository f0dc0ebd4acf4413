//! One HTTP/2 connection: the driver that owns it, and the handle through which calls open streams.
//!
//! The handle decides how long a connection lives: when the last clone is dropped and the last stream has ended, it is
//! closed in order. A connection that no new call is to use lives on for those that are under way.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason, SendStream};
use http::header::{CONTENT_TYPE, HeaderValue, TE, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Uri, Version};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;
use url::Position;

use super::super::Rpc;
use super::super::dial::is_secure;
use super::super::error::{DialError, excerpt};
use super::super::http1::Io;
use super::super::settings::{AGENT, Settings, TOKEN};
use super::super::transport::{CALL_LIMIT, CLOSE_LIMIT, Ended, Known, MAX_CALLS};
use super::super::vigil::{PING_AFTER, Vigil, Watch};
use crate::wire::grpc;

/// Bytes of the head or the trailers of an answer, as of a head in HTTP/1.1. A server that has more to say of an error
/// has to reset the stream instead, and leaves open what became of the request.
const MAX_HEADERS: u32 = 64 << 10;

/// Bytes of one frame in either direction: the least that a peer has to take (RFC 9113, section 6.5.2), and so what
/// any takes.
pub(super) const PIECE: usize = 16 << 10;

/// Bytes of one request that wait for the socket.
const MAX_QUEUED: usize = 4 * PIECE;

/// How long a silence may last before the control plane is pinged. A gRPC server may take pings for an abuse, and ends
/// the connection for it (`ENHANCE_YOUR_CALM`; grpc-go by default at the third within five minutes without a call);
/// each time the next connection waits for twice as long (grpc/proposal A8).
#[derive(Debug, Default)]
pub(in crate::upstream) struct PingPace {
    doublings: AtomicU64,
}

impl PingPace {
    fn ping_after(&self) -> Duration {
        // A hundred days, and silence is never broken.
        let doublings = self.doublings.load(Ordering::Relaxed).min(20);
        PING_AFTER * (1 << doublings)
    }

    fn slow_down(&self) {
        self.doublings.fetch_add(1, Ordering::Relaxed);
    }
}

/// The way to open streams on a connection. Clones share it.
#[derive(Clone, Debug)]
pub(in crate::upstream) struct Session {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    requests: SendRequest<Bytes>,
    places: Arc<Semaphore>,
    scheme: Scheme,
    authority: Authority,
    /// Of every call.
    headers: HeaderMap,
    turned_away: AtomicBool,
}

/// The stream of one call, and its place among the calls under way. Dropped before the answer is whole, it is reset,
/// which cancels the call.
pub(super) struct CallStream {
    pub(super) answer: ResponseFuture,
    pub(super) request: SendStream<Bytes>,
    _place: OwnedSemaphorePermit,
}

/// Speaks HTTP/2 on `io`, which leads to the host of the settings. Nothing is known of the peer yet.
pub(super) async fn open(
    io: Io,
    settings: &Settings,
    known: &Known,
) -> Result<(Session, Driver), DialError> {
    let url = &settings.url;
    let authority = url[Position::BeforeHost..Position::AfterPort].parse();
    let reads = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&reads);
    let io: Io = Box::new(InspectReader::new(io, move |read: &[u8]| {
        if !read.is_empty() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let (requests, mut connection) = Builder::new()
        .enable_push(false)
        .max_header_list_size(MAX_HEADERS)
        .max_frame_size(PIECE as u32)
        .max_send_buffer_size(MAX_QUEUED)
        .handshake(io)
        .await
        .map_err(DialError::Http2)?;
    let shared = Arc::new(Shared {
        requests,
        places: Arc::new(Semaphore::new(MAX_CALLS)),
        scheme: if is_secure(url) {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        },
        authority: authority.map_err(|_| DialError::Unfit)?,
        headers: headers(settings, &known.token)?,
        turned_away: AtomicBool::new(false),
    });
    let driver = Driver {
        pings: connection.ping_pong(),
        wire: Wire {
            connection,
            session: Arc::downgrade(&shared),
            closed: false,
            reads,
            vigil: Vigil::new(known.pace.ping_after()),
            pace: Arc::clone(&known.pace),
        },
    };
    Ok((Session { shared }, driver))
}

fn headers(settings: &Settings, token: &HeaderValue) -> Result<HeaderMap, DialError> {
    let mut headers = settings.headers.clone();
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
    headers.insert(USER_AGENT, AGENT);
    headers.insert(TOKEN, token.clone());
    if !settings.role.is_empty() {
        let role = HeaderValue::from_str(&settings.role);
        headers.insert(grpc::ROLE, role.map_err(|_| DialError::Unfit)?);
    }
    Ok(headers)
}

impl Session {
    /// Opens a stream for one call that may take up to `limit`; waits while [`MAX_CALLS`] are under way.
    pub(super) async fn open(&self, rpc: Rpc, limit: Duration) -> Result<CallStream, h2::Error> {
        let shared = &self.shared;
        let place = Arc::clone(&shared.places).acquire_owned().await;
        // The places are never closed.
        let place = place.map_err(|_| h2::Error::from(Reason::INTERNAL_ERROR))?;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = shared.uri(rpc);
        *request.headers_mut() = shared.headers.clone();
        // At most eight digits: more than a day.
        let limit = HeaderValue::from_str(&format!("{}m", limit.as_millis()));
        if let Ok(limit) = limit {
            request.headers_mut().insert(grpc::TIMEOUT, limit);
        }
        let (answer, request) = shared.requests.clone().send_request(request, false)?;
        Ok(CallStream {
            answer,
            request,
            _place: place,
        })
    }

    /// Notes that the control plane does not take the token.
    pub(super) fn note_turned_away(&self) {
        self.shared.turned_away.store(true, Ordering::Relaxed);
    }

    /// Whether it ever did not.
    pub(in crate::upstream) fn was_turned_away(&self) -> bool {
        self.shared.turned_away.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn uri(&self, rpc: Rpc) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(PathAndQuery::from_static(rpc.path()));
        // All three parts are there, which is what it takes.
        Uri::from_parts(parts).unwrap_or_default()
    }

    /// Why the connection takes no new streams, if it takes none: the peer's GOAWAY, or, without a reason, that the
    /// numbers of streams are used up.
    fn refusal(&self, cx: &mut Context<'_>) -> Option<h2::Error> {
        match self.requests.clone().poll_ready(cx) {
            Poll::Ready(Err(refusal)) => Some(refusal),
            _ => None,
        }
    }
}

/// Owns the connection. It makes progress only while a future of this is polled.
pub(in crate::upstream) struct Driver {
    pings: Option<PingPong>,
    wire: Wire,
}

/// All that is watched while pings are under way.
struct Wire {
    connection: Connection<Io, Bytes>,
    session: Weak<Shared>,
    /// The connection has come to its end, and is not to be polled again.
    closed: bool,
    /// How often something was read.
    reads: Arc<AtomicU64>,
    vigil: Vigil,
    pace: Arc<PingPace>,
}

impl Driver {
    /// Runs the connection until no new call is to be made on it. May be dropped and called again.
    pub(in crate::upstream) async fn serve(&mut self, stop: &CancellationToken) -> Ended {
        let Self { pings, wire } = self;
        let mut watch = std::pin::pin!(sleep_until(wire.vigil.first_look()));
        let ask = Notify::new();
        let mut pinging = std::pin::pin!(ping_when(&ask, pings.as_mut()));
        loop {
            tokio::select! {
                // The connection first: streams dropped just before a stop are still reset.
                biased;
                ended = poll_fn(|cx| wire.poll(cx)) => return ended,
                () = stop.cancelled() => return Ended::Here,
                () = &mut watch => match wire.vigil.look() {
                    Watch::Wait(next) => watch.as_mut().reset(next),
                    Watch::Ask(next) => {
                        ask.notify_one();
                        watch.as_mut().reset(next);
                    }
                    Watch::Dead(silence) => return Ended::Silent(silence),
                },
                never = &mut pinging => match never {},
            }
        }
    }

    /// Lets the calls under way come to their ends, though not for long after `stop` is cancelled, and closes the
    /// connection.
    pub(in crate::upstream) async fn close(self, stop: &CancellationToken) {
        let Wire {
            connection, closed, ..
        } = self.wire;
        if closed {
            return;
        }
        let hurry = async {
            stop.cancelled().await;
            sleep(CLOSE_LIMIT).await;
        };
        tokio::select! {
            ended = timeout(CALL_LIMIT + CLOSE_LIMIT, connection) => match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "the connection broke while it was closed"),
                Err(_) => tracing::debug!("the control plane did not take the close"),
            },
            () = hurry => tracing::debug!("the control plane did not take the close"),
        }
    }
}

impl Wire {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let polled = Pin::new(&mut self.connection).poll(cx);
        self.vigil.note(self.reads.load(Ordering::Relaxed));
        let session = self.session.upgrade();
        let used = session.is_some();
        let refusal = session.and_then(|session| session.refusal(cx));
        match (polled, refusal) {
            (Poll::Pending, None) => Poll::Pending,
            (Poll::Pending, Some(refusal)) => Poll::Ready(self.leaving(&refusal)),
            (Poll::Ready(ended), refusal) => {
                self.closed = true;
                Poll::Ready(match (ended, refusal) {
                    (Ok(()), _) if !used => Ended::Here,
                    // The end of the connection alone is no refusal of the peer's.
                    (Ok(()), Some(refusal)) if refusal.is_go_away() => self.leaving(&refusal),
                    (Ok(()), _) => Ended::ByPeer,
                    (Err(error), _) => Ended::Failed(self.understood(&error)),
                })
            }
        }
    }

    fn leaving(&self, refusal: &h2::Error) -> Ended {
        Ended::Leaving(match refusal.reason() {
            None | Some(Reason::NO_ERROR) => None,
            Some(_) => Some(self.understood(refusal)),
        })
    }

    /// The text of an error for the log. What it asks for is done.
    fn understood(&self, error: &h2::Error) -> String {
        if error.is_remote() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
            self.pace.slow_down();
        }
        excerpt(&error.to_string())
    }
}

/// Sends a ping each time it is asked to, at most one at a time.
async fn ping_when(asked: &Notify, pings: Option<&mut PingPong>) -> Infallible {
    let Some(pings) = pings else {
        return std::future::pending().await;
    };
    loop {
        asked.notified().await;
        // That the answer came is heard of where everything is read.
        if let Err(error) = pings.ping(Ping::opaque()).await {
            tracing::debug!(%error, "no ping could be sent");
        }
    }
}
