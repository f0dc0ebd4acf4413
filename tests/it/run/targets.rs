//! Metrics of other programs in the reports, and what they cannot do to the logs.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::coderd::{Coderd, TOKEN};
use crate::support::exporter::Exporter;
use crate::support::page::Page;
use crate::support::plane::Plane as _;
use crate::support::sender::{Sender, Session};
use crate::support::sidecar::Sidecar;
use crate::support::target::{Answer, Target};

const OFTEN: [&str; 2] = ["-refresh", "1s"];

const DROPPED: &str = "agent_boundary_log_proxy_logs_dropped_total";

/// Type and value of each series of the latest report, written `name{label=value,…}`.
fn reported(account: &Value) -> BTreeMap<String, (String, f64)> {
    let metrics = account["agents"][TOKEN]["metrics"].as_array();
    let series = |metric: &Value| {
        let labels = metric["labels"].as_object().expect("labels").iter();
        let labels: Vec<_> = labels
            .map(|(name, value)| format!("{name}={}", value.as_str().expect("a text")))
            .collect();
        let name = metric["name"].as_str().expect("a name");
        let kind = metric["type"].as_str().expect("a type").to_owned();
        let value = &metric["value"];
        let value = value.as_f64().or_else(|| value.as_str()?.parse().ok());
        (
            format!("{name}{{{}}}", labels.join(",")),
            (kind, value.expect("a number")),
        )
    };
    metrics
        .map(|all| all.iter().map(series).collect())
        .unwrap_or_default()
}

async fn report(
    coderd: &Coderd,
    what: &str,
    condition: impl Fn(&BTreeMap<String, (String, f64)>) -> bool,
) {
    coderd
        .wait_for(what, |account| condition(&reported(account)))
        .await;
}

fn page(text: &str) -> Answer {
    Answer::Page("text/plain", text.into())
}

fn up(page: &Page, target: &str) -> bool {
    page.count(&format!("weir_scrape_up{{target=\"{target}\"}}")) == 1
}

#[tokio::test]
async fn counters_and_gauges_of_an_exporter_reach_the_control_plane() {
    let (Some(coderd), Some(exporter)) = (Coderd::start(&OFTEN), Exporter::of_client_golang())
    else {
        return;
    };
    let sidecar = Sidecar::builder(&coderd.url)
        .flag("--scrape", format!("go=http://{}", exporter.address))
        .start()
        .await;
    let kind_and_value = |kind: &str, value| Some((kind.to_owned(), value));
    report(&coderd, "the exporter's metrics", |reported| {
        let of = |series: &str| reported.get(series).cloned();
        of("exporter_requests_total{path=a,b={}#}") == kind_and_value("COUNTER", 5.25)
            && of("exporter_level{of=third}") == kind_and_value("GAUGE", 1.0 / 3.0)
            && of("exporter_untyped{}") == kind_and_value("GAUGE", 3.0)
            && of("weir_scrape_up{target=go}") == kind_and_value("GAUGE", 1.0)
            // What is the control plane's own, or the agent's while that reports itself, stays here.
            && !reported.keys().any(|series| series.starts_with("go_") || series.starts_with("agent_"))
    })
    .await;
    let refused = |reason| format!("weir_report_samples_refused_total{{reason=\"{reason}\"}}");
    let seen = sidecar.page().await;
    assert!(seen.count(&refused("reserved_name")) > 20);
    // Two histograms, two summaries and one of our own; the runtime's are reserved before they are looked at.
    assert_eq!(seen.count(&refused("histogram")), 5);
    assert!(seen.count("weir_scrape_samples{target=\"go\"}") > 80);
    assert_eq!(seen.count("weir_scrape_faults_total{target=\"go\"}"), 0);

    drop(exporter);
    report(&coderd, "a report without the exporter", |reported| {
        !reported
            .keys()
            .any(|series| series.starts_with("exporter_"))
    })
    .await;
    assert!(!up(&sidecar.page().await, "go"));
    sidecar.stop_clean().await;
    coderd.expect_clean_wire().await;
}

