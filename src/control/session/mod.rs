//! One session: a WebSocket, the yamux streams on it, and the calls on those.

mod guard;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{AsyncWriteExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;
use yamux::{Connection, ConnectionError, FrameDecodeError, Mode};

use super::agents::Role;
use super::rpc;
use super::service::Caller;
use crate::metrics::control::{ControlMetrics, ProtocolFault, SessionEnd};
use crate::wire::ws::{ByteStream, Pulse};
use crate::wire::yamux::{Violation, config};
use guard::Guarded;

/// Streams served at a time: the accept backlog of the reference. One more is reset.
pub(super) const MAX_STREAMS: usize = 256;

/// Streams that the multiplexer may know. It forgets one that was reset only when the socket takes the reset, so there
/// is room for as many again.
const MAX_KNOWN: usize = 2 * MAX_STREAMS;

/// Streams that are open, or closed here and not by the peer. A peer that leaves this many behind is broken.
const MAX_ABANDONED: usize = 16 * MAX_STREAMS;

/// Large requests in memory at a time, of up to 4 MiB each. Others wait in their streams.
pub(super) const MAX_LARGE: usize = 8;

/// How long a stop waits for calls that are being answered.
pub(super) const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// How long an orderly close may take, as the reference waits (coder/websocket close.go).
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// How long a stream that was closed here after a violation waits for the peer to close it too.
const LINGER: Duration = Duration::from_secs(10);

/// How a connection is watched over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    /// From one ping to the next.
    pub(super) ping_every: Duration,
    /// Age of the last pong at which the connection counts as dead.
    pub(super) dead_after: Duration,
}

/// The monitor of agents (coder/coder coderd/workspaceagentsrpc.go).
pub(super) const MONITOR: Watch = Watch {
    ping_every: Duration::from_secs(15),
    dead_after: Duration::from_secs(30),
};

/// The keepalive of the transport: a ping every 30 s that is to be answered within 10 s (yamux DefaultConfig).
const KEEPALIVE: Watch = Watch {
    ping_every: Duration::from_secs(30),
    dead_after: Duration::from_secs(40),
};

impl Watch {
    pub(super) fn of(role: &Role) -> Self {
        match role {
            Role::Agent => MONITOR,
            Role::Other(_) => KEEPALIVE,
        }
    }
}

/// Why a session ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// By the agent; an orderly close is not always seen as one, so every end of the connection is.
    ByAgent,
    /// Because the control plane stops.
    Stopped,
    /// To make room for another on the same connection.
    Displaced,
    /// No pong came for so long.
    Silent(Duration),
    /// A rule was broken.
    Violation(ProtocolFault, String),
    /// The connection failed.
    Failed(String),
}

impl Ended {
    /// The end by an error of the connection under a session.
    pub(super) fn broken(error: &io::Error) -> Self {
        match error.kind() {
            // About one orderly close in twenty of the Go client looks like these.
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::WriteZero => Self::ByAgent,
            _ => Self::Failed(error.to_string()),
        }
    }

    pub(super) fn label(&self) -> SessionEnd {
        match self {
            Self::ByAgent => SessionEnd::Agent,
            Self::Stopped => SessionEnd::Stopped,
            Self::Displaced => SessionEnd::Displaced,
            Self::Silent(_) => SessionEnd::Silent,
            Self::Violation(..) => SessionEnd::Protocol,
            Self::Failed(_) => SessionEnd::Failed,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByAgent => f.write_str("closed by the agent"),
            Self::Stopped => f.write_str("closed"),
            Self::Displaced => f.write_str("its place went to another agent on the connection"),
            Self::Silent(time) => write!(f, "pings were not answered for {time:?}"),
            Self::Violation(_, what) => write!(f, "the agent broke the protocol: {what}"),
            Self::Failed(error) => f.write_str(error),
        }
    }
}

/// Serves a session to its end; in order once `stop` is cancelled. Everything it began ends with it.
pub(super) async fn run<S>(
    ws: WebSocketStream<S>,
    caller: Caller,
    metrics: &ControlMetrics,
    stop: &CancellationToken,
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stream = ByteStream::new(ws);
    let watch = Watch::of(&caller.role);
    let mut session = Session {
        pulse: stream.pulse(),
        connection: Connection::new(
            Guarded::new(stream, MAX_ABANDONED),
            config(MAX_KNOWN),
            Mode::Server,
        ),
        streams: JoinSet::new(),
        large: Arc::new(Semaphore::new(MAX_LARGE)),
        caller,
        metrics,
    };
    let ended = session.serve(watch, stop).await;
    if let Ended::Violation(fault, _) = &ended {
        metrics.violated(*fault);
    }
    if let Ended::Stopped = ended {
        session.close().await;
    }
    ended
}

