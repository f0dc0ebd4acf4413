//! What takes part: made and stopped as the commands of their own would be.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser as _;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app;
use crate::buffer::ledger::{Ledger, Snapshot};
use crate::cli::{Cli, Command};
use crate::config::control::ControlConfig;
use crate::config::{Config, Host, Log, ThisMachine};
use crate::control::ControlPlane;
use crate::emit::{self, Options, Rate, SessionId, Source, Summary, WhenFull};
use crate::ingest::{Listener, Settings};
use crate::metrics::Metrics;
use crate::metrics::control::ControlMetrics;
use crate::scrape::Exporter;
use crate::shutdown::Stop;

const ANY_PORT: &str = "127.0.0.1:0";

/// Where the control plane is, `HOST:PORT`.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    /// For agents.
    pub(super) agents: String,
    /// For Prometheus.
    pub(super) prometheus: String,
}

impl Addresses {
    /// For a first start; later ones ask for the ports that it got.
    pub(super) fn any() -> Self {
        Self {
            agents: ANY_PORT.to_owned(),
            prometheus: ANY_PORT.to_owned(),
        }
    }
}

/// The only agent of the demo.
const TOKEN: &str = "6d656f2d-6f6e-6c79-a0a0-000000000000";

/// Senders side by side, each a session.
const SENDERS: u32 = 3;

/// Logs a second and sender: what a busy coding agent makes, with its channel of 20 never full.
const RATE: f64 = 200.0;

const URL_BYTES: usize = 120;

/// How long senders and sidecar may take to get rid of what they hold at the end.
const FLUSH: Duration = Duration::from_secs(10);

/// This machine without the variables of whoever runs the demo: they are about another sidecar.
struct Sealed;

impl Host for Sealed {
    fn variable(&self, _name: &str) -> Option<std::ffi::OsString> {
        None
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        ThisMachine.read(path, limit)
    }

    fn is_directory(&self, path: &Path) -> bool {
        ThisMachine.is_directory(path)
    }

    fn current_directory(&self) -> io::Result<PathBuf> {
        ThisMachine.current_directory()
    }
}

/// A directory for the sockets, which nobody else may enter. Removed with this.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> io::Result<Self> {
        let name = format!("weir-demo-{:08x}", fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove the demo's directory");
        }
    }
}

/// Errors only, because an outage is part of the show.
pub(super) fn quiet_log() -> anyhow::Result<Log> {
    Ok(control_config(&Addresses::any())?.log)
}

fn control_config(addresses: &Addresses) -> anyhow::Result<ControlConfig> {
    let words = [
        "weir",
        "control-plane",
        "--listen",
        &addresses.agents,
        "--agent-token",
        TOKEN,
        "--prometheus-enable",
        "--prometheus-address",
        &addresses.prometheus,
        "--agent-stats-refresh-interval",
        "1s",
    ];
    let Command::ControlPlane(flags) = command(&words)? else {
        bail!("not a control plane")
    };
    Ok(ControlConfig::resolve(&flags.0, &Sealed)?)
}

fn command(words: &[&str]) -> anyhow::Result<Command> {
    let quiet = words.iter().chain(&["--log-level", "error"]);
    Ok(Cli::try_parse_from(quiet)?.command)
}

/// The control plane, while it is up and after.
#[derive(Debug)]
pub(super) struct Plane {
    addresses: Addresses,
    running: JoinSet<()>,
    exporter: Option<Exporter>,
    stop: CancellationToken,
}

impl Plane {
    pub(super) async fn start(seen: &ControlMetrics, at: &Addresses) -> anyhow::Result<Self> {
        let config = control_config(at)?;
        let plane = ControlPlane::bind(&config, seen.clone()).await?;
        let exporter = app::exporter(&plane, &config, seen).await?;
        let exporter = exporter.context("the demo's control plane serves no metrics")?;
        let url = plane.url()?;
        let addresses = Addresses {
            agents: url.strip_prefix("http://").unwrap_or(&url).to_owned(),
            prometheus: exporter.bound(),
        };
        let (mut running, stop) = (JoinSet::new(), CancellationToken::new());
        running.spawn(plane.run(stop.clone()));
        Ok(Self {
            addresses,
            running,
            exporter: Some(exporter),
            stop,
        })
    }

