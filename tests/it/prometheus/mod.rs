//! Both pages, scraped by a real Prometheus and judged by its tool, with agents on the real Go libraries.

mod hostile;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use crate::support::agent::{Agent, metric};
use crate::support::coderd::TOKEN;
use crate::support::control::ControlPlane;
use crate::support::prometheus::{Prometheus, check_config, objections};
use crate::support::sender::{Sender, Session};
use crate::support::sidecar::Sidecar;

/// Names of first generations of coderd's, which dashboards use.
const LEGACY: [&str; 4] = [
    "coderd_agent_aggregator_collect_nanoseconds",
    "coderd_agent_aggregator_count_total",
    "coderd_agent_aggregator_workspace_count_total",
    "coderd_agentstats_connection_count",
];

/// The token of a second agent.
const OTHER: &str = "7a2f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d";

/// A control plane for two agents of one workspace.
fn control_plane(directory: &Path, args: &[&str]) -> ControlPlane {
    let agent = |token: &str, name: &str| {
        format!(
            "[[agent]]\ntoken = \"{token}\"\nusername = \"alice\"\nworkspace_name = \"dev\"\n\
             agent_name = \"{name}\"\ntemplate_name = \"docker\"\n"
        )
    };
    let agents = directory.join("agents.toml");
    std::fs::write(&agents, agent(TOKEN, "main") + &agent(OTHER, "gpu")).unwrap();
    let agents = ["--agents", agents.to_str().unwrap()];
    let statistics = ["--prometheus-collect-agent-stats"];
    ControlPlane::start_with(&[&agents[..], &statistics, args].concat())
}

fn sidecar_page(sidecar: &Sidecar) -> &str {
    sidecar.prometheus.as_ref().unwrap()
}

#[tokio::test]
async fn samples_arrive_on_both_endpoints_with_their_labels() {
    let directory = tempfile::tempdir().unwrap();
    let control_plane = control_plane(directory.path(), &[]);
    let url = control_plane.url.parse().unwrap();
    let sidecar = Sidecar::builder(&url).start().await;
    let jobs = [
        ("control-plane", control_plane.prometheus.as_str()),
        ("sidecar", sidecar_page(&sidecar)),
    ];
    let Some(prometheus) = Prometheus::start(&jobs).await else {
        return;
    };
    prometheus.wait_for("up", &[1.0, 1.0]).await;
    // A sidecar is not the agent.
    let of_alice = "username=\"alice\",workspace_name=\"dev\"";
    let up = format!(
        "coderd_agents_up{{job=\"control-plane\",{of_alice},template_name=\"docker\",template_version=\"unknown\"}}"
    );
    prometheus.wait_for(&up, &[0.0]).await;
    let first = "coderd_agents_first_connection_seconds_count{template_name=\"docker\"}";
    prometheus.wait_for(first, &[0.0, 1.0]).await;

    let Some(mut agent) = Agent::connect(&control_plane.url, &[]) else {
        return;
    };
    agent.start_up("v2.30.0");
    agent.is("READY");
    agent.report(json!({
        "connectionCount": 3, "connectionMedianLatencyMs": 12.5, "rxBytes": 300, "txBytes": 500,
        "sessionCounts": {"ssh": 1, "cursor": 2},
        "metrics": [
            metric("agent_scripts_executed_total", "COUNTER", json!(3), &[("success", "true")]),
            metric("coderd_agentstats_startup_script_seconds", "GAUGE", json!(1.5), &[("success", "true")]),
        ],
    }));
    agent.report(json!({"rxBytes": 4, "connectionCount": 2}));
    prometheus.wait_for(&up, &[1.0]).await;
    for (series, value) in [
        (
            "coderd_agents_connections{agent_name=\"main\",lifecycle_state=\"ready\",status=\"connected\",tailnet_node=\"unknown\"",
            1.0,
        ),
        (
            "coderd_agents_connections{agent_name=\"gpu\",lifecycle_state=\"created\",status=\"connecting\"",
            1.0,
        ),
        ("coderd_agentstats_rx_bytes{agent_name=\"main\"", 304.0),
        ("coderd_agentstats_tx_bytes{agent_name=\"main\"", 500.0),
        (
            "coderd_agentstats_connection_count{agent_name=\"main\"",
            2.0,
        ),
        (
            "coderd_agentstats_session_count_ssh{agent_name=\"main\"",
            0.0,
        ),
        (
            "agent_scripts_executed_total{agent_name=\"main\",template_name=\"docker\",success=\"true\"",
            3.0,
        ),
        (
            "coderd_agentstats_startup_script_seconds{agent_name=\"main\",template_name=\"docker\",success=\"true\"",
            1.5,
        ),
    ] {
        let series = format!("{series},{of_alice},job=\"control-plane\"}}");
        prometheus.wait_for(&series, &[value]).await;
    }
    prometheus.wait_for(first, &[0.0, 1.0]).await;
    // Whoever leaves is gone at once.
    drop(agent);
    prometheus.wait_for(&up, &[0.0]).await;
    let left = "coderd_agents_connections{agent_name=\"main\",status=\"disconnected\",lifecycle_state=\"ready\"}";
    prometheus.wait_for(left, &[1.0]).await;

    let mut session = Session::new("6f1f9f3a-0000-4000-8000-000000000001");
    let mut sender = Sender::connect(&sidecar.socket).await;
    for _ in 0..50 {
        sender.send(&session.batch()).await;
    }
    sidecar.forwarded(session.logs).await;
    let logs = session.logs as f64;
    for (series, value) in [
        ("weir_logs_received_total{job=\"sidecar\"}", logs),
        ("weir_logs_forwarded_total{job=\"sidecar\"}", logs),
        ("weir_imbalance_logs{job=\"sidecar\"}", 0.0),
        (
            "weir_control_boundary_logs_total{job=\"control-plane\"}",
            logs,
        ),
        ("weir_control_panics_total{job=\"control-plane\"}", 0.0),
    ] {
        prometheus.wait_for(series, &[value]).await;
    }
}

