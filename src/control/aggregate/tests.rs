use std::collections::BTreeSet;
use std::time::Instant;

use bytes::Bytes;
use prometheus::Registry;
use prost::Message as _;

use super::*;
use crate::config::control::Labels;
use crate::metrics::control::AggregateMetrics;
use crate::pb::agent::stats::Metric;
use crate::pb::agent::stats::metric::{Label, Type};
use crate::pb::agent::{Stats, UpdateStatsRequest};
use crate::wire::stats::StatsRequest;

const PATIENCE: Duration = Duration::from_secs(20);

/// An aggregator for two agents.
struct Plane {
    aggregator: Aggregator,
    running: Running,
    metrics: AggregateMetrics,
    registry: Registry,
}

impl Plane {
    fn new(expiry: Duration) -> Self {
        let labels = ["one", "two"].map(|name| Labels {
            username: "alice".to_owned(),
            workspace_name: "dev".to_owned(),
            agent_name: name.to_owned(),
            template_name: "docker".to_owned(),
        });
        let settings = Settings {
            by: By::ALL,
            expiry,
            max_series: 100_000,
        };
        let metrics = AggregateMetrics::new().unwrap();
        let registry = Registry::new();
        for collector in metrics.collectors() {
            registry.register(collector).unwrap();
        }
        let (aggregator, running) = Aggregator::start(&settings, &labels, metrics.clone()).unwrap();
        Self {
            aggregator,
            running,
            metrics,
            registry,
        }
    }

    fn report(&self, agent: u32, names: &[&str], value: f64) {
        let metrics = names.iter().map(|name| metric(name, "", value)).collect();
        self.aggregator
            .report(Reporter::new(agent, "agent"), report(metrics));
    }

    /// A report of that many series that are told apart by a label.
    fn report_many(&self, series: usize, value: f64) {
        let labels = (0..series).map(|index| index.to_string());
        let metrics = labels.map(|index| metric("many", &index, value)).collect();
        self.aggregator
            .report(Reporter::new(0, "agent"), report(metrics));
    }

    #[track_caller]
    fn await_stored(&self, reports: u64) {
        wait_for(|| self.metrics.stored_reports() == reports);
    }

    /// The whole page.
    fn page(&self) -> String {
        let mut collection = self.aggregator.collect().unwrap();
        let mut page = Vec::new();
        while let Some(chunk) = collection.blocking_next().unwrap() {
            page.extend_from_slice(&chunk);
        }
        String::from_utf8(page).unwrap()
    }

    fn names(&self) -> BTreeSet<String> {
        let page = self.page();
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.split('{').next().unwrap().to_owned())
            .collect()
    }

    /// The value of a series without labels, or with this one value.
    fn value(&self, name: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let family = families
            .iter()
            .find(|family| family.name() == name)
            .unwrap();
        let has = |metric: &&prometheus::proto::Metric| {
            metric.get_label().iter().all(|pair| pair.value() == label)
        };
        let metric = family.get_metric().iter().find(has).unwrap();
        metric.get_gauge().get_value() + metric.get_counter().get_value()
    }
}

fn metric(name: &str, label: &str, value: f64) -> Metric {
    let label = Label {
        name: "index".to_owned(),
        value: label.to_owned(),
    };
    Metric {
        name: name.to_owned(),
        r#type: Type::Gauge.into(),
        value,
        labels: vec![label],
    }
}

fn report(metrics: Vec<Metric>) -> StatsRequest {
    let stats = Stats {
        metrics,
        ..Stats::default()
    };
    let request = UpdateStatsRequest { stats: Some(stats) };
    StatsRequest::read(request.encode_to_vec().into()).unwrap()
}

#[track_caller]
fn wait_for(mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}

