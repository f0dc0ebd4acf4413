//! The protocols that a link can be made of, and what the link asks of each: to dial, to call, to serve and to close.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tokio_util::sync::CancellationToken;

use super::error::DialError;
use super::grpc::{self, PingPace};
use super::http1::Io;
use super::settings::Settings;
use super::tls::Tls;
use super::websocket;
use super::{Outcome, Rpc};

/// Calls under way at once on one connection. Each lane has one; a quarter of what a yamux peer holds for us (its
/// accept backlog and our un-acknowledged opens are 256 each) keeps clear of every limit.
pub(super) const MAX_CALLS: usize = 64;

/// How long a call may take, from the wait for a stream to the answer.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(30);

/// How long an orderly close may take, as the reference waits (coder/websocket close.go).
pub(super) const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// A protocol spoken to the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// dRPC over yamux over WebSocket, as coderd serves its agents.
    WebSocket,
    /// gRPC over HTTP/2: over TLS for `https`, in the clear with prior knowledge for `http`.
    Grpc,
}

impl Transport {
    /// The word for it in settings and in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Grpc => "grpc",
        }
    }
}

/// What dials use again until it proves wrong.
#[derive(Debug)]
pub(super) struct Known {
    /// Marked as sensitive: it shows in no debug output.
    pub(super) token: HeaderValue,
    pub(super) tls: Tls,
    /// How often the control plane lets itself be pinged.
    pub(super) pace: Arc<PingPace>,
}

/// Opens a connection that the control plane is seen to take calls on. Unbounded in time.
pub(super) async fn dial(
    settings: &Settings,
    known: &Known,
) -> Result<(Session, Driver), DialError> {
    Ok(match settings.transport {
        Transport::WebSocket => {
            let (session, driver) = websocket::dial(settings, known).await?;
            (
                Session::WebSocket(session),
                Driver::WebSocket(Box::new(driver)),
            )
        }
        Transport::Grpc => {
            let (session, driver) = grpc::dial(settings, known).await?;
            (Session::Grpc(session), Driver::Grpc(Box::new(driver)))
        }
    })
}

/// The way to make calls on an open connection. Clones share it. A connection that is in order lives until the last
/// of them is dropped.
#[derive(Clone, Debug)]
pub(super) enum Session {
    WebSocket(websocket::Session),
    Grpc(grpc::Session),
}

impl Session {
    /// Makes one attempt. [`Outcome::Retry`] and [`Outcome::Ambiguous`] mean that the session is done for.
    pub(super) async fn call(&self, rpc: Rpc, body: &[Bytes]) -> Outcome {
        match self {
            Self::WebSocket(session) => websocket::call(session, rpc, body).await,
            Self::Grpc(session) => grpc::call(session, rpc, body).await,
        }
    }

    /// Whether a call was answered with the word that the token is not accepted, or no longer.
    pub(super) fn was_turned_away(&self) -> bool {
        match self {
            Self::WebSocket(_) => false,
            Self::Grpc(session) => session.was_turned_away(),
        }
    }
}

/// Owns an open connection, which makes progress only while one of its futures is polled.
pub(super) enum Driver {
    WebSocket(Box<websocket::Driver<Io>>),
    Grpc(Box<grpc::Driver>),
}

impl Driver {
    /// Runs the connection until no new call is to be made on it.
    pub(super) async fn serve(&mut self, stop: &CancellationToken) -> Ended {
        match self {
            Self::WebSocket(driver) => driver.serve(stop).await,
            Self::Grpc(driver) => driver.serve(stop).await,
        }
    }

    /// Brings a connection that can still be used to its end in order. Bounded.
    pub(super) async fn close(self, stop: &CancellationToken) {
        match self {
            Self::WebSocket(driver) => driver.close().await,
            Self::Grpc(driver) => driver.close(stop).await,
        }
    }
}

/// Why no new call is to be made on a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It is closed from here: nobody uses it any more, or everything stops.
    Here,
    /// The peer ends it in order, and answers the calls that are under way: for no fault (an HTTP/2 server does so
    /// with a connection of a certain age), or for the one that it names.
    Leaving(Option<String>),
    /// The peer has ended it in order: a clean close, or a GOAWAY of yamux.
    ByPeer,
    /// Nothing was received for so long.
    Silent(Duration),
    /// The transport failed or the peer broke the protocol.
    Failed(String),
}

impl Ended {
    /// Whether the connection can still be used, and so be closed in order.
    pub(super) fn leaves_it_open(&self) -> bool {
        matches!(self, Self::Here | Self::Leaving(_))
    }

    /// Whether it is no news to anybody.
    pub(super) fn is_routine(&self) -> bool {
        *self == Self::Leaving(None)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("closed"),
            Self::Leaving(None) => f.write_str("the control plane asks for a new connection"),
            Self::Leaving(Some(fault)) => {
                write!(f, "the control plane ends the connection: {fault}")
            }
            Self::ByPeer => f.write_str("closed by the control plane"),
            Self::Silent(time) => write!(f, "nothing received for {time:?}"),
            Self::Failed(error) => f.write_str(error),
        }
    }
}
