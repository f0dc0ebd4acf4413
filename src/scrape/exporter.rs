//! The thread that answers scrapes of a control plane.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use prometheus::Registry;
use tokio::runtime;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::listen::{Address, Listener};
use super::pages;
use super::serve::{Offer, serve};

/// Serves a registry. It stops when this is dropped.
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
    pub async fn start(address: &str, registry: Registry) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let stop = CancellationToken::new();
        let token = stop.clone();
        let address = Address::Tcp(address.to_owned());
        let (tell, told) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("weir-metrics".to_owned())
            .spawn(move || {
                runtime.block_on(run(&address, Arc::new(registry), token, tell));
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

async fn run(
    address: &Address,
    registry: Arc<Registry>,
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
        routes: pages::registry,
        own_user_only: false,
    };
    serve(&listener, &offer, &registry, &stop).await;
}
