//! The control plane as a whole: builds it, binds the sockets, announces it, stops it in order.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Builder;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::cli::{ControlReady, Exit};
use crate::config::control::ControlConfig;
use crate::control::{ControlPlane, Exposition, Page};
use crate::ingest;
use crate::logging::{self, ErrorChain};
use crate::metrics::control::ControlMetrics;
use crate::scrape::{Exporter, Pages};
use crate::shutdown::{Request, Signals, Stop};
use crate::systemd;

/// How long a stop may take: longer than answering, closing and writing may take one after the other.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// How often it is shown that the runtime serves, when the service manager does not say.
const BEAT: Duration = Duration::from_secs(30);

/// Runs a control plane until it is told to stop.
pub fn control_plane(config: &ControlConfig) -> Exit {
    match start(config) {
        Ok(()) => Exit::Done,
        Err(error) => {
            tracing::error!("{}", ErrorChain(error.as_ref()));
            Exit::Failed
        }
    }
}

fn start(config: &ControlConfig) -> anyhow::Result<()> {
    logging::init(&config.log)?;
    let metrics = ControlMetrics::new()?;
    let panics = metrics.panics.clone();
    logging::install_panic_hook(move || panics.inc());
    match ingest::raise_descriptor_limit() {
        Ok(limit) => tracing::debug!(?limit, "open descriptors"),
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open descriptors"),
    }
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let served = runtime.block_on(serve(config, metrics));
    // What is left is a name being looked up.
    runtime.shutdown_background();
    served
}

async fn serve(config: &ControlConfig, metrics: ControlMetrics) -> anyhow::Result<()> {
    let signals = Signals::listen().context("cannot take over the signals")?;
    let control_plane = ControlPlane::bind(config, metrics.clone()).await?;
    let exporter = exporter(&control_plane, config, &metrics).await?;
    let url = control_plane.url().context("cannot tell the address")?;
    tracing::info!(url, agents = config.agents.len(), "agents may connect");
    ControlReady::new(url, exporter.as_ref().map(Exporter::bound))
        .print(&mut std::io::stdout())
        .context("cannot print the ready line")?;
    systemd::ready();

    let stop = Stop::default();
    let ignored = |request| match request {
        Request::Reload => tracing::info!("nothing is read again on SIGHUP: restart instead"),
        Request::Balance => tracing::info!("a control plane has no balance"),
    };
    tokio::select! {
        () = control_plane.run(stop.drain.clone()) => tracing::info!("stopped"),
        () = signals.serve(&stop, STOP_LIMIT, ignored) => {}
        never = show_life(&stop.drain) => match never {},
    }
    if let Some(exporter) = exporter {
        exporter.stop();
    }
    Ok(())
}

/// Serves the metrics of a control plane where they are asked for.
pub(crate) async fn exporter(
    control_plane: &ControlPlane,
    config: &ControlConfig,
    metrics: &ControlMetrics,
) -> anyhow::Result<Option<Exporter>> {
    let Some(address) = &config.prometheus else {
        return Ok(None);
    };
    let pages = control_plane.exposition()?;
    let exporter = Exporter::start(address, pages, metrics.scrapes.clone()).await;
    let failed = || format!("cannot serve metrics on {address}");
    exporter.map(Some).with_context(failed)
}

/// Tells the service manager, for as long as it is polled, that the runtime serves, and when it stops.
async fn show_life(drain: &CancellationToken) -> Infallible {
    let mut beats = interval(systemd::watchdog_period().unwrap_or(BEAT));
    let mut draining = false;
    loop {
        tokio::select! {
            _ = beats.tick() => systemd::progressing(),
            () = drain.cancelled(), if !draining => {
                draining = true;
                systemd::stopping();
            }
        }
    }
}

impl Pages for Exposition {
    type Page = Page;

    fn page(&self) -> Option<Page> {
        Self::page(self)
    }
}
