//! From the configuration to what each stage wants to know.

use std::io;
use std::sync::Arc;

use tokio::time::Instant;

use crate::buffer::queue::Limits;
use crate::collect::{Fetcher, Held, Job, MAX_PAGE, Target};
use crate::config::{self, Config, Faults, ScrapeAddress};
use crate::forward;
use crate::ingest::{self, Sender};
use crate::logging::ErrorChain;
use crate::metrics::TargetsMetrics;
use crate::report;
use crate::scrape::status::SenderStatus;
use crate::scrape::{Address, View};
use crate::upstream::{self, Link, ProxySettings, RootFiles};

/// Applies what can change while running: how the control plane is reached.
pub(super) fn reload(
    in_use: &mut config::Upstream,
    reread: impl Fn() -> Result<Config, Faults>,
    upstream: &Link,
) {
    let config = match reread() {
        Ok(config) => config,
        Err(faults) => {
            tracing::error!("not reloaded, the configuration is at fault: {faults}");
            return;
        }
    };
    match self::upstream(&config) {
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

pub(super) fn upstream(config: &Config) -> anyhow::Result<upstream::Settings> {
    let token = config.upstream.token.clone();
    Ok(upstream::Settings {
        url: config.upstream.url.clone(),
        transport: config.upstream.transport,
        token: Arc::new(move || {
            let token = token.read().map_err(io::Error::other)?;
            Ok(token.expose().to_owned())
        }),
        headers: config.upstream.headers.clone(),
        role: config.upstream.role.clone(),
        schedule: config.upstream.schedule,
        proxy: ProxySettings::from_vars(variable)?,
        roots: RootFiles::from_vars(variable),
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

pub(super) fn forward(config: &Config) -> forward::Settings {
    forward::Settings {
        delivery: config.forward.delivery,
        schedule: config.upstream.schedule,
        max_age: config.forward.max_age,
        coalesce_max_bytes: config.forward.coalesce_max_bytes as u64,
    }
}

/// What is to be reported: what the view counts, and what is held of each target, in the order of the configuration.
pub(super) fn report(config: &Config, view: &Arc<View>, targets: &[Held]) -> report::Inputs {
    let view = Arc::clone(view);
    let source = |held: &Held| -> report::Source {
        let held = held.clone();
        Box::new(move || held.fresh(Instant::now()).to_vec())
    };
    report::Inputs {
        own: Box::new(move || view.counted()),
        others: targets.iter().map(source).collect(),
        agent_metrics: config
            .report_agent_metrics
            .are_reported(&config.upstream.role),
    }
}

/// A job for each target, and where it leaves what it finds.
pub(super) fn targets(config: &Config, metrics: &TargetsMetrics) -> (Vec<Job>, Vec<Held>) {
    let fetcher = Arc::new(Fetcher::new(RootFiles::from_vars(variable), MAX_PAGE));
    let job = |target: &Target| {
        let (held, metrics) = (Held::default(), metrics.target(&target.name));
        let job = Job::new(target.clone(), Arc::clone(&fetcher), held.clone(), metrics);
        (job, held)
    };
    config.scrape.iter().map(job).unzip()
}

pub(super) fn address(address: ScrapeAddress) -> Address {
    match address {
        ScrapeAddress::Tcp(name) => Address::Tcp(name),
        ScrapeAddress::Unix(path) => Address::Unix(path),
    }
}

pub(super) fn status_of(sender: Sender, now: Instant) -> SenderStatus {
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

pub(super) fn limits(config: &Config) -> Limits {
    Limits {
        max_batches: config.buffer.max_batches as u64,
        max_bytes: config.buffer.max_bytes,
    }
}

pub(super) fn socket(config: &Config) -> ingest::Settings {
    ingest::Settings {
        path: config.socket.path.clone(),
        mode: config.socket.mode,
        take_over: config.socket.take_over,
    }
}
