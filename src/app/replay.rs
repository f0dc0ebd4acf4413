//! `weir spool replay`: what a spool holds goes to a control plane, by the rules of the sidecar.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::part::Part;
use super::{block_on, settings};
use crate::buffer::batch::Arrival;
use crate::buffer::ledger::{Ledger, Snapshot};
use crate::buffer::spooler::arrival;
use crate::buffer::{Buffer, WhenFull};
use crate::cli::Exit;
use crate::cli::emit::Pace;
use crate::config::Config;
use crate::forward::Forwarder;
use crate::logging;
use crate::metrics::Metrics;
use crate::shutdown::{Request, Signals, Stop};
use crate::spool::log::{Log, Settings};
use crate::spool::{self, Disk};
use crate::upstream::Link;

/// Batches between the reader of the files and the buffer.
const READ_AHEAD: usize = 64;

/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(1);

/// Far longer than anybody waits for room.
const PATIENT: WhenFull = WhenFull::Block {
    deadline: Duration::from_secs(30 * 24 * 60 * 60),
};

/// The last line on stdout.
#[derive(Debug, Serialize)]
struct Outcome {
    /// Log entries that the spool held.
    logs: u64,
    /// Acknowledged by the control plane.
    forwarded: u64,
    /// Refused by it.
    failed: u64,
    /// Damaged in the spool.
    damaged: u64,
    /// Not sent, because the replay was stopped.
    left: u64,
    /// Sent again after an attempt of unknown fate.
    possible_duplicates: u64,
}

/// Sends all that a spool holds, and prints what became of it.
pub fn replay(config: &Config, dir: &Path, pace: Pace) -> Exit {
    super::told(start(config, dir, pace))
}

fn start(config: &Config, dir: &Path, pace: Pace) -> anyhow::Result<Exit> {
    logging::init(&config.log)?;
    if Disk::in_use(dir) {
        bail!("{} is in use: stop the sidecar first", dir.display());
    }
    let all = spool::inspect(&mut Disk::look(dir))
        .with_context(|| format!("cannot read {}", dir.display()))?;
    let (books, damaged) = block_on(send(config, dir.to_owned(), pace, all.held_logs))??;
    let failed = books.dropped_in_all().logs;
    let outcome = Outcome {
        logs: all.held_logs,
        forwarded: books.forwarded.logs,
        failed,
        damaged,
        left: all.held_logs.saturating_sub(books.forwarded.logs + failed),
        possible_duplicates: books.possible_duplicates,
    };
    let mut out = io::stdout();
    serde_json::to_writer(&mut out, &outcome)?;
    out.write_all(b"\n")?;
    Ok(match outcome.forwarded == all.held_logs && damaged == 0 {
        true => Exit::Done,
        false => Exit::Failed,
    })
}

async fn send(
    config: &Config,
    dir: PathBuf,
    pace: Pace,
    all: u64,
) -> anyhow::Result<(Snapshot, u64)> {
    let buffer = Buffer::new(settings::limits(config), PATIENT, Ledger::new());
    let metrics = Metrics::new()?;
    let settings = settings::upstream(config)?;
    let (upstream, driver) = Link::new(settings, metrics.upstream);
    let forwarder = Forwarder::new(
        Arc::clone(&buffer),
        upstream,
        settings::forward(config),
        metrics.forward,
    );
    let ended = CancellationToken::new();
    let (link_stop, forward_stop) = (ended.clone(), ended.clone());
    let mut link = Part::start("link", driver.run(link_stop));
    let mut forward = Part::start(
        "forwarder",
        async move { forwarder.run(&forward_stop).await },
    );
    let (batches, mut read) = mpsc::channel(READ_AHEAD);
    let reader = std::thread::Builder::new()
        .name("weir-spool".to_owned())
        .spawn(move || read_all(&dir, &batches))?;

    let stop = Stop::default();
    let signals = Signals::listen()?;
    let feed = async {
        let start = Instant::now();
        let mut sent: u64 = 0;
        while let Some(arrival) = read.recv().await {
            if let Pace::Rate(rate) = pace {
                sleep_until(start + rate.time_of(sent)).await;
            }
            sent += arrival.logs;
            buffer.receive(arrival).await;
        }
        buffer.idle().await;
    };
    let ignored = |_: Request| {};
    tokio::select! {
        () = feed => {}
        () = stop.drain.cancelled() => {}
        () = signals.serve(&stop, Duration::ZERO, ignored) => {}
        () = tell_progress(&buffer, all) => {}
    }
    // What waits is not lost: it is in the spool.
    let books = buffer.ledger().snapshot();
    drop(read);
    ended.cancel();
    forward.ended().await?;
    link.ended().await?;
    let damaged = match reader.join() {
        Ok(damaged) => damaged?,
        Err(_panic) => bail!("the reader of the spool failed"),
    };
    Ok((books, damaged))
}

/// Reads what the spool holds in the order of arrival, and returns how many logs are damaged.
fn read_all(dir: &Path, batches: &mpsc::Sender<Arrival>) -> io::Result<u64> {
    let settings = Settings {
        max_bytes: u64::MAX,
        reserve: 0,
        durable: false,
    };
    let (mut log, found) = Log::open(Disk::look(dir), settings)?;
    let mut damaged = found.damaged.logs;
    while let Some(stored) = log.read()? {
        let logs = stored.logs;
        match arrival(stored) {
            Ok(arrival) => {
                if batches.blocking_send(arrival).is_err() {
                    // The replay was stopped.
                    break;
                }
            }
            Err(_malformed) => damaged += logs,
        }
        damaged += log.take_lost().0.logs;
    }
    Ok(damaged + log.take_lost().0.logs)
}

async fn tell_progress(buffer: &Buffer, all: u64) {
    let mut last = 0;
    let mut ticks = tokio::time::interval(PROGRESS);
    loop {
        ticks.tick().await;
        let books = buffer.ledger().snapshot();
        let done = books.forwarded.logs + books.dropped_in_all().logs;
        let percent = done * 100 / all.max(1);
        tracing::info!(
            "{done} of {all} logs, {percent}%, {} logs/s",
            done.saturating_sub(last)
        );
        last = done;
    }
}
