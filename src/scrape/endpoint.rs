//! The thread that answers scrapes: the scrape address and the API socket.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use tokio::runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::listen::{Address, Listener};
use super::pages;
use super::serve::{Offer, serve};
use super::view::View;

/// How often an address that is taken is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(10);

/// What to serve where.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The scrape address; `None` when it is off.
    pub scrape: Option<Address>,
    /// The API socket, for processes of the same user and of root.
    pub api: Option<PathBuf>,
}

/// The running endpoint. It stops when this is dropped.
#[derive(Debug)]
pub struct Handle {
    stop: DropGuard,
    thread: JoinHandle<()>,
    scrape: watch::Receiver<Option<Address>>,
    api: watch::Receiver<Option<Address>>,
}

impl Endpoint {
    /// Starts the thread, and returns when it has tried to bind each address once, at most some seconds later.
    ///
    /// An address that cannot be bound is logged once, with a remedy, and tried again every 10 s: the data path is
    /// never hostage to the scrape port.
    ///
    /// # Errors
    /// When there can be no thread or no runtime on it.
    pub async fn start(self, view: Arc<View>) -> io::Result<Handle> {
        self.start_beside(view, |_stop| std::future::ready(()))
            .await
    }

    /// The same, and runs something beside it on the thread, which may touch the disk for moments, until its token is
    /// cancelled.
    ///
    /// # Errors
    /// As those of [`Self::start`].
    pub async fn start_beside<F>(
        self,
        view: Arc<View>,
        beside: impl FnOnce(CancellationToken) -> F,
    ) -> io::Result<Handle>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let beside = beside(stop.clone());
        let (scrape_bound, scrape) = watch::channel(None);
        let (api_bound, api) = watch::channel(None);
        let scrape_site = self.scrape.map(|address| Site {
            address,
            offer: Offer {
                routes: pages::scrape,
                own_user_only: false,
            },
            bound: scrape_bound,
            remedy: "choose another --prometheus-address: another port (a Go agent in the same workspace listens on \
                     2112), or unix:PATH; the page is on the API socket too",
        });
        let api_site = self.api.map(|path| Site {
            address: Address::Unix(path),
            offer: Offer {
                routes: pages::api,
                own_user_only: true,
            },
            bound: api_bound,
            remedy: "choose another --api-socket; until then `weir status` has nobody to ask",
        });
        let sites: Vec<_> = scrape_site.into_iter().chain(api_site).collect();

        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let (tried, all_tried) = oneshot::channel();
        let token = stop.clone();
        let thread = thread::Builder::new()
            .name("weir-scrape".to_owned())
            .spawn(move || {
                runtime.block_on(run(sites, view, beside, token, tried));
                // A name that is still being looked up holds nobody up.
                runtime.shutdown_background();
            })?;
        let handle = Handle {
            stop: stop.drop_guard(),
            thread,
            scrape,
            api,
        };
        all_tried
            .await
            .map_err(|_dropped| io::Error::other("the scrape thread ended at once"))?;
        Ok(handle)
    }
}

impl Handle {
    /// The scrape address as it is bound, `HOST:PORT` or `unix:PATH`; `None` while it is not.
    pub fn bound(&self) -> Option<String> {
        self.scrape.borrow().as_ref().map(Address::to_string)
    }

    /// The path of the API socket; `None` while it is not bound.
    pub fn api(&self) -> Option<PathBuf> {
        match &*self.api.borrow() {
            Some(Address::Unix(path)) => Some(path.clone()),
            Some(Address::Tcp(_)) | None => None,
        }
    }

    /// Stops listening, lets answers be written for at most a second, and joins the thread.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the scrape thread panicked");
        }
    }
}

/// One address and what is served there.
struct Site {
    address: Address,
    offer: Offer<View, Full<Bytes>>,
    bound: watch::Sender<Option<Address>>,
    /// What to do when the address cannot be bound.
    remedy: &'static str,
}

async fn run(
    sites: Vec<Site>,
    view: Arc<View>,
    beside: impl Future<Output = ()> + Send + 'static,
    stop: CancellationToken,
    tried: oneshot::Sender<()>,
) {
    let mut tasks = JoinSet::new();
    tasks.spawn(beside);
    for site in sites {
        let first = site.bind().await;
        if let Err(error) = &first {
            tracing::warn!(
                address = %site.address,
                %error,
                remedy = site.remedy,
                "cannot listen; logs are forwarded all the same, trying again every {} s",
                RETRY_EVERY.as_secs()
            );
        }
        let (view, stop) = (Arc::clone(&view), stop.clone());
        tasks.spawn(async move { site.run(first.ok(), view, stop).await });
    }
    if tried.send(()).is_err() {
        tracing::debug!("nobody waits for the endpoint");
    }
    while tasks.join_next().await.is_some() {}
}

impl Site {
    async fn run(self, first: Option<Listener>, view: Arc<View>, stop: CancellationToken) {
        let listener = match first {
            Some(listener) => Some(listener),
            None => stop.run_until_cancelled(self.bind_later()).await,
        };
        if let Some(listener) = listener {
            serve(&listener, &self.offer, &view, &stop).await;
        }
    }

    async fn bind_later(&self) -> Listener {
        loop {
            sleep(RETRY_EVERY).await;
            if let Ok(listener) = self.bind().await {
                tracing::info!(address = %self.address, "listening at last");
                return listener;
            }
        }
    }

    async fn bind(&self) -> io::Result<Listener> {
        let (listener, bound) = Listener::bind(&self.address).await?;
        self.bound.send_replace(Some(bound));
        Ok(listener)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::tests::Sidecar;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_taken_is_bound_once_it_is_free() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(taken.local_addr().unwrap().to_string());
        let (bound, mut is_bound) = watch::channel(None);
        let site = Site {
            address: address.clone(),
            offer: Offer {
                routes: pages::scrape,
                own_user_only: false,
            },
            bound,
            remedy: "",
        };
        let (view, stop) = (Sidecar::new().view, CancellationToken::new());
        let (tried, all_tried) = oneshot::channel();
        let started = Instant::now();
        let mut running = JoinSet::new();
        let beside = std::future::ready(());
        running.spawn(run(vec![site], view, beside, stop.clone(), tried));
        all_tried.await.unwrap();
        assert_eq!(*is_bound.borrow(), None);
        drop(taken);
        let bound = is_bound.wait_for(Option::is_some).await.unwrap().clone();
        assert_eq!(bound, Some(address));
        assert_eq!(started.elapsed().as_secs(), RETRY_EVERY.as_secs());
        stop.cancel();
        running.join_next().await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_an_address_does_not_delay_the_stop() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint {
            scrape: Some(Address::Tcp(taken.local_addr().unwrap().to_string())),
            api: None,
        };
        let handle = endpoint.start(Sidecar::new().view).await.unwrap();
        assert_eq!(handle.bound(), None);
        let started = std::time::Instant::now();
        handle.stop();
        assert!(started.elapsed() < RETRY_EVERY);
    }
}