#[test]
fn the_configuration_in_the_readme_is_one() {
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme.split_once("```yaml\nscrape_configs:").unwrap();
    let (config, _) = rest.split_once("```").unwrap();
    check_config(&format!("scrape_configs:{config}"));
}

/// Panics if the tool objects to anything on a page but to the legacy names. The names that it objects to.
#[track_caller]
fn assert_sound(page: &str) -> Option<BTreeSet<String>> {
    let objections = objections(page)?;
    let names = objections
        .iter()
        .map(|line| line.split(' ').next().unwrap().to_owned());
    let names: BTreeSet<_> = names.collect();
    let beyond: Vec<_> = names
        .iter()
        .filter(|name| !LEGACY.contains(&name.as_str()))
        .collect();
    assert!(beyond.is_empty(), "{objections:#?}");
    Some(names)
}

#[tokio::test]
async fn the_tool_objects_to_four_names_at_most() {
    let directory = tempfile::tempdir().unwrap();
    let control_plane = control_plane(directory.path(), &[]);
    let url = control_plane.url.parse().unwrap();
    let sidecar = Sidecar::builder(&url).start().await;
    let at_rest = assert_sound(&control_plane.metrics());
    let of_sidecar = sidecar.get("/metrics").await.1;
    let (Some(_), Some(of_sidecar)) = (at_rest, assert_sound(&of_sidecar)) else {
        return;
    };
    assert_eq!(of_sidecar, BTreeSet::new());

    let Some(mut agent) = Agent::connect(&control_plane.url, &[]) else {
        return;
    };
    let mut session = Session::new("6f1f9f3a-0000-4000-8000-000000000001");
    let mut sender = Sender::connect(&sidecar.socket).await;
    let mut seen = BTreeSet::new();
    for round in 0..10 {
        for _ in 0..100 {
            sender.send(&session.batch()).await;
        }
        agent.report(json!({
            "connectionCount": 1, "connectionMedianLatencyMs": 1, "rxBytes": 1,
            "metrics": [
                metric("agent_scripts_executed_total", "COUNTER", json!(round), &[("success", "true")]),
                metric("some_temperature_celsius", "GAUGE", json!(-1.5), &[("path", "a\\b\"c\nd"), ("other", "")]),
            ],
        }));
        seen.extend(assert_sound(&control_plane.metrics()).unwrap());
        let (_, page) = sidecar.get("/metrics").await;
        assert_eq!(assert_sound(&page), Some(BTreeSet::new()));
    }
    assert_eq!(seen, LEGACY.map(str::to_owned).into());
}

