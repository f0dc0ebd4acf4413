//! Bytes of a dRPC connection give the same packets however they are cut up, and what was read can be
//! written and read again.
//!
//! The first byte is the size of the pieces, the rest is the stream.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use weir::wire::drpc::{Assembler, Kind, Packet, ProtocolError, RemoteError, Writer};

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Packet>, Option<ProtocolError>) {
    let mut assembler = Assembler::default();
    let mut packets = Vec::new();
    for mut piece in pieces {
        loop {
            match assembler.next(&mut piece) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => return (packets, Some(error)),
            }
        }
    }
    (packets, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, stream)) = data.split_first() else {
        return;
    };
    let (packets, error) = read([stream]);
    let pieces = stream.chunks(usize::from(size).max(1));
    assert_eq!(read(pieces), (packets.clone(), error));

    let mut writer = Writer::new(1);
    let mut out = BytesMut::new();
    for packet in &packets {
        writer
            .packet(packet.kind, &packet.data, &mut out)
            .expect("what was read is within the limit");
        if packet.kind == Kind::Error
            && let Ok(error) = RemoteError::decode(&packet.data)
        {
            assert!(error.text.len() <= 3 * packet.data.len());
        }
    }
    let (again, error) = read([&out[..]]);
    assert_eq!(error, None);
    assert_eq!(again.len(), packets.len());
    for (again, packet) in again.iter().zip(&packets) {
        assert_eq!((again.kind, &again.data), (packet.kind, &packet.data));
    }
});
