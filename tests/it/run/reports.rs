//! What the control plane is told of the metrics, and what becomes of the logs when it will not listen.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::nobody;
use crate::support::coderd::{Coderd, TOKEN};
use crate::support::control::ControlPlane;
use crate::support::page::Page;
use crate::support::plane::Plane as _;
use crate::support::sender::{Sender, Session};
use crate::support::sidecar::Sidecar;
use weir::upstream::Transport;

const METHOD: &str = "UpdateStats";

// Reports come often, or so seldom that none but the first comes by itself.
over_each_transport![
    every_report_balances_while_logs_pass("-refresh", "1s", "-rtt", "4ms"),
    reports_go_on_after_the_connection_was_lost("-refresh", "1s"),
    a_report_without_an_answer_keeps_the_link_for_the_logs("-refresh", "1s"),
    the_last_report_has_the_final_totals("-refresh", "1h"),
    the_last_report_names_what_the_stop_has_lost("-refresh", "1h"),
    who_is_taken_over_leaves_the_series_to_the_other("-refresh", "1h"),
];

const OFTEN: [&str; 2] = ["-refresh", "1s"];

const TRANSPORTS: [Transport; 2] = [Transport::WebSocket, Transport::Grpc];

/// The samples of the latest report, written as on a page.
fn reported(account: &Value) -> BTreeMap<String, f64> {
    let metrics = account["agents"][TOKEN]["metrics"].as_array();
    let metrics = metrics.map_or(&[][..], Vec::as_slice);
    let sample = |metric: &Value| {
        let labels = metric["labels"].as_object().expect("labels").iter();
        let labels: Vec<_> = labels
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let name = metric["name"].as_str().expect("a name");
        let kind = if name.ends_with("_total") {
            "COUNTER"
        } else {
            "GAUGE"
        };
        assert_eq!(metric["type"], kind, "{metric}");
        let series = match labels.as_slice() {
            [] => name.to_owned(),
            labels => format!("{name}{{{}}}", labels.join(",")),
        };
        let value = &metric["value"];
        let value = value.as_f64().or_else(|| value.as_str()?.parse().ok());
        (series, value.expect("a number"))
    };
    metrics.iter().map(sample).collect()
}

fn as_page(samples: &BTreeMap<String, f64>) -> Page {
    let lines = samples
        .iter()
        .map(|(series, value)| format!("{series} {value}\n"));
    Page::parse(&lines.collect::<String>())
}

fn reports(account: &Value) -> u64 {
    account["agents"][TOKEN]["stats_reports"]
        .as_u64()
        .unwrap_or_default()
}

/// How often it was asked when to report: once, and over gRPC by each dial.
fn asked(account: &Value, transport: Transport) -> u64 {
    let requests = account["agents"][TOKEN]["stats_requests"].as_u64();
    let dials = match transport {
        Transport::WebSocket => 0,
        Transport::Grpc => account["connections"]["opened"].as_u64().unwrap(),
    };
    requests.unwrap() - reports(account) - dials
}

async fn reports_in_all(coderd: &Coderd, count: u64) -> Value {
    coderd
        .wait_for(&format!("{count} reports"), |account| {
            reports(account) >= count
        })
        .await
}

/// What a page says of this sidecar, but for histograms and what changes with every report.
fn at_rest(page: &Page, agent_metrics: bool) -> BTreeMap<String, f64> {
    page.series()
        .filter(|(series, _)| !series.starts_with("process_"))
        .filter(|(series, _)| agent_metrics || !series.starts_with("agent_"))
        .filter(|(series, _)| agent_metrics || !series.starts_with("coderd_"))
        .filter(|(series, _)| !series.starts_with("weir_forward_latency_seconds_"))
        .filter(|(series, _)| !series.starts_with("weir_report"))
        .map(|(series, value)| (series.to_owned(), value))
        .collect()
}

#[tokio::test]
async fn totals_at_the_control_plane_are_those_of_the_page() {
    for transport in TRANSPORTS {
        totals_are_those_of_the_page(transport).await;
    }
}