#[tokio::test]
async fn series_stay_when_their_agent_leaves_and_go_with_its_build() {
    let directory = tempfile::tempdir().unwrap();
    let args = ["--metrics-expiry", "1h"];
    let control_plane = control_plane(directory.path(), &args);
    let Some(mut agent) = Agent::connect(&control_plane.url, &[]) else {
        return;
    };
    let report =
        |name: &str| json!({"rxBytes": 1, "metrics": [metric(name, "COUNTER", json!(7), &[])]});
    let has = |page: &str, name: &str| page.contains(&format!("\n{name}{{"));
    let is_there = |name: &str| has(&control_plane.metrics(), name);
    agent.start_up("v2.30.0");
    agent.report(report("old_total"));
    control_plane.until("the series", |page| has(page, "old_total"));
    drop(agent);
    control_plane.wait_for("weir_control_sessions", 0);
    assert!(is_there("old_total"));

    let mut agent = Agent::connect(&control_plane.url, &[]).unwrap();
    agent.start_up("v2.30.0");
    assert!(is_there("coderd_agentstats_rx_bytes"), "the same build");
    drop(agent);
    let mut agent = Agent::connect(&control_plane.url, &[]).unwrap();
    // A sidecar that is updated is not the agent.
    let mut sidecar = Agent::connect(&control_plane.url, &["-role", "weir"]).unwrap();
    sidecar.start_up("v0.1.0");
    sidecar.start_up("v0.2.0");
    assert!(is_there("old_total") && is_there("coderd_agentstats_rx_bytes"));
    agent.start_up("v2.31.0");
    assert!(!is_there("coderd_agentstats_rx_bytes"));
    agent.report(report("new_total"));
    control_plane.until("the new series", |page| has(page, "new_total"));
    assert!(!is_there("old_total"));
}

#[tokio::test]
async fn totals_are_the_same_at_both_ends_over_websocket() {
    totals_are_the_same_at_both_ends("websocket").await;
}

#[tokio::test]
async fn totals_are_the_same_at_both_ends_over_grpc() {
    totals_are_the_same_at_both_ends("grpc").await;
}

async fn totals_are_the_same_at_both_ends(transport: &str) {
    let directory = tempfile::tempdir().unwrap();
    let args = ["--agent-stats-refresh-interval", "1s"];
    let control_plane = control_plane(directory.path(), &args);
    let url = control_plane.url.parse().unwrap();
    let sidecar = Sidecar::builder(&url)
        // Some logs may be lost, and then both ends know how many.
        .flag("--buffer-max-batches", 1)
        .flag("--transport", transport)
        .start()
        .await;
    let jobs = [
        ("control-plane", control_plane.prometheus.as_str()),
        ("sidecar", sidecar_page(&sidecar)),
    ];
    let Some(prometheus) = Prometheus::start(&jobs).await else {
        return;
    };
    let mut session = Session::new("6f1f9f3a-0000-4000-8000-000000000001");
    let mut sender = Sender::connect(&sidecar.socket).await;
    for _ in 0..200 {
        sender.send(&session.batch()).await;
    }
    let logs = session.logs;
    let page = sidecar
        .wait_for("all are forwarded or dropped", |page| {
            let dropped = page.dropped("logs", "buffer_full");
            page.count("weir_logs_forwarded_total") + dropped == logs
        })
        .await;
    for unit in ["logs", "batches"] {
        for series in [
            format!("weir_{unit}_received_total"),
            format!("weir_{unit}_forwarded_total"),
            format!("weir_{unit}_dropped_total{{reason=\"buffer_full\"}}"),
            format!("weir_{unit}_dropped_total{{reason=\"expired\"}}"),
            format!("weir_{unit}_in_memory"),
            "weir_imbalance_logs".to_owned(),
        ] {
            let (name, labels) = series.split_once('{').unwrap_or((&series, "}"));
            let value = [page.value(&series)];
            let of_sidecar = format!("{name}{{job=\"sidecar\",{labels}");
            prometheus.wait_for(&of_sidecar, &value).await;
            let of_alice = "agent_name=\"main\",username=\"alice\",workspace_name=\"dev\",template_name=\"docker\"";
            let of_control_plane = format!("{name}{{job=\"control-plane\",{of_alice},{labels}");
            prometheus.wait_for(&of_control_plane, &value).await;
        }
    }
    let forwarded = page.count("weir_logs_forwarded_total");
    assert_eq!(
        control_plane.metric("weir_control_boundary_logs_total"),
        forwarded
    );
    // A report of the sidecar is nobody's activity.
    let connections = "coderd_agentstats_connection_count{agent_name=\"main\"}";
    prometheus.wait_for(connections, &[0.0]).await;
    prometheus.wait_for("sum(coderd_agents_up)", &[0.0]).await;
    assert_sound(&control_plane.metrics());
}
