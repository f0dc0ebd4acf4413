//! The sidecar as a whole: the only place that knows every stage. Builds them, binds the sockets, starts the
//! tasks, and stops all in order.

mod control;
mod part;

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::buffer::Buffer;
use crate::buffer::ledger::{Ledger, Snapshot};
use crate::buffer::queue::Limits;
use crate::cli::{Exit, Ready};
use crate::config::{self, Config, Faults, ScrapeAddress};
use crate::forward::{self, Forwarder};
use crate::ingest::{self, Ingest, Listener, Sender, Senders};
use crate::logging::{self, ErrorChain};
use crate::metrics::{DropReason, Metrics};
use crate::scrape::health::Phase;
use crate::scrape::status::SenderStatus;
use crate::scrape::{Address, Endpoint, Handle, Sources, View};
use crate::shutdown::{Request, Signals, Stop};
use crate::systemd;
use crate::upstream::{self, ProxySettings, RootFiles, WebSocketUpstream};
use part::Part;

pub use control::control_plane;

/// How long the link may take to close in order after the drain. Nothing depends on it any more.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// How often the data path shows that it makes progress. Rare enough to cost an idle machine nothing.
const BEAT: Duration = Duration::from_secs(5);

/// Runs a sidecar until it is told to stop. `reread` resolves the configuration anew, for SIGHUP.
pub fn run(config: &Config, reread: impl Fn() -> Result<Config, Faults>) -> Exit {
    match start(config, reread) {
        Ok(exit) => exit,
        Err(error) => {
            tracing::error!("{}", ErrorChain(error.as_ref()));
            Exit::Failed
        }
    }
}

/// Dials the control plane once and says on stderr what it answers.
pub fn connect(config: &Config) -> Exit {
    match dial_once(config) {
        Ok(()) => {
            tracing::info!(url = %config.upstream.url, "the control plane takes this agent");
            Exit::Done
        }
        Err(error) => {
            tracing::error!("{}", ErrorChain(error.as_ref()));
            Exit::Failed
        }
    }
}

fn dial_once(config: &Config) -> anyhow::Result<()> {
    logging::init(&config.log)?;
    let (_, driver) = WebSocketUpstream::new(upstream_settings(config)?, Metrics::new()?.upstream);
    let dialled = runtime()?.block_on(driver.probe());
    dialled.map_err(|reason| anyhow::anyhow!("cannot connect to {}: {reason}", config.upstream.url))
}

/// One thread: with the scrape thread beside it that is all a workspace is asked for.
fn runtime() -> anyhow::Result<Runtime> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")
}

fn start(config: &Config, reread: impl Fn() -> Result<Config, Faults>) -> anyhow::Result<Exit> {
    // Before any thread is started, see there.
    let inherited = systemd::inherited_listener().context("the inherited socket is unusable")?;
    logging::init(&config.log)?;
    let metrics = Metrics::new()?;
    let panics = metrics.panics.clone();
    logging::install_panic_hook(move || panics.inc());
    config
        .warnings()
        .iter()
        .for_each(|warning| tracing::warn!("{warning}"));
    match ingest::raise_descriptor_limit() {
        Ok(limit) => tracing::debug!(?limit, "open descriptors"),
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open descriptors"),
    }
    let listener = match inherited {
        Some(socket) => Listener::from_std(socket)?,
        None => Listener::bind(&ingest::Settings {
            path: config.socket.path.clone(),
            mode: config.socket.mode,
            take_over: config.socket.take_over,
        })?,
    };
    runtime()?.block_on(Sidecar::new(config, metrics)?.serve(listener, config, reread))
}

/// The stages that have something to share.
struct Sidecar {
    buffer: Arc<Buffer>,
    metrics: Metrics,
    senders: Arc<Senders>,
    view: Arc<View>,
}

impl Sidecar {
    fn new(config: &Config, metrics: Metrics) -> anyhow::Result<Self> {
        let limits = Limits {
            max_batches: config.buffer.max_batches as u64,
            max_bytes: config.buffer.max_bytes,
        };
        let buffer = Buffer::new(limits, config.buffer.when_full, Ledger::new());
        let senders = Senders::new();
        let sources = Sources {
            buffer: Arc::clone(&buffer),
            limits,
            metrics: metrics.clone(),
            senders: {
                let senders = Arc::clone(&senders);
                Box::new(move || {
                    let now = Instant::now();
                    senders
                        .snapshot()
                        .into_iter()
                        .map(|sender| status_of(sender, now))
                        .collect()
                })
            },
            upstream_url: config.upstream.url.to_string(),
        };
        let view = Arc::new(View::new(sources, Instant::now())?);
        Ok(Self {
            buffer,
            metrics,
            senders,
            view,
        })
    }

