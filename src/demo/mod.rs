//! `weir demo`: control plane, sidecar and senders in one process, over the real socket and the real wire, with an
//! outage of the control plane in the middle, and the balance at the end, which the control plane's metrics must show too.

mod parts;
mod reported;
mod table;

use std::io::Write;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cli::Exit;
use crate::logging::{self, ErrorChain};
use crate::metrics::control::ControlMetrics;
use crate::shutdown::{Signals, Stop};
use parts::{Addresses, Emitters, Plane, Scratch, Sidecar};
use table::{Account, Table};

/// One round of the demo when it runs until it is told to stop.
const ROUND: Duration = Duration::from_secs(30);

/// How often the table is looked at anew.
const TICK: Duration = Duration::from_millis(200);

/// Runs the demo for `length`, or until a signal, and writes the table and the balance to `out`. With `terminal` the
/// latest row is redrawn in place.
pub fn run(length: Option<Duration>, terminal: bool, out: &mut dyn Write) -> Exit {
    let shown = parts::quiet_log().and_then(|log| {
        logging::init(&log)?;
        demonstrate(length, terminal, out)
    });
    shown.unwrap_or_else(|error| {
        tracing::error!("{}", ErrorChain(error.as_ref()));
        Exit::Failed
    })
}

fn demonstrate(
    length: Option<Duration>,
    terminal: bool,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let scratch = Scratch::new().context("cannot make a directory for the sockets")?;
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
        .context("cannot start the runtime")?;
    let account = runtime.block_on(play(length, &scratch, &mut Table::new(out, terminal)))?;
    Ok(if account.is_settled() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

async fn play(
    length: Option<Duration>,
    scratch: &Scratch,
    table: &mut Table<'_>,
) -> anyhow::Result<Account> {
    let (stop, mut listening) = (Stop::default(), JoinSet::new());
    let signals = Signals::listen().context("cannot listen to signals")?;
    listening.spawn({
        let stop = stop.clone();
        async move { signals.serve(&stop, Duration::ZERO, |_request| {}).await }
    });

    let seen = ControlMetrics::new()?;
    let mut plane = Plane::start(&seen, &Addresses::any()).await?;
    let addresses = plane.addresses().clone();
    let sidecar = Sidecar::start(&addresses.agents, scratch)?;
    let emitters = Emitters::start(sidecar.socket());
    table.begin(&addresses, sidecar.socket())?;

    let begun = Instant::now();
    let round = length.unwrap_or(ROUND);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.drain.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let elapsed = begun.elapsed();
        if length.is_some_and(|length| elapsed >= length) {
            break;
        }
        if is_outage(elapsed, round) == plane.is_up() {
            if plane.is_up() {
                plane.stop().await;
            } else {
                plane = Plane::start(&seen, &addresses).await?;
            }
        }
        table.row(elapsed, plane.is_up(), &sidecar.books())?;
    }

    // Senders first, then the sidecar, then what it delivers to: each finds the next still there.
    if !plane.is_up() {
        plane = Plane::start(&seen, &addresses).await?;
    }
    let sent = emitters.stop().await?;
    let books = sidecar.stop().await?;
    let reported = reported::totals(&addresses.prometheus, &books).await?;
    plane.stop().await;
    let account = Account::new(&sent, &books, seen.acknowledged_logs(), reported);
    table.end(&account)?;
    Ok(account)
}

/// The control plane is away for the middle fifth of a round.
fn is_outage(elapsed: Duration, round: Duration) -> bool {
    let within = elapsed.as_millis() % round.as_millis();
    (round.as_millis() * 2 / 5..round.as_millis() * 3 / 5).contains(&within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outage_is_in_the_middle_of_every_round() {
        let round = Duration::from_secs(10);
        let away: Vec<u64> = (0..20)
            .filter(|second| is_outage(Duration::from_secs(*second), round))
            .collect();
        assert_eq!(away, [4, 5, 14, 15]);
    }
}
