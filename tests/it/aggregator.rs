//! The aggregator against a model on prometheus/client_golang: the same reports in, the same page out.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use prometheus::Registry;
use prost::Message as _;
use serde_json::json;
use weir::config::control::{By, Labels};
use weir::control::aggregate::{Aggregator, Reporter, Running, Settings};
use weir::metrics::control::AggregateMetrics;
use weir::pb::agent::stats::Metric;
use weir::pb::agent::stats::metric::Label;
use weir::pb::agent::{Stats, UpdateStatsRequest};
use weir::wire::stats::StatsRequest;

use crate::support::asked::Asked;
use crate::support::sender::hex;
use crate::support::wait::wait_for;

const AGENTS: u32 = 4;
const PROGRAMS: [&str; 2] = ["agent", "weir"];

/// The aggregator and the model, side by side.
struct Pair {
    aggregator: Aggregator,
    running: Running,
    metrics: AggregateMetrics,
    registry: Registry,
    sent: u64,
    model: Asked,
    /// What the model refused, by reason.
    refused: BTreeMap<String, u64>,
}

fn labels(agent: u32) -> Labels {
    Labels {
        username: ["alice", "alice", "bob", "eve \"\\"][agent as usize].to_owned(),
        workspace_name: format!("w{}", agent / 2),
        agent_name: format!("a{agent}"),
        template_name: ["docker", "vm"][agent as usize % 2].to_owned(),
    }
}

impl Pair {
    /// `None` where there is no Go.
    fn new(by: By, expiry: Duration, max_series: usize) -> Option<Self> {
        let mut model = Asked::start("aggregator")?;
        let agents: Vec<_> = (0..AGENTS).map(labels).collect();
        let names = agents.iter().map(|labels| {
            json!({
                "username": labels.username,
                "workspace_name": labels.workspace_name,
                "agent_name": labels.agent_name,
                "template_name": labels.template_name,
            })
        });
        let wanted = [
            (by.username, "username"),
            (by.workspace_name, "workspace_name"),
            (by.agent_name, "agent_name"),
            (by.template_name, "template_name"),
        ];
        let wanted = wanted.iter().filter(|(wanted, _)| *wanted);
        let told = json!({
            "by": wanted.map(|(_, name)| *name).collect::<Vec<_>>(),
            "agents": names.collect::<Vec<_>>(),
            "expiry_ms": u64::try_from(expiry.as_millis()).unwrap(),
            "max_series": max_series,
        });
        model.tell(told);

        let metrics = AggregateMetrics::new().unwrap();
        let registry = Registry::new();
        for collector in metrics.collectors() {
            registry.register(collector).unwrap();
        }
        let settings = Settings {
            by,
            expiry,
            max_series,
        };
        let (aggregator, running) = Aggregator::start(&settings, &agents, metrics.clone()).unwrap();
        Some(Self {
            aggregator,
            running,
            metrics,
            registry,
            sent: 0,
            model,
            refused: BTreeMap::new(),
        })
    }

    /// A report to both.
    async fn report(&mut self, agent: u32, program: &str, metrics: &[Metric]) {
        self.report_here(agent, program, metrics).await;
        let question = format!("report {agent} {program} {}", hex(&encode(metrics)));
        let refused = self.model.ask(question);
        for (reason, count) in refused.as_object().unwrap() {
            *self.refused.entry(reason.clone()).or_default() += count.as_u64().unwrap();
        }
    }

    /// A report to the aggregator alone.
    async fn report_here(&mut self, agent: u32, program: &str, metrics: &[Metric]) {
        let report = StatsRequest::read(encode(metrics).into()).unwrap();
        self.aggregator
            .report(Reporter::new(agent, program), report);
        self.sent += 1;
        wait_for("the report is stored", async || {
            match self.metrics.stored_reports() {
                stored if stored == self.sent => Ok(()),
                stored => Err(format!("{stored} of {}", self.sent)),
            }
        })
        .await;
    }

    fn rebuilt(&mut self, agent: u32, program: &str) {
        self.aggregator.rebuilt(Reporter::new(agent, program));
        self.model.ask(format_args!("rebuilt {agent} {program}"));
    }

    async fn compare(&mut self) {
        let mut collection = self.aggregator.collect().unwrap();
        let mut page = Vec::new();
        while let Some(chunk) = collection.next().await.unwrap() {
            page.extend_from_slice(&chunk);
        }
        let differences = self.model.ask(format_args!("compare {}", hex(&page)));
        assert_eq!(differences, json!([]), "{}", String::from_utf8_lossy(&page));
    }

    /// The value of a family, by the value of its label; 0 is left out.
    fn counted(&self, name: &str) -> BTreeMap<String, u64> {
        let families = self.registry.gather();
        let family = families
            .iter()
            .find(|family| family.name() == name)
            .unwrap();
        let series = family.get_metric().iter().map(|metric| {
            let label = metric.get_label().first();
            let value = metric.get_counter().get_value() + metric.get_gauge().get_value();
            (
                label
                    .map(|label| label.value().to_owned())
                    .unwrap_or_default(),
                value as u64,
            )
        });
        series.filter(|(_, value)| *value > 0).collect()
    }

    fn end(self) {
        drop(self.model);
        self.running.stop();
    }
}

fn encode(metrics: &[Metric]) -> Vec<u8> {
    let stats = Stats {
        metrics: metrics.to_vec(),
        ..Stats::default()
    };
    UpdateStatsRequest { stats: Some(stats) }.encode_to_vec()
}

