//! The body of a gRPC call is the same message, or none for the same reason, however it is cut up; and what was read
//! is written as it was.
//!
//! The first byte is the size of the pieces, the rest is the body.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use weir::wire::grpc::{Assembler, Fault, Request};

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Bytes, Fault> {
    let mut assembler = Assembler::default();
    for piece in pieces {
        assembler.push(Bytes::copy_from_slice(piece))?;
    }
    assembler.finish()
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, body)) = data.split_first() else {
        return;
    };
    let size = usize::from(size).max(1);
    let message = read([body]);
    assert_eq!(read(body.chunks(size)), message);

    let Ok(message) = message else {
        return;
    };
    let slices: Vec<Bytes> = message.chunks(size).map(Bytes::copy_from_slice).collect();
    let mut request = Request::new(&slices).expect("what was read is within the limit");
    let mut written = BytesMut::new();
    while request.remaining() > 0 {
        request.write_next(&mut written, size);
    }
    assert_eq!(written, body);
});
