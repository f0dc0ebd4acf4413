use std::collections::BTreeSet;

use futures_util::{FutureExt as _, StreamExt as _};
use prost::Message as _;

use super::super::agents::stats::tests::report;
use super::super::agents::{Agent, Role};
use super::*;
use crate::config::control::{AgentSpec, AgentToken, By, Labels};
use crate::control::aggregate::{Reporter, Running, Settings};
use crate::metrics::control::catalog::CONTROL;
use crate::metrics::control::coderd::CODERD;
use crate::pb;
use crate::pb::agent::lifecycle::State;
use crate::pb::agent::stats::Metric;
use crate::pb::agent::stats::metric::Type;
use crate::wire::stats::StatsRequest;

const EXPIRY: Duration = Duration::from_secs(120);

struct Plane {
    agents: Agents,
    metrics: ControlMetrics,
    exposition: Exposition,
}

impl Plane {
    fn new(specs: &[AgentSpec]) -> Self {
        Self::with_statistics(specs, true)
    }

    fn with_statistics(specs: &[AgentSpec], collect: bool) -> Self {
        Self::with(specs, collect, None)
    }

    fn with(specs: &[AgentSpec], collect: bool, aggregator: Option<Aggregator>) -> Self {
        let (agents, metrics) = (Agents::new(specs), ControlMetrics::new().unwrap());
        let expiry = collect.then_some(EXPIRY);
        let exposition = Exposition::new(&agents, aggregator, expiry, &metrics).unwrap();
        Self {
            agents,
            metrics,
            exposition,
        }
    }

    fn page(&self) -> String {
        // Every piece is there at once.
        let pieces: Vec<_> = self
            .exposition
            .page()
            .unwrap()
            .collect()
            .now_or_never()
            .unwrap();
        String::from_utf8(pieces.concat()).unwrap()
    }

    fn agent(&self, place: usize) -> &std::sync::Arc<Agent> {
        self.agents.iter().nth(place).unwrap()
    }
}

fn spec(number: usize, template_name: &str, agent_name: &str) -> AgentSpec {
    AgentSpec {
        token: AgentToken::parse(&format!("{number:08x}-0000-4000-8000-000000000000")).unwrap(),
        labels: Labels {
            username: "alice".to_owned(),
            workspace_name: "dev".to_owned(),
            agent_name: agent_name.to_owned(),
            template_name: template_name.to_owned(),
        },
        created_at: None,
        scripts: Vec::new(),
    }
}

#[track_caller]
fn assert_line(page: &str, line: &str) {
    let name = line.split(['{', ' ']).next().unwrap();
    let seen: Vec<_> = page.lines().filter(|line| line.starts_with(name)).collect();
    assert!(
        page.lines().any(|other| other == line),
        "{line} in {seen:#?}"
    );
}

/// No series stands twice on any page, and no family.
fn assert_sound(page: &str) {
    let (mut series, mut families) = (BTreeSet::new(), Vec::new());
    for line in page.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            families.push(family.split(' ').next().unwrap());
        } else if !line.starts_with('#') {
            let (name, _) = line.rsplit_once(' ').unwrap();
            assert!(series.insert(name), "{name} twice");
        }
    }
    assert!(
        families.is_sorted_by(|one, other| one < other),
        "{families:?}"
    );
}

#[test]
fn every_family_of_the_tables_is_there_from_the_start() {
    let page = Plane::new(&[spec(1, "docker", "main")]).page();
    assert_sound(&page);
    for family in CONTROL.iter().chain(CODERD) {
        let help = format!("# HELP {} {}\n", family.name, family.help);
        assert_eq!(page.matches(&help).count(), 1, "{help}");
        let kind = format!("# TYPE {} {}\n", family.name, family.kind.name());
        assert_eq!(page.matches(&kind).count(), 1, "{kind}");
    }
    let names = page.lines().filter(|line| line.starts_with("# TYPE "));
    let process = names.clone().filter(|line| line.contains(" process_"));
    assert_eq!(
        names.count() - process.count(),
        CONTROL.len() + CODERD.len()
    );
    // Nothing of these was reported yet.
    assert!(!page.contains("\ncoderd_agentstats_"));
    assert_line(
        &page,
        "coderd_agents_up{template_name=\"docker\",template_version=\"unknown\",username=\"alice\",workspace_name=\"dev\"} 0",
    );
    assert_line(
        &page,
        "coderd_agents_connections{agent_name=\"main\",lifecycle_state=\"created\",status=\"connecting\",tailnet_node=\"unknown\",username=\"alice\",workspace_name=\"dev\"} 1",
    );
    assert_line(
        &page,
        "coderd_agents_first_connection_seconds_count{agent_name=\"main\",template_name=\"docker\"} 0",
    );
}

