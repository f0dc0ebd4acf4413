//! HTTP/1.1 on one listener. Every connection is bounded in time, memory and number.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::error::Error;
use std::future::ready;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet, yield_now};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::listen::{Connection, Listener};

/// Connections at a time. A scraper needs one; when there are more than this the oldest is closed, so that
/// connections which are merely held keep no scraper out.
const MAX_CONNECTIONS: usize = 64;
/// Longest request head, in bytes: several times what Prometheus or a browser sends.
const MAX_HEAD: usize = 16 * 1024;
/// From the moment at which a connection may send a request to the end of its head. Longer than the usual
/// interval between scrapes of up to a minute, so that a scraper keeps its connection.
const REQUEST_WITHIN: Duration = Duration::from_secs(75);
/// From a request to the last byte of its answer: longer than any scraper waits, so that one which takes its page in
/// drops costs a place for a while only.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
/// Pause after an accept failed: when descriptors have run out, trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long answers that are being written may take when the endpoint stops.
const FAREWELL: Duration = Duration::from_secs(1);

type BoxError = Box<dyn Error + Send + Sync>;

/// Makes the answer to a request.
pub(super) type Routes<V, B> = fn(&Arc<V>, Request<Incoming>) -> Reply<B>;

/// An answer in the making.
pub(super) type Reply<B> = Pin<Box<dyn Future<Output = Response<B>> + Send>>;

/// An answer that is made.
pub(super) fn at_once<B: Send + 'static>(page: Response<B>) -> Reply<B> {
    Box::pin(ready(page))
}

/// What is served, and to whom.
pub(super) struct Offer<V, B> {
    pub(super) routes: Routes<V, B>,
    /// Processes of other users are turned away.
    pub(super) own_user_only: bool,
}

/// Serves until `stop`, then lets answers be written to the end.
pub(super) async fn serve<V, B>(
    listener: &Listener,
    offer: &Offer<V, B>,
    view: &Arc<V>,
    stop: &CancellationToken,
) where
    V: Send + Sync + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let routes = offer.routes;
    let mut tasks = JoinSet::new();
    let mut open = VecDeque::<AbortHandle>::with_capacity(MAX_CONNECTIONS);
    while let Some(connection) = next(listener, stop).await {
        if offer.own_user_only && !connection.is_from_own_user() {
            tracing::debug!("turned away a process of another user");
            continue;
        }
        while tasks.try_join_next().is_some() {}
        open.retain(|task| !task.is_finished());
        if open.len() >= MAX_CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let view = Arc::clone(view);
        let stop = stop.clone();
        open.push_back(tasks.spawn(async move {
            match connection {
                Connection::Tcp(stream) => converse(stream, routes, view, stop).await,
                Connection::Unix(stream) => converse(stream, routes, view, stop).await,
            }
        }));
        // The new connection gets a turn before a next one can push it out.
        yield_now().await;
    }
    let farewell = async { while tasks.join_next().await.is_some() {} };
    if timeout(FAREWELL, farewell).await.is_err() {
        tracing::debug!("closed connections in the middle of an answer");
    }
}

/// The next connection; `None` when it is time to stop.
async fn next(listener: &Listener, stop: &CancellationToken) -> Option<Connection> {
    let accepted = async {
        loop {
            match listener.accept().await {
                Ok(connection) => return connection,
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accepted).await
}

async fn converse<V, B>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    routes: Routes<V, B>,
    view: Arc<V>,
    stop: CancellationToken,
) where
    B: Body<Error: Into<BoxError>> + 'static,
{
    let (asked, due) = watch::channel(None);
    let service = service_fn(|request| {
        asked.send_replace(Some(Instant::now() + ANSWER_WITHIN));
        routes(&view, request).map(Ok::<_, Infallible>)
    });
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_WITHIN)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut conversation = pin!(conversation);
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => {
            conversation.as_mut().graceful_shutdown();
            conversation.await
        }
        () = overdue(due) => {
            tracing::debug!("an answer was not taken within {ANSWER_WITHIN:?}");
            return;
        }
        ended = conversation.as_mut() => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Returns when the latest request should have been answered and followed by another. Before the first there is none.
async fn overdue(mut due: watch::Receiver<Option<Instant>>) {
    loop {
        let until = *due.borrow_and_update();
        let over = async {
            match until {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => return,
            // The sender lives as long as the conversation.
            changed = due.changed() => changed.unwrap_or_default(),
        }
    }
}
