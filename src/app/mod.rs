//! The sidecar as a whole: the only place that knows every stage. Builds them, binds the sockets, starts the
//! tasks, and stops all in order.

mod balance;
mod control;
mod part;
mod replay;
mod settings;
mod sidecar;

use std::io;

use anyhow::Context as _;
use tokio::runtime::Builder;

use crate::cli::{Exit, Ready};
use crate::config::{Config, Faults};
use crate::ingest::{self, Listener};
use crate::logging::{self, ErrorChain};
use crate::metrics::Metrics;
use crate::shutdown::Signals;
use crate::systemd;
use crate::upstream::Link;
pub use control::control_plane;
pub(crate) use control::exporter;
pub use replay::replay;
pub(crate) use sidecar::{Orders, Sidecar};

/// Runs a sidecar until it is told to stop. `reread` resolves the configuration anew, for SIGHUP.
pub fn run(config: &Config, reread: impl Fn() -> Result<Config, Faults>) -> Exit {
    told(start(config, reread))
}

/// Dials the control plane once and says on stderr what it answers.
pub fn connect(config: &Config) -> Exit {
    told(dial_once(config))
}

/// An error that ends the process is its last line.
fn told(outcome: anyhow::Result<Exit>) -> Exit {
    outcome.unwrap_or_else(|error| {
        tracing::error!("{}", ErrorChain(error.as_ref()));
        Exit::Failed
    })
}

fn dial_once(config: &Config) -> anyhow::Result<Exit> {
    logging::init(&config.log)?;
    let settings = settings::upstream(config)?;
    let (_, driver) = Link::new(settings, Metrics::new()?.upstream);
    let url = &config.upstream.url;
    match block_on(driver.probe())? {
        Ok(()) => tracing::info!(%url, "the control plane takes this agent"),
        Err(reason) => anyhow::bail!("cannot connect to {url}: {reason}"),
    }
    Ok(Exit::Done)
}

fn start(config: &Config, reread: impl Fn() -> Result<Config, Faults>) -> anyhow::Result<Exit> {
    logging::init(&config.log)?;
    // Before any thread is started, see there.
    let inherited = systemd::inherited_listener().context("the inherited socket is unusable")?;
    let metrics = Metrics::new()?;
    let panics = metrics.panics.clone();
    logging::install_panic_hook(move || panics.inc());
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    match ingest::raise_descriptor_limit() {
        Ok(limit) => tracing::debug!(?limit, "open descriptors"),
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open descriptors"),
    }
    let listener = match inherited {
        Some(socket) => Listener::from_std(socket)?,
        None => Listener::bind(&settings::socket(config))?,
    };
    block_on(async {
        let signals = Signals::listen().context("cannot listen to signals")?;
        let ready = |ready: &Ready| ready.print(&mut io::stdout());
        Sidecar::new(config, metrics)?
            .serve(listener, config, Orders::Signals(signals, &reread), ready)
            .await
    })?
}

/// Runs `work` on this thread: with the scrape thread beside it that is all a workspace is asked for.
pub(crate) fn block_on<F: Future>(work: F) -> anyhow::Result<F::Output> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let done = runtime.block_on(work);
    // A name that is still being looked up holds nobody up.
    runtime.shutdown_background();
    Ok(done)
}
