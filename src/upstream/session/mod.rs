//! One yamux session over one WebSocket: the driver that owns it, and the handle through which calls open
//! streams.
//!
//! The handle decides how long a session lives: when the last clone is dropped, the connection is closed
//! in order. A session that no new call is to use lives on for those that are under way.

#[cfg(test)]
mod tests;

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::AsyncWrite as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;
use yamux::{Connection, ConnectionError, FrameDecodeError, Mode};

use crate::wire::ws::{ByteStream, Pulse};
use crate::wire::yamux::config;

/// Calls under way at once. Each lane has one, and a quarter of what the peer holds for us (its accept
/// backlog and our un-acknowledged opens are 256 each) keeps clear of every limit.
const MAX_CALLS: usize = 64;

/// Calls that may be abandoned before the session is given up. Their streams may still be known to yamux,
/// which forgets a stream only when the socket takes its end.
const MAX_ABANDONED: usize = 64;

/// Streams that yamux may know: one more ends the connection. Under way, abandoned, and finished but not
/// yet forgotten (no more than were under way when the socket last stalled) fit, with room to spare.
const MAX_STREAMS: usize = 256;

/// Silence after which the peer is asked for a sign of life. coderd itself pings every 15 s.
const PING_AFTER: Duration = Duration::from_secs(10);

/// Silence after which the connection counts as dead: a ping has gone unanswered for as long again.
const DEAD_AFTER: Duration = Duration::from_secs(20);

/// How long an orderly close may take, as the reference waits (coder/websocket close.go).
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Opens that wait for the driver: every call under way may have asked for its stream.
const MAX_OPENS: usize = MAX_CALLS;

/// The way to open streams on a session. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Session {
    id: u64,
    opens: mpsc::Sender<oneshot::Sender<yamux::Stream>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    places: Arc<Semaphore>,
    abandoned: AtomicUsize,
    answered: AtomicBool,
}

/// The session takes no more calls.
#[derive(Debug, thiserror::Error)]
#[error("the connection is gone")]
pub(super) struct Gone;

impl Session {
    /// A session as the yamux client, which lives while [`Driver::run`] does. `id` tells it from others.
    pub(super) fn new<S>(ws: WebSocketStream<S>, id: u64) -> (Self, Driver<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (opens, requests) = mpsc::channel(MAX_OPENS);
        let stream = ByteStream::new(ws);
        let driver = Driver {
            pulse: stream.pulse(),
            connection: Connection::new(stream, config(MAX_STREAMS), Mode::Client),
            requests,
            waiting: None,
            received: 0,
            alive: Instant::now(),
        };
        let shared = Shared {
            places: Arc::new(Semaphore::new(MAX_CALLS)),
            abandoned: AtomicUsize::new(0),
            answered: AtomicBool::new(false),
        };
        (
            Self {
                id,
                opens,
                shared: Arc::new(shared),
            },
            driver,
        )
    }

    /// Opens a stream for one call; waits while [`MAX_CALLS`] are under way.
    pub(super) async fn open(&self) -> Result<CallStream, Gone> {
        let places = Arc::clone(&self.shared.places);
        let place = places.acquire_owned().await.map_err(|_| Gone)?;
        let (reply, opened) = oneshot::channel();
        self.opens.send(reply).await.map_err(|_| Gone)?;
        let stream = opened.await.map_err(|_| Gone)?;
        Ok(CallStream {
            stream,
            ended: false,
            session: Arc::clone(&self.shared),
            _place: place,
        })
    }

    /// Notes that the peer answered a call.
    pub(super) fn note_answer(&self) {
        self.shared.answered.store(true, Ordering::Relaxed);
    }

    /// Whether the peer ever answered a call.
    pub(super) fn has_answered(&self) -> bool {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// What tells it from the sessions before it.
    pub(super) fn id(&self) -> u64 {
        self.id
    }
}

/// The stream of one call, and its place among the calls under way. Dropped without [`Self::end`] it is
/// reset, which cancels the call.
#[derive(Debug)]
pub(super) struct CallStream {
    pub(super) stream: yamux::Stream,
    ended: bool,
    session: Arc<Shared>,
    _place: OwnedSemaphorePermit,
}

impl CallStream {
    /// Ends the stream after its answer came. The FIN is queued and not waited for; when the queue has no
    /// room, which only a request that was not written whole can cause, the drop resets the stream.
    pub(super) fn end(mut self) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // Once only: a second FIN would end the whole session.
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_close(&mut cx) {
            tracing::debug!(%error, "the stream of an answered call was gone already");
        }
        self.ended = true;
    }
}

