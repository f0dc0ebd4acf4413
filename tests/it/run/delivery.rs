//! What senders write arrives, byte for byte, while the books balance at every moment.

use std::collections::HashMap;

use futures_util::future::join_all;
use ring::digest::{Context, SHA256};

use crate::support::coderd::Coderd;
use crate::support::page::Page;
use crate::support::plane::{Delivered, Plane, WeirPlane};
use crate::support::sender::{Sender, Session, hex, unhex};
use crate::support::sidecar::Sidecar;
use weir::upstream::Transport;

on_each_plane![sessions_and_nameless_senders_keep_apart];

over_each_transport![
    frames_of_real_senders_arrive_byte_for_byte("-keep-raw"),
    the_books_balance_at_every_scrape_while_logs_pass("-rtt", "4ms"),
];

/// Frames that real senders wrote: name and bytes.
fn captured() -> Vec<(&'static str, Vec<u8>)> {
    include_str!("../../data/boundary-frames.txt")
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| *name != "#")
        .map(|(name, frame)| (name, unhex(frame)))
        .collect()
}

/// The `ReportBoundaryLogsRequest` in a frame, taken out by its place alone; `None` for a status.
fn request_in(frame: &[u8]) -> Option<&[u8]> {
    let (tag, mut payload) = (frame[0], &frame[4..]);
    if tag == 1 {
        return Some(payload);
    }
    let key = payload[0];
    payload = &payload[1..];
    let length = prost::encoding::decode_varint(&mut payload).unwrap();
    assert_eq!(length, payload.len() as u64);
    (key == 0x0a).then_some(payload)
}

/// The sessions of the captured frames; two releases had none yet.
const CAPTURED_SESSIONS: [&str; 3] = [
    "8ae37a78-2ec7-4c53-8ef6-92b5543c8748",
    "d6e36e9c-d6e5-4f39-babd-e62a73f1cfe7",
    "",
];

async fn frames_of_real_senders_arrive_byte_for_byte(coderd: Coderd) {
    frames_of_real_senders_arrive(&coderd).await;
    // Requests of one session may have been joined: what was sent must be the concatenation, in order.
    for session in CAPTURED_SESSIONS {
        let sent: String = requests_of(session)
            .iter()
            .map(|request| hex(request))
            .collect();
        assert!(!sent.is_empty());
        assert_eq!(coderd.raw(session).await.concat(), sent, "{session:?}");
    }
}

#[tokio::test]
async fn frames_of_real_senders_arrive_at_our_own_control_plane_too() {
    frames_of_real_senders_arrive(&WeirPlane::start()).await;
    frames_of_real_senders_arrive(&WeirPlane::over(Transport::Grpc)).await;
}

async fn frames_of_real_senders_arrive(plane: &impl Plane) {
    let sidecar = Sidecar::of(plane).start().await;
    let frames = captured();
    assert_eq!(frames.len(), 7);
    let mut sender = Sender::connect(&sidecar.socket).await;
    for (_, frame) in &frames {
        sender.send(frame).await;
    }
    let page = sidecar.forwarded(17).await;
    assert_eq!(page.count("weir_batches_forwarded_total"), 5);
    assert_eq!(page.dropped("logs", "channel_full"), 340);
    assert_eq!(page.dropped("logs", "batch_full"), 16);
    sidecar.stop_clean().await;
    plane.expect_clean_wire().await;
    let expected = CAPTURED_SESSIONS.map(|session| (session.to_owned(), all_of(session)));
    assert_eq!(plane.sessions().await, HashMap::from(expected));
}

/// The captured requests of a session.
fn requests_of(session: &str) -> Vec<Vec<u8>> {
    let frames = captured();
    let requests = frames.iter().filter_map(|(_, frame)| request_in(frame));
    requests
        .filter(|request| session_of(request) == session)
        .map(<[u8]>::to_vec)
        .collect()
}

/// What must arrive of a captured session.
fn all_of(session: &str) -> Delivered {
    let mut delivered = Delivered::default();
    let mut sum = Context::new(&SHA256);
    for request in requests_of(session) {
        let mut rest = &request[..];
        // Its logs come first.
        while let [0x0a, behind @ ..] = rest {
            rest = behind;
            let length = prost::encoding::decode_varint(&mut rest).unwrap();
            let (log, behind) = rest.split_at(usize::try_from(length).unwrap());
            sum.update(log);
            delivered.distinct += 1;
            rest = behind;
        }
    }
    delivered.sha256 = hex(sum.finish().as_ref());
    delivered
}

