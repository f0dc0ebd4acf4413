use proptest::prelude::*;
use prost::Message as _;

use super::reference::{Request, assert_sums_up};
use super::unhex;
use crate::wire::boundary::{Fault, Malformed, Summary};
use crate::wire::mutate::Mutator;

fn read(hex: &str) -> Summary {
    match Summary::read(&unhex(hex)) {
        Ok(summary) => summary,
        Err(error) => panic!("{hex}: {error}"),
    }
}

#[track_caller]
fn assert_malformed(hex: &str, offset: usize, what: Fault) {
    assert_eq!(
        Summary::read(&unhex(hex)),
        Err(Malformed { offset, what }),
        "{hex}"
    );
}

/// `depth` groups of field 5, one in the other.
fn nested_groups(depth: usize) -> Vec<u8> {
    [vec![0x2b; depth], vec![0x2c; depth]].concat()
}

#[test]
fn an_empty_request_has_no_logs() {
    let summary = read("");
    assert_eq!((summary.logs, summary.sequences), (0, None));
    assert!(summary.mergeable);
}

#[test]
fn sequences_span_the_logs_and_a_missing_number_is_zero() {
    assert_eq!(read("0a02 2005").sequences, Some(5..=5));
    assert_eq!(read("0a02 2005 0a02 2003 0a02 2009").sequences, Some(3..=9));
    assert_eq!(read("0a02 2005 0a00").sequences, Some(0..=5));
    assert_eq!(
        read("0a0b 20 ffffffffffffffffff01").sequences,
        Some(-1..=-1)
    );
    // The low 32 bits count, and so does the last number of a log.
    assert_eq!(read("0a06 20 8780808010").sequences, Some(7..=7));
    assert_eq!(read("0a04 2005 2006").sequences, Some(6..=6));
}

#[test]
fn the_last_session_and_process_count() {
    let payload = unhex("1201 61 1a01 70 1202 6262 1a00");
    let summary = Summary::read(&payload).expect("well formed");
    assert_eq!(summary.session_id.of(&payload), "bb");
    assert_eq!(summary.process.of(&payload), "");
    assert!(!summary.mergeable);
}

#[test]
fn a_span_of_another_payload_is_no_panic() {
    let summary = read("1203 616263");
    assert_eq!(summary.session_id.of(b""), "");
    assert_eq!(summary.session_id.of(b"\xff\xff\xff\xff\xff"), "");
}

#[test]
fn only_the_known_top_level_is_mergeable() {
    for hex in [
        "0a00 0a00",
        "0a00 1201 73 1a01 70",
        "1201 73 0a00",
        "0a05 2801 32 01 78",
    ] {
        assert!(read(hex).mergeable, "{hex}");
    }
    for hex in [
        "2005",
        "0801",
        "1001",
        "1d 00000000",
        "0b 0c",
        "1200 1200",
        "1a00 0a00 1a00",
    ] {
        assert!(!read(hex).mergeable, "{hex}");
    }
}

#[test]
fn a_known_field_of_another_wire_type_is_unknown() {
    // As varint, fixed64, group and fixed32; a group's content is not held to the schema.
    for hex in [
        "0801",
        "09 0000000000000000",
        "0b 1201 ff 0c",
        "0d 00000000",
    ] {
        assert_eq!(read(hex).logs, 0, "{hex}");
    }
    assert_eq!(read("0a05 25 01000000").sequences, Some(0..=0));
    assert_eq!(read("0a02 1001").logs, 1);
}

#[test]
fn every_text_field_must_be_utf8() {
    assert_malformed("1201 ff", 2, Fault::Utf8("session_id"));
    assert_malformed("1a03 6162 80", 4, Fault::Utf8("confined_process_name"));
    assert_malformed("0a05 1a03 0a01 ff", 6, Fault::Utf8("method"));
    assert_malformed("0a05 1a03 1201 ff", 6, Fault::Utf8("url"));
    assert_malformed("0a05 1a03 1a01 ff", 6, Fault::Utf8("matched_rule"));
    // An earlier value, which a later one replaces, is checked as well.
    assert_malformed("1201 ff 1200", 2, Fault::Utf8("session_id"));
    // Text of unknown fields is just bytes.
    assert_eq!(read("0a07 1a05 2201 ff 2801").logs, 1);
    assert_eq!(read("2201 ff").logs, 0);
}

#[test]
fn nested_messages_are_checked() {
    assert_malformed("0a03 1201 08", 5, Fault::Truncated { want: 1, have: 0 });
    assert_malformed("0a03 1201 07", 4, Fault::FieldNumber(0));
    assert_malformed("0a03 1a01 0c", 4, Fault::EndGroup(1));
    assert_malformed(
        "0a02 0805 0a02 1205",
        8,
        Fault::Truncated { want: 5, have: 0 },
    );
}

#[test]
fn varints_have_64_bits() {
    assert_eq!(read("20 ffffffffffffffffff01").logs, 0);
    assert_malformed("20 ffffffffffffffffff02", 1, Fault::VarintOverflow);
    assert_malformed("20 8080808080808080808000", 1, Fault::VarintOverflow);
    assert_malformed("20 808080", 1, Fault::Truncated { want: 4, have: 3 });
    // Longer than need be, as a key, a length and a value.
    assert_eq!(read("8a808080808080808000 8080808000").logs, 1);
}

#[test]
fn field_numbers_have_29_bits() {
    assert_eq!(read("f8ffffff0f 00").logs, 0);
    assert_malformed("8080808010 00", 0, Fault::FieldNumber(1 << 29));
    assert_malformed("00 00", 0, Fault::FieldNumber(0));
}

