//! The transport of any gRPC control plane: unary calls of `coder.agent.v2.Agent` on the streams of one HTTP/2
//! connection.
//!
//! Not over a client of hyper or tonic: those give each call a task and queue without a bound, and tell neither
//! whether a request was written nor why a stream was reset.

mod call;
#[cfg(test)]
mod peer;
mod session;

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

use super::dial::connect;
use super::error::DialError;
use super::settings::Settings;
use super::tls::Protocol;
use super::transport::Known;

pub(super) use call::call;
pub(super) use session::{Driver, PingPace, Session};

/// Opens the connection and sees by a first call that the control plane takes this agent: nothing is said of the
/// token before. It asks, as an agent that begins does, how often to report, and reports nothing. Unbounded in time.
pub(super) async fn dial(
    settings: &Settings,
    known: &Known,
) -> Result<(Session, Driver), DialError> {
    let io = connect(settings, &settings.url, &known.tls, Protocol::Http2).await?;
    let (session, mut driver) = session::open(io, settings, known).await?;
    let never = CancellationToken::new();
    let mut first = std::pin::pin!(call::first(&session));
    let ended = tokio::select! {
        biased;
        taken = &mut first => return taken.map(|()| (session.clone(), driver)),
        ended = driver.serve(&never) => ended,
    };
    // The call knows more of an error than the connection.
    match first.now_or_never() {
        Some(Err(error)) => Err(error),
        _ => Err(DialError::Ended(ended)),
    }
}