#[tokio::test]
async fn ours_steps_aside_for_what_a_scraped_agent_counts() {
    let Some(coderd) = Coderd::start(&OFTEN) else {
        return;
    };
    let agent = Target::start(page(&format!(
        "# TYPE {DROPPED} counter\n{DROPPED}{{reason=\"buffer_full\"}} 11\n\
         # TYPE agent_scripts_executed_total counter\nagent_scripts_executed_total{{success=\"true\"}} 5\n\
         # TYPE weir_logs_received_total counter\nweir_logs_received_total 77\n"
    )))
    .await;
    let sidecar = Sidecar::builder(&coderd.url)
        .flag("--scrape", format!("agent=http://{}", agent.address))
        .flag("--report-agent-metrics", "always")
        .start()
        .await;
    let of = |reported: &BTreeMap<String, (String, f64)>, name: &str| -> Vec<f64> {
        let series = reported
            .iter()
            .filter(|(series, _)| series.starts_with(name));
        series.map(|(_, (_, value))| *value).collect()
    };
    report(&coderd, "the agent's own", |reported| {
        // The whole name is the agent's: none of our four reasons stands beside its one.
        of(reported, DROPPED) == [11.0]
            && reported.get("agent_scripts_executed_total{success=true}").is_some_and(|(_, value)| *value == 5.0)
            // What it does not count we do, and our own names are nobody else's.
            && of(reported, "agent_boundary_log_proxy_batches_forwarded_total") == [0.0]
            && of(reported, "weir_logs_received_total") == [0.0]
    })
    .await;
    agent.answer(Answer::Hang);
    report(&coderd, "ours again", |reported| {
        of(reported, DROPPED) == [0.0; 4]
    })
    .await;
    sidecar.stop_clean().await;
}

#[tokio::test]
async fn of_two_targets_with_one_series_the_first_configured_is_reported() {
    let Some(coderd) = Coderd::start(&OFTEN) else {
        return;
    };
    let first = Target::start(page("shared 1\nonly_first 1\n")).await;
    let second = Target::start(page("shared 2\nshared{x=\"y\"} 2\n")).await;
    let targets = format!("b=http://{},a=http://{}", first.address, second.address);
    let sidecar = Sidecar::builder(&coderd.url)
        .flag("--scrape", targets)
        .start()
        .await;
    report(&coderd, "both targets", |reported| {
        let of = |series: &str| reported.get(series).map(|(_, value)| *value);
        of("shared{}") == Some(1.0)
            && of("shared{x=y}") == Some(2.0)
            && of("only_first{}") == Some(1.0)
    })
    .await;
    let conflicts = "weir_report_samples_refused_total{reason=\"conflict\"}";
    sidecar
        .wait_for("the conflict counted", |page| page.count(conflicts) == 1)
        .await;
    sidecar.stop_clean().await;
}

#[tokio::test]
async fn targets_that_hang_or_flood_cost_no_log_and_no_report() {
    let Some(coderd) = Coderd::start(&OFTEN) else {
        return;
    };
    let hanging = Target::start(Answer::Hang).await;
    let flooding = Target::start(Answer::Flood).await;
    let good = Target::start(page("good 1\nbad line\n")).await;
    let targets = [("hang", &hanging), ("flood", &flooding), ("good", &good)];
    let targets = targets.map(|(name, target)| format!("{name}=http://{}", target.address));
    let sidecar = Sidecar::builder(&coderd.url)
        .flag("--scrape", targets.join(","))
        .start()
        .await;
    let mut sender = Sender::connect(&sidecar.socket).await;
    let mut session = Session::new("s");
    for _ in 0..100 {
        sender.send(&session.batch()).await;
    }
    sidecar.forwarded(1_000).await;
    report(&coderd, "the good target", |reported| {
        reported.contains_key("good{}")
    })
    .await;
    let page = sidecar
        .wait_for("faults of the good target alone", |page| {
            up(page, "good") && page.count("weir_scrape_faults_total{target=\"good\"}") > 1
        })
        .await;
    assert!(!up(&page, "hang") && !up(&page, "flood"));
    let said = sidecar.logged("lines of its page cannot be read").await;
    assert!(said.contains("line 2, column 5"), "{said}");
    sidecar
        .logged("expected a page of at most 4194304 bytes")
        .await;
    sidecar.stop_clean().await;
    assert_eq!(coderd.delivered("s").await, session.whole());
}
