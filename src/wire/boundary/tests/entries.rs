use proptest::prelude::*;
use prost::Message as _;

use super::reference::{Log, Request};
use super::unhex;
use crate::wire::boundary::{Entries, Entry, Malformed, Summary};
use crate::wire::mutate::Mutator;

fn entries(payload: &[u8]) -> Result<Vec<Entry<'_>>, Malformed> {
    Entries::of(payload).collect()
}

#[track_caller]
fn assert_same(entries: &[Entry<'_>], logs: &[Log]) {
    assert_eq!(entries.len(), logs.len());
    for (entry, log) in entries.iter().zip(logs) {
        let http = log.http_request.clone().unwrap_or_default();
        let expected = Entry {
            allowed: log.allowed,
            time: log.time.map(|time| (time.seconds, time.nanos)),
            sequence_number: log.sequence_number,
            method: &http.method,
            url: &http.url,
            matched_rule: &http.matched_rule,
        };
        assert_eq!(*entry, expected);
    }
}

#[test]
fn a_request_is_read_as_it_was_sent() {
    let payload = unhex(
        "0a3c 0801 12060880f2d6ca06 1a2e 0a03474554 121368747470733a2f2f6578616d706c652e636f6d
         1a12646f6d61696e3d6578616d706c652e636f6d 2005 1201 73 0a00 1a01 70",
    );
    let expected = Entry {
        allowed: true,
        time: Some((1_767_225_600, 0)),
        sequence_number: 5,
        method: "GET",
        url: "https://example.com",
        matched_rule: "domain=example.com",
    };
    assert_eq!(entries(&payload), Ok(vec![expected, Entry::default()]));
}

#[test]
fn messages_that_come_twice_are_merged() {
    let payload = unhex("0a16 1202 0807 1202 1003 1a03 0a01 61 1a03 1201 62 1802 1801");
    let found = entries(&payload).unwrap();
    assert_eq!(found[0].time, Some((7, 3)));
    assert_eq!((found[0].method, found[0].url), ("a", "b"));
}

#[test]
fn an_error_ends_the_entries() {
    let mut entries = Entries::of(&[0x0a, 0x00, 0x0a, 0x05]);
    assert_eq!(entries.next(), Some(Ok(Entry::default())));
    assert!(entries.next().is_some_and(|entry| entry.is_err()));
    assert_eq!(entries.next(), None);
}

proptest! {
    /// Undamaged requests are read by both.
    #[test]
    fn valid_requests_are_read_as_prost_reads_them(seed: u64) {
        let payload = Mutator::new(seed).valid_request();
        let decoded = Request::decode(&*payload).expect("valid");
        assert_same(&entries(&payload).expect("valid"), &decoded.logs);
    }

    /// What was summed up is read to its end, and as prost reads it where prost does.
    #[test]
    fn entries_follow_the_summary(seed: u64) {
        let payload = Mutator::new(seed).request_bytes();
        if let Ok(summary) = Summary::read(&payload) {
            let found = entries(&payload);
            prop_assert!(found.is_ok(), "{found:?} for {payload:x?}");
            let found = found.expect("just seen");
            prop_assert_eq!(found.len() as u64, summary.logs);
            if let Ok(decoded) = Request::decode(&*payload) {
                assert_same(&found, &decoded.logs);
            }
        }
    }
}