#[test]
fn statistics_are_only_there_when_they_are_collected() {
    let plane = Plane::with_statistics(&[spec(1, "docker", "main")], false);
    let page = plane.page();
    assert_sound(&page);
    assert!(!page.contains("agentstats"));
    assert!(page.contains("coderd_agents_up"));
}

#[test]
fn the_agents_of_a_workspace_are_counted_while_they_are_connected() {
    let specs = [
        spec(1, "docker", "main"),
        spec(2, "docker", "gpu"),
        spec(3, "vm", "main"),
    ];
    let plane = Plane::new(&specs);
    let up = |template: &str, count: usize| {
        let labels = "template_version=\"unknown\",username=\"alice\",workspace_name=\"dev\"";
        let line = format!("coderd_agents_up{{template_name=\"{template}\",{labels}}} {count}");
        assert_line(&plane.page(), &line);
    };
    let sidecar = plane.agent(0).enter(Role::named("weir"), &plane.metrics);
    up("docker", 0);
    let main = plane.agent(0).enter(Role::Agent, &plane.metrics);
    let gpu = plane.agent(1).enter(Role::Agent, &plane.metrics);
    let again = plane.agent(1).enter(Role::Agent, &plane.metrics);
    up("docker", 2);
    up("vm", 0);
    drop(gpu);
    up("docker", 2);
    drop(again);
    up("docker", 1);
    drop((sidecar, main));
    up("docker", 0);
    assert_sound(&plane.page());
}

#[test]
fn agents_that_differ_in_their_template_alone_share_a_series_that_has_none() {
    let plane = Plane::new(&[spec(1, "docker", "main"), spec(2, "vm", "main")]);
    let connections = |page: &str| page.matches("\ncoderd_agents_connections{").count();
    assert_eq!(connections(&plane.page()), 1);
    let _seat = plane.agent(0).enter(Role::Agent, &plane.metrics);
    plane.agent(0).set_lifecycle(State::Ready);
    let page = plane.page();
    assert_sound(&page);
    assert_eq!(connections(&page), 2);
    assert!(page.contains("lifecycle_state=\"ready\",status=\"connected\""));

    let stats = report(5, 0);
    for place in [0, 1] {
        let statistics = &plane.agent(place).statistics;
        statistics.record(&stats, true, Instant::now(), EXPIRY);
    }
    let page = plane.page();
    assert_sound(&page);
    assert_line(
        &page,
        "coderd_agentstats_rx_bytes{agent_name=\"main\",username=\"alice\",workspace_name=\"dev\"} 10",
    );
}

#[test]
fn the_first_connection_is_timed_once_and_never_before_it_was_made() {
    let now = SystemTime::now();
    let mut specs = [spec(1, "docker", "main"), spec(2, "docker", "early")];
    specs[0].created_at = Some(now - Duration::from_secs(40));
    specs[1].created_at = Some(now + Duration::from_secs(3600));
    let plane = Plane::new(&specs);
    for _ in 0..3 {
        drop(plane.agent(0).enter(Role::named("weir"), &plane.metrics));
        drop(plane.agent(0).enter(Role::Agent, &plane.metrics));
        drop(plane.agent(1).enter(Role::Agent, &plane.metrics));
    }
    let page = plane.page();
    let family = "coderd_agents_first_connection_seconds";
    for (suffix, le, count) in [
        ("_bucket", ",le=\"30\"", 0),
        ("_bucket", ",le=\"60\"", 1),
        ("_bucket", ",le=\"3600\"", 1),
        ("_count", "", 1),
    ] {
        let labels = format!("agent_name=\"main\",template_name=\"docker\"{le}");
        assert_line(&page, &format!("{family}{suffix}{{{labels}}} {count}"));
    }
    for suffix in ["_sum", "_count"] {
        let labels = "agent_name=\"early\",template_name=\"docker\"";
        assert_line(&page, &format!("{family}{suffix}{{{labels}}} 0"));
    }
}

