//! The body of a gRPC call is the same message, or wrong in the same way, however it is cut up; and what was read is
//! written as it came.
//!
//! The first byte is the size of the pieces, the rest is the body.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use weir::wire::grpc::{self, Assembler, Fault};

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
    let message = read([body]);
    assert_eq!(read(body.chunks(usize::from(size).max(1))), message);
    if let Ok(message) = message {
        assert_eq!(grpc::body(&message).expect("within the limit"), body);
    }
    let _time = grpc::timeout(body);
});
