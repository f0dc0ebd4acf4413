//! A stream of frames gives the same frames however it is cut up.
//!
//! The first byte is the size of the pieces, the rest is the stream.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use weir::wire::boundary::{Eof, Frame, FrameError, MAX_PAYLOAD, at_eof, decode, header};

fuzz_target!(|data: &[u8]| {
    let Some((&size, stream)) = data.split_first() else {
        return;
    };
    let (frames, error, rest) = read([stream]);
    assert_eq!(
        read(stream.chunks(usize::from(size).max(1))),
        (frames.clone(), error, rest.clone())
    );

    // What was read and what is left are the stream.
    let mut written = Vec::new();
    for frame in &frames {
        assert!(frame.payload.len() <= MAX_PAYLOAD);
        written.extend(header(frame.tag, frame.payload.len()).expect("within the limit"));
        written.extend(&frame.payload);
    }
    assert!(stream.starts_with(&written));
    if error.is_none() {
        assert_eq!(stream[written.len()..], rest);
        if let Eof::Truncated { have, want } = at_eof(&rest) {
            assert!(have == rest.len() && have < want && want <= 4 + MAX_PAYLOAD);
        }
    }
});

/// The frames in `pieces`, how reading them failed, and otherwise what is left.
fn read<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Frame>, Option<FrameError>, BytesMut) {
    let mut buf = BytesMut::new();
    let mut frames = Vec::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match decode(&mut buf) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error), BytesMut::new()),
            }
        }
    }
    (frames, None, buf)
}