async fn totals_are_those_of_the_page(transport: Transport) {
    for (setting, agent_metrics) in [("auto", false), ("never", false), ("always", true)] {
        let Some(coderd) = Coderd::over(transport, &OFTEN) else {
            return;
        };
        let sidecar = Sidecar::of(&coderd)
            .flag("--report-agent-metrics", setting)
            .start()
            .await;
        let mut sender = Sender::connect(&sidecar.socket).await;
        let mut session = Session::new("s");
        for _ in 0..30 {
            sender.send(&session.batch()).await;
        }
        let page = sidecar.forwarded(300).await;
        let expected = at_rest(&page, agent_metrics);
        assert!(expected.len() > 40, "{expected:?}");
        let account = coderd
            .wait_for("a report of all of it", |account| {
                let mut reported = reported(account);
                reported.retain(|series, _| !series.starts_with("weir_report"));
                reported == expected
            })
            .await;

        let own = as_page(&reported(&account));
        assert!(own.count("weir_report_attempts_total{outcome=\"accepted\"}") >= 1);
        let page = sidecar.page().await;
        let refused = |reason| format!("weir_report_samples_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(page.count(&refused("histogram")), 1, "Weir's own");
        let others = [
            "invalid_name",
            "reserved_name",
            "reserved_label",
            "conflict",
            "max_series",
        ];
        for reason in others {
            assert_eq!(page.count(&refused(reason)), 0, "{reason}");
        }
        let agent = &account["agents"][TOKEN];
        assert_eq!(asked(&account, transport), 1);
        let stats = &agent["last_stats"];
        for absent in [
            "connection_count",
            "rx_bytes",
            "tx_bytes",
            "session_count_ssh",
            "session_counts",
        ] {
            assert_eq!(stats[absent], Value::Null, "{absent}");
        }
        let by_proto = stats["connections_by_proto"].as_object().unwrap();
        assert!(!by_proto.is_empty() && by_proto.values().all(|count| count == "0"));
        assert_eq!(stats["connection_median_latency_ms"], -0.001);
        sidecar.stop_clean().await;
        coderd.expect_clean_wire().await;
    }
}

async fn every_report_balances_while_logs_pass(coderd: Coderd) {
    let sidecar = Sidecar::of(&coderd)
        .flag("--report-agent-metrics", "always")
        .flag("--when-full", "block")
        .flag("--block-deadline", "10min")
        .flag("--buffer-max-batches", 300)
        .flag("--coalesce-max-bytes", "32KiB")
        .start()
        .await;
    let mut sender = Sender::connect(&sidecar.socket).await;
    let mut session = Session::new("s");
    let send = async {
        loop {
            sender.send(&session.batch()).await;
        }
    };
    let look = async {
        let (mut looks, mut received) = (0, 0);
        while looks < 4 {
            let account = reports_in_all(&coderd, looks + 1).await;
            let page = as_page(&reported(&account));
            page.assert_balance();
            let now = page.count("weir_logs_received_total");
            if now > received {
                (looks, received) = (looks + 1, now);
            }
        }
    };
    tokio::select! {
        () = send => {}
        () = look => {}
    }
    drop(sender);
    sidecar.stop_clean().await;
    coderd.expect_clean_wire().await;
}

#[tokio::test]
async fn reports_that_are_refused_hurt_neither_link_nor_logs() {
    for transport in TRANSPORTS {
        let refused = json!({"kind": "error", "message": "boom"});
        hurts_neither_link_nor_logs(transport, refused, "refused").await;
        let unknown = json!({"kind": "unimplemented"});
        hurts_neither_link_nor_logs(transport, unknown, "rejected").await;
    }
}

async fn hurts_neither_link_nor_logs(transport: Transport, fault: Value, outcome: &str) {
    let Some(coderd) = Coderd::over(transport, &OFTEN) else {
        return;
    };
    let sidecar = Sidecar::of(&coderd).start().await;
    reports_in_all(&coderd, 1).await;
    let mut armed = fault.clone();
    (armed["method"], armed["count"]) = (METHOD.into(), 3.into());
    coderd.fault(armed).await;
    let mut sender = Sender::connect(&sidecar.socket).await;
    let mut session = Session::new("s");
    coderd.struck(fault["kind"].as_str().unwrap(), 3).await;
    sender.send(&session.batch()).await;
    sidecar.forwarded(10).await;

    let last = reports(&coderd.account().await);
    reports_in_all(&coderd, last + 2).await;
    let page = sidecar.page().await;
    let attempts = format!("weir_report_attempts_total{{outcome=\"{outcome}\"}}");
    assert_eq!(page.count(&attempts), 3);
    assert_eq!(page.dials("connected"), 1);
    assert_eq!(coderd.delivered("s").await, session.whole());
    let ended = sidecar.stop_clean().await;
    let told = ended.log().matches("did not take a report").count();
    assert_eq!(told, 1, "{}", ended.log());
    coderd.expect_clean_wire().await;
}

async fn reports_go_on_after_the_connection_was_lost(coderd: Coderd) {
    let sidecar = Sidecar::of(&coderd).start().await;
    for (dials, fault) in [
        (2, json!({"kind": "rst"})),
        (3, json!({"kind": "restart", "down_ms": 1_500})),
        (
            4,
            json!({"kind": "close_after", "method": METHOD, "count": 1}),
        ),
    ] {
        let before = reports(&reports_in_all(&coderd, 1).await);
        coderd.fault(fault).await;
        sidecar
            .wait_for("a new connection", |page| page.dials("connected") == dials)
            .await;
        reports_in_all(&coderd, before + 3).await;
    }
    let account = coderd.account().await;
    assert_eq!(asked(&account, coderd.transport), 1);
    sidecar.stop_clean().await;
    coderd.expect_clean_wire().await;
}

async fn a_report_without_an_answer_keeps_the_link_for_the_logs(coderd: Coderd) {
    let sidecar = Sidecar::of(&coderd).start().await;
    reports_in_all(&coderd, 1).await;
    let silent = json!({"kind": "no_reply", "method": METHOD, "count": 1});
    coderd.fault(silent).await;
    let before = reports(&coderd.struck("no_reply", 1).await);
    let mut session = Session::new("s");
    let mut sender = Sender::connect(&sidecar.socket).await;
    sender.send(&session.batch()).await;
    sidecar.forwarded(10).await;
    reports_in_all(&coderd, before + 2).await;
    let page = sidecar.page().await;
    assert_eq!(
        page.count("weir_report_attempts_total{outcome=\"ambiguous\"}"),
        1
    );
    assert_eq!(page.dials("connected"), 1);
    sidecar.stop_clean().await;
    coderd.expect_clean_wire().await;
}

async fn the_last_report_has_the_final_totals(coderd: Coderd) {
    let sidecar = Sidecar::of(&coderd).start().await;
    reports_in_all(&coderd, 1).await;
    let mut session = Session::new("s");
    let mut sender = Sender::connect(&sidecar.socket).await;
    for _ in 0..20 {
        sender.send(&session.batch()).await;
    }
    drop(sender);
    sidecar.stop_clean().await;
    let account = coderd.account().await;
    assert_eq!(reports(&account), 2);
    let totals = reported(&account);
    assert_eq!(totals["weir_logs_received_total"], 200.0);
    assert_eq!(totals["weir_logs_forwarded_total"], 200.0);
    assert_eq!(totals["weir_upstream_connected"], 1.0);
    assert_eq!(account["connections"]["closed_cleanly"], 1);
    coderd.expect_clean_wire().await;
}

async fn the_last_report_names_what_the_stop_has_lost(coderd: Coderd) {
    let sidecar = Sidecar::of(&coderd)
        .flag("--drain-timeout", "100ms")
        .start()
        .await;
    reports_in_all(&coderd, 1).await;
    coderd
        .fault(json!({"kind": "no_reply", "method": "ReportBoundaryLogs"}))
        .await;
    let mut sender = Sender::connect(&sidecar.socket).await;
    sender.send(&Session::new("s").batch()).await;
    coderd.struck("no_reply", 1).await;
    let ended = sidecar.stop().await;
    assert_eq!(ended.code(), Some(3), "{}", ended.log());
    let totals = reported(&coderd.account().await);
    assert_eq!(totals["weir_logs_dropped_total{reason=\"shutdown\"}"], 10.0);
    assert_eq!(totals["weir_logs_in_flight"], 0.0);
}

#[tokio::test]
async fn a_stop_without_a_control_plane_reports_to_nobody() {
    let sidecar = Sidecar::builder(&nobody()).start().await;
    let page = sidecar.page().await;
    assert_eq!(
        page.family("weir_report_attempts_total")
            .matches(" 0")
            .count(),
        5
    );
    sidecar.stop_clean().await;
}

async fn who_is_taken_over_leaves_the_series_to_the_other(coderd: Coderd) {
    let old = Sidecar::of(&coderd).start().await;
    let mut sender = Sender::connect(&old.socket).await;
    sender.send(&Session::new("s").batch()).await;
    old.forwarded(10).await;
    reports_in_all(&coderd, 1).await;
    let new = old.beside(&coderd).flag("--take-over", true).start().await;
    reports_in_all(&coderd, 2).await;
    drop(sender);
    let ended = old.end().await;
    assert_eq!(ended.code(), Some(0), "{}", ended.log());
    let account = coderd.account().await;
    assert_eq!(reports(&account), 2);
    assert_eq!(reported(&account)["weir_logs_received_total"], 0.0);
    new.stop_clean().await;
}

#[tokio::test]
async fn our_own_control_plane_takes_reports() {
    for transport in TRANSPORTS {
        is_reported_to_our_own(transport).await;
    }
}

async fn is_reported_to_our_own(transport: Transport) {
    let control = ControlPlane::start(&["--agent-stats-refresh-interval", "1s"]);
    let sidecar = Sidecar::builder(&control.url.parse().unwrap())
        .flag("--transport", transport.name())
        .start()
        .await;
    let answered = "weir_control_rpcs_total{method=\"UpdateStats\",outcome=\"ok\"}";
    sidecar
        .wait_for("the answers", |page| {
            page.count("weir_report_attempts_total{outcome=\"accepted\"}") >= 4
        })
        .await;
    assert!(control.metric(answered) >= 4);
    sidecar.stop_clean().await;
    let page = Page::parse(&control.metrics());
    let refused = page.family("weir_control_protocol_violations_total");
    assert!(
        refused
            .lines()
            .all(|line| line.is_empty() || line.ends_with(" 0")),
        "{refused}"
    );
}