#[test]
fn what_is_reported_is_scraped_and_counted() {
    let plane = Plane::new(Duration::from_secs(120));
    assert_eq!(plane.page(), "");
    plane.report(0, &["a", "b", "go_x"], 1.5);
    plane.report(1, &["b"], 2.0);
    plane.await_stored(2);
    let one = r#"username="alice",workspace_name="dev",agent_name="one",template_name="docker""#;
    assert_eq!(
        plane.page(),
        format!(
            "# HELP a Metrics are forwarded from workspace agents connected to this instance of coderd.\n\
             # TYPE a gauge\n\
             a{{{one}}} 1.5\n\
             # HELP b Metrics are forwarded from workspace agents connected to this instance of coderd.\n\
             # TYPE b gauge\n\
             b{{{}}} 2\n\
             b{{{one}}} 1.5\n",
            one.replace("one", "two")
        )
    );
    for (name, label, value) in [
        ("weir_control_reports_total", "accepted", 2.0),
        ("weir_control_reports_total", "dropped", 0.0),
        ("weir_control_series_refused_total", "reserved_name", 1.0),
        (
            "coderd_prometheusmetrics_metrics_aggregator_store_size",
            "",
            3.0,
        ),
        ("coderd_agent_aggregator_count_total", "", 3.0),
        ("coderd_agent_aggregator_workspace_count_total", "", 1.0),
    ] {
        wait_for(|| plane.value(name, label) == value);
    }
    wait_for(|| plane.value("coderd_agent_aggregator_collect_nanoseconds", "") > 0.0);
    plane.running.stop();
}

#[test]
fn series_expire_though_nobody_scrapes() {
    let plane = Plane::new(Duration::from_millis(200));
    plane.report_many(3000, 1.0);
    plane.await_stored(1);
    wait_for(|| plane.value("weir_control_series_expired_total", "") == 3000.0);
    wait_for(|| plane.value("coderd_agent_aggregator_count_total", "") == 0.0);
    assert_eq!(plane.page(), "");
}

#[test]
fn a_long_page_comes_in_chunks_of_whole_lines_while_reports_go_on() {
    let plane = Plane::new(Duration::from_secs(120));
    plane.report_many(20_000, 0.0);
    plane.await_stored(1);
    let mut collection = plane.aggregator.collect().unwrap();
    let (mut series, mut chunks) = (BTreeSet::new(), 0);
    while let Some(chunk) = collection.blocking_next().unwrap() {
        chunks += 1;
        assert!(
            chunk.ends_with(b"\n") && chunk.len() <= 64 << 10,
            "{}",
            chunk.len()
        );
        for line in str::from_utf8(&chunk).unwrap().lines() {
            let (line, _) = line.rsplit_once(' ').unwrap();
            assert!(series.insert(line.to_owned()), "{line}");
        }
        // It is stored within the scrape: new ones and known ones.
        plane.report(1, &[&format!("z{chunks}")], 1.0);
        plane.report_many(100, 1.0);
        plane.await_stored(1 + 2 * chunks);
    }
    assert_eq!(collection.blocking_next(), Ok(None));
    assert!(chunks > 20, "{chunks}");
    let many = series.iter().filter(|line| line.starts_with("many{"));
    assert_eq!(many.count(), 20_000);
}

#[tokio::test]
async fn a_task_takes_the_same_page() {
    let plane = Plane::new(Duration::from_secs(120));
    plane.report_many(2000, 0.0);
    plane.await_stored(1);
    let mut collection = plane.aggregator.collect().unwrap();
    let mut page = Vec::new();
    while let Some(chunk) = collection.next().await.unwrap() {
        page.extend_from_slice(&chunk);
    }
    assert_eq!(collection.next().await, Ok(None));
    assert_eq!(page.iter().filter(|byte| **byte == b'\n').count(), 2002);
}

