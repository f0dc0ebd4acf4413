use proptest::prelude::*;

use super::*;

const DATA: u8 = 0;
const WINDOW: u8 = 1;
const PING: u8 = 2;
const GO_AWAY: u8 = 3;

fn bytes(kind: u8, flags: u16, stream: u32, length: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[1] = kind;
    bytes[2..4].copy_from_slice(&flags.to_be_bytes());
    bytes[4..8].copy_from_slice(&stream.to_be_bytes());
    bytes[8..].copy_from_slice(&length.to_be_bytes());
    bytes
}

fn frame(kind: u8, flags: u16, stream: u32, length: u32) -> Header {
    Header::decode(bytes(kind, flags, stream, length)).unwrap()
}

/// Plays frames of the peer (`>`) and of this end (`<`); returns the last verdict.
fn play(frames: &[(char, Header)]) -> Result<Verdict, Violation> {
    let mut referee = Referee::new(4);
    let mut last = Ok(Verdict::Deliver);
    for (from, header) in frames {
        match from {
            '>' => {
                assert!(last.is_ok(), "frames after {last:?}");
                last = referee.received(header);
            }
            _ => referee.sent(header),
        }
    }
    last
}

#[test]
fn a_call_as_the_reference_makes_it_breaks_nothing() {
    // As hashicorp/yamux and storj/drpc write them, header by header.
    let session = [
        ('>', frame(WINDOW, SYN, 1, 0), Verdict::Deliver),
        ('<', frame(WINDOW, ACK, 1, 0), Verdict::Deliver),
        ('>', frame(DATA, 0, 1, 0x2d), Verdict::Deliver),
        ('<', frame(DATA, 0, 1, 9), Verdict::Deliver),
        ('>', frame(WINDOW, FIN, 1, 0), Verdict::Deliver),
        ('<', frame(WINDOW, FIN, 1, 0), Verdict::Deliver),
        ('>', frame(WINDOW, FIN, 1, 0), Verdict::Skip),
        ('>', frame(PING, SYN, 0, 7), Verdict::Deliver),
        // A stream of that number may come again now, and may be opened by data.
        ('>', frame(DATA, SYN | FIN, 1, 5), Verdict::Deliver),
    ];
    let mut referee = Referee::new(1);
    for (from, header, verdict) in session {
        match from {
            '>' => assert_eq!(referee.received(&header), Ok(verdict), "{header:?}"),
            _ => referee.sent(&header),
        }
    }
}

#[test]
fn each_violation_is_named() {
    let open = ('>', frame(WINDOW, SYN, 1, 0));
    let cases: &[(&[(char, Header)], Violation)] = &[
        (&[('>', frame(WINDOW, SYN, 2, 0))], Violation::StreamId(2)),
        (&[('>', frame(DATA, SYN, 0, 1))], Violation::StreamId(0)),
        (&[open, open], Violation::StreamInUse(1)),
        (
            &[open, ('>', frame(WINDOW, FIN, 1, 0)), open],
            Violation::StreamInUse(1),
        ),
        (
            &[
                open,
                ('>', frame(WINDOW, FIN, 1, 0)),
                ('>', frame(DATA, FIN, 1, 0)),
            ],
            Violation::SecondFin(1),
        ),
        (
            &[open, ('>', frame(DATA, 0, 1, INITIAL_WINDOW + 1))],
            Violation::Window {
                stream: 1,
                length: INITIAL_WINDOW + 1,
                window: INITIAL_WINDOW,
            },
        ),
        (
            &[
                open,
                ('>', frame(DATA, 0, 1, INITIAL_WINDOW)),
                ('<', frame(WINDOW, 0, 1, 100)),
                ('>', frame(DATA, 0, 1, 99)),
                ('>', frame(DATA, 0, 1, 2)),
            ],
            Violation::Window {
                stream: 1,
                length: 2,
                window: 1,
            },
        ),
        (
            &[
                ('<', frame(GO_AWAY, 0, 0, 1)),
                ('>', frame(PING, SYN, 0, 1)),
            ],
            Violation::GoneAway(1),
        ),
    ];
    for (frames, violation) in cases {
        assert_eq!(play(frames), Err(*violation), "{frames:?}");
    }
    assert_eq!(
        Header::decode([1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
        Err(Violation::Version(1))
    );
    assert_eq!(Header::decode(bytes(4, 0, 1, 0)), Err(Violation::Type(4)));
}

#[test]
fn what_the_reference_ignores_is_skipped() {
    for header in [
        frame(DATA, 0, 7, u32::MAX),
        frame(WINDOW, 0, 7, 1),
        frame(WINDOW, RST, 7, 0),
        frame(PING, ACK, 0, 99),
        frame(GO_AWAY, 0, 0, 0),
    ] {
        assert_eq!(play(&[('>', header)]), Ok(Verdict::Skip), "{header:?}");
    }
    assert_eq!(
        play(&[('>', frame(GO_AWAY, 0, 0, 2))]),
        Ok(Verdict::Deliver)
    );
}

#[test]
fn a_pong_is_delivered_once_and_only_to_its_ping() {
    let ping = ('<', frame(PING, SYN, 0, 3));
    let pong = ('>', frame(PING, ACK, 0, 3));
    assert_eq!(play(&[ping, pong]), Ok(Verdict::Deliver));
    assert_eq!(play(&[ping, pong, pong]), Ok(Verdict::Skip));
    assert_eq!(
        play(&[ping, ('>', frame(PING, ACK, 0, 4)), pong]),
        Ok(Verdict::Deliver)
    );
}

#[test]
fn streams_that_the_peer_never_ends_are_limited() {
    let mut referee = Referee::new(2);
    for id in [1, 3] {
        referee.received(&frame(WINDOW, SYN, id, 0)).unwrap();
        referee.sent(&frame(WINDOW, FIN, id, 0));
    }
    let fifth = frame(WINDOW, SYN, 5, 0);
    assert_eq!(referee.received(&fifth), Err(Violation::Abandoned(2)));

    let mut referee = Referee::new(2);
    for id in (1..2001).step_by(2) {
        referee.received(&frame(WINDOW, SYN, id, 0)).unwrap();
        referee.sent(&frame(DATA, RST, id, 0));
    }
    assert_eq!(referee.streams.len(), 0);
}

proptest! {
    #[test]
    fn any_frames_give_a_verdict_within_the_limit(
        frames in prop::collection::vec((any::<bool>(), 0u8..4, 0u16..16, 0u32..12, any::<u32>()), 0..200),
    ) {
        let mut referee = Referee::new(3);
        for (sent, kind, flags, stream, length) in frames {
            let header = frame(kind, flags, stream, length);
            if sent {
                referee.sent(&header);
            } else if referee.received(&header).is_err() {
                break;
            }
            prop_assert!(referee.streams.len() <= 3);
        }
    }
}
