use http::HeaderValue;
use proptest::prelude::*;

use super::*;

/// A request written in pieces of that size.
fn written(slices: &[Bytes], piece: usize) -> Vec<u8> {
    let mut request = Request::new(slices).unwrap();
    let mut whole = Vec::new();
    while request.remaining() > 0 {
        let mut out = BytesMut::new();
        request.write_next(&mut out, piece);
        assert!(!out.is_empty() && out.len() <= piece);
        whole.extend_from_slice(&out);
    }
    whole
}

fn collected<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Bytes, ReplyFault> {
    let mut reply = Reply::default();
    for chunk in chunks {
        reply.push(chunk)?;
    }
    reply.finish()
}

fn collect(body: &[u8]) -> Result<Bytes, ReplyFault> {
    collected([body])
}

#[test]
fn a_request_is_its_slices_behind_a_prefix() {
    let slices = [&b"ab"[..], b"", b"cde"].map(Bytes::from_static);
    for piece in 1..12 {
        assert_eq!(written(&slices, piece), b"\0\0\0\0\x05abcde", "{piece}");
    }
    assert_eq!(written(&[], 9), b"\0\0\0\0\0");
}

#[test]
fn a_message_may_be_4_mib_and_no_more() {
    let zeros = Bytes::from(vec![0; MAX_MESSAGE + 1]);
    for length in [MAX_MESSAGE - 1, MAX_MESSAGE] {
        let body = written(&[zeros.slice(..length)], 16 << 10);
        assert_eq!(body.len(), 5 + length);
        assert_eq!(collect(&body).unwrap().len(), length);
    }
    let error = Request::new(std::slice::from_ref(&zeros)).unwrap_err();
    assert_eq!(error, RequestTooLarge(MAX_MESSAGE + 1));
    // Said by the prefix alone, before any of it comes.
    let announced = collect(b"\0\0\x40\0\x01");
    assert_eq!(announced, Err(ReplyFault::TooLarge(MAX_MESSAGE as u32 + 1)));
}

#[test]
fn each_fault_of_a_reply_is_named() {
    for (body, fault) in [
        (&b""[..], ReplyFault::Absent),
        (b"\0\0\0", ReplyFault::CutShort),
        (b"\0\0\0\0\x02a", ReplyFault::CutShort),
        (b"\0\0\0\0\x01ab", ReplyFault::TooMuch),
        (b"\0\0\0\0\0\0\0\0\0\0", ReplyFault::TooMuch),
        (b"\x01\0\0\0\x01a", ReplyFault::Compressed),
        (b"\x07\0\0\0\x01a", ReplyFault::Prefix(7)),
        (b"\0\xff\xff\xff\xff", ReplyFault::TooLarge(u32::MAX)),
    ] {
        assert_eq!(collect(body), Err(fault), "{body:?}");
    }
    assert_eq!(collect(b"\0\0\0\0\0").unwrap(), "");
}

#[test]
fn a_status_is_read_whatever_is_beside_it() {
    let read = |pairs: &[(&'static str, &'static [u8])]| {
        let header = |(name, value): &(&'static str, &'static [u8])| {
            let value = HeaderValue::from_bytes(value).unwrap();
            (HeaderName::from_static(name), value)
        };
        Status::read(&pairs.iter().map(header).collect())
    };
    let status = |code, text: &str| {
        Some(Status {
            code,
            text: text.to_owned(),
        })
    };
    assert_eq!(read(&[("content-type", b"application/grpc")]), None);
    assert_eq!(read(&[("grpc-status", b"0")]), status(Code::Ok, ""));
    assert_eq!(
        read(&[
            ("grpc-status", b"14"),
            ("grpc-message", b"a%20b%zz%c3%a4%ff")
        ]),
        status(Code::Unavailable, "a b%zz\u{e4}\u{fffd}")
    );
    // Details that are not base64.
    let details = ("grpc-status-details-bin", &b"?"[..]);
    assert_eq!(
        read(&[("grpc-status", b"13"), details]),
        status(Code::Internal, "")
    );
    for number in [&b"17"[..], b"-1", b"", b"0x1", b"00"] {
        assert_eq!(read(&[("grpc-status", number)]), status(Code::Unknown, ""));
    }
}

proptest! {
    #[test]
    fn a_reply_is_the_same_however_it_is_cut(
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(|message| {
                written(&[Bytes::from(message)], 64)
            }),
        ],
        size in 1_usize..10,
    ) {
        prop_assert_eq!(collected(body.chunks(size)), collect(&body));
    }
}