/// The session id of a request, found as the longest tail of text; empty when there is none.
fn session_of(request: &[u8]) -> &str {
    let tail = &request[request.len() - 38..];
    match tail {
        [0x12, 36, id @ ..] => str::from_utf8(id).unwrap(),
        _ => "",
    }
}

async fn the_books_balance_at_every_scrape_while_logs_pass(coderd: Coderd) {
    the_books_balance(&coderd).await;
}

#[tokio::test]
async fn the_books_balance_with_our_own_control_plane_too() {
    the_books_balance(&WeirPlane::start()).await;
    the_books_balance(&WeirPlane::over(Transport::Grpc)).await;
}

/// Scrapes in a tight loop, in turn on both addresses, while eight sessions send.
async fn the_books_balance(plane: &impl Plane) {
    const BATCHES: u64 = 2_000;
    let sidecar = Sidecar::of(plane)
        .flag("--when-full", "block")
        .flag("--block-deadline", "10min")
        .flag("--buffer-max-batches", 300)
        .flag("--coalesce-max-bytes", "32KiB")
        .start()
        .await;
    let mut sessions: Vec<_> = (0..8).map(|at| Session::new(&format!("s{at}"))).collect();
    let senders = join_all(sessions.iter_mut().map(async |session| {
        let mut sender = Sender::connect(&sidecar.socket).await;
        for _ in 0..BATCHES {
            sender.send(&session.batch()).await;
        }
    }));
    let all = 8 * 10 * BATCHES;
    let scrapes = async {
        let (mut pages, mut in_memory, mut in_flight) = (0, 0, 0);
        let mut forwarded = 0;
        while forwarded < all {
            let page = match pages % 2 {
                0 => sidecar.page().await,
                _ => sidecar.api_page().await,
            };
            let moment = |stage: &str| u64::from(page.count(stage) > 0);
            in_memory += moment("weir_logs_in_memory");
            in_flight += moment("weir_logs_in_flight");
            pages += 1;
            let now = page.count("weir_logs_forwarded_total");
            assert!(
                now >= forwarded,
                "a counter went back from {forwarded} to {now}"
            );
            forwarded = now;
        }
        (pages, in_memory, in_flight)
    };
    let (_, (pages, in_memory, in_flight)) = tokio::join!(senders, scrapes);
    // Else the loop has looked at a sidecar that was idle.
    for seen in [in_memory, in_flight] {
        assert!(
            seen > pages / 4 && seen > 10,
            "{in_memory} and {in_flight} of {pages} pages"
        );
    }
    sidecar.forwarded(all).await;
    for session in &sessions {
        assert_eq!(plane.delivered(&session.id).await, session.whole());
    }
    let ended = sidecar.stop_clean().await;
    assert_eq!(ended.number("forwarded_logs"), all);
    plane.expect_clean_wire().await;
}

async fn sessions_and_nameless_senders_keep_apart(plane: impl Plane) {
    let sidecar = Sidecar::of(&plane).start().await;
    // Two connections of one session, as when a sender has reconnected, and two of senders without one.
    let nameless = unhex("010000180a16080112060880f2d6ca061a0a0a034745541203782f79");
    let mut session = Session::new("shared");
    for logs in [3, 4] {
        let mut sender = Sender::connect(&sidecar.socket).await;
        sender.send(&session.frame(logs)).await;
        sender.send(&nameless).await;
        sidecar
            .wait_for("both batches", |page: &Page| {
                page.count("weir_batches_received_total") >= if logs == 3 { 2 } else { 4 }
            })
            .await;
    }
    sidecar.forwarded(9).await;
    assert_eq!(plane.delivered("shared").await, session.whole());
    let mut sum = Context::new(&SHA256);
    for _ in 0..2 {
        // Behind the header of the frame, and the key and the length of the log.
        sum.update(&nameless[6..]);
    }
    let both = Delivered {
        distinct: 2,
        sha256: hex(sum.finish().as_ref()),
        ..Delivered::default()
    };
    assert_eq!(plane.delivered("").await, both);
    sidecar.stop_clean().await;
    plane.expect_clean_wire().await;
}
