use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::frame::Header;
use super::*;

const LOGS: &str = "/coder.agent.v2.Agent/ReportBoundaryLogs";

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|b| !b.is_ascii_whitespace())
        .map(|b| (b as char).to_digit(16).unwrap() as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn read_all(mut bytes: &[u8]) -> Result<Vec<Packet>, ProtocolError> {
    let mut assembler = Assembler::default();
    let mut packets = Vec::new();
    while let Some(packet) = assembler.next(&mut bytes)? {
        packets.push(packet);
    }
    assert!(bytes.is_empty(), "bytes left behind");
    Ok(packets)
}

fn packet(kind: Kind, stream: u64, message: u64, data: &[u8]) -> Packet {
    Packet {
        kind,
        id: PacketId { stream, message },
        data: Bytes::copy_from_slice(data),
    }
}

fn frame(kind: u8, control: bool, done: bool, stream: u64, message: u64, data: &[u8]) -> Vec<u8> {
    let id = PacketId { stream, message };
    let mut out = Vec::new();
    Header {
        kind,
        control,
        done,
        id,
        length: data.len() as u64,
    }
    .encode(&mut out);
    out.extend_from_slice(data);
    out
}

#[test]
fn a_request_is_written_as_the_reference_writes_it() {
    let payload = hex(
        "0a3a080112060880f2d6ca061a2e0a03474554121368747470733a2f2f6578616d706c652e636f6d
         1a12646f6d61696e3d6578616d706c652e636f6d",
    );
    let mut writer = Writer::new(1);
    let mut out = BytesMut::new();
    writer
        .packet(Kind::Invoke, LOGS.as_bytes(), &mut out)
        .unwrap();
    writer.packet(Kind::Message, &payload, &mut out).unwrap();
    writer.packet(Kind::CloseSend, &[], &mut out).unwrap();
    let mut expected = hex(
        "03 01 01 28 2f636f6465722e6167656e742e76322e4167656e742f5265706f7274426f756e646172794c6f6773
         05 01 02 3c",
    );
    expected.extend(payload);
    expected.extend(hex("0d 01 03 00"));
    assert_eq!(out, expected);
    assert_eq!(out.len(), 0x70);

    let mut out = BytesMut::new();
    let mut writer = Writer::new(2);
    writer
        .packet(Kind::Invoke, b"/coder.agent.v2.Agent/GetManifest", &mut out)
        .unwrap();
    writer.packet(Kind::Message, &[], &mut out).unwrap();
    writer.packet(Kind::CloseSend, &[], &mut out).unwrap();
    writer.packet(Kind::Cancel, &[], &mut out).unwrap();
    let expected = hex(
        "03 02 01 21 2f636f6465722e6167656e742e76322e4167656e742f4765744d616e6966657374
         05 02 02 00 0d 02 03 00 89 02 04 00",
    );
    assert_eq!(out, expected);
}

#[test]
fn replies_are_read_as_the_reference_writes_them() {
    let cases = [
        (
            "05010100 0d010200",
            vec![
                packet(Kind::Message, 1, 1, b""),
                packet(Kind::CloseSend, 1, 2, b""),
            ],
        ),
        (
            "05010105 0a0308ac02",
            vec![packet(Kind::Message, 1, 1, &hex("0a0308ac02"))],
        ),
        ("89010400", vec![packet(Kind::Cancel, 1, 4, b"")]),
        ("0b010400", vec![packet(Kind::Close, 1, 4, b"")]),
        (
            "0f010116 0a14 0a0b7472616365706172656e74 120530302d3031",
            vec![packet(
                Kind::InvokeMetadata,
                1,
                1,
                &hex("0a140a0b7472616365706172656e74120530302d3031"),
            )],
        ),
    ];
    for (bytes, packets) in cases {
        assert_eq!(read_all(&hex(bytes)), Ok(packets), "{bytes}");
    }
}

#[test]
fn errors_are_read_with_code_and_text() {
    let read = |text: &str| {
        let packets = read_all(&hex(text)).unwrap();
        assert_eq!(packets[0].kind, Kind::Error);
        RemoteError::decode(&packets[0].data)
    };
    let boom = read("0701010c 0000000000000000 626f6f6d").unwrap();
    assert_eq!(
        boom,
        RemoteError {
            code: 0,
            text: "boom".into()
        }
    );
    assert!(!boom.is_unknown_method());
    let stub = read("07010115 000000000000000c 556e696d706c656d656e746564").unwrap();
    assert_eq!(
        stub,
        RemoteError {
            code: UNIMPLEMENTED,
            text: "Unimplemented".into()
        }
    );
    assert!(stub.is_unknown_method());
    let unknown = read(
        "07010141 0000000000000000 70726f746f636f6c206572726f723a20756e6b6e6f776e207270633a20
         222f636f6465722e6167656e742e76322e4167656e742f4e6f706522",
    )
    .unwrap();
    assert_eq!(
        unknown.text,
        "protocol error: unknown rpc: \"/coder.agent.v2.Agent/Nope\""
    );
    assert!(unknown.is_unknown_method());
    assert_eq!(
        read("07010107 00000000000000"),
        Err(MalformedError { length: 7 })
    );

    let mut out = Vec::new();
    boom.encode(&mut out);
    assert_eq!(out, hex("0000000000000000 626f6f6d"));
}

#[test]
fn a_long_message_is_split_into_frames_of_64_kib() {
    let body = [
        Bytes::from(vec![1; 65_000]),
        Bytes::new(),
        Bytes::from(vec![2; 5_000]),
    ];
    let mut writer = Writer::new(1);
    let mut out = BytesMut::new();
    writer.packet(Kind::Invoke, b"x", &mut out).unwrap();
    out.clear();
    let mut frames = writer.frames(Kind::Message, &body).unwrap();
    assert!(frames.write_next(&mut out, usize::MAX) && !frames.is_done());
    assert_eq!(out[..6], hex("04 01 02 808004"));
    assert_eq!(out.len(), 6 + 65_536);
    out.clear();
    assert!(frames.write_next(&mut out, usize::MAX) && frames.is_done());
    assert_eq!(out[..5], hex("05 01 02 f022"));
    assert_eq!(out[5..], [2; 4_464]);
    out.clear();
    assert!(!frames.write_next(&mut out, usize::MAX));
    assert!(out.is_empty());
}

#[test]
fn a_packet_may_hold_4_mib_and_not_a_byte_more() {
    let mut writer = Writer::new(1);
    let mut out = BytesMut::new();
    writer
        .packet(Kind::Message, &vec![7; MAX_PACKET], &mut out)
        .unwrap();
    assert_eq!(read_all(&out).unwrap()[0].data.len(), MAX_PACKET);
    assert_eq!(
        writer.packet(Kind::Message, &vec![7; MAX_PACKET + 1], &mut out),
        Err(PacketTooLarge {
            length: MAX_PACKET + 1
        })
    );

    let mut whole = frame(2, false, false, 1, 1, &vec![7; MAX_PACKET]);
    whole.extend(frame(2, false, true, 1, 1, &[7]));
    let length = MAX_PACKET as u64 + 1;
    assert_eq!(
        read_all(&whole),
        Err(ProtocolError::PacketTooLarge { length })
    );
}

#[test]
fn a_declared_length_is_refused_or_waited_for_but_never_allocated() {
    let id = PacketId {
        stream: 1,
        message: 1,
    };
    let mut head = Vec::new();
    Header {
        kind: 2,
        control: false,
        done: true,
        id,
        length: u64::MAX,
    }
    .encode(&mut head);
    assert_eq!(
        read_all(&head),
        Err(ProtocolError::PacketTooLarge { length: u64::MAX })
    );

    let mut head = Vec::new();
    Header {
        kind: 2,
        control: false,
        done: true,
        id,
        length: MAX_PACKET as u64,
    }
    .encode(&mut head);
    let mut assembler = Assembler::default();
    assert_eq!(assembler.next(&mut head.as_slice()), Ok(None));
    assert_eq!(assembler.capacity(), 0);
    assert_eq!(assembler.next(&mut [0; 100].as_slice()), Ok(None));
    assert!(assembler.capacity() < 1024, "{}", assembler.capacity());
}

#[test]
fn ids_may_only_rise() {
    let at = |stream, message| PacketId { stream, message };
    let refused = |bytes: &[Vec<u8>], found, floor| {
        let error = read_all(&bytes.concat()).unwrap_err();
        assert_eq!(error, ProtocolError::IdNotRising { found, floor });
    };
    refused(&[frame(2, false, true, 0, 1, b"")], at(0, 1), at(1, 1));
    refused(&[frame(2, false, true, 1, 0, b"")], at(1, 0), at(1, 1));
    let first = frame(2, false, true, 1, 3, b"");
    refused(
        &[first.clone(), frame(2, false, true, 1, 3, b"")],
        at(1, 3),
        at(1, 4),
    );
    refused(
        &[first.clone(), frame(2, false, true, 1, 2, b"")],
        at(1, 2),
        at(1, 4),
    );
    refused(
        &[
            first,
            frame(2, false, false, 2, 1, b"a"),
            frame(2, false, true, 1, 9, b""),
        ],
        at(1, 9),
        at(2, 1),
    );
}

#[test]
fn a_higher_id_drops_an_unfinished_packet() {
    let bytes = [
        frame(2, false, false, 1, 1, b"lost"),
        frame(1, false, false, 1, 2, b"ke"),
        frame(1, false, true, 1, 2, b"pt"),
        frame(6, false, true, 7, 1, b""),
    ];
    assert_eq!(
        read_all(&bytes.concat()),
        Ok(vec![
            packet(Kind::Invoke, 1, 2, b"kept"),
            packet(Kind::CloseSend, 7, 1, b"")
        ])
    );
}

#[test]
fn a_kind_may_not_change_inside_a_packet() {
    let bytes = [
        frame(2, false, false, 1, 1, b"a"),
        frame(1, false, true, 1, 1, b"b"),
    ];
    assert_eq!(
        read_all(&bytes.concat()),
        Err(ProtocolError::KindChange {
            found: 1,
            expected: 2
        })
    );
}

#[test]
fn an_unknown_kind_is_skipped_only_under_the_control_flag() {
    let known = frame(2, false, true, 1, 5, b"x");
    for number in [0, 8, 63] {
        let skipped = [
            frame(number, false, false, 1, 4, b"a"),
            frame(number, true, true, 1, 4, b"b"),
            known.clone(),
        ];
        assert_eq!(
            read_all(&skipped.concat()),
            Ok(vec![packet(Kind::Message, 1, 5, b"x")])
        );
        let refused = [frame(number, false, true, 1, 4, b"a"), known.clone()];
        assert_eq!(
            read_all(&refused.concat()),
            Err(ProtocolError::UnknownKind(number))
        );
    }
}

#[test]
fn varints_take_ten_bytes_at_most() {
    for (value, bytes) in [
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        (65_536, "808004"),
        (4_194_304, "80808002"),
        (u64::MAX, "ffffffffffffffffff01"),
    ] {
        let id = PacketId {
            stream: value,
            message: 1,
        };
        let header = Header {
            kind: 2,
            control: false,
            done: true,
            id,
            length: 0,
        };
        let mut out = Vec::new();
        header.encode(&mut out);
        assert_eq!(out, hex(&format!("05 {bytes} 01 00")));
        assert_eq!(Header::decode(&out), Ok(Some((header, out.len()))));
        assert_eq!(header.encoded_len(), out.len());
    }
    let endless = hex("05 80808080808080808080");
    assert_eq!(
        read_all(&endless),
        Err(ProtocolError::Varint(VarintTooLong))
    );
    assert_eq!(read_all(&endless[..10]), Ok(vec![]));
    // The reference loses the bits past the 64th.
    let wide = hex("05 81808080808080808002 01 00");
    assert_eq!(read_all(&wide), Ok(vec![packet(Kind::Message, 1, 1, b"")]));
}

fn kinds() -> impl Strategy<Value = Kind> {
    (1u8..=7).prop_map(|number| Kind::from_wire(number).unwrap())
}

fn bodies() -> impl Strategy<Value = Vec<Bytes>> {
    let part = prop_oneof![0usize..40, 60_000usize..70_000];
    prop::collection::vec((part, any::<u8>()), 0..5).prop_map(|parts| {
        parts
            .into_iter()
            .map(|(size, fill)| Bytes::from(vec![fill; size]))
            .collect()
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_however_it_is_split(
        packets in prop::collection::vec((kinds(), bodies()), 1..4),
        cuts in prop::collection::vec(1usize..9_000, 1..50),
        limit in prop_oneof![32usize..200, 60_000usize..70_000],
    ) {
        let mut writer = Writer::new(9);
        let mut bytes = BytesMut::new();
        let mut expected = Vec::new();
        for (index, (kind, body)) in packets.iter().enumerate() {
            let mut frames = writer.frames(*kind, body).unwrap();
            let mut piece = BytesMut::new();
            while frames.write_next(&mut piece, limit) {
                prop_assert!(piece.len() <= limit.min(MAX_FRAME + MAX_HEADER));
                prop_assert!(frames.is_done() || piece.len() + 4 > limit || piece.len() > MAX_FRAME);
                bytes.extend_from_slice(&piece);
                piece.clear();
            }
            expected.push(packet(*kind, 9, index as u64 + 1, &body.concat()));
        }
        prop_assert_eq!(read_all(&bytes), Ok(expected.clone()));

        let mut assembler = Assembler::default();
        let mut rest = bytes.as_ref();
        let mut found = Vec::new();
        for cut in cuts.iter().cycle() {
            let (mut piece, after) = rest.split_at(rest.len().min(*cut));
            while let Some(packet) = assembler.next(&mut piece).unwrap() {
                found.push(packet);
            }
            prop_assert!(piece.is_empty());
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_truncated_stream_gives_the_whole_packets_and_waits(
        packets in prop::collection::vec((kinds(), prop::collection::vec(any::<u8>(), 0..20)), 1..5),
    ) {
        let mut writer = Writer::new(1);
        let mut bytes = BytesMut::new();
        let mut ends = Vec::new();
        for (kind, data) in &packets {
            writer.packet(*kind, data, &mut bytes).unwrap();
            ends.push(bytes.len());
        }
        for length in 0..=bytes.len() {
            let whole = ends.iter().filter(|end| **end <= length).count();
            prop_assert_eq!(read_all(&bytes[..length]).unwrap().len(), whole);
        }
    }

    #[test]
    fn any_bytes_give_the_same_however_they_are_split(
        bytes in prop::collection::vec(prop_oneof![0u8..16, any::<u8>()], 0..300),
        cut in 0usize..300,
    ) {
        let read = |pieces: &[&[u8]]| {
            let mut assembler = Assembler::default();
            let mut found = Vec::new();
            for mut piece in pieces.iter().copied() {
                loop {
                    match assembler.next(&mut piece) {
                        Ok(Some(packet)) => found.push(packet),
                        Ok(None) => break,
                        Err(error) => return (found, Some(error)),
                    }
                }
            }
            assert!(assembler.capacity() <= 2 * bytes.len() + 64);
            (found, None)
        };
        let (front, back) = bytes.split_at(cut.min(bytes.len()));
        prop_assert_eq!(read(&[&bytes]), read(&[front, back]));
    }
}
