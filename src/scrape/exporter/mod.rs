//! The thread that answers scrapes of a control plane.

mod body;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::runtime;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::listen::{Address, Listener};
use super::pages::{HTML, PLAIN, page, refuse_writes, texts};
use super::serve::{Offer, Reply, at_once, serve};
use crate::metrics::control::ScrapeMetrics;
use crate::metrics::exposition::{Format, accepts_gzip, accepts_html};
use body::{Answer, Made};

const LANDING: &str = include_str!("landing.html");

/// Where pages come from.
pub trait Pages: Send + Sync + 'static {
    /// A page in the text format 0.0.4, in pieces of whole lines. It is asked for no more than the scraper takes, and
    /// dropped when the scraper leaves.
    type Page: Stream<Item = Bytes> + Send + Unpin + 'static;

    /// Begins a page; `None` when too many are under way.
    fn page(&self) -> Option<Self::Page>;
}

/// What is served.
struct Shown<P> {
    pages: P,
    metrics: ScrapeMetrics,
}

/// Serves pages. It stops when this is dropped.
#[derive(Debug)]
pub struct Exporter {
    stop: DropGuard,
    thread: JoinHandle<()>,
    bound: Address,
}

impl Exporter {
    /// Starts the thread, and returns when the address is bound: unlike a sidecar, a control plane whose metrics nobody
    /// can read is not to run.
    ///
    /// # Errors
    /// When the address cannot be bound, or there can be no thread or no runtime on it.
    pub async fn start(
        address: &str,
        pages: impl Pages,
        metrics: ScrapeMetrics,
    ) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let stop = CancellationToken::new();
        let token = stop.clone();
        let address = Address::Tcp(address.to_owned());
        let shown = Arc::new(Shown { pages, metrics });
        let (tell, told) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("weir-metrics".to_owned())
            .spawn(move || {
                runtime.block_on(run(&address, shown, token, tell));
                // A name that is still being looked up holds nobody up.
                runtime.shutdown_background();
            })?;
        let bound = told
            .await
            .map_err(|_dropped| io::Error::other("the metrics thread ended at once"))??;
        Ok(Self {
            stop: stop.drop_guard(),
            thread,
            bound,
        })
    }

    /// The address as it is bound, `HOST:PORT`.
    pub fn bound(&self) -> String {
        self.bound.to_string()
    }

    /// Stops listening, lets answers be written for at most a second, and joins the thread.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the metrics thread panicked");
        }
    }
}

async fn run<P: Pages>(
    address: &Address,
    shown: Arc<Shown<P>>,
    stop: CancellationToken,
    tell: oneshot::Sender<io::Result<Address>>,
) {
    let listener = match Listener::bind(address).await {
        Ok((listener, bound)) => {
            if tell.send(Ok(bound)).is_err() {
                return;
            }
            listener
        }
        // Nobody asks any more when this is not taken either.
        Err(error) => return tell.send(Err(error)).unwrap_or_default(),
    };
    let offer = Offer {
        routes: route,
        own_user_only: false,
    };
    serve(&listener, &offer, &shown, &stop).await;
}

fn route<P: Pages>(shown: &Arc<Shown<P>>, request: Request<Incoming>) -> Reply<Answer<P::Page>> {
    at_once(answer(shown, &request))
}

/// Answers a request. As on coderd every path serves the metrics, `/` included; but a browser, which asks for a page to
/// be read, finds one there.
fn answer<P: Pages, B>(shown: &Shown<P>, request: &Request<B>) -> Response<Answer<P::Page>> {
    if let Some(refusal) = refuse_writes(request) {
        return refusal.map(Answer::Whole);
    }
    let asked = request.headers();
    if request.uri().path() == "/" && accepts_html(texts(asked, header::ACCEPT)) {
        return page(StatusCode::OK, HTML, LANDING).map(Answer::Whole);
    }
    let gzip = accepts_gzip(texts(asked, header::ACCEPT_ENCODING));
    let body = if request.method() == Method::HEAD {
        shown.metrics.answered(StatusCode::OK);
        Answer::Unsized
    } else {
        // Counted first, so that a page shows itself.
        let in_flight = shown.metrics.begun();
        let Some(pieces) = shown.pages.page() else {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            shown.metrics.answered(status);
            let reason = "too many scrapes at a time, try again later\n";
            return page(status, PLAIN, reason).map(Answer::Whole);
        };
        Answer::Made(Made::new(pieces, gzip, &shown.metrics, in_flight))
    };
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    let content_type = HeaderValue::from_static(Format::Text.content_type());
    headers.insert(header::CONTENT_TYPE, content_type);
    if gzip {
        let gzip = HeaderValue::from_static("gzip");
        headers.insert(header::CONTENT_ENCODING, gzip);
    }
    let vary = HeaderValue::from_static("accept, accept-encoding");
    headers.insert(header::VARY, vary);
    answer
}
