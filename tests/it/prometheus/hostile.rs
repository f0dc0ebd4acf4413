//! What agents should not send, on a page that others are on too.

use serde_json::json;

use super::{OTHER, assert_sound, control_plane};
use crate::support::agent::{Agent, metric};
use crate::support::prometheus::Prometheus;

#[tokio::test]
async fn a_hostile_agent_spoils_nothing_for_others() {
    let directory = tempfile::tempdir().unwrap();
    let control_plane = control_plane(directory.path(), &[]);
    let jobs = [("control-plane", control_plane.prometheus.as_str())];
    let Some(prometheus) = Prometheus::start(&jobs).await else {
        return;
    };
    let Some(mut good) = Agent::connect(&control_plane.url, &[]) else {
        return;
    };
    let Some(mut hostile) = Agent::connect(&control_plane.url, &["-token", OTHER]) else {
        return;
    };
    let long = "x".repeat(1 << 20);
    let many: Vec<_> = (0..50_000)
        .map(|number| format!("label_{number}"))
        .collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "1")).collect();
    let refused = [
        ("invalid_name", metric("bad-name", "COUNTER", json!(1), &[])),
        ("invalid_name", metric("", "COUNTER", json!(1), &[])),
        ("invalid_name", metric("1st", "GAUGE", json!(1), &[])),
        ("invalid_name", metric("naïve", "GAUGE", json!(1), &[])),
        ("invalid_name", metric("two\nlines", "GAUGE", json!(1), &[])),
        ("invalid_name", metric(&long, "GAUGE", json!(1), &[])),
        (
            "reserved_name",
            metric("weir_control_sessions", "GAUGE", json!(1), &[]),
        ),
        (
            "reserved_name",
            metric("weir_control_panics_total", "COUNTER", json!(1), &[]),
        ),
        (
            "reserved_name",
            metric("coderd_agents_up", "GAUGE", json!(1), &[]),
        ),
        (
            "reserved_name",
            metric("coderd_agentstats_rx_bytes", "GAUGE", json!(1), &[]),
        ),
        (
            "reserved_name",
            metric("process_cpu_seconds_total", "COUNTER", json!(1), &[]),
        ),
        (
            "reserved_name",
            metric(
                "promhttp_metric_handler_requests_total",
                "COUNTER",
                json!(1),
                &[],
            ),
        ),
        (
            "reserved_name",
            metric("go_goroutines", "GAUGE", json!(1), &[]),
        ),
        (
            "invalid_label",
            metric("same", "GAUGE", json!(1), &[("a", "1"), ("a", "2")]),
        ),
        (
            "invalid_label",
            metric("meta", "GAUGE", json!(1), &[("__name__", "other")]),
        ),
        (
            "invalid_label",
            metric("dash", "GAUGE", json!(1), &[("a-b", "1")]),
        ),
        (
            "invalid_label",
            metric("none", "GAUGE", json!(1), &[("", "1")]),
        ),
        (
            "invalid_label",
            metric("long", "GAUGE", json!(1), &[("a", &long)]),
        ),
        ("invalid_label", metric("many", "GAUGE", json!(1), &many)),
        (
            "reserved_label",
            metric("who", "GAUGE", json!(1), &[("username", "root")]),
        ),
        ("type", metric("untyped", "TYPE_UNSPECIFIED", json!(1), &[])),
        ("type", metric("future", "GAUGE", json!(1), &[])),
        ("invalid_value", metric("less", "COUNTER", json!(-1), &[])),
        (
            "invalid_value",
            metric("most", "COUNTER", json!("Infinity"), &[]),
        ),
    ];
    let mut metrics: Vec<_> = refused.iter().map(|(_, metric)| metric.clone()).collect();
    // An enum that no version knows.
    metrics[21]["type"] = json!(77);
    let odd = [
        metric("odd_ratio", "GAUGE", json!("NaN"), &[("kind", "nan")]),
        metric("odd_ratio", "GAUGE", json!("-Infinity"), &[("kind", "low")]),
        metric(
            "odd_ratio",
            "GAUGE",
            json!("Infinity"),
            &[("kind", "high\\\"\n# TYPE odd_ratio counter\n")],
        ),
        metric(
            "odd_ratio",
            "GAUGE",
            json!(1e300),
            &[("job", "x"), ("instance", "y")],
        ),
    ];
    metrics.extend(odd);
    let report = json!({"rxBytes": "-9223372036854775808", "connectionCount": -7,
        "connectionMedianLatencyMs": "NaN", "sessionCounts": {"ssh\n": 3, "vscode": -1}, "metrics": metrics});
    let metrics_of_good = |value: u32| json!({"rxBytes": 1, "metrics": [metric("good_total", "COUNTER", json!(value), &[])]});
    for round in 1..=20 {
        hostile.report(report.clone());
        good.report(metrics_of_good(round));
        assert_sound(&control_plane.metrics());
    }
    let good_total = "good_total{agent_name=\"main\",username=\"alice\"}";
    prometheus.wait_for(good_total, &[20.0]).await;
    prometheus
        .wait_for("count(odd_ratio{agent_name=\"gpu\"})", &[4.0])
        .await;
    prometheus.wait_for("up", &[1.0]).await;
    prometheus
        .wait_for("coderd_agentstats_rx_bytes{agent_name=\"gpu\"}", &[0.0])
        .await;
    let mut reasons: Vec<_> = refused.iter().map(|(reason, _)| *reason).collect();
    reasons.dedup();
    for reason in reasons {
        let times = refused.iter().filter(|(other, _)| *other == reason).count() as u64;
        let series = format!("weir_control_series_refused_total{{reason=\"{reason}\"}}");
        control_plane.wait_for(&series, 20 * times);
    }
    assert_eq!(control_plane.metric("weir_control_panics_total"), 0);
    let unwhole = "promhttp_metric_handler_errors_total{cause=\"gathering\"}";
    assert_eq!(control_plane.metric(unwhole), 0);
}