impl Drop for CallStream {
    fn drop(&mut self) {
        if !self.ended
            && self.session.abandoned.fetch_add(1, Ordering::Relaxed) + 1 == MAX_ABANDONED
        {
            self.session.places.close();
        }
    }
}

/// Why a session ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Here: nobody uses it any more, or everything stops.
    Here,
    /// By the peer, in order: a clean WebSocket close, or a GOAWAY.
    ByPeer,
    /// Nothing was received for so long.
    Silent(Duration),
    /// The transport failed or the peer broke the protocol.
    Failed(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("closed"),
            Self::ByPeer => f.write_str("closed by the control plane"),
            Self::Silent(time) => write!(f, "nothing received for {time:?}"),
            Self::Failed(error) => f.write_str(error),
        }
    }
}

/// Owns the connection. It makes progress only while this runs.
pub(super) struct Driver<S> {
    connection: Connection<ByteStream<WebSocketStream<S>>>,
    pulse: Pulse,
    requests: mpsc::Receiver<oneshot::Sender<yamux::Stream>>,
    /// An open that yamux has put off.
    waiting: Option<oneshot::Sender<yamux::Stream>>,
    /// Signs of life so far, and when the last one came.
    received: u64,
    alive: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// Runs the session to its end. Ends it in order when `stop` is cancelled or all handles are gone.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Ended {
        let mut watch = std::pin::pin!(sleep(PING_AFTER));
        loop {
            tokio::select! {
                // The connection first: streams dropped just before a stop are still reset.
                biased;
                ended = poll_fn(|cx| self.poll(cx)) => match ended {
                    Ended::Here => break,
                    ended => return ended,
                },
                () = stop.cancelled() => break,
                () = &mut watch => match self.next_watch() {
                    Some(next) => watch.as_mut().reset(next),
                    None => return Ended::Silent(DEAD_AFTER),
                },
            }
        }
        match timeout(CLOSE_LIMIT, poll_fn(|cx| self.connection.poll_close(cx))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the connection broke while it was closed"),
            Err(_) => tracing::debug!("the control plane did not answer the close"),
        }
        Ended::Here
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        // Opens before progress: a stream that is opened after it would not be polled.
        let unused = self.poll_opens(cx);
        let ended = loop {
            match self.connection.poll_next_inbound(cx) {
                // coderd opens no streams; dropping one resets it.
                Poll::Ready(Some(Ok(inbound))) => drop(inbound),
                Poll::Ready(Some(Err(error))) => {
                    break Poll::Ready(Ended::Failed(describe(&error)));
                }
                Poll::Ready(None) => break Poll::Ready(Ended::ByPeer),
                Poll::Pending => {
                    break if unused {
                        Poll::Ready(Ended::Here)
                    } else {
                        Poll::Pending
                    };
                }
            }
        };
        let received = self.pulse.received();
        if received != self.received {
            (self.received, self.alive) = (received, Instant::now());
        }
        ended
    }

    /// Serves the calls that ask for a stream. True once nobody can ask any more.
    fn poll_opens(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            let reply = match self.waiting.take() {
                Some(reply) => reply,
                None => match self.requests.poll_recv(cx) {
                    Poll::Ready(Some(reply)) => reply,
                    Poll::Ready(None) => return true,
                    Poll::Pending => return false,
                },
            };
            if reply.is_closed() {
                continue;
            }
            match self.connection.poll_new_outbound(cx) {
                Poll::Ready(Ok(mut stream)) => {
                    // The SYN goes with the first write. It is made here, so that a caller who has gone
                    // meanwhile resets a stream that the peer has heard of.
                    let syn = Pin::new(&mut stream).poll_write(cx, &[]);
                    debug_assert!(syn.is_ready(), "a new stream has room");
                    drop(reply.send(stream));
                }
                // The connection says the rest when it is polled; the caller learns it is gone.
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "no stream could be opened");
                    return false;
                }
                Poll::Pending => {
                    self.waiting = Some(reply);
                    return false;
                }
            }
        }
    }

    /// When to look again whether the peer is alive; asks it when it has been silent. `None`: it is dead.
    fn next_watch(&self) -> Option<Instant> {
        let silence = self.alive.elapsed();
        if silence >= DEAD_AFTER {
            return None;
        }
        if silence < PING_AFTER {
            return Some(self.alive + PING_AFTER);
        }
        self.pulse.ping();
        Some(self.alive + DEAD_AFTER)
    }
}

/// The cause alone: yamux puts its own words around errors of the socket and of frames.
fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::Io(error) | ConnectionError::Decode(FrameDecodeError::Io(error)) => {
            error.to_string()
        }
        ConnectionError::Decode(error) => error.to_string(),
        error => error.to_string(),
    }
}
