//! The page against the catalogue.

use std::collections::BTreeSet;

use super::{Sidecar, series};
use crate::buffer::batch::tests::arrival;
use crate::metrics::DropReason;
use crate::metrics::catalog::{Kind, SIDECAR};
use crate::metrics::exposition::Format;

fn page(sidecar: &Sidecar) -> String {
    String::from_utf8(sidecar.view.metrics(Format::Text).unwrap()).unwrap()
}

#[test]
fn every_family_is_there_once_with_its_help_and_type() {
    let page = page(&Sidecar::new());
    for family in SIDECAR {
        let help = format!("# HELP {} {}\n", family.name, family.help);
        assert_eq!(page.matches(&help).count(), 1, "{help}");
        let kind = format!("# TYPE {} {}\n", family.name, family.kind.name());
        assert_eq!(page.matches(&kind).count(), 1, "{kind}");
        assert!(!family.help.is_empty());
    }
    let named: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let catalogued: BTreeSet<_> = SIDECAR.iter().map(|family| family.name).collect();
    assert_eq!(catalogued.len(), SIDECAR.len(), "a name stands twice");
    assert_eq!(
        named.len(),
        SIDECAR.len(),
        "a family is not of the catalogue"
    );
    assert!(named.iter().all(|name| catalogued.contains(name)));
}

#[test]
fn every_series_exists_from_the_start_at_zero() {
    let page = page(&Sidecar::new());
    let series = series(&page);
    let mut expected = 0;
    for family in SIDECAR {
        let names: Vec<String> = match (family.kind, family.labels) {
            (Kind::Histogram(bounds), _) => {
                expected += bounds.len();
                vec![
                    format!("{}_bucket{{le=\"+Inf\"}}", family.name),
                    format!("{}_sum", family.name),
                    format!("{}_count", family.name),
                ]
            }
            (_, []) => vec![family.name.to_owned()],
            (_, [label]) if label.values.is_empty() => {
                let value = match label.name {
                    "version" => env!("CARGO_PKG_VERSION"),
                    _ => super::TARGET,
                };
                vec![format!("{}{{{}=\"{value}\"}}", family.name, label.name)]
            }
            (_, [label]) => {
                let value = |value| format!("{}{{{}=\"{value}\"}}", family.name, label.name);
                label.values.iter().map(value).collect()
            }
            _ => panic!("{} has several labels", family.name),
        };
        for name in names {
            expected += 1;
            let value = series.get(name.as_str()).copied();
            let value = value.unwrap_or_else(|| panic!("{name} is not on the page"));
            match family.name {
                "weir_build_info" => assert_eq!(value, 1.0),
                "weir_buffer_capacity_batches" => assert_eq!(value, 100.0),
                "weir_buffer_capacity_bytes" => assert_eq!(value, 1_048_576.0),
                "weir_time_to_full_seconds" => assert_eq!(value, f64::INFINITY),
                process if process.starts_with("process_") => assert!(value > 0.0, "{name}"),
                _ => assert_eq!(value, 0.0, "{name}"),
            }
        }
    }
    assert_eq!(series.len(), expected, "series beyond the catalogue's");
}

#[test]
fn the_go_agents_words_count_the_same_losses() {
    let sidecar = Sidecar::new();
    let ledger = sidecar.buffer.ledger();
    // One batch of 1, 2, 4, … logs for each reason, so that every sum tells which reasons are in it.
    for (place, reason) in DropReason::ALL.iter().enumerate() {
        let batch = ledger.receive(arrival(b"s", 1 << place));
        ledger.dropped([batch], *reason);
    }
    let forwarded = ledger.receive(arrival(b"s", 1000));
    ledger.forwarded([forwarded]);
    ledger.dropped_by_sender(340, 16);

    let page = page(&sidecar);
    let series = series(&page);
    let weir =
        |reason: &str| series[format!("weir_logs_dropped_total{{reason=\"{reason}\"}}").as_str()];
    let logs = |reason: &str| {
        series
            [format!("agent_boundary_log_proxy_logs_dropped_total{{reason=\"{reason}\"}}").as_str()]
    };
    let batches = |reason: &str| {
        series[format!("agent_boundary_log_proxy_batches_dropped_total{{reason=\"{reason}\"}}")
            .as_str()]
    };
    assert_eq!(
        logs("buffer_full"),
        weir("buffer_full") + weir("spool_full")
    );
    let others = ["forward_failed", "spool_corrupt", "expired", "shutdown"];
    assert_eq!(logs("forward_failed"), others.map(weir).iter().sum::<f64>());
    assert_eq!(logs("buffer_full") + logs("forward_failed"), 63.0);
    assert_eq!(
        (batches("buffer_full"), batches("forward_failed")),
        (2.0, 4.0)
    );
    assert_eq!(
        (weir("channel_full"), logs("boundary_channel_full")),
        (340.0, 340.0)
    );
    assert_eq!(
        (weir("batch_full"), logs("boundary_batch_full")),
        (16.0, 16.0)
    );
    assert_eq!(
        series["agent_boundary_log_proxy_batches_forwarded_total"],
        1.0
    );
    assert_eq!(series["weir_imbalance_logs"], 0.0);
}
