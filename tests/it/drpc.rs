//! The dRPC codec against the reader of the real library.

use fastrand::Rng;
use serde_json::Value;
use weir::wire::drpc::{Assembler, Kind, ProtocolError};

use crate::support::asked::Asked;

/// Streams that are compared; a million were seen to agree.
const STREAMS: usize = 20_000;

/// What came of a stream: kind, stream id, message id and payload of each packet, and the first fault.
type Seen = (Vec<(u8, u64, u64, String)>, Option<&'static str>);

#[test]
fn any_stream_is_read_as_the_reference_reads_it() {
    let Some(mut wirecheck) = Asked::start("wirecheck") else {
        return;
    };
    let mut ask = |stream: &[u8]| theirs(&wirecheck.ask(format_args!("drpc {}", hex(stream))));
    let mut random = Rng::with_seed(7);
    let (mut faulty, mut unseen) = (0, 0);
    for _ in 0..STREAMS {
        let mut stream = stream(&mut random);
        let ours = ours(&stream);
        let mut theirs = ask(&stream);
        if ours.1.is_some() && theirs.1.is_none() {
            // A fault in a header is seen here before the data has come, which the reference waits for.
            stream.resize(stream.len() + (16 << 10), 0);
            theirs = ask(&stream);
            if theirs.1.is_none() {
                unseen += 1;
                theirs.1 = ours.1;
            }
        }
        faulty += usize::from(ours.1.is_some());
        assert_eq!(ours, theirs, "{}", hex(&stream));
    }
    // Only a length that was garbled past what is added can hide a fault.
    assert!(unseen < STREAMS / 200, "{unseen}");
    // Neither side of the comparison is trivial.
    assert!(
        (STREAMS / 10..STREAMS * 9 / 10).contains(&faulty),
        "{faulty}"
    );
}

/// Frames that mostly follow one another as they should, cut short or garbled here and there.
fn stream(random: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut stream, mut message) = (1, 1);
    for _ in 0..random.usize(1..6) {
        let kind = if random.u8(..12) == 0 {
            random.u8(..64)
        } else {
            random.u8(1..8)
        };
        let done = random.u8(..4) > 0;
        let control = u8::from(random.u8(..8) == 0);
        bytes.push(control << 7 | kind << 1 | u8::from(done));
        let data = vec![random.u8(..); random.usize(..5)];
        put_varint(&mut bytes, stream, random);
        put_varint(&mut bytes, message, random);
        prost::encoding::encode_varint(data.len() as u64, &mut bytes);
        bytes.extend(data);
        match random.u8(..20) {
            0 => message = u64::from(random.u8(..4)),
            1 => (stream, message) = (random.u64(..3), 1),
            2..6 => message = message.wrapping_add(random.u64(..3)),
            _ => message = message.wrapping_add(u64::from(done)),
        }
    }
    if random.u8(..8) == 0 {
        bytes.truncate(random.usize(..bytes.len()));
    }
    if random.u8(..8) == 0 && !bytes.is_empty() {
        let at = random.usize(..bytes.len());
        bytes[at] = random.u8(..);
    }
    bytes
}

/// Sometimes longer than it need be, and sometimes without an end.
fn put_varint(bytes: &mut Vec<u8>, value: u64, random: &mut Rng) {
    if random.u8(..60) == 0 {
        let length = random.usize(2..12);
        bytes.extend(std::iter::once(value as u8 | 0x80).chain(vec![0x80; length - 2]));
        bytes.push(random.u8(..4));
        return;
    }
    prost::encoding::encode_varint(value, bytes);
}

fn ours(mut stream: &[u8]) -> Seen {
    let mut assembler = Assembler::default();
    let mut packets = Vec::new();
    let fault = loop {
        match assembler.next(&mut stream) {
            Ok(None) => break None,
            Ok(Some(packet)) => {
                let id = packet.id;
                packets.push((packet.kind as u8, id.stream, id.message, hex(&packet.data)));
            }
            Err(error) => break Some(error),
        }
    };
    let fault = match fault {
        // The reference waits for the bytes, of which here none will come.
        None | Some(ProtocolError::PacketTooLarge { .. }) => None,
        Some(ProtocolError::Varint(_)) => Some("varint too long"),
        Some(ProtocolError::IdNotRising { .. }) => Some("id monotonicity"),
        Some(ProtocolError::KindChange { .. }) => Some("packet kind change"),
        Some(_) => Some("unknown kind"),
    };
    (packets, fault)
}

/// The reader passes packets of unknown kind on; what the stream above it makes of them is added here.
fn theirs(view: &Value) -> Seen {
    let mut packets = Vec::new();
    for packet in view["packets"].as_array().unwrap() {
        let number = |name: &str| packet[name].as_u64().unwrap();
        let kind = number("kind") as u8;
        if Kind::from_wire(kind).is_some() {
            let data = packet["data"].as_str().unwrap().to_owned();
            packets.push((kind, number("stream"), number("message"), data));
        } else if packet["control"] == false {
            return (packets, Some("unknown kind"));
        }
    }
    let error = view["error"].as_str();
    let known = ["varint too long", "id monotonicity", "packet kind change"];
    let fault = error.map(|error| {
        known
            .into_iter()
            .find(|known| error.contains(known))
            .unwrap_or("something else")
    });
    (packets, fault)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
