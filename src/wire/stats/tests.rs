use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::pb::agent::stats::Metric as Decoded;
use crate::pb::agent::stats::metric::Label as DecodedLabel;
use crate::pb::agent::{Stats, UpdateStatsRequest};
use crate::wire::mutate::Mutator;

fn read(request: &[u8]) -> Result<StatsRequest, Malformed> {
    StatsRequest::read(Bytes::copy_from_slice(request))
}

fn of(metrics: Vec<Decoded>) -> StatsRequest {
    let stats = Stats {
        metrics,
        ..Stats::default()
    };
    let request = UpdateStatsRequest { stats: Some(stats) };
    read(&request.encode_to_vec()).unwrap()
}

/// The metrics as prost has them, as far as they are read here.
fn decoded(request: &StatsRequest) -> Vec<Decoded> {
    let mut labels = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let metrics = request.metrics();
    metrics
        .map(|raw| {
            let metric = raw.decode(&mut labels, usize::MAX);
            let labels = labels.iter().map(|label| DecodedLabel {
                name: text(label.name),
                value: text(label.value),
            });
            Decoded {
                name: text(metric.name),
                r#type: metric.kind,
                value: metric.value,
                labels: labels.collect(),
            }
        })
        .collect()
}

#[test]
fn a_request_of_the_go_agent_is_read() {
    // Latency -0.001, and one counter of value 3.
    let golden = b"\x0a\x48\x19\xfc\xa9\xf1\xd2\x4d\x62\x50\xbf\x62\x3d\
        \x0a\x30agent_boundary_log_proxy_batches_forwarded_total\
        \x10\x01\x19\0\0\0\0\0\0\x08\x40";
    let request = read(golden).unwrap();
    let raw = request.metrics().next().unwrap();
    let name = b"agent_boundary_log_proxy_batches_forwarded_total";
    assert_eq!(raw.value_if(&encode_head(name, COUNTER), b""), Some(3.0));
    assert_eq!(raw.value_if(&encode_head(name, GAUGE), b""), None);
    assert_eq!(raw.value_if(&encode_head(&name[1..], COUNTER), b""), None);
    let metric = raw.decode(&mut Vec::new(), 0);
    assert_eq!(
        (metric.name, metric.kind, metric.value),
        (&name[..], COUNTER, 3.0)
    );
    assert_eq!(request.metrics().count(), 1);
}

#[test]
fn metrics_of_several_stats_are_those_of_one() {
    let request =
        read(b"\x0a\x05\x62\x03\x0a\x01a\x0a\x00\x10\x01\x0a\x07\x62\x05\x0a\x01b\x10\x02")
            .unwrap();
    let metrics = decoded(&request);
    let names: Vec<_> = metrics
        .iter()
        .map(|metric| (metric.name.as_str(), metric.r#type))
        .collect();
    assert_eq!(names, [("a", 0), ("b", 2)]);
    assert_eq!(read(b"").unwrap().metrics().count(), 0);
}

#[test]
fn every_text_must_be_utf8() {
    for (request, what) in [
        (&b"\x0a\x05\x62\x03\x0a\x01\xff"[..], "name"),
        (b"\x0a\x07\x62\x05\x22\x03\x0a\x01\xff", "label name"),
        (b"\x0a\x07\x62\x05\x22\x03\x12\x01\xff", "label value"),
        (b"\x0a\x05\x0a\x03\x0a\x01\xff", "key"),
        (b"\x0a\x05\x6a\x03\x0a\x01\xff", "key"),
    ] {
        let offset = request.len() - 1;
        let what = Fault::Utf8(what);
        assert_eq!(read(request).unwrap_err(), Malformed { offset, what });
    }
    // In a field that is not known, or of another type, they are just bytes.
    assert!(read(b"\x0a\x05\x62\x03\x2a\x01\xff").is_ok());
    assert!(read(b"\x0a\x06\x0a\x04\x12\x02\xff\xff").is_ok());
}

#[test]
fn labels_are_kept_up_to_the_limit_and_one_more() {
    let label = |index: usize| DecodedLabel {
        name: index.to_string(),
        value: if index.is_multiple_of(2) {
            String::new()
        } else {
            "x".to_owned()
        },
    };
    let request = of(vec![Decoded {
        labels: (0..20).map(label).collect(),
        ..Decoded::default()
    }]);
    let raw = request.metrics().next().unwrap();
    let mut labels = Vec::new();
    for (limit, kept) in [(0, 1), (5, 6), (9, 10), (10, 10), (usize::MAX, 10)] {
        raw.decode(&mut labels, limit);
        assert_eq!(labels.len(), kept);
        assert!(labels.iter().all(|label| label.value == b"x"));
    }
}

/// A metric as it may be stored, with labels that all have a value.
fn metric() -> impl Strategy<Value = Decoded> {
    let labels = proptest::collection::vec((".{1,9}", ".{1,200}"), 0..5);
    (".{1,200}", 1..3_i32, any::<f64>(), labels).prop_map(|(name, kind, value, labels)| {
        let label = |(name, value)| DecodedLabel { name, value };
        Decoded {
            name,
            r#type: kind,
            value,
            labels: labels.into_iter().map(label).collect(),
        }
    })
}

/// Another one that differs in one thing, or in none.
fn altered(metric: &Decoded, what: u8) -> Decoded {
    let mut other = metric.clone();
    match (what, other.labels.last_mut()) {
        (0, _) => other.name.push('x'),
        (1, _) => other.r#type = 3 - other.r#type,
        (2, Some(label)) => label.value.push('x'),
        (3, Some(label)) => label.name.push('x'),
        (4, Some(_)) => drop(other.labels.pop()),
        _ => {}
    }
    other
}

proptest! {
    #[test]
    fn a_metric_is_recognised_by_all_but_its_value(metric in metric(), what: u8, value: f64) {
        let mut other = altered(&metric, what % 6);
        other.value = value;
        let key = |metric: &Decoded| (metric.name.clone(), metric.r#type, metric.labels.clone());
        let is_same = key(&other) == key(&metric);
        let request = of(vec![other]);
        let mut labels = Vec::new();
        for label in &metric.labels {
            let (name, value) = (label.name.as_bytes(), label.value.as_bytes());
            encode_label(&mut labels, Label { name, value });
        }
        let head = encode_head(metric.name.as_bytes(), metric.r#type);
        let found = request.metrics().next().unwrap().value_if(&head, &labels);
        // Prost does not encode the sign of a zero.
        prop_assert_eq!(found.map(|found| (found + 0.0).to_bits()), is_same.then_some((value + 0.0).to_bits()));
    }

    #[test]
    fn metrics_are_those_that_prost_decodes(seed: u64) {
        let payload = Mutator::new(seed).stats_bytes();
        // Prost is stricter: a known field of another wire type is an error to it.
        if let Ok(theirs) = UpdateStatsRequest::decode(&payload[..]) {
            let ours = decoded(&read(&payload).unwrap());
            let mut theirs = theirs.stats.unwrap_or_default().metrics;
            for metric in &mut theirs {
                metric.labels.retain(|label| !label.value.is_empty());
            }
            prop_assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
        }
    }
}
