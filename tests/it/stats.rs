//! Stats requests against protobuf-go.

use serde_json::{Value, json};
use weir::wire::stats::{RawMetric, StatsRequest};

use crate::support::asked::Asked;
use crate::support::mutate::Mutator;
use crate::support::sender::hex;

/// Requests that are compared; a million were seen to agree.
const REQUESTS: u64 = 20_000;

#[test]
fn any_request_is_read_as_the_reference_reads_it() {
    let Some(mut wirecheck) = Asked::start("wirecheck") else {
        return;
    };
    let (mut refused, mut metrics) = (0, 0);
    for seed in 0..REQUESTS {
        let request = Mutator::new(seed).stats_bytes();
        let theirs = wirecheck.ask(format_args!("stats {}", hex(&request)));
        match StatsRequest::read(request.clone().into()) {
            Ok(ours) => {
                let ours: Vec<_> = ours.metrics().map(view).collect();
                metrics += ours.len();
                assert_eq!(
                    theirs,
                    json!({"ok": true, "metrics": ours}),
                    "{}",
                    hex(&request)
                );
            }
            Err(error) => {
                refused += 1;
                assert_eq!(theirs["ok"], false, "{error} in {}", hex(&request));
            }
        }
    }
    // Neither side of the comparison is trivial.
    assert!(
        (REQUESTS / 10..REQUESTS * 9 / 10).contains(&refused),
        "{refused}"
    );
    assert!(metrics > 2000, "{metrics}");
}

fn view(raw: RawMetric<'_>) -> Value {
    let mut labels = Vec::new();
    let metric = raw.decode(&mut labels, usize::MAX);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let labels: Vec<_> = labels
        .iter()
        .map(|label| json!([text(label.name), text(label.value)]))
        .collect();
    json!({
        "name": text(metric.name),
        "type": metric.kind,
        "value": format!("{:016x}", metric.value.to_bits()),
        "labels": labels,
    })
}
