//! What a process that keeps the series of agents takes and gives; the Go program measures itself in the same way.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prometheus::Registry;
use prost::Message as _;
use serde_json::{Value, json};
use weir::config::control::By;
use weir::control::aggregate::{Aggregator, Reporter, Settings};
use weir::metrics::control::AggregateMetrics;
use weir::pb::agent::UpdateStatsRequest;
use weir::wire::stats::StatsRequest;

use crate::reports;

/// Reports that are on their way at a time while throughput is measured.
const IN_FLIGHT: u64 = 256;

/// An aggregator that is fed.
struct Bench {
    aggregator: Aggregator,
    metrics: AggregateMetrics,
    registry: Registry,
    sent: u64,
}

/// What is to be measured.
#[derive(Debug)]
pub struct Load {
    /// Whether all agents share their series.
    pub aggregated: bool,
    /// How long updates are measured.
    pub seconds: f64,
    /// Reports a second while scrapes are under way.
    pub rate: u32,
}

/// Measures an aggregator with the reports of a file.
pub fn measure(path: &Path, agents: usize, load: &Load) -> Value {
    let metrics = AggregateMetrics::new().expect("a catalogue");
    let registry = Registry::new();
    for collector in metrics.collectors() {
        registry.register(collector).expect("a collector");
    }
    let settings = Settings {
        by: if load.aggregated { By::NONE } else { By::ALL },
        expiry: Duration::from_secs(120),
        max_series: 10_000_000,
    };
    let labels: Vec<_> = (0..agents).map(reports::labels).collect();
    let started = Aggregator::start(&settings, &labels, metrics.clone());
    let (aggregator, running) = started.expect("a thread");
    let mut bench = Bench {
        aggregator,
        metrics,
        registry,
        sent: 0,
    };

    // Memory first: of the reports nothing stays.
    let before = resident();
    let mut series = 0;
    for (agent, request) in reports::read(path) {
        let report = StatsRequest::read(request).expect("a request");
        series += report.metrics().count();
        bench.offer(agent, report);
    }
    bench.settle();
    let memory = (resident() - before) / series as f64;

    let requests: Vec<_> = reports::read(path).collect();
    let began = Instant::now();
    let check = |(agent, request): &(u32, Bytes)| {
        (
            *agent,
            StatsRequest::read(request.clone()).expect("a request"),
        )
    };
    let reports: Vec<_> = requests.iter().map(check).collect();
    let decoded = series as f64 / began.elapsed().as_secs_f64();

    let updates = bench.updates(&[&reports], load.seconds);
    // In turn with these no series comes after the one that it came after the last time.
    let reversed: Vec<_> = requests.iter().map(reversed).collect();
    let disordered = bench.updates(&[&reversed, &reports], load.seconds);
    drop(reversed);
    let (seconds, bytes) = bench.scrape();
    let mut measured = json!({
        "series": series,
        "decodes_per_second": decoded,
        "updates_per_second": updates,
        "disordered_per_second": disordered,
        "bytes_per_series": memory,
        "scrape_seconds": seconds,
        "page_bytes": bytes,
    });
    bench.under_load(&reports, load.rate, &mut measured);
    drop(bench);
    running.stop();
    measured
}

/// A report with its metrics in the opposite order.
fn reversed((agent, request): &(u32, Bytes)) -> (u32, StatsRequest) {
    let mut request = UpdateStatsRequest::decode(request.clone()).expect("a request");
    if let Some(stats) = &mut request.stats {
        stats.metrics.reverse();
    }
    let report = StatsRequest::read(request.encode_to_vec().into()).expect("a request");
    (*agent, report)
}

impl Bench {
    /// Series a second that are updated by these reports over and over.
    fn updates(&mut self, rounds: &[&[(u32, StatsRequest)]], seconds: f64) -> f64 {
        let (began, mut updated) = (Instant::now(), 0);
        while began.elapsed().as_secs_f64() < seconds {
            for (agent, report) in rounds.iter().copied().flatten() {
                updated += reports::SERIES;
                self.offer(*agent, report.clone());
            }
        }
        self.settle();
        updated as f64 / began.elapsed().as_secs_f64()
    }

