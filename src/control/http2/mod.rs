//! One HTTP/2 connection: gRPC calls of agents, each on a stream of its own, and pages.
//!
//! An agent's session begins with the first call that shows its token, and ends with the connection. h2 keeps the rules
//! of the protocol and ends what breaks them; which rule that was is counted.

mod answer;
mod call;
mod seats;
#[cfg(test)]
mod tests;

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::Request;
use http::request::Parts;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::{ANSWER_WITHIN, MAX_HEAD, REQUEST_WITHIN, Shared};
use super::handshake;
use super::http::{page, refused, unsupported};
use super::session::{DRAIN_LIMIT, Ended, MAX_LARGE, MAX_STREAMS, MONITOR};
use crate::metrics::control::{DialRefusal, ProtocolFault};
use answer::Answer;
use call::{Asked, Call};
use seats::Seats;

/// Bytes that a stream may send ahead of what is taken, as on a yamux stream. A request that waits for its turn holds
/// no more of them.
const STREAM_WINDOW: u32 = 256 << 10;

/// Bytes that all streams may send ahead: the windows of all, so that those that wait never keep the others from
/// sending.
const CONNECTION_WINDOW: u32 = MAX_STREAMS as u32 * STREAM_WINDOW;

/// Calls given up before they were looked at, at a time: all that may be open. Who opens and resets streams without
/// end soon has more, and loses the connection.
const MAX_UNSEEN_RESETS: usize = MAX_STREAMS;

/// Bytes of an answer that wait in memory for the agent to take them; the rest waits where it is shared.
const SEND_BUFFER: usize = 64 << 10;

/// Serves a connection to its end; in order once `stop` is cancelled. Everything it began ends with it.
pub(super) async fn serve<S>(
    stream: S,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    stop: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let shaken = tokio::select! {
        () = stop.cancelled() => return,
        shaken = timeout(REQUEST_WITHIN, builder().handshake(stream)) => shaken,
    };
    let connection = match shaken {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            // Of a connection that ended without a word there is nothing to say.
            if !error.is_io() {
                shared.metrics.refused(DialRefusal::Malformed);
            }
            return tracing::debug!(%peer, %error, "a connection ended");
        }
        Err(_) => {
            shared.metrics.refused(DialRefusal::Malformed);
            return tracing::debug!(%peer, "no request came");
        }
    };
    let mut session = Session {
        connection,
        peer,
        shared,
        seats: Seats::default(),
        asked: false,
        large: Arc::new(Semaphore::new(MAX_LARGE)),
        streams: JoinSet::new(),
    };
    let ended = session.serve(stop).await;
    if let Ended::Violation(fault, what) = &ended {
        shared.metrics.violated(*fault);
        tracing::debug!(%peer, what, "a connection broke the protocol");
    }
    if let Ended::Stopped = ended {
        session.close().await;
    }
    session.streams.shutdown().await;
    session.seats.end(peer, shared, &ended);
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS as u32)
        .max_header_list_size(MAX_HEAD as u32)
        .max_pending_accept_reset_streams(MAX_UNSEEN_RESETS)
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

