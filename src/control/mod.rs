//! The embedded control plane: takes agents over WebSocket and gRPC on one port, answers the agent service, writes
//! boundary logs.
//!
//! From the bytes up: `connection` (TLS, which HTTP it is: `preface`, and whether a request of HTTP/1.1 becomes a
//! session: `handshake`), then `session` (yamux) and `rpc` (dRPC), or `http2` (gRPC); `service` (the methods, whatever
//! the transport), `boundary_log`; `export` is what Prometheus sees of it all. Imports nothing of the sidecar's own
//! stages.

mod agents;
pub mod aggregate;
mod boundary_log;
mod connection;
mod export;
mod handshake;
mod http;
mod http2;
mod preface;
mod rpc;
mod service;
mod session;
#[cfg(test)]
mod tests;
mod tls;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::control::ControlConfig;
use crate::metrics::control::ControlMetrics;
use agents::Agents;
use aggregate::Aggregator;
use boundary_log::{BoundaryLog, Writer};
use connection::Shared;
pub use export::{Exposition, Page};
use service::Service;

/// Connections open at a time; more wait in the backlog. Far beyond a deployment that one process serves, and with
/// less than 64 KiB for an idle one below 1 GiB.
const MAX_CONNECTIONS: usize = 16_384;

/// The wait before the next try when there is no descriptor or memory for a connection. Nothing tells when there is;
/// the agent waits in the backlog meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// How long looking up the name of the address to listen on may take.
const BIND_WITHIN: Duration = Duration::from_secs(5);

/// A control plane that is bound and not yet serving.
pub struct ControlPlane {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    writer: Option<Writer>,
    aggregator: Option<(Aggregator, aggregate::Running)>,
    /// How long statistics of agents are shown after the last, when they are.
    statistics: Option<Duration>,
}

/// Why there can be no control plane.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address as it was given.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The boundary log output cannot be opened.
    #[error("cannot open the boundary log output")]
    BoundaryLog(#[source] io::Error),
    /// Certificate or key cannot be used.
    #[error("cannot serve TLS")]
    Tls(#[source] io::Error),
    /// There can be no thread for the metrics of agents.
    #[error("cannot start the aggregator")]
    Aggregator(#[source] io::Error),
}

impl ControlPlane {
    /// Opens everything that is needed, and listens: agents that connect wait until [`Self::run`].
    ///
    /// # Errors
    /// When the address, the output or the certificate cannot be used.
    pub async fn bind(config: &ControlConfig, metrics: ControlMetrics) -> Result<Self, BindError> {
        let tls = config
            .tls
            .as_ref()
            .map(tls::acceptor)
            .transpose()
            .map_err(BindError::Tls)?;
        let (boundary_log, writer) = config
            .boundary_log
            .as_ref()
            .map(|to| BoundaryLog::open(to, metrics.clone()))
            .transpose()
            .map_err(BindError::BoundaryLog)?
            .unzip();
        let bound = timeout(BIND_WITHIN, TcpListener::bind(&config.listen)).await;
        let listener = bound
            .unwrap_or_else(|elapsed| Err(elapsed.into()))
            .map_err(|source| BindError::Listen {
                address: config.listen.clone(),
                source,
            })?;
        let aggregator = aggregator(config, &metrics).map_err(BindError::Aggregator)?;
        let statistics = config.collect_agent_stats.then_some(config.metrics_expiry);
        let service = Service::new(
            config.refresh_interval,
            boundary_log,
            aggregator.as_ref().map(|(handle, _)| handle.clone()),
            statistics,
            metrics.clone(),
        );
        let shared = Shared {
            agents: Agents::new(&config.agents),
            service: Arc::new(service),
            metrics,
        };
        Ok(Self {
            listener,
            tls,
            shared: Arc::new(shared),
            writer,
            aggregator,
            statistics,
        })
    }

    /// Where the pages of metrics come from.
    ///
    /// # Errors
    /// When a row of the catalogue is not a valid metric.
    pub fn exposition(&self) -> Result<Exposition, prometheus::Error> {
        let Shared {
            agents, metrics, ..
        } = &*self.shared;
        let aggregator = self.aggregator.as_ref().map(|(handle, _)| handle.clone());
        Exposition::new(agents, aggregator, self.statistics, metrics)
    }

    /// Where agents connect, with the real address and port.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn url(&self) -> io::Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.listener.local_addr()?))
    }

    /// Serves agents until `stop` is cancelled, then closes their sessions in order, and returns when the boundary log
    /// is written. Dropped before, it drops everything at once.
    pub async fn run(self, stop: CancellationToken) {
        let Self {
            listener,
            tls,
            shared,
            writer,
            aggregator,
            ..
        } = self;
        let mut connections = JoinSet::new();
        let mut failing = false;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = connections.join_next() => note(&ended),
                accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, peer)) => {
                        if std::mem::take(&mut failing) {
                            tracing::info!("connections are accepted again");
                        }
                        let tls = tls.clone();
                        let task = serve(stream, peer, tls, Arc::clone(&shared), stop.clone());
                        connections.spawn(task);
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut failing, true) {
                            tracing::warn!(%error, "cannot accept a connection; it waits, and is tried again");
                        }
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = sleep(PAUSE) => {}
                        }
                    }
                },
            }
        }
        drop(listener);
        while let Some(ended) = connections.join_next().await {
            note(&ended);
        }
        drop(shared);
        if let Some(writer) = writer {
            writer.finish().await;
        }
        if let Some((_, running)) = aggregator {
            running.stop();
        }
    }
}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlPlane")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

/// Starts to keep the metrics of agents, if anybody can scrape them: without `--prometheus-enable` reports are checked,
/// answered and forgotten.
fn aggregator(
    config: &ControlConfig,
    metrics: &ControlMetrics,
) -> io::Result<Option<(Aggregator, aggregate::Running)>> {
    if config.prometheus.is_none() {
        return Ok(None);
    }
    let settings = aggregate::Settings {
        by: config.aggregate_by,
        expiry: config.metrics_expiry,
        max_series: config.max_series,
    };
    let agents = config.agents.iter().map(|agent| &agent.labels);
    Aggregator::start(&settings, agents, metrics.aggregate.clone()).map(Some)
}

/// The panic itself is logged and counted where it happens.
fn note(ended: &Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "the task of a connection failed; the others go on");
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    connection::serve(stream, peer, tls, &shared, &stop).await;
}
