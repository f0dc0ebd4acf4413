//! One yamux session over one WebSocket: the driver that owns it, and the handle through which calls open
//! streams.
//!
//! The handle decides how long a session lives: when the last clone is dropped, the connection is closed
//! in order. A session that no new call is to use lives on for those that are under way.

#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::AsyncWrite as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;
use yamux::{Connection, ConnectionError, FrameDecodeError, Mode};

use super::super::transport::{CLOSE_LIMIT, Ended, MAX_CALLS};
use super::super::vigil::{PING_AFTER, Vigil, Watch};
use crate::wire::ws::{ByteStream, Pulse};
use crate::wire::yamux::config;

/// Calls that may be abandoned before the session is given up. Their streams may still be known to yamux,
/// which forgets a stream only when the socket takes its end.
const MAX_ABANDONED: usize = 64;

/// Streams that yamux may know: one more ends the connection. Under way, abandoned, and finished but not
/// yet forgotten (no more than were under way when the socket last stalled) fit, with room to spare.
const MAX_STREAMS: usize = 256;

/// Opens that wait for the driver: every call under way may have asked for its stream.
const MAX_OPENS: usize = MAX_CALLS;

/// The way to open streams on a session. Clones share it.
#[derive(Clone, Debug)]
pub(in crate::upstream) struct Session {
    opens: mpsc::Sender<oneshot::Sender<yamux::Stream>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    places: Arc<Semaphore>,
    abandoned: AtomicUsize,
}

/// The session takes no more calls.
#[derive(Debug, thiserror::Error)]
#[error("the connection is gone")]
pub(super) struct Gone;

impl Session {
    /// A session as the yamux client, which lives while [`Driver::serve`] does.
    pub(super) fn new<S>(ws: WebSocketStream<S>) -> (Self, Driver<S>)
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
            vigil: Vigil::new(PING_AFTER),
        };
        let shared = Shared {
            places: Arc::new(Semaphore::new(MAX_CALLS)),
            abandoned: AtomicUsize::new(0),
        };
        (
            Self {
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

/// Owns the connection. It makes progress only while this runs.
pub(in crate::upstream) struct Driver<S> {
    connection: Connection<ByteStream<WebSocketStream<S>>>,
    pulse: Pulse,
    requests: mpsc::Receiver<oneshot::Sender<yamux::Stream>>,
    /// An open that yamux has put off.
    waiting: Option<oneshot::Sender<yamux::Stream>>,
    vigil: Vigil,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// Runs the session until it has ended, or is to be closed: when `stop` is cancelled, or all handles are gone.
    pub(in crate::upstream) async fn serve(&mut self, stop: &CancellationToken) -> Ended {
        let mut watch = std::pin::pin!(sleep_until(self.vigil.first_look()));
        loop {
            tokio::select! {
                // The connection first: streams dropped just before a stop are still reset.
                biased;
                ended = poll_fn(|cx| self.poll(cx)) => return ended,
                () = stop.cancelled() => return Ended::Here,
                () = &mut watch => match self.vigil.look() {
                    Watch::Wait(next) => watch.as_mut().reset(next),
                    Watch::Ask(next) => {
                        self.pulse.ping();
                        watch.as_mut().reset(next);
                    }
                    Watch::Dead(silence) => return Ended::Silent(silence),
                },
            }
        }
    }

    /// Closes the session in order. Calls that are under way end with it.
    pub(in crate::upstream) async fn close(mut self) {
        match timeout(CLOSE_LIMIT, poll_fn(|cx| self.connection.poll_close(cx))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the connection broke while it was closed"),
            Err(_) => tracing::debug!("the control plane did not answer the close"),
        }
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
        self.vigil.note(self.pulse.received());
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
