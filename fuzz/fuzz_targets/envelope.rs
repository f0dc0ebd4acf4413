//! The logs of an envelope are a request by themselves, and wrapping them again changes nothing.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use weir::wire::boundary::{Frame, Message, Summary, Tag, open};

fuzz_target!(|data: &[u8]| {
    let payload = Bytes::copy_from_slice(data);
    match open(Frame {
        tag: Tag::V2,
        payload,
    }) {
        Ok(Message::Logs(logs)) => {
            assert!(logs.payload.len() <= data.len());
            assert_eq!(Summary::read(&logs.payload), Ok(logs.summary.clone()));
            let mut wrapped = vec![0x0a];
            put_varint(&mut wrapped, logs.payload.len());
            wrapped.extend(&logs.payload);
            let again = open(Frame {
                tag: Tag::V2,
                payload: wrapped.into(),
            });
            assert_eq!(again, Ok(Message::Logs(logs)));
        }
        Ok(Message::Status(_) | Message::Empty) => {}
        Err(error) => assert!(error.offset <= data.len()),
    }
});

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
