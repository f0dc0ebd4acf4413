//! The messages as prost decodes them: another reader's opinion of the same bytes.

use crate::wire::boundary::Summary;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    #[prost(message, repeated, tag = "1")]
    pub(super) logs: Vec<Log>,
    #[prost(string, tag = "2")]
    pub(super) session_id: String,
    #[prost(string, tag = "3")]
    pub(super) confined_process_name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Log {
    #[prost(bool, tag = "1")]
    pub(super) allowed: bool,
    #[prost(message, optional, tag = "2")]
    pub(super) time: Option<prost_types::Timestamp>,
    #[prost(message, optional, tag = "3")]
    pub(super) http_request: Option<HttpRequest>,
    #[prost(int32, tag = "4")]
    pub(super) sequence_number: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HttpRequest {
    #[prost(string, tag = "1")]
    pub(super) method: String,
    #[prost(string, tag = "2")]
    pub(super) url: String,
    #[prost(string, tag = "3")]
    pub(super) matched_rule: String,
}

/// Asserts that `summary`, read from `payload`, says of it what decoding said.
pub(super) fn assert_sums_up(summary: &Summary, payload: &[u8], decoded: &Request) {
    let sequences = || decoded.logs.iter().map(|log| log.sequence_number);
    let range = sequences()
        .min()
        .zip(sequences().max())
        .map(|(low, high)| low..=high);
    assert_eq!(summary.logs, decoded.logs.len() as u64);
    assert_eq!(summary.session_id.of(payload), decoded.session_id);
    assert_eq!(summary.process.of(payload), decoded.confined_process_name);
    assert_eq!(summary.sequences, range);
}