fn metric(name: &str, kind: i32, labels: &[(&str, &str)], value: f64) -> Metric {
    let label = |(name, value): &(&str, &str)| Label {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    Metric {
        name: name.to_owned(),
        r#type: kind,
        value,
        labels: labels.iter().map(label).collect(),
    }
}

/// A sample that is mostly fine.
fn sample(random: &mut Rng) -> Metric {
    const FINE: [(&str, i32); 6] = [
        ("a_total", 1),
        ("b:c_total", 1),
        ("d_bytes", 2),
        ("e_seconds", 2),
        ("f_bucket", 2),
        ("coderd_agentstats_startup_script_seconds", 2),
    ];
    const LABELS: [(&str, &str); 6] = [
        ("x", "1"),
        ("x", "2"),
        ("y", "a\"b\\c\nd"),
        ("z", ""),
        ("_1", "\u{1f980}"),
        ("le", "+Inf"),
    ];
    const ODD_NAMES: [&str; 6] = ["bad-name", "", "go_x", "coderd_up", "weir_control_x", "1"];
    const ODD_LABELS: [(&str, &str); 5] = [
        ("__name__", "x"),
        ("username", "x"),
        ("a:b", "x"),
        ("\u{e9}", "x"),
        ("", "x"),
    ];
    const ODD_VALUES: [f64; 4] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0];

    let (mut name, mut kind) = FINE[random.usize(..FINE.len())];
    let mut labels: Vec<_> = (0..random.usize(..3))
        .map(|_| LABELS[random.usize(..LABELS.len())])
        .collect();
    // Sums of such are the same in any order.
    let mut value = f64::from(random.u32(..40)) / 4.0;
    match random.u8(..30) {
        0 => name = ODD_NAMES[random.usize(..ODD_NAMES.len())],
        1 => kind = random.i32(-1..5),
        2 | 3 => labels.push(ODD_LABELS[random.usize(..ODD_LABELS.len())]),
        4 => value = ODD_VALUES[random.usize(..ODD_VALUES.len())],
        _ => {}
    }
    metric(name, kind, &labels, value)
}

const SOME: By = By {
    username: true,
    template_name: true,
    ..By::NONE
};

#[tokio::test]
async fn the_page_is_that_of_the_model() {
    for (by, max_series) in [
        (By::ALL, 1000),
        (SOME, 1000),
        (By::NONE, 1000),
        (By::ALL, 60),
    ] {
        let Some(mut pair) = Pair::new(by, Duration::from_secs(3600), max_series) else {
            return;
        };
        let mut random = Rng::with_seed(max_series as u64);
        let mut latest: BTreeMap<_, Vec<Metric>> = BTreeMap::new();
        for round in 0..400 {
            let agent = random.u32(..AGENTS);
            let program = PROGRAMS[random.usize(..2)];
            let metrics = latest.entry((agent, program)).or_default();
            if random.u8(..3) == 0 {
                *metrics = (0..random.usize(..20))
                    .map(|_| sample(&mut random))
                    .collect();
            } else {
                metrics
                    .iter_mut()
                    .for_each(|metric| metric.value += f64::from(random.i32(-1..4)));
            }
            let metrics = metrics.clone();
            pair.report(agent, program, &metrics).await;
            if random.u8(..30) == 0 {
                pair.rebuilt(agent, program);
                // It is stored before the page is made.
                pair.report(agent, program, &[]).await;
            }
            if round % 5 == 0 {
                pair.compare().await;
            }
        }
        pair.compare().await;
        assert_eq!(
            pair.counted("weir_control_series_refused_total"),
            pair.refused
        );
        assert!(pair.refused.len() >= 6, "{:?}", pair.refused);
        assert_eq!(pair.refused.contains_key("max_series"), max_series == 60);
        pair.end();
    }
}

#[tokio::test]
async fn what_expires_leaves_the_page_that_the_model_has() {
    const EXPIRY: Duration = Duration::from_secs(3);
    for by in [By::ALL, By::NONE] {
        let Some(mut pair) = Pair::new(by, EXPIRY, 1000) else {
            return;
        };
        let metrics = |agent: u32| {
            let value = f64::from(agent + 1);
            [
                metric("a_total", 1, &[("x", "1")], value),
                metric("d_bytes", 2, &[], value),
                metric("e_seconds", 2, &[], value),
                metric(&format!("own{agent}"), 2, &[], value),
            ]
        };
        for agent in 0..AGENTS {
            pair.report(agent, "agent", &metrics(agent)).await;
        }
        pair.compare().await;
        // The last one falls silent. To the model half of the time passes before the others report once more.
        while pair.counted("weir_control_series_expired_total").is_empty() {
            for agent in 0..AGENTS - 1 {
                pair.report_here(agent, "agent", &metrics(agent)).await;
            }
        }
        for _ in 0..2 {
            pair.model
                .ask(format_args!("pass {}", EXPIRY.as_millis() / 2 + 1));
            for agent in 0..AGENTS - 1 {
                pair.report(agent, "agent", &metrics(agent)).await;
            }
        }
        assert_eq!(pair.model.ask("expire"), json!(4));
        pair.compare().await;
        let expired = pair.counted("weir_control_series_expired_total");
        assert_eq!(expired, BTreeMap::from([(String::new(), 4)]));
        // Back again, it counts as new.
        pair.report(AGENTS - 1, "agent", &metrics(AGENTS - 1)).await;
        pair.compare().await;
        pair.end();
    }
}
