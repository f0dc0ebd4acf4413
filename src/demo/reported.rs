//! What Prometheus finds of the sidecar at the control plane.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::buffer::ledger::Snapshot;
use crate::collect::{Fetcher, Location, MAX_PAGE};
use crate::upstream::RootFiles;
use crate::wire::exposition::{Entry, Reader};

/// How long the page may take, and how long the totals may take to be on it: they are answered before they are stored.
const WITHIN: Duration = Duration::from_secs(2);

/// How often the page is asked for.
const EVERY: Duration = Duration::from_millis(20);

/// Totals of log entries; `None` while there is no such series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Reported {
    pub(super) received: Option<f64>,
    pub(super) forwarded: Option<f64>,
}

impl Reported {
    /// What the last report says of so many log entries.
    pub(super) fn of(received: u64, forwarded: u64) -> Self {
        Self {
            received: Some(received as f64),
            forwarded: Some(forwarded as f64),
        }
    }
}

impl Display for Reported {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let shown = |total: Option<f64>| total.map_or("none".to_owned(), |total| total.to_string());
        let (received, forwarded) = (shown(self.received), shown(self.forwarded));
        write!(
            f,
            "{received:>9} received, {forwarded} forwarded, by the sidecar's last report"
        )
    }
}

/// The totals on the control plane's page once they are those of the books, or as they were last.
pub(super) async fn totals(address: &str, books: &Snapshot) -> anyhow::Result<Reported> {
    let expected = Reported::of(books.received.logs, books.forwarded.logs);
    let deadline = Instant::now() + WITHIN;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let found = fetch(address).await?;
        if found == expected || Instant::now() >= deadline {
            return Ok(found);
        }
    }
}

async fn fetch(address: &str) -> anyhow::Result<Reported> {
    let location: Location = format!("http://{address}").parse()?;
    let fetcher = Fetcher::new(RootFiles::default(), MAX_PAGE);
    let page = fetcher.fetch(&location, WITHIN).await;
    let page = page.context("no metrics from the control plane")?;
    let mut reader = Reader::new(&page.bytes, page.format);
    let mut found = Reported::default();
    while let Some(entry) = reader.next() {
        match entry {
            Ok(Entry::Sample(sample)) => match sample.name {
                "weir_logs_received_total" => found.received = Some(sample.value),
                "weir_logs_forwarded_total" => found.forwarded = Some(sample.value),
                _ => {}
            },
            Ok(_) => {}
            Err(fault) => bail!("the control plane's page of metrics: {fault}"),
        }
    }
    Ok(found)
}