    async fn serve(
        self,
        listener: Listener,
        config: &Config,
        reread: impl Fn() -> Result<Config, Faults>,
    ) -> anyhow::Result<Exit> {
        let signals = Signals::listen().context("cannot listen to signals")?;
        let (upstream, driver) =
            WebSocketUpstream::new(upstream_settings(config)?, self.metrics.upstream.clone());
        let endpoint = Endpoint {
            scrape: config.prometheus.clone().map(address),
            api: Some(config.api_socket.clone()),
        };
        let endpoint = endpoint.start(Arc::clone(&self.view)).await?;
        self.announce(config, &endpoint)
            .context("cannot write the ready line to stdout")?;

        let stop = Stop::default();
        let (forward_stop, link_stop) = (CancellationToken::new(), CancellationToken::new());
        let mut ingest = Part::start(
            "audit socket",
            Ingest::new(listener).run(
                Arc::clone(&self.buffer),
                self.metrics.ingest.clone(),
                Arc::clone(&self.senders),
                stop.drain.clone(),
            ),
        );
        let forwarder = Forwarder::new(
            Arc::clone(&self.buffer),
            upstream.clone(),
            forward_settings(config),
            self.metrics.forward.clone(),
        );
        let mut forward = Part::start("forwarder", {
            let stop = forward_stop.clone();
            async move { forwarder.run(&stop).await }
        });
        let mut link = Part::start("link", driver.run(link_stop.clone()));

        let mut in_use = config.upstream.clone();
        let on_request = |request| match request {
            Request::Balance => log_balance(&self.buffer.ledger().snapshot()),
            Request::Reload => reload(&mut in_use, &reread, &upstream),
        };
        // Ends when all is delivered after a stop, when the deadline of the stop has passed, or when a part fails.
        let served = tokio::select! {
            biased;
            drained = self.drained(&mut ingest) => drained,
            () = signals.serve(&stop, config.drain_timeout, on_request) => Ok(()),
            ended = forward.ended() => ended.and(Err(anyhow::anyhow!("the forwarder ended by itself"))),
            ended = link.ended() => ended.and(Err(anyhow::anyhow!("the link ended by itself"))),
            never = self.show_life(&stop.drain) => match never {},
        };

        // From here on nothing waits: what comes, or comes back, is counted as lost.
        self.buffer.close();
        stop.drain.cancel();
        forward_stop.cancel();
        link_stop.cancel();
        let stopped = async {
            forward.ended().await?;
            ingest.ended().await?;
            anyhow::Ok(())
        };
        let served = served.and(stopped.await);
        if timeout(CLOSE_WITHIN, link.ended()).await.is_err() {
            tracing::debug!("the control plane did not answer the close");
        }
        self.view.enter(Phase::Stopped);
        endpoint.stop();
        let exit = conclude(&self.buffer.ledger().snapshot());
        served.map(|()| exit)
    }

    /// Waits until the audit socket was stopped and read to its end, and all of it is delivered.
    async fn drained(&self, ingest: &mut Part<io::Result<()>>) -> anyhow::Result<()> {
        ingest
            .ended()
            .await?
            .transpose()
            .context("the audit socket failed")?;
        self.buffer.idle().await;
        Ok(())
    }

    fn announce(&self, config: &Config, endpoint: &Handle) -> io::Result<()> {
        Ready::new(
            Some(config.socket.path.as_path()),
            endpoint.bound(),
            endpoint.api().as_deref(),
        )
        .print(&mut io::stdout())?;
        self.view.enter(Phase::Accepting);
        systemd::ready();
        Ok(())
    }

    /// Shows, for as long as it is polled, that this thread gets its turns, and when it begins to drain.
    async fn show_life(&self, drain: &CancellationToken) -> Infallible {
        let period = systemd::watchdog_period().map_or(BEAT, |period| period.min(BEAT));
        let mut beats = interval(period);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut draining = false;
        loop {
            tokio::select! {
                _ = beats.tick() => {
                    self.view.beat(Instant::now());
                    systemd::progressing();
                }
                () = drain.cancelled(), if !draining => {
                    draining = true;
                    self.view.enter(Phase::Draining);
                    systemd::stopping();
                }
            }
        }
    }
}