#[test]
fn a_page_of_many_agents_comes_in_pieces() {
    let specs: Vec<_> = (0..3000)
        .map(|number| spec(number, "docker", &format!("agent-{number:05}")))
        .collect();
    let plane = Plane::new(&specs);
    let stats = report(1, 1);
    for agent in plane.agents.iter() {
        agent
            .statistics
            .record(&stats, true, Instant::now(), EXPIRY);
    }
    let page = plane.page();
    assert_sound(&page);
    for family in ["coderd_agents_connections", "coderd_agentstats_tx_bytes"] {
        assert_eq!(page.matches(&format!("\n{family}{{")).count(), 3000);
    }
    let pieces: Vec<_> = plane
        .exposition
        .page()
        .unwrap()
        .collect()
        .now_or_never()
        .unwrap();
    let of_statistics = pieces
        .iter()
        .filter(|piece| piece.starts_with(b"coderd_agentstats_"));
    for piece in of_statistics {
        assert!(piece.len() < 20 << 10, "{}", piece.len());
        assert!(piece.ends_with(b"\n"));
    }
}

fn aggregator(specs: &[AgentSpec], metrics: &ControlMetrics) -> (Aggregator, Running) {
    let settings = Settings {
        by: By::ALL,
        expiry: EXPIRY,
        max_series: 1_000_000,
    };
    let labels = specs.iter().map(|spec| &spec.labels);
    Aggregator::start(&settings, labels, metrics.aggregate.clone()).unwrap()
}

fn reported(names: impl IntoIterator<Item = String>) -> StatsRequest {
    let metric = |name| Metric {
        name,
        r#type: Type::Counter.into(),
        value: 7.0,
        labels: Vec::new(),
    };
    let stats = pb::agent::Stats {
        metrics: names.into_iter().map(metric).collect(),
        ..pb::agent::Stats::default()
    };
    let request = pb::agent::UpdateStatsRequest { stats: Some(stats) };
    StatsRequest::read(request.encode_to_vec().into()).unwrap()
}

#[tokio::test]
async fn what_agents_report_stands_in_its_place() {
    let specs = [spec(1, "docker", "main")];
    let metrics = ControlMetrics::new().unwrap();
    let (aggregator, running) = aggregator(&specs, &metrics);
    let plane = Plane::with(&specs, true, Some(aggregator.clone()));
    // Enough for several chunks, before, between and behind the control plane's own.
    let names = ["agent", "coderz", "promz", "weir", "weir_logs", "zoo"];
    let names: Vec<_> = names
        .iter()
        .flat_map(|name| (0..700).map(move |number| format!("{name}_{number:03}_total")))
        .chain(["coderd_agentstats_startup_script_seconds".to_owned()])
        .collect();
    aggregator.report(Reporter::new(0, "agent"), reported(names.clone()));
    let deadline = Instant::now() + Duration::from_secs(60);
    let page = loop {
        let pieces: Vec<_> = plane.exposition.page().unwrap().collect().await;
        let page = String::from_utf8(pieces.concat()).unwrap();
        assert_sound(&page);
        if page.contains("\nzoo_699_total{") {
            break page;
        }
        assert!(Instant::now() < deadline, "{page}");
    };
    let series = page.lines().filter(|line| !line.starts_with('#'));
    let there: BTreeSet<_> = series.filter_map(|line| line.split('{').next()).collect();
    for name in &names {
        assert!(there.contains(name.as_str()), "{name}");
    }
    for family in CONTROL.iter().chain(CODERD) {
        let help = format!("# HELP {} ", family.name);
        assert_eq!(page.matches(&help).count(), 1, "{help}");
    }
    assert_eq!(plane.metrics.scrapes.errors("gathering"), 0);
    running.stop();
}

#[tokio::test]
async fn without_the_aggregator_a_page_has_all_the_rest() {
    let specs = [spec(1, "docker", "main")];
    let metrics = ControlMetrics::new().unwrap();
    let (aggregator, running) = aggregator(&specs, &metrics);
    running.stop();
    let plane = Plane::with(&specs, true, Some(aggregator));
    let pieces: Vec<_> = plane.exposition.page().unwrap().collect().await;
    let page = String::from_utf8(pieces.concat()).unwrap();
    assert_sound(&page);
    assert!(page.contains("\nweir_control_sessions 0\n"));
    assert_eq!(plane.metrics.scrapes.errors("gathering"), 1);
}
