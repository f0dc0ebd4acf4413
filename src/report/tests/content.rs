//! What goes up, and what does not.

use std::collections::{BTreeMap, BTreeSet};

use prometheus::Registry;
use proptest::prelude::*;
use prost::Message as _;

use super::super::check::Origin;
use super::super::request::{Draft, Memory};
use super::super::sample::of_families;
use super::super::{MAX_BYTES, MAX_REFUSED, MAX_SERIES, Sample, SampleKind, yields};
use crate::metrics::catalog::{AGENT_LOGS_DROPPED, LOGS_DROPPED, PROCESS_RESIDENT};
use crate::metrics::sample::{single, split};
use crate::metrics::{Metrics, SampleFault};
use crate::pb::agent::stats::Metric;
use crate::pb::agent::stats::metric::Type;
use crate::pb::agent::{Stats, UpdateStatsRequest};

fn gauge(name: &str, labels: &[(&str, &str)]) -> Sample {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Sample {
        name: name.to_owned(),
        kind: SampleKind::Gauge,
        value: 1.0,
        labels: labels.iter().map(owned).collect(),
    }
}

fn of_kind(kind: SampleKind, name: &str) -> Sample {
    let sample = gauge(name, &[]);
    Sample { kind, ..sample }
}

/// A report of these samples of other programs alone.
fn report(samples: impl IntoIterator<Item = Sample>) -> (Stats, Vec<SampleFault>) {
    report_with(&mut Memory::default(), samples)
}

fn report_with(
    memory: &mut Memory,
    samples: impl IntoIterator<Item = Sample>,
) -> (Stats, Vec<SampleFault>) {
    let mut draft = Draft::new(false, memory);
    draft.add(Origin::Other, samples);
    let (request, refused) = draft.finish();
    (request.stats.unwrap(), refused)
}

fn names(metrics: &[Metric]) -> Vec<&str> {
    metrics.iter().map(|metric| metric.name.as_str()).collect()
}

/// The bytes that protobuf-go makes of a report of one counter, but for the map that its writer left out.
#[test]
fn a_report_has_the_bytes_of_the_reference() {
    let mut memory = Memory::default();
    let mut draft = Draft::new(true, &mut memory);
    let mut sample = of_kind(
        SampleKind::Counter,
        "agent_boundary_log_proxy_batches_forwarded_total",
    );
    sample.value = 3.0;
    draft.add(Origin::Own, [sample]);
    let (mut request, refused) = draft.finish();
    assert_eq!(refused, []);
    let stats = request.stats.as_mut().unwrap();
    let by_proto = std::mem::take(&mut stats.connections_by_proto);
    assert!(!by_proto.is_empty() && by_proto.values().all(|count| *count == 0));
    let name = b"agent_boundary_log_proxy_batches_forwarded_total";
    let expected = [
        b"\x0a\x48\x19\xfc\xa9\xf1\xd2\x4d\x62\x50\xbf\x62\x3d\x0a\x30".as_slice(),
        name,
        b"\x10\x01\x19\x00\x00\x00\x00\x00\x00\x08\x40",
    ];
    assert_eq!(request.encode_to_vec(), expected.concat());
}

#[test]
fn a_sidecar_is_no_activity_of_a_user() {
    let (stats, _) = report([gauge("a", &[])]);
    let without_metrics = Stats {
        metrics: Vec::new(),
        connections_by_proto: BTreeMap::new(),
        connection_median_latency_ms: 0.0,
        ..stats
    };
    assert_eq!(without_metrics, Stats::default());
    assert!(stats.connection_median_latency_ms < 0.0);
}

