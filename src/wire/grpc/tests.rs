use proptest::prelude::*;

use super::*;

/// What comes of a body that arrives in pieces of that size.
fn read(body: &[u8], size: usize) -> Result<Bytes, Fault> {
    let mut assembler = Assembler::default();
    for piece in body.chunks(size) {
        assembler.push(Bytes::copy_from_slice(piece))?;
    }
    assembler.finish()
}

#[test]
fn a_message_is_read_whatever_its_pieces_are() {
    // As the example of the specification has it.
    let body = [0, 0, 0, 0, 3, b'a', b'b', b'c'];
    for size in 1..=body.len() {
        assert_eq!(read(&body, size).unwrap(), "abc");
    }
    assert_eq!(read(&[0; HEADER], 2).unwrap(), "");
}

#[test]
fn a_body_in_one_piece_is_not_copied() {
    let whole = Bytes::from_static(b"\0\0\0\0\x03abc");
    let mut assembler = Assembler::default();
    assembler.push(whole.clone()).unwrap();
    assert_eq!(
        assembler.finish().unwrap().as_ptr(),
        whole[HEADER..].as_ptr()
    );
}

#[test]
fn what_is_not_one_message_is_refused_as_soon_as_it_is_known() {
    for size in 1..10 {
        assert_eq!(read(b"", size), Err(Fault::Missing));
        for cut in [&b"\0"[..], b"\0\0\0\0", b"\0\0\0\0\x01", b"\0\0\0\0\x03ab"] {
            assert_eq!(read(cut, size), Err(Fault::Truncated));
        }
        for more in [&b"\0\0\0\0\0\0"[..], b"\0\0\0\0\x01a\0\0\0\0\x01b"] {
            assert_eq!(read(more, size), Err(Fault::TooMany));
        }
        assert_eq!(read(b"\x01\0\0\0\0", size), Err(Fault::Compressed));
        assert_eq!(read(b"\x02\0\0\0\0", size), Err(Fault::Flag(2)));
    }
    // Without waiting for what was told.
    let mut assembler = Assembler::default();
    let giant = Bytes::from_static(b"\0\xff\xff\xff\xff");
    assert_eq!(assembler.push(giant), Err(Fault::TooLarge(u32::MAX)));
}

#[test]
fn messages_have_a_limit() {
    for (length, fits) in [
        (MAX_MESSAGE - 1, true),
        (MAX_MESSAGE, true),
        (MAX_MESSAGE + 1, false),
    ] {
        let message = vec![7; length];
        assert_eq!(body(&message).is_some(), fits);
        let mut bytes = vec![0];
        bytes.extend((length as u32).to_be_bytes());
        bytes.extend(&message);
        let read = read(&bytes, 16 << 10);
        assert_eq!(
            read.map(|read| read == message).is_ok_and(|same| same),
            fits
        );
    }
}

#[test]
fn nothing_is_held_beyond_what_came() {
    let mut assembler = Assembler::default();
    assembler
        .push(Bytes::from_static(&[0, 0, 64, 0, 0]))
        .unwrap();
    assembler.push(Bytes::from_static(&[1])).unwrap();
    assert_eq!(assembler.held(), 6);
    assert!(assembler.pieces.capacity() < 128);
}

#[test]
fn times_are_read_as_the_specification_has_them() {
    let seconds = Duration::from_secs;
    for (text, time) in [
        ("1S", Some(seconds(1))),
        ("2M", Some(seconds(120))),
        ("3H", Some(seconds(10_800))),
        ("00000004m", Some(Duration::from_millis(4))),
        ("5u", Some(Duration::from_micros(5))),
        ("0n", Some(Duration::ZERO)),
        ("99999999H", Some(seconds(99_999_999 * 3600))),
        ("100000000S", None),
        ("", None),
        ("S", None),
        ("1", None),
        ("1s", None),
        ("-1S", None),
        ("+1S", None),
        ("1.5S", None),
        (" 1S", None),
    ] {
        assert_eq!(timeout(text.as_bytes()), time, "{text}");
    }
}

proptest! {
    #[test]
    fn whatever_is_written_is_read(message: Vec<u8>, size in 1..64_usize) {
        prop_assert_eq!(read(&body(&message).unwrap(), size).unwrap(), message);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, size in 1..64_usize) {
        if let Ok(message) = read(&bytes, size) {
            prop_assert_eq!(&body(&message).unwrap(), &bytes);
        }
        let _time = timeout(&bytes);
    }
}
