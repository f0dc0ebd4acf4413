//! One TCP connection: HTTP/2, or one request of HTTP/1.1 which may turn it into a session.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Request;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role as End;
use tokio_util::sync::CancellationToken;

use super::agents::{Agents, Seat};
use super::handshake::{self, Refusal};
use super::http::{Page, page, refused, switching};
use super::http2;
use super::preface;
use super::service::{Caller, Service};
use super::session::{self, Ended};
use super::tls::is_http2;
use crate::metrics::control::{ControlMetrics, DialRefusal};
use crate::wire::ws;

/// Bytes of a request's head, at most. Proxies add headers to those of an agent; 431 is answered beyond.
pub(super) const MAX_HEAD: usize = 64 << 10;

/// How long a request's head may take, and a TLS handshake: as long as a sidecar waits for its dial.
pub(super) const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// How long a connection may last that becomes no session.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// What every connection has use for.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) agents: Agents,
    pub(super) service: Arc<Service>,
    pub(super) metrics: ControlMetrics,
}

impl Shared {
    /// Counts a dial that was refused.
    pub(super) fn refused(&self, peer: SocketAddr, refusal: &Refusal) {
        self.metrics.refused(refusal.reason);
        let (status, reason) = (refusal.status.as_u16(), refusal.reason.label());
        tracing::debug!(%peer, status, reason, "a dial was refused");
    }

    /// Tells that a session began.
    pub(super) fn began(&self, peer: SocketAddr, seat: &Seat, transport: &dyn fmt::Display) {
        let labels = &seat.agent.labels;
        let (username, workspace) = (&labels.username, &labels.workspace_name);
        let agent = &labels.agent_name;
        tracing::info!(
            username, workspace, agent, %peer, role = ?seat.role, transport = %transport,
            "an agent connected"
        );
    }

    /// Counts a session that ended.
    pub(super) fn ended(&self, peer: SocketAddr, seat: &Seat, ended: &Ended) {
        self.metrics.session_ended(ended.label());
        let labels = &seat.agent.labels;
        let (username, workspace) = (&labels.username, &labels.workspace_name);
        let agent = &labels.agent_name;
        match ended {
            Ended::Violation(..) => {
                tracing::warn!(username, workspace, agent, %peer, reason = %ended, "a session ended");
            }
            _ => {
                tracing::info!(username, workspace, agent, %peer, reason = %ended, "a session ended");
            }
        }
    }
}

/// Serves a connection to its end, in order once `stop` is cancelled.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    shared: &Arc<Shared>,
    stop: &CancellationToken,
) {
    let _present = shared.metrics.connection();
    // An answer is one message, and the next call waits for it.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "small messages may be held back");
    }
    let Some(tls) = tls else {
        return converse(stream, peer, shared, stop).await;
    };
    let shaken = tokio::select! {
        () = stop.cancelled() => return,
        shaken = timeout(REQUEST_WITHIN, tls.accept(stream)) => shaken,
    };
    match shaken {
        Ok(Ok(stream)) if is_http2(&stream) => http2::serve(stream, peer, shared, stop).await,
        Ok(Ok(stream)) => converse(stream, peer, shared, stop).await,
        Ok(Err(error)) => refuse_tls(shared, peer, &error),
        Err(_) => refuse_tls(shared, peer, &io::ErrorKind::TimedOut.into()),
    }
}

fn refuse_tls(shared: &Shared, peer: SocketAddr, error: &io::Error) {
    shared.metrics.refused(DialRefusal::Tls);
    tracing::debug!(%peer, %error, "no TLS handshake");
}

/// A dial that was admitted, on its way to a session.
struct Opened {
    upgrade: OnUpgrade,
    seat: Seat,
    version: (u32, u32),
}

/// Finds out which HTTP the peer speaks, and serves it.
async fn converse<S>(stream: S, peer: SocketAddr, shared: &Arc<Shared>, stop: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let begun = tokio::select! {
        () = stop.cancelled() => return,
        begun = timeout(REQUEST_WITHIN, preface::is_http2(stream)) => begun,
    };
    match begun {
        Ok(Ok((true, stream))) => http2::serve(stream, peer, shared, stop).await,
        Ok(Ok((false, stream))) => http1(stream, peer, shared, stop).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a connection ended"),
        Err(_) => {
            shared.metrics.refused(DialRefusal::Malformed);
            tracing::debug!(%peer, "no request came");
        }
    }
}

/// Answers one request, and serves the session that it may begin.
async fn http1<S>(stream: S, peer: SocketAddr, shared: &Shared, stop: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let opened = tokio::select! {
        () = stop.cancelled() => return,
        opened = request(stream, peer, shared) => opened,
    };
    let Some(Opened {
        upgrade,
        seat,
        version,
    }) = opened
    else {
        return;
    };
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(%peer, %error, "the agent left before its session"),
    };
    // It is what it was made of.
    let Ok(parts) = upgraded.downcast::<TokioIo<S>>() else {
        return tracing::error!(%peer, "a connection changed its nature");
    };
    let (stream, read) = (parts.io.into_inner(), parts.read_buf.to_vec());
    let ws =
        WebSocketStream::from_partially_read(stream, read, End::Server, Some(ws::config())).await;
    let caller = Caller {
        service: Arc::clone(&shared.service),
        agent: Arc::clone(&seat.agent),
        role: seat.role.clone(),
    };
    let (major, minor) = version;
    shared.began(peer, &seat, &format_args!("WebSocket {major}.{minor}"));
    let ended = session::run(ws, caller, &shared.metrics, stop).await;
    shared.ended(peer, &seat, &ended);
}

/// Answers one request. `None`: it became no session.
async fn request<S>(stream: S, peer: SocketAddr, shared: &Shared) -> Option<Opened>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let opened = Mutex::new(None);
    let opened_here = || opened.lock().unwrap_or_else(PoisonError::into_inner);
    let service = service_fn(|request: Request<Incoming>| {
        let page = match answer(request, peer, shared) {
            Ok((page, session)) => {
                *opened_here() = session;
                page
            }
            Err(refusal) => refused(*refusal),
        };
        std::future::ready(Ok::<_, Infallible>(page.map(Full::new)))
    });
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_WITHIN)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    match timeout(ANSWER_WITHIN, conversation).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            // Of a connection that ended without a word there is nothing to say.
            if error.is_parse() || error.is_timeout() || error.is_parse_too_large() {
                shared.metrics.refused(DialRefusal::Malformed);
            }
            tracing::debug!(%peer, %error, "a connection ended");
            return None;
        }
        Err(_) => {
            tracing::debug!(%peer, "an answer was not taken");
            return None;
        }
    }
    opened_here().take()
}

/// The answer to a request, and the session that follows it.
fn answer(
    mut request: Request<Incoming>,
    peer: SocketAddr,
    shared: &Shared,
) -> Result<(Page, Option<Opened>), Box<Refusal>> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (request, _body) = request.into_parts();
    if request.uri.path() != handshake::PATH {
        return Ok((page(&request), None));
    }
    let admitted = handshake::admit(&request, &shared.agents).and_then(|admitted| {
        let seat = handshake::seat(&admitted.agent, admitted.role.clone(), &shared.metrics)?;
        Ok((admitted, seat))
    });
    match admitted {
        Ok((admitted, seat)) => {
            let page = switching(&admitted);
            let version = admitted.version;
            Ok((
                page,
                Some(Opened {
                    upgrade,
                    seat,
                    version,
                }),
            ))
        }
        Err(refusal) => {
            shared.refused(peer, &refusal);
            Err(Box::new(refusal))
        }
    }
}
