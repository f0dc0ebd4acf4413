use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use crate::wire::boundary::{
    Eof, Frame, FrameError, MAX_PAYLOAD, Message, Tag, at_eof, decode, header, open,
};

/// Everything `decode` makes of `pieces` as they arrive, and what it leaves unread.
fn decode_pieces<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Frame>, Result<(), FrameError>, BytesMut) {
    let mut buf = BytesMut::new();
    let mut frames = Vec::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match decode(&mut buf) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error), buf),
            }
        }
    }
    (frames, Ok(()), buf)
}

fn encode(frame: &Frame) -> Vec<u8> {
    let mut bytes = header(frame.tag, frame.payload.len())
        .expect("within the limit")
        .to_vec();
    bytes.extend(&frame.payload);
    bytes
}

fn frame() -> impl Strategy<Value = Frame> {
    let payload = prop_oneof![
        9 => proptest::collection::vec(any::<u8>(), 0..300),
        1 => Just(vec![7; MAX_PAYLOAD]),
    ];
    (any::<bool>(), payload).prop_map(|(v1, payload)| Frame {
        tag: if v1 { Tag::V1 } else { Tag::V2 },
        payload: payload.into(),
    })
}

proptest! {
    #[test]
    fn any_split_gives_the_same_frames(
        frames in proptest::collection::vec(frame(), 0..6),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(encode).collect();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let (got, end, rest) = decode_pieces(cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]));
        prop_assert_eq!(end, Ok(()));
        prop_assert_eq!(got, frames);
        prop_assert_eq!(at_eof(&rest), Eof::Edge);
    }

    #[test]
    fn any_bytes_split_anyhow_end_alike(
        bytes in proptest::collection::vec(prop_oneof![0..4_u8, any::<u8>()], 0..200),
        size in 1_usize..9,
    ) {
        let (whole, whole_end, _) = decode_pieces([&bytes[..]]);
        let (pieces, pieces_end, _) = decode_pieces(bytes.chunks(size));
        prop_assert_eq!(whole, pieces);
        prop_assert_eq!(whole_end, pieces_end);
    }
}

#[test]
fn a_frame_cut_anywhere_waits_for_the_rest() {
    let whole = encode(&Frame {
        tag: Tag::V2,
        payload: Bytes::from_static(b"payload"),
    });
    for have in 0..whole.len() {
        let mut buf = BytesMut::from(&whole[..have]);
        assert_eq!(decode(&mut buf), Ok(None), "{have} bytes");
        assert_eq!(buf, &whole[..have], "{have} bytes");
        let end = match have {
            0 | 4 => Eof::Edge,
            1..4 => Eof::Truncated { have, want: 4 },
            _ => Eof::Truncated {
                have,
                want: whole.len(),
            },
        };
        assert_eq!(at_eof(&buf), end, "{have} bytes");
    }
}

#[test]
fn a_declared_length_reserves_nothing() {
    let mut buf = BytesMut::with_capacity(64);
    buf.extend_from_slice(&header(Tag::V1, MAX_PAYLOAD).expect("the limit is inclusive"));
    buf.extend_from_slice(b"begun");
    let capacity = buf.capacity();
    assert_eq!(decode(&mut buf), Ok(None));
    assert_eq!(buf.capacity(), capacity);
}

#[test]
fn a_payload_is_not_copied() {
    let bytes = encode(&Frame {
        tag: Tag::V1,
        payload: Bytes::from_static(b"payload"),
    });
    let mut buf = BytesMut::from(&bytes[..]);
    let body = buf[4..].as_ptr();
    let frame = decode(&mut buf)
        .expect("a good header")
        .expect("a whole frame");
    assert_eq!(frame.payload.as_ptr(), body);
}

#[test]
fn an_unsupported_tag_is_final_before_its_body() {
    for found in (0..=u8::MAX).filter(|tag| ![1, 2].contains(tag)) {
        let mut buf = BytesMut::from(&[found, 0xff, 0xff, 0xff][..]);
        assert_eq!(decode(&mut buf), Err(FrameError::Tag { found }));
        assert_eq!(buf.len(), 4, "tag {found}");
    }
}

#[test]
fn a_length_beyond_the_limit_is_final_before_its_body() {
    for (tag, byte) in [(Tag::V1, 1), (Tag::V2, 2)] {
        let mut largest = BytesMut::from(&[byte, 0, 0x80, 0][..]);
        assert_eq!(decode(&mut largest), Ok(None));
        largest.resize(4 + MAX_PAYLOAD, 0);
        let frame = decode(&mut largest)
            .expect("the limit is inclusive")
            .expect("a whole frame");
        assert_eq!((frame.tag, frame.payload.len()), (tag, MAX_PAYLOAD));

        let mut beyond = BytesMut::from(&[byte, 0, 0x80, 1][..]);
        assert_eq!(
            decode(&mut beyond),
            Err(FrameError::TooLarge { length: 32_769 })
        );
        let mut most = BytesMut::from(&[byte, 0xff, 0xff, 0xff][..]);
        assert_eq!(
            decode(&mut most),
            Err(FrameError::TooLarge { length: 0xff_ffff })
        );
    }
}

#[test]
fn a_payload_that_does_not_decode_costs_its_frame_only() {
    let (frames, end, _) = decode_pieces([&[1, 0, 0, 1, 0xff, 2, 0, 0, 2, 0x12, 0][..]]);
    assert_eq!(end, Ok(()));
    let opened: Vec<_> = frames.into_iter().map(open).collect();
    assert!(
        matches!(opened[..], [Err(_), Ok(Message::Status(_))]),
        "{opened:?}"
    );
}

#[test]
fn headers_are_written_up_to_the_limit() {
    assert_eq!(header(Tag::V1, 0x3c), Ok([1, 0, 0, 0x3c]));
    assert_eq!(header(Tag::V2, MAX_PAYLOAD), Ok([2, 0, 0x80, 0]));
    assert_eq!(
        header(Tag::V2, MAX_PAYLOAD + 1),
        Err(FrameError::TooLarge { length: 32_769 })
    );
    assert_eq!(
        header(Tag::V1, usize::MAX),
        Err(FrameError::TooLarge { length: u32::MAX })
    );
}

#[test]
fn errors_say_what_was_expected_and_what_came() {
    assert_eq!(
        FrameError::Tag { found: 0 }.to_string(),
        "unsupported frame tag: expected 1 or 2, got 0"
    );
    assert_eq!(
        FrameError::TooLarge { length: 32_769 }.to_string(),
        "frame too large: expected at most 32768 payload bytes, got 32769"
    );
}
