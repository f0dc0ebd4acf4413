//! A stats request that reads well reads well twice over, with twice the metrics, and a metric is recognised by what it
//! was decoded to.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use weir::wire::stats::{StatsRequest, encode_head, encode_label};

fuzz_target!(|payload: &[u8]| {
    let once = match StatsRequest::read(Bytes::copy_from_slice(payload)) {
        Ok(once) => once,
        Err(error) => return assert!(error.offset <= payload.len()),
    };
    let (mut labels, mut encoded) = (Vec::new(), Vec::new());
    for raw in once.metrics() {
        let metric = raw.decode(&mut labels, usize::MAX);
        encoded.clear();
        for label in &labels {
            assert!(
                std::str::from_utf8(label.name).is_ok() && std::str::from_utf8(label.value).is_ok()
            );
            encode_label(&mut encoded, *label);
        }
        let head = encode_head(metric.name, metric.kind);
        if let Some(value) = raw.value_if(&head, &encoded) {
            assert_eq!(value.to_bits(), metric.value.to_bits());
        }
    }
    let doubled =
        StatsRequest::read(payload.repeat(2).into()).expect("well-formed messages concatenate");
    assert_eq!(doubled.metrics().count(), 2 * once.metrics().count());
});