struct Session<'a, S> {
    connection: Connection<Guarded<WebSocketStream<S>>>,
    pulse: Pulse,
    streams: JoinSet<()>,
    large: Arc<Semaphore>,
    caller: Caller,
    metrics: &'a ControlMetrics,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<'_, S> {
    async fn serve(&mut self, watch: Watch, stop: &CancellationToken) -> Ended {
        let mut pongs = self.pulse.pongs();
        let mut alive = Instant::now();
        let mut next_ping = alive + watch.ping_every;
        loop {
            while let Some(ended) = self.streams.try_join_next() {
                note(&ended);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ended::Stopped,
                () = sleep_until(next_ping.min(alive + watch.dead_after)) => {
                    let now = Instant::now();
                    if now >= alive + watch.dead_after {
                        return Ended::Silent(watch.dead_after);
                    }
                    // Sent when the connection is polled, which is next.
                    self.pulse.ping();
                    next_ping = now + watch.ping_every;
                }
                event = poll_fn(|cx| self.poll(pongs, cx)) => match event {
                    Event::Stream(stream) => self.accept(stream),
                    Event::Pong(count) => (pongs, alive) = (count, Instant::now()),
                    Event::Ended(ended) => return ended,
                },
            }
        }
    }

    /// Waits for the connection, of which `pongs` have been seen.
    fn poll(&mut self, pongs: u64, cx: &mut Context<'_>) -> Poll<Event> {
        let event = match self.connection.poll_next_inbound(cx) {
            Poll::Ready(Some(Ok(stream))) => Event::Stream(stream),
            Poll::Ready(Some(Err(error))) => Event::Ended(judge(error)),
            Poll::Ready(None) => Event::Ended(Ended::ByAgent),
            Poll::Pending => match self.pulse.pongs() {
                count if count != pongs => Event::Pong(count),
                _ => return Poll::Pending,
            },
        };
        Poll::Ready(event)
    }

    /// Serves a stream, or resets it by dropping it.
    fn accept(&mut self, stream: yamux::Stream) {
        if self.streams.len() == MAX_STREAMS {
            self.metrics.violated(ProtocolFault::YamuxTooManyStreams);
            return;
        }
        let (caller, large) = (self.caller.clone(), Arc::clone(&self.large));
        let metrics = self.metrics.clone();
        self.streams.spawn(converse(stream, caller, large, metrics));
    }

    /// Lets calls be answered, then closes; both for a limited time.
    async fn close(&mut self) {
        let drained = timeout(DRAIN_LIMIT, poll_fn(|cx| self.poll_drain(cx))).await;
        if drained == Ok(Drained::Gone) {
            return;
        }
        match timeout(CLOSE_LIMIT, poll_fn(|cx| self.connection.poll_close(cx))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the connection broke while it was closed"),
            Err(_) => tracing::debug!("the agent did not answer the close"),
        }
    }

    /// Ready when no stream is open any more; new ones are reset.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Drained> {
        loop {
            match self.connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => drop(stream),
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Drained::Gone),
                Poll::Pending => break,
            }
        }
        while let Poll::Ready(ended) = self.streams.poll_join_next(cx) {
            match ended {
                Some(ended) => note(&ended),
                None => return Poll::Ready(Drained::Done),
            }
        }
        Poll::Pending
    }
}

/// What the connection brings.
enum Event {
    Stream(yamux::Stream),
    /// There have been so many pongs.
    Pong(u64),
    Ended(Ended),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    Done,
    /// The connection ended meanwhile.
    Gone,
}

fn note(ended: &Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a call failed; its stream was reset, the session goes on");
    }
}

/// Serves one stream to its end.
async fn converse(
    mut stream: yamux::Stream,
    caller: Caller,
    large: Arc<Semaphore>,
    metrics: ControlMetrics,
) {
    // The reference opens no further streams while too many are not acknowledged, and the multiplexer acknowledges one
    // with the first write only.
    if stream.write(&[]).await.is_err() {
        return;
    }
    match rpc::serve(&mut stream, &caller, large).await {
        // The drop closes this side where the peer has closed its own, and else resets the stream.
        rpc::Ended::Closed => {}
        ended @ rpc::Ended::Idle => {
            metrics.violated(ProtocolFault::IdleStream);
            tracing::debug!(reason = %ended, "a stream was reset");
        }
        ended @ rpc::Ended::Violation(_) => {
            metrics.violated(ProtocolFault::Drpc);
            tracing::debug!(reason = %ended, "a stream was closed");
            // What still comes is thrown away, so that the peer does not wait for credit to say that it is done.
            let rest = async {
                stream.close().await?;
                while stream.next().await.transpose()?.is_some() {}
                io::Result::Ok(())
            };
            match timeout(LINGER, rest).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "the session ended first"),
                Err(_) => tracing::debug!("the agent left a stream open that was closed here"),
            }
        }
        ended @ rpc::Ended::Broken(_) => tracing::debug!(reason = %ended, "a stream broke"),
    }
}

/// Who is to blame for the end of a connection.
fn judge(error: ConnectionError) -> Ended {
    let error = match error {
        ConnectionError::Io(error) | ConnectionError::Decode(FrameDecodeError::Io(error)) => error,
        ConnectionError::Closed => return Ended::ByAgent,
        other => return Ended::Violation(ProtocolFault::YamuxFrame, other.to_string()),
    };
    let violation = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Violation>());
    if let Some(violation) = violation {
        return Ended::Violation(fault_of(*violation), violation.to_string());
    }
    match error.kind() {
        io::ErrorKind::InvalidData => Ended::Violation(ProtocolFault::WebSocket, error.to_string()),
        _ => Ended::broken(&error),
    }
}

fn fault_of(violation: Violation) -> ProtocolFault {
    match violation {
        Violation::Version(_) | Violation::Type(_) | Violation::GoneAway(_) => {
            ProtocolFault::YamuxFrame
        }
        Violation::StreamId(_) => ProtocolFault::YamuxStreamId,
        Violation::StreamInUse(_) => ProtocolFault::YamuxStreamInUse,
        Violation::Window { .. } => ProtocolFault::YamuxWindow,
        Violation::SecondFin(_) => ProtocolFault::YamuxSecondFin,
        Violation::Abandoned(_) => ProtocolFault::YamuxAbandoned,
    }
}