struct Session<'a, S> {
    connection: Connection<S, Bytes>,
    peer: SocketAddr,
    shared: &'a Arc<Shared>,
    seats: Seats,
    /// Whether there has been a request.
    asked: bool,
    large: Arc<Semaphore>,
    streams: JoinSet<()>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<'_, S> {
    async fn serve(&mut self, stop: &CancellationToken) -> Ended {
        let mut silent = pin!(silent(self.connection.ping_pong()));
        let begun = Instant::now();
        loop {
            while let Some(ended) = self.streams.try_join_next() {
                note(&ended);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ended::Stopped,
                () = &mut silent => return Ended::Silent(MONITOR.dead_after),
                () = sleep_until(begun + ANSWER_WITHIN), if self.seats.is_empty() => {
                    if !self.asked {
                        self.shared.metrics.refused(DialRefusal::Malformed);
                    }
                    tracing::debug!(peer = %self.peer, "no call was admitted");
                    return Ended::Stopped;
                }
                accepted = self.connection.accept() => match accepted {
                    Some(Ok((request, respond))) => self.accept(request, respond),
                    Some(Err(error)) => return judge(error),
                    None => return Ended::ByAgent,
                },
            }
        }
    }

    /// Serves a request. Whose it is and what it asks for is found out here, one request after the other.
    fn accept(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        self.asked = true;
        let (head, body) = request.into_parts();
        let metrics = self.shared.metrics.clone();
        match self.route(&head) {
            Ok(call) => {
                let large = Arc::clone(&self.large);
                self.streams
                    .spawn(call.serve(body, respond, large, metrics));
            }
            Err(answer) => {
                self.streams.spawn(answer.finish(respond, metrics));
            }
        }
    }

    fn route(&mut self, head: &Parts) -> Result<Call, Answer> {
        let shared = &**self.shared;
        match call::asks_for(head) {
            Asked::Page if head.uri.path() == handshake::PATH => {
                // Refused whatever it is: there is no upgrade in HTTP/2.
                let page = handshake::admit(head, &shared.agents).map(|_| page(head));
                Err(Answer::page(
                    page.unwrap_or_else(|refusal| {
                        shared.refused(self.peer, &refusal);
                        refused(refusal)
                    }),
                    &head.method,
                ))
            }
            Asked::Page => Err(Answer::page(page(head), &head.method)),
            Asked::Unsupported => Err(Answer::page(unsupported(), &head.method)),
            Asked::Call => {
                let seated = self.seats.admit(&head.headers, self.peer, shared);
                let seated = seated.map_err(|refusal| {
                    shared.refused(self.peer, &refusal);
                    Answer::call(Err(answer::refused(&refusal)))
                })?;
                Call::new(seated, head).map_err(|status| Answer::call(Err(status)))
            }
        }
    }

    /// Tells the peer to go, and lets calls be answered for a limited time.
    async fn close(&mut self) {
        self.connection.graceful_shutdown();
        let drained = timeout(DRAIN_LIMIT, async {
            while let Some(Ok((request, respond))) = self.connection.accept().await {
                self.accept(request, respond);
            }
        });
        if drained.await.is_err() {
            tracing::debug!(peer = %self.peer, "the agent did not go");
        }
    }
}

/// Returns when a ping is not answered. All connections are watched over as the agent's own are: the roles of its calls
/// may differ, and none is known at first.
async fn silent(pings: Option<PingPong>) {
    if let Some(mut pings) = pings {
        loop {
            sleep(MONITOR.ping_every).await;
            let answered = pings.ping(Ping::opaque());
            match timeout(MONITOR.dead_after - MONITOR.ping_every, answered).await {
                Ok(Ok(_pong)) => {}
                // The connection is gone, and says why.
                Ok(Err(_)) => break,
                Err(_) => return,
            }
        }
    }
    pending().await
}

fn note(ended: &Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a call failed; its stream was reset, the session goes on");
    }
}

/// Who is to blame for the end of a connection.
fn judge(error: h2::Error) -> Ended {
    match (error.reason(), error.get_io()) {
        // So the end of the stream inside a frame is told.
        (_, Some(broken)) if broken.kind() == io::ErrorKind::Other => Ended::ByAgent,
        (_, Some(broken)) => Ended::broken(broken),
        (Some(reason), _) if !error.is_remote() => {
            Ended::Violation(fault_of(reason), error.to_string())
        }
        _ => Ended::Failed(error.to_string()),
    }
}

fn fault_of(reason: Reason) -> ProtocolFault {
    match reason {
        Reason::FLOW_CONTROL_ERROR => ProtocolFault::Http2Window,
        Reason::ENHANCE_YOUR_CALM => ProtocolFault::Http2Flood,
        _ => ProtocolFault::Http2Frame,
    }
}