#[test]
fn of_our_own_goes_up_what_is_chosen_and_a_histogram_counts_once() {
    let metrics = Metrics::new().unwrap();
    let registry = Registry::new();
    for collector in metrics.collectors() {
        registry.register(collector).unwrap();
    }
    let mut families = registry.gather();
    families.extend([
        split(&AGENT_LOGS_DROPPED, [("buffer_full", 1.0)]),
        split(&LOGS_DROPPED, [("buffer_full", 2.0), ("expired", 3.0)]),
        single(&PROCESS_RESIDENT, 4.0),
    ]);
    for agent_metrics in [false, true] {
        let mut memory = Memory::default();
        for first in [true, false] {
            let mut draft = Draft::new(agent_metrics, &mut memory);
            draft.add(Origin::Own, of_families(&families));
            let (request, refused) = draft.finish();
            let expected = if first {
                &[SampleFault::Histogram][..]
            } else {
                &[]
            };
            assert_eq!(refused, expected);
            let sent = request.stats.unwrap().metrics;
            let sent_names: BTreeSet<_> = names(&sent).into_iter().collect();
            let of_page: BTreeSet<_> = families
                .iter()
                .map(|family| family.name())
                .filter(|name| *name != "weir_forward_latency_seconds")
                .filter(|name| !name.starts_with("process_"))
                .filter(|name| agent_metrics || !name.starts_with("agent_"))
                .filter(|name| agent_metrics || !name.starts_with("coderd_"))
                .collect();
            assert_eq!(sent_names, of_page);
            let expired = sent.iter().find(|metric| metric.value == 3.0).unwrap();
            assert_eq!(expired.name, "weir_logs_dropped_total");
            assert_eq!(expired.r#type(), Type::Counter);
            assert_eq!(expired.labels[0].name, "reason");
            assert_eq!(expired.labels[0].value, "expired");
        }
    }
}

#[test]
fn ours_steps_aside_for_an_agents_name_and_for_no_other() {
    let dropped = "agent_boundary_log_proxy_logs_dropped_total";
    let scraped = [
        vec![gauge("node_load1", &[])],
        vec![
            gauge(dropped, &[("reason", "buffer_full")]),
            gauge("weir_logs_received_total", &[]),
            gauge(
                "coderd_agentstats_startup_script_seconds",
                &[("success", "true")],
            ),
        ],
    ];
    // By name, and not by series: else one family would be put together from two programs.
    for (name, labels) in [
        (dropped, [("reason", "buffer_full")]),
        (dropped, [("reason", "forward_failed")]),
        (
            "coderd_agentstats_startup_script_seconds",
            [("success", "false")],
        ),
    ] {
        assert!(yields(&gauge(name, &labels), &scraped), "{name}");
    }
    for name in [
        "agent_scripts_executed_total",
        "weir_logs_received_total",
        "node_load1",
    ] {
        assert!(!yields(&gauge(name, &[]), &scraped), "{name}");
    }
    assert!(!yields(&gauge(dropped, &[]), &[]));
}

#[test]
fn what_may_cost_the_control_plane_its_page_stays_here() {
    use SampleFault::{Histogram, InvalidName, ReservedLabel, ReservedName};
    let label = |name| gauge("a", &[(name, "v")]);
    for (sample, fault) in [
        (gauge("", &[]), InvalidName),
        (gauge("bad-name", &[]), InvalidName),
        (gauge("1a", &[]), InvalidName),
        (gauge("a.b", &[]), InvalidName),
        (gauge("temperatur_\u{e4}", &[]), InvalidName),
        (gauge("a\0", &[]), InvalidName),
        (label(""), InvalidName),
        (label("a-b"), InvalidName),
        (label("1"), InvalidName),
        (label("a:b"), InvalidName),
        (label("\u{e4}"), InvalidName),
        (
            gauge("a", &[("l", "1"), ("k", ""), ("l", "2")]),
            InvalidName,
        ),
        (
            gauge("a", &[("l", "1"), ("m", "2"), ("l", "1")]),
            InvalidName,
        ),
        (gauge("go_goroutines", &[]), ReservedName),
        (gauge("process_open_fds", &[]), ReservedName),
        (
            gauge("promhttp_metric_handler_requests_total", &[]),
            ReservedName,
        ),
        (
            gauge("coderd_api_requests_processed_total", &[]),
            ReservedName,
        ),
        (gauge("coderd_", &[]), ReservedName),
        (gauge("weir_control_sessions", &[]), ReservedName),
        (gauge("weir_logs_received_total", &[]), ReservedName),
        (gauge("agent_scripts_executed_total", &[]), ReservedName),
        (
            gauge("coderd_agentstats_startup_script_seconds", &[]),
            ReservedName,
        ),
        (
            of_kind(SampleKind::Composite, "go_gc_duration_seconds"),
            ReservedName,
        ),
        (label("username"), ReservedLabel),
        (label("workspace_name"), ReservedLabel),
        (label("agent_name"), ReservedLabel),
        (label("template_name"), ReservedLabel),
        (label("__name__"), ReservedLabel),
        (label("__"), ReservedLabel),
        (of_kind(SampleKind::Composite, "a"), Histogram),
    ] {
        let (stats, refused) = report([sample.clone(), gauge("good", &[])]);
        assert_eq!(refused, [fault], "{sample:?}");
        assert_eq!(names(&stats.metrics), ["good"], "{sample:?}");
    }
}

#[test]
fn what_is_only_odd_goes_up() {
    let samples = [
        gauge(":a:_9", &[("_a_9", "any \u{e4}\0\n\"")]),
        gauge("goroutines", &[("username_", "v"), ("_", "v")]),
        gauge("coder_x", &[("le", "1")]),
        gauge("weird", &[("username", "")]),
        Sample {
            value: f64::NAN,
            ..gauge("nan", &[])
        },
        Sample {
            value: f64::NEG_INFINITY,
            ..of_kind(SampleKind::Counter, "inf")
        },
    ];
    let sent: Vec<_> = samples.iter().map(|sample| sample.name.clone()).collect();
    let (stats, refused) = report(samples);
    assert_eq!(refused, []);
    assert_eq!(names(&stats.metrics), sent);
    assert_eq!(stats.metrics[3].labels, []);
    assert!(stats.metrics[4].value.is_nan());
    assert_eq!(stats.metrics[5].value, f64::NEG_INFINITY);
}

#[test]
fn names_of_the_agent_go_up_when_told_to() {
    let startup = "coderd_agentstats_startup_script_seconds";
    let peers = "coderd_agentstats_currently_reachable_peers";
    let mut memory = Memory::default();
    let mut draft = Draft::new(true, &mut memory);
    draft.add(Origin::Own, [gauge(startup, &[]), gauge("process_x", &[])]);
    draft.add(Origin::Other, [gauge(peers, &[]), gauge("agent_a", &[])]);
    draft.add(Origin::Other, [gauge("coderd_agentstats_rx_bytes", &[])]);
    let (request, refused) = draft.finish();
    assert_eq!(refused, [SampleFault::ReservedName]);
    let sent = request.stats.unwrap().metrics;
    assert_eq!(names(&sent), [startup, peers, "agent_a"]);
}

#[test]
fn of_samples_that_exclude_each_other_the_first_goes_up() {
    let (stats, refused) = report([
        gauge("a", &[("k", "1"), ("l", "2")]),
        gauge("a", &[("l", "2"), ("empty", ""), ("k", "1")]),
        gauge("a", &[("k", "1"), ("l", "3")]),
        of_kind(SampleKind::Counter, "a"),
        of_kind(SampleKind::Counter, "b"),
        gauge("b", &[("k", "1")]),
    ]);
    // The second is the series of the first, which was sent: refused it counts all the same.
    assert_eq!(refused, [SampleFault::Conflict; 3]);
    assert_eq!(names(&stats.metrics), ["a", "a", "b"]);
    assert_eq!(stats.metrics[1].labels[1].value, "3");
}

#[test]
fn a_refused_series_counts_once_and_only_so_many_are_told_apart() {
    let mut memory = Memory::default();
    let bad = |value: &str| gauge("a", &[("username", value)]);
    for refused in [2, 0] {
        let (_, faults) = report_with(&mut memory, [bad("1"), bad("2"), bad("1")]);
        assert_eq!(faults.len(), refused);
    }
    let many = (0..2 * MAX_REFUSED).map(|at| bad(&format!("x{at}")));
    let (_, faults) = report_with(&mut memory, many);
    assert_eq!(faults.len(), MAX_REFUSED - 2);
}

#[test]
fn a_report_is_bounded_in_series() {
    let many = (0..MAX_SERIES + 3).map(|at| gauge(&format!("m{at}"), &[]));
    let mut memory = Memory::default();
    let mut draft = Draft::new(false, &mut memory);
    draft.add(Origin::Own, [gauge("weir_first", &[])]);
    draft.add(Origin::Other, many);
    let (request, refused) = draft.finish();
    assert_eq!(refused, [SampleFault::MaxSeries; 4]);
    let stats = request.stats.unwrap();
    assert_eq!(stats.metrics.len(), MAX_SERIES);
    assert_eq!(stats.metrics[0].name, "weir_first");
}

#[test]
fn a_report_is_bounded_in_bytes_and_one_giant_keeps_nobody_out() {
    let giant = gauge("giant", &[("l", &"x".repeat(MAX_BYTES))]);
    let large = |at| gauge(&format!("m{at}"), &[("l", &"x".repeat(MAX_BYTES / 10))]);
    let samples = [giant].into_iter().chain((0..20).map(large));
    let (stats, refused) = report(samples.chain([gauge("small", &[])]));
    assert_eq!(refused.len(), 1 + 11);
    assert!(refused.iter().all(|fault| *fault == SampleFault::MaxSeries));
    assert_eq!(stats.metrics.len(), 9 + 1);
    let request = UpdateStatsRequest { stats: Some(stats) };
    assert!(request.encoded_len() < MAX_BYTES + 64);
}

/// What client_golang and the page of a control plane ask for, in other words than those of the checks.
fn is_harmless(metric: &Metric) -> bool {
    let legal = |name: &str, also: &str| {
        let of = |c: char, digits: bool| {
            let small = "abcdefghijklmnopqrstuvwxyz".contains(c.to_ascii_lowercase());
            small || also.contains(c) || digits && "0123456789".contains(c)
        };
        let mut chars = name.chars();
        chars.next().is_some_and(|c| of(c, false)) && chars.all(|c| of(c, true))
    };
    let foreign = ["go_", "process_", "promhttp_", "coderd_", "weir_", "agent_"];
    let labels: BTreeSet<_> = metric.labels.iter().map(|label| &*label.name).collect();
    legal(&metric.name, "_:")
        && !foreign.iter().any(|prefix| metric.name.starts_with(prefix))
        && labels.len() == metric.labels.len()
        && labels
            .iter()
            .all(|name| legal(name, "_") && !name.starts_with("__"))
        && ["username", "workspace_name", "agent_name", "template_name"]
            .iter()
            .all(|added| !labels.contains(added))
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let name = "(go_|weir_|coderd_|username|__)?[a-c:_0-\u{e4}-]{0,3}";
    let kind = prop_oneof![
        Just(SampleKind::Counter),
        Just(SampleKind::Gauge),
        Just(SampleKind::Composite)
    ];
    let labels = prop::collection::vec((name, "[x\u{e4}]{0,1}"), 0..4);
    (name, kind, any::<f64>(), labels).prop_map(|(name, kind, value, labels)| Sample {
        name,
        kind,
        value,
        labels,
    })
}

proptest! {
    #[test]
    fn only_what_is_harmless_goes_up(samples in prop::collection::vec(any_sample(), 0..40)) {
        let (stats, refused) = report(samples.clone());
        let mut series = BTreeSet::new();
        let mut types = BTreeMap::new();
        for metric in &stats.metrics {
            prop_assert!(is_harmless(metric), "{metric:?}");
            let labels: BTreeSet<_> = metric.labels.iter().map(|l| (&l.name, &l.value)).collect();
            prop_assert!(series.insert((&metric.name, labels)), "{metric:?} twice");
            let kind = types.entry(&metric.name).or_insert(metric.r#type);
            prop_assert_eq!(*kind, metric.r#type);
        }
        // What came is sent, or is refused, or is a series that was refused before.
        prop_assert!(stats.metrics.len() + refused.len() <= samples.len());
        let sent = |sample: &Sample| stats.metrics.iter().any(|metric| metric.name == sample.name);
        prop_assert!(samples.iter().all(sent) || !refused.is_empty());
    }
}