    /// Hands a report over as soon as not too many are on their way.
    fn offer(&mut self, agent: u32, report: StatsRequest) {
        self.await_stored((self.sent + 1).saturating_sub(IN_FLIGHT));
        self.aggregator
            .report(Reporter::new(agent, "agent"), report);
        self.sent += 1;
    }

    fn settle(&self) {
        self.await_stored(self.sent);
        assert_eq!(self.dropped(), 0);
    }

    fn await_stored(&self, reports: u64) {
        while self.metrics.stored_reports() < reports {
            thread::yield_now();
        }
    }

    fn scrape(&self) -> (f64, usize) {
        let began = Instant::now();
        let mut collection = self.aggregator.collect().expect("a collection");
        let mut bytes = 0;
        while let Some(chunk) = collection.blocking_next().expect("a thread") {
            bytes += chunk.len();
        }
        (began.elapsed().as_secs_f64(), bytes)
    }

    /// Scrapes, again and again for a second at least, while reports come at a steady rate.
    fn under_load(&mut self, reports: &[(u32, StatsRequest)], rate: u32, measured: &mut Value) {
        let before = self.waits();
        let (mut offered, began) = (0_u32, Instant::now());
        let this = &*self;
        let scraped = thread::scope(|scope| {
            let scrapes = scope.spawn(|| {
                let mut scrapes = 0;
                while began.elapsed() < Duration::from_secs(1) {
                    this.scrape();
                    scrapes += 1;
                }
                began.elapsed().as_secs_f64() / f64::from(scrapes)
            });
            while !scrapes.is_finished() {
                let due = began + Duration::from_secs(1) * offered / rate;
                thread::park_timeout(due.saturating_duration_since(Instant::now()));
                let (agent, report) = &reports[offered as usize % reports.len()];
                let reporter = Reporter::new(*agent, "agent");
                this.aggregator.report(reporter, report.clone());
                offered += 1;
            }
            scrapes.join().expect("scrapes")
        });
        let dropped = self.dropped();
        self.sent += u64::from(offered) - dropped;
        self.await_stored(self.sent);
        let after = self.waits();
        let waits: Vec<_> = after
            .into_iter()
            .map(|(bound, count)| (bound, count - before[&bound]))
            .collect();
        let quantile = |part: f64| {
            let reached = waits
                .iter()
                .find(|(_, count)| *count as f64 >= part * f64::from(offered));
            reached.map_or(f64::INFINITY, |(bound, _)| f64::from_bits(*bound))
        };
        measured["loaded_scrape_seconds"] = json!(scraped);
        measured["p99_wait_seconds"] = json!(quantile(0.99));
        measured["max_wait_seconds"] = json!(quantile(1.0));
        measured["offered"] = json!(offered);
        measured["dropped"] = json!(dropped);
    }

    /// How many reports have waited up to each bound of the histogram.
    fn waits(&self) -> BTreeMap<u64, u64> {
        let families = self.registry.gather();
        let family = families
            .iter()
            .find(|family| family.name() == "weir_control_report_wait_seconds");
        let histogram = family.expect("the family").get_metric()[0].get_histogram();
        let buckets = histogram.get_bucket().iter();
        buckets
            .map(|bucket| (bucket.upper_bound().to_bits(), bucket.cumulative_count()))
            .collect()
    }

    fn dropped(&self) -> u64 {
        let families = self.registry.gather();
        let family = families
            .iter()
            .find(|family| family.name() == "weir_control_reports_total");
        let metrics = family.expect("the family").get_metric().iter();
        let dropped = metrics.filter(|metric| metric.get_label()[0].value() == "dropped");
        dropped
            .map(|metric| metric.get_counter().get_value() as u64)
            .sum()
    }
}

/// Resident memory in bytes.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    let kib: f64 = number
        .and_then(|number| number.parse().ok())
        .expect("a number");
    kib * 1024.0
}