#[test]
fn field_numbers_in_unknown_groups_have_31_bits() {
    assert_eq!(read("2b f8ffffff3f 00 2c").logs, 0);
    assert_malformed("2b 8080808040 00 2c", 1, Fault::FieldNumber(1 << 31));
    assert_malformed("2b 00 00 2c", 1, Fault::FieldNumber(0));
}

#[test]
fn unassigned_wire_types_are_refused() {
    assert_malformed("26", 1, Fault::WireType(6));
    assert_malformed("0f", 1, Fault::WireType(7));
    assert_malformed("2b 0e", 2, Fault::WireType(6));
}

#[test]
fn groups_end_where_they_began() {
    assert_eq!(read("2b 33 2001 34 2c 0a00").logs, 1);
    assert_malformed("2c", 0, Fault::EndGroup(5));
    assert_malformed("2b 34", 1, Fault::EndGroup(6));
    assert_malformed("2b 33 2c 34", 2, Fault::EndGroup(5));
    assert_malformed("2b 33 34", 3, Fault::Truncated { want: 1, have: 0 });
}

#[test]
fn groups_nest_as_deep_as_a_go_receiver_follows() {
    for depth in [1, 63, 64, 65, 10_001] {
        assert_eq!(
            Summary::read(&nested_groups(depth)).map(|s| s.logs),
            Ok(0),
            "{depth} deep"
        );
    }
    let error = Summary::read(&nested_groups(10_002)).expect_err("too deep");
    assert_eq!(
        error,
        Malformed {
            offset: 10_002,
            what: Fault::GroupDepth
        }
    );
    // Side by side they do not nest.
    assert_eq!(
        Summary::read(&nested_groups(1).repeat(16_384)).map(|s| s.logs),
        Ok(0)
    );
}

#[test]
fn lengths_are_taken_at_no_ones_word() {
    assert_malformed(
        "0a ffffffff0f",
        6,
        Fault::Truncated {
            want: u32::MAX.into(),
            have: 0,
        },
    );
    assert_malformed(
        "12 ffffffffffffffffff01 61",
        11,
        Fault::Truncated {
            want: u64::MAX,
            have: 1,
        },
    );
    assert_malformed("21 00", 1, Fault::Truncated { want: 8, have: 1 });
    assert_malformed("25 00", 1, Fault::Truncated { want: 4, have: 1 });
}

#[test]
fn errors_say_where_and_what() {
    let error = |hex| {
        Summary::read(&unhex(hex))
            .expect_err("malformed")
            .to_string()
    };
    assert_eq!(error("1201 ff"), "byte 2: session_id is not valid UTF-8");
    assert_eq!(
        error("0a05 00"),
        "byte 2: value of at least 5 bytes in a message with 1 left"
    );
    assert_eq!(
        error("2c"),
        "byte 0: end of group 5, which is not open here"
    );
    assert_eq!(error("26"), "byte 1: wire type 6 does not exist");
    assert_eq!(error("00"), "byte 0: field number 0 is out of range");
    assert_eq!(
        error("20 ffffffffffffffffff02"),
        "byte 1: varint of more than 64 bits"
    );
}

proptest! {
    #[test]
    fn what_prost_decodes_is_summed_up(seed: u64) {
        let payload = Mutator::new(seed).request_bytes();
        if let Ok(decoded) = Request::decode(&*payload) {
            let summary = Summary::read(&payload);
            prop_assert!(summary.is_ok(), "{:?} for {payload:x?}", summary);
            assert_sums_up(&summary.expect("just seen"), &payload, &decoded);
        }
    }

    /// Undamaged requests are decoded by both, so the property above is not empty.
    #[test]
    fn valid_requests_are_summed_up(seed: u64) {
        let payload = Mutator::new(seed).valid_request();
        let decoded = Request::decode(&*payload).expect("valid");
        let summary = Summary::read(&payload).expect("valid");
        assert_sums_up(&summary, &payload, &decoded);
        prop_assert!(summary.mergeable);
    }

    /// A prefix reads well only at the edge of a top-level field.
    #[test]
    fn cut_anywhere_is_an_edge_or_an_error(seed: u64) {
        let payload = Mutator::new(seed).valid_request();
        for end in 0..payload.len() {
            let prefix = &payload[..end];
            match (Summary::read(prefix), Request::decode(prefix)) {
                (Ok(summary), Ok(decoded)) => assert_sums_up(&summary, prefix, &decoded),
                (Err(error), Err(_)) => {
                    prop_assert!(matches!(error.what, Fault::Truncated { .. }), "{error}");
                    prop_assert!(error.offset <= end);
                }
                other => prop_assert!(false, "{end} bytes: {other:?}"),
            }
        }
    }

    #[test]
    fn any_bytes_are_survived(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Err(error) = Summary::read(&payload) {
            prop_assert!(error.offset <= payload.len(), "{error}");
        }
    }

    /// Why concatenating is coalescing.
    #[test]
    fn mergeable_requests_of_one_session_concatenate(seed: u64) {
        let mut mutator = Mutator::new(seed);
        let (first, second) = (mutator.request_bytes(), mutator.request_bytes());
        let (Ok(a), Ok(b)) = (Summary::read(&first), Summary::read(&second)) else {
            return Ok(());
        };
        let same = a.session_id.of(&first) == b.session_id.of(&second)
            && a.process.of(&first) == b.process.of(&second);
        if !(same && a.mergeable && b.mergeable) {
            return Ok(());
        }
        let joined = [first.clone(), second].concat();
        let both = Summary::read(&joined).expect("well-formed messages concatenate");
        prop_assert_eq!(both.logs, a.logs + b.logs);
        prop_assert_eq!(both.session_id.of(&joined), a.session_id.of(&first));
        prop_assert_eq!(both.process.of(&joined), a.process.of(&first));
    }
}