/// The last line: what became of everything, and whether the stop itself lost something.
fn conclude(books: &Snapshot) -> Exit {
    let lost = books.dropped(DropReason::Shutdown);
    log_balance(books);
    if lost.batches == 0 {
        tracing::info!(
            received_logs = books.received.logs,
            forwarded_logs = books.forwarded.logs,
            dropped_logs = books.dropped_in_all().logs,
            "stopped; nothing was lost by the stop"
        );
        return Exit::Done;
    }
    tracing::error!(
        received_logs = books.received.logs,
        forwarded_logs = books.forwarded.logs,
        dropped_logs = books.dropped_in_all().logs,
        lost_batches = lost.batches,
        lost_logs = lost.logs,
        "stopped; what was still held when the drain ended is lost"
    );
    Exit::Lost
}

fn log_balance(books: &Snapshot) {
    let imbalance = books.imbalance();
    tracing::info!(
        received = books.received.logs,
        forwarded = books.forwarded.logs,
        in_memory = books.in_memory.logs,
        in_flight = books.in_flight.logs,
        dropped = books.dropped_in_all().logs,
        dropped_by_senders = books
            .sender_channel_full
            .saturating_add(books.sender_batch_full),
        possible_duplicates = books.possible_duplicates,
        imbalance,
        "balance in logs"
    );
    if imbalance != 0 {
        tracing::error!(imbalance, "the books do not balance: this is a defect");
    }
}

/// Applies what can change while running: how the control plane is reached.
fn reload(
    in_use: &mut config::Upstream,
    reread: impl Fn() -> Result<Config, Faults>,
    upstream: &WebSocketUpstream,
) {
    let config = match reread() {
        Ok(config) => config,
        Err(faults) => {
            tracing::error!("not reloaded, the configuration is at fault: {faults}");
            return;
        }
    };
    match upstream_settings(&config) {
        Ok(settings) if config.upstream != *in_use => {
            tracing::info!("reloaded: the way to the control plane has changed, dialling anew");
            *in_use = config.upstream;
            upstream.redial(settings);
        }
        Ok(_) => {
            tracing::info!("reloaded: token and certificates are read again at the next dial");
            upstream.reload();
        }
        Err(error) => tracing::error!("not reloaded: {}", ErrorChain(error.as_ref())),
    }
}

fn upstream_settings(config: &Config) -> anyhow::Result<upstream::Settings> {
    let token = config.upstream.token.clone();
    let variable = |name: &str| std::env::var(name).ok();
    let path = |name: &str| {
        variable(name)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    };
    Ok(upstream::Settings {
        url: config.upstream.url.clone(),
        token: Arc::new(move || {
            let token = token.read().map_err(io::Error::other)?;
            Ok(token.expose().to_owned())
        }),
        headers: config.upstream.headers.clone(),
        role: config.upstream.role.clone(),
        schedule: config.upstream.schedule,
        proxy: ProxySettings::from_vars(variable)?,
        roots: RootFiles {
            file: path("SSL_CERT_FILE"),
            dir: path("SSL_CERT_DIR"),
        },
    })
}

fn forward_settings(config: &Config) -> forward::Settings {
    forward::Settings {
        delivery: config.forward.delivery,
        schedule: config.upstream.schedule,
        max_age: config.forward.max_age,
        coalesce_max_bytes: config.forward.coalesce_max_bytes as u64,
    }
}

fn address(address: ScrapeAddress) -> Address {
    match address {
        ScrapeAddress::Tcp(name) => Address::Tcp(name),
        ScrapeAddress::Unix(path) => Address::Unix(path),
    }
}

fn status_of(sender: Sender, now: Instant) -> SenderStatus {
    let age = |at: Instant| now.saturating_duration_since(at).as_secs_f64();
    SenderStatus {
        number: sender.number,
        pid: sender.pid.and_then(|pid| u32::try_from(pid).ok()),
        uid: sender.uid,
        command: sender
            .command
            .map_or_else(String::new, |command| command.to_string()),
        connected_seconds: age(sender.connected_at),
        frames: sender.activity.frames,
        logs: sender.activity.logs,
        rejected: sender.activity.rejected,
        last_frame_seconds: sender.activity.last_frame_at.map(age),
    }
}
