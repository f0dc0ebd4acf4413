use bytes::Bytes;
use proptest::prelude::*;

use super::unhex;
use crate::wire::boundary::{Fault, Frame, Logs, Malformed, Message, SenderDrops, Tag, open};
use crate::wire::mutate::Mutator;

fn open_v2(hex: &str) -> Result<Message, Malformed> {
    open(Frame {
        tag: Tag::V2,
        payload: unhex(hex).into(),
    })
}

fn logs(hex: &str) -> Logs {
    match open_v2(hex) {
        Ok(Message::Logs(logs)) => logs,
        other => panic!("expected logs of {hex}, got {other:?}"),
    }
}

fn status(channel_full: u64, batch_full: u64) -> Result<Message, Malformed> {
    Ok(Message::Status(SenderDrops {
        channel_full,
        batch_full,
    }))
}

#[test]
fn an_empty_v1_frame_is_a_request_without_logs() {
    let opened = open(Frame {
        tag: Tag::V1,
        payload: Bytes::new(),
    });
    let Ok(Message::Logs(logs)) = opened else {
        panic!("got {opened:?}")
    };
    assert_eq!((logs.summary.logs, logs.summary.sequences), (0, None));
}

#[test]
fn logs_in_one_piece_are_a_slice_of_the_frame() {
    let payload = Bytes::from(unhex("0a04 0a02 2007"));
    let opened = open(Frame {
        tag: Tag::V2,
        payload: payload.clone(),
    });
    let Ok(Message::Logs(logs)) = opened else {
        panic!("got {opened:?}")
    };
    assert_eq!(logs.payload.as_ptr(), payload[2..].as_ptr());
    assert_eq!(logs.payload, payload[2..]);
}

#[test]
fn logs_in_several_pieces_are_joined() {
    let joined = logs("0a04 0a02 2007  0a03 1201 73  0a02 0a00");
    assert_eq!(joined.payload, unhex("0a02 2007 1201 73 0a00"));
    assert_eq!((joined.summary.logs, joined.session_id()), (2, "s"));
    assert_eq!(joined.summary.sequences, Some(0..=7));

    let empty_first = logs("0a00 0a04 0a02 2007");
    assert_eq!(empty_first.payload, unhex("0a02 2007"));
}

#[test]
fn the_last_member_counts() {
    assert_eq!(open_v2("0a02 0a00 1202 0805"), status(5, 0));
    assert_eq!(logs("1202 0805 0a04 0a02 2007").payload, unhex("0a02 2007"));
    // The status between them ends the first request, so there is nothing to merge with.
    assert_eq!(
        logs("0a04 0a02 2001 1200 0a04 0a02 2002").payload,
        unhex("0a02 2002")
    );
    assert_eq!(open_v2("1202 0805 0a00 1202 1003"), status(0, 3));
}

#[test]
fn a_status_that_comes_again_is_merged() {
    assert_eq!(open_v2("1202 0805 1202 1003"), status(5, 3));
    assert_eq!(open_v2("1202 0805 1202 0807"), status(7, 0));
    assert_eq!(open_v2("1204 0805 0809"), status(9, 0));
}

#[test]
fn counts_that_are_not_positive_are_ignored() {
    assert_eq!(open_v2("1200"), status(0, 0));
    assert_eq!(open_v2("120d 08 ffffffffffffffffff01 1003"), status(0, 3));
    assert_eq!(open_v2("120b 08 80808080808080808001"), status(0, 0));
    assert_eq!(
        open_v2("120a 10 ffffffffffffffff7f"),
        status(0, i64::MAX as u64)
    );
}

#[test]
fn an_envelope_without_a_known_member_is_empty() {
    for hex in [
        "",
        "1a03 616263",
        "0801",
        "1005",
        "f8ffffff0f 01",
        "1b 0a00 1c",
    ] {
        assert_eq!(open_v2(hex), Ok(Message::Empty), "{hex}");
    }
    // A member's number with another wire type replaces no member either.
    assert_eq!(open_v2("1202 0805 0801"), status(5, 0));
}

#[test]
fn a_replaced_member_must_decode_too() {
    let truncated = Fault::Truncated { want: 5, have: 1 };
    assert_eq!(
        open_v2("0a03 0a05 00 1202 0805"),
        Err(Malformed {
            offset: 4,
            what: truncated
        })
    );
    assert_eq!(
        open_v2("1201 08 0a00"),
        Err(Malformed {
            offset: 3,
            what: Fault::Truncated { want: 1, have: 0 }
        })
    );
}

#[test]
fn each_piece_of_logs_must_decode_by_itself() {
    // Joined, the two pieces would be the request 0a01 00.
    let error = open_v2("0a02 0a01 0a01 00").expect_err("a log is cut off by its piece");
    assert_eq!(
        error,
        Malformed {
            offset: 4,
            what: Fault::Truncated { want: 1, have: 0 }
        }
    );
}

#[test]
fn faults_count_from_the_start_of_the_frame() {
    assert_eq!(
        open_v2("0a02 0a00 0a03 1201 ff"),
        Err(Malformed {
            offset: 8,
            what: Fault::Utf8("session_id")
        })
    );
}

proptest! {
    /// `logs` fields one after the other are one request with all their logs.
    #[test]
    fn pieces_add_up(seed: u64, pieces in 1_usize..5) {
        let mut mutator = Mutator::new(seed);
        let requests: Vec<_> = (0..pieces).map(|_| mutator.valid_request()).collect();
        let mut payload = Vec::new();
        for request in &requests {
            payload.push(0x0a);
            prost::encoding::encode_varint(request.len() as u64, &mut payload);
            payload.extend(request);
        }
        let opened = open(Frame { tag: Tag::V2, payload: payload.into() });
        let joined = open(Frame { tag: Tag::V1, payload: requests.concat().into() });
        prop_assert!(opened.is_ok());
        prop_assert_eq!(opened, joined);
    }

    #[test]
    fn any_damage_is_survived(seed: u64) {
        let payload = Bytes::from(Mutator::new(seed).envelope_bytes());
        let len = payload.len();
        match open(Frame { tag: Tag::V2, payload }) {
            Ok(Message::Logs(logs)) => prop_assert!(logs.payload.len() <= len),
            Ok(_) => {}
            Err(error) => prop_assert!(error.offset <= len, "{error}"),
        }
    }
}