    pub(super) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    pub(super) fn is_up(&self) -> bool {
        !self.running.is_empty()
    }

    pub(super) async fn stop(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.running.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "the control plane failed");
            }
        }
        if let Some(exporter) = self.exporter.take() {
            exporter.stop();
        }
    }
}

/// The sidecar, on a thread of its own as in a workspace.
#[derive(Debug)]
pub(super) struct Sidecar {
    socket: PathBuf,
    ledger: Arc<Ledger>,
    stop: CancellationToken,
    ended: oneshot::Receiver<anyhow::Result<()>>,
}

impl Sidecar {
    pub(super) fn start(address: &str, scratch: &Scratch) -> anyhow::Result<Self> {
        let socket = scratch.0.join("boundary-audit.sock");
        let url = format!("http://{address}");
        let config = sidecar_config(&url, &socket)?;
        let listener = Listener::bind(&Settings {
            path: config.socket.path.clone(),
            mode: config.socket.mode,
            take_over: false,
        })?;
        let sidecar = app::Sidecar::new(&config, Metrics::new()?)?;
        let ledger = Arc::clone(sidecar.ledger());
        let stop = CancellationToken::new();
        let (tell, ended) = oneshot::channel();
        let token = stop.clone();
        thread::Builder::new()
            .name("weir-sidecar".to_owned())
            .spawn(move || {
                let orders = app::Orders::Token(token);
                let serving = sidecar.serve(listener, &config, orders, |_ready| Ok(()));
                let served = app::block_on(serving).flatten();
                // Nobody waits only when the demo itself has failed and says so.
                tell.send(served.map(|_exit| ())).unwrap_or_default();
            })?;
        Ok(Self {
            socket,
            ledger,
            stop,
            ended,
        })
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(super) fn books(&self) -> Snapshot {
        self.ledger.snapshot()
    }

    /// Drains, and tells what the books say then.
    pub(super) async fn stop(self) -> anyhow::Result<Snapshot> {
        self.stop.cancel();
        self.ended.await.context("the sidecar's thread is gone")??;
        Ok(self.ledger.snapshot())
    }
}

fn sidecar_config(url: &str, socket: &Path) -> anyhow::Result<Config> {
    let socket = socket
        .to_str()
        .context("the temporary directory is not UTF-8")?;
    let flush = format!("{}s", FLUSH.as_secs());
    let words = [
        "weir",
        "run",
        "--agent-url",
        url,
        "--agent-token",
        TOKEN,
        "--boundary-log-proxy-socket-path",
        socket,
        "--prometheus-address",
        "127.0.0.1:0",
        "--drain-timeout",
        &flush,
    ];
    let Command::Run(flags) = command(&words)? else {
        bail!("not a sidecar")
    };
    Ok(Config::resolve(&flags.0, &Sealed)?)
}

/// The senders.
#[derive(Debug)]
pub(super) struct Emitters {
    running: JoinSet<io::Result<Summary>>,
    stop: Stop,
}

impl Emitters {
    pub(super) fn start(socket: &Path) -> Self {
        let (mut running, stop) = (JoinSet::new(), Stop::default());
        let mut random = fastrand::Rng::new();
        for _ in 0..SENDERS {
            let options = Options {
                socket_path: socket.to_owned(),
                session_id: SessionId::random(&mut random),
                when_full: WhenFull::Drop,
                flush_timeout: FLUSH,
            };
            let source = Source::made_up(u64::MAX, URL_BYTES);
            let source = match Rate::new(RATE) {
                Some(rate) => source.at_rate(rate),
                None => source,
            };
            running.spawn(emit::run(options, source, stop.clone()));
        }
        Self { running, stop }
    }

    /// Has them flush, and tells what each of them did.
    pub(super) async fn stop(mut self) -> anyhow::Result<Vec<Summary>> {
        self.stop.drain.cancel();
        let mut sent = Vec::new();
        while let Some(ended) = self.running.join_next().await {
            sent.push(ended?.context("a sender failed")?);
        }
        Ok(sent)
    }
}