#[test]
fn scrapes_are_limited_and_one_that_is_given_up_makes_room() {
    let plane = Plane::new(Duration::from_secs(120));
    plane.report_many(10_000, 0.0);
    plane.await_stored(1);
    let mut open: Vec<_> = (0..4)
        .map(|_| plane.aggregator.collect().unwrap())
        .collect();
    let busy = || plane.aggregator.collect().err() == Some(CollectError::Busy);
    assert!(busy());
    assert!(open[0].blocking_next().unwrap().is_some());
    drop(open.remove(0));
    let mut next = None;
    wait_for(|| {
        next = plane.aggregator.collect().ok();
        next.is_some()
    });
    assert!(busy());
    // Those that go on are whole.
    for mut collection in open.into_iter().chain(next) {
        let mut lines = 0;
        while let Some(chunk) = collection.blocking_next().unwrap() {
            lines += chunk.iter().filter(|byte| **byte == b'\n').count();
        }
        assert_eq!(lines, 10_002);
    }
    wait_for(|| plane.value("coderd_agent_aggregator_collect_backlog", "") == 0.0);
}

#[test]
fn scrapes_that_are_given_up_over_and_over_leave_nothing_behind() {
    let plane = Plane::new(Duration::from_secs(120));
    plane.report_many(10_000, 0.0);
    plane.await_stored(1);
    let mut begun = 0;
    wait_for(|| {
        // Left at the start, within, and where all slices are on their way.
        if let Ok(mut collection) = plane.aggregator.collect() {
            for _ in 0..begun % 30 {
                collection.blocking_next().unwrap();
            }
            begun += 1;
        }
        begun == 300
    });
    wait_for(|| plane.value("coderd_agent_aggregator_collect_backlog", "") == 0.0);
    assert_eq!(plane.page().lines().count(), 10_002);
}

#[test]
fn another_build_takes_its_series_before_its_next_report() {
    let plane = Plane::new(Duration::from_secs(120));
    plane.report(0, &["old", "kept"], 1.0);
    plane.aggregator.rebuilt(Reporter::new(0, "agent"));
    plane.report(0, &["kept", "new"], 1.0);
    plane.await_stored(2);
    assert_eq!(
        plane.names(),
        BTreeSet::from(["kept".to_owned(), "new".to_owned()])
    );
}

#[test]
fn a_report_too_large_to_wait_is_dropped_and_counted() {
    let plane = Plane::new(Duration::from_secs(120));
    let large = Bytes::from([&[0x12, 0x80, 0x80, 0x80, 0x05][..], &vec![0; 10 << 20]].concat());
    let large = StatsRequest::read(large).unwrap();
    plane.aggregator.report(Reporter::new(0, "agent"), large);
    plane.report(0, &["a"], 1.0);
    plane.await_stored(1);
    assert_eq!(plane.value("weir_control_reports_total", "dropped"), 1.0);
    // As is one of an agent that there is not.
    plane.report(2, &["a"], 1.0);
    plane.aggregator.rebuilt(Reporter::new(2, "agent"));
    assert_eq!(plane.value("weir_control_reports_total", "dropped"), 2.0);
    assert_eq!(plane.page().lines().count(), 3);
    assert_eq!(plane.value("weir_control_reports_total", "accepted"), 1.0);
}

#[test]
fn after_a_stop_nothing_is_taken_and_no_page_looks_whole() {
    let plane = Plane::new(Duration::from_secs(120));
    plane.report_many(20_000, 0.0);
    plane.await_stored(1);
    let mut collection = plane.aggregator.collect().unwrap();
    assert!(collection.blocking_next().unwrap().is_some());
    plane.running.stop();
    let end = std::iter::repeat_with(|| collection.blocking_next())
        .find(|next| !matches!(next, Ok(Some(_))));
    assert_eq!(end, Some(Err(Stopped)));
    assert_eq!(
        plane.aggregator.collect().err(),
        Some(CollectError::Stopped)
    );
    plane.aggregator.rebuilt(Reporter::new(0, "agent"));
    plane
        .aggregator
        .report(Reporter::new(0, "agent"), report(Vec::new()));
    let families = plane.registry.gather();
    let family = families
        .iter()
        .find(|family| family.name() == "weir_control_reports_total");
    let dropped = &family.unwrap().get_metric()[1];
    assert_eq!(
        (
            dropped.get_label()[0].value(),
            dropped.get_counter().get_value()
        ),
        ("dropped", 1.0)
    );
}
