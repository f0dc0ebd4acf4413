//! What each input does: the table of errors, counters, splits, lanes.

use std::io::Write;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::buffer::batch::LaneKey;
use crate::ingest::Activity;

/// Waits until the other side has closed; it must not have written anything.
async fn closed(mut sender: UnixStream) {
    let mut byte = [0; 1];
    let read = timeout(PATIENCE, sender.read(&mut byte)).await.unwrap();
    // Closing with bytes unread resets the connection.
    let reset = |error: io::Error| error.kind() == io::ErrorKind::ConnectionReset;
    assert!(read.map_or_else(reset, |read| read == 0));
}

struct Row {
    what: &'static str,
    input: Vec<u8>,
    counter: Option<&'static str>,
    received: u64,
}

fn row(what: &'static str, input: &[u8], counter: Option<&'static str>, received: u64) -> Row {
    Row {
        what,
        input: input.to_vec(),
        counter,
        received,
    }
}

fn expected(row: &Row) -> Vec<(String, u64)> {
    row.counter
        .iter()
        .map(|reason| ((*reason).to_owned(), 1))
        .collect()
}

#[tokio::test]
async fn a_header_that_is_wrong_closes_its_connection() {
    let mut behind = batch("s", 1);
    behind.extend([3, 0, 0, 1, 0]);
    let rows = [
        row("tag 0, a V0 header", &[0, 0, 0, 0x3c], Some("tag"), 0),
        row("tag 3", &[3, 0, 0, 0], Some("tag"), 0),
        row("tag 255 and a giant length", &[0xff; 4], Some("tag"), 0),
        row(
            "V1, one byte too many",
            &[1, 0, 0x80, 1],
            Some("too_large"),
            0,
        ),
        row("V2, 16 MiB", &[2, 0xff, 0xff, 0xff], Some("too_large"), 0),
        row("behind a good frame", &behind, Some("tag"), 1),
    ];
    for row in rows {
        let rig = Rig::start();
        let mut sender = rig.connect().await;
        sender.write_all(&row.input).await.unwrap();
        closed(sender).await;
        assert_eq!(rig.rejected(), expected(&row), "{}", row.what);
        assert_eq!(
            rig.stopped().await.received.batches,
            row.received,
            "{}",
            row.what
        );
    }
}

#[tokio::test]
async fn a_frame_that_is_wrong_costs_only_itself() {
    let bad_text = frame(1, &field(2, b"\xff"));
    let rows = [
        row(
            "V1 that does not decode",
            &frame(1, &[0x0a]),
            Some("undecodable"),
            0,
        ),
        row(
            "V1 with text that is not UTF-8",
            &bad_text,
            Some("undecodable"),
            0,
        ),
        row(
            "V2 that does not decode",
            &frame(2, &[0x07]),
            Some("undecodable"),
            0,
        ),
        row(
            "V2 with an empty envelope",
            &frame(2, &[]),
            Some("empty"),
            0,
        ),
        row(
            "V2 with an unknown member",
            &frame(2, &field(3, b"x")),
            Some("empty"),
            0,
        ),
        row("V1 with length 0", &[1, 0, 0, 0], None, 1),
        row(
            "V1 of the largest size",
            &frame(1, &request("", 1, 32_768 - 13)),
            None,
            1,
        ),
    ];
    for row in rows {
        let rig = Rig::start();
        let mut sender = rig.connect().await;
        sender.write_all(&row.input).await.unwrap();
        sender.write_all(&batch("s", 2)).await.unwrap();
        until(row.what, || {
            rig.books().received.batches == row.received + 1
        })
        .await;
        assert_eq!(rig.rejected(), expected(&row), "{}", row.what);
        assert_eq!(rig.sample("weir_connections", ""), 1, "{}", row.what);
    }
}

#[tokio::test]
async fn the_end_of_a_connection_is_judged_by_where_it_comes() {
    let whole = batch("s", 1);
    let mut header_behind = whole.clone();
    header_behind.extend(&whole[..4]);
    let rows = [
        row("no byte at all", &[], None, 0),
        row("after a frame", &whole, None, 1),
        row("after a header", &whole[..4], None, 0),
        row("after a frame and a header", &header_behind, None, 1),
        row("in a header", &whole[..2], Some("truncated"), 0),
        row("in a payload", &whole[..5], Some("truncated"), 0),
        row(
            "before the last byte",
            &whole[..whole.len() - 1],
            Some("truncated"),
            0,
        ),
    ];
    for row in rows {
        let rig = Rig::start();
        let mut sender = rig.connect().await;
        sender.write_all(&row.input).await.unwrap();
        sender.shutdown().await.unwrap();
        closed(sender).await;
        assert_eq!(rig.rejected(), expected(&row), "{}", row.what);
        assert_eq!(
            rig.stopped().await.received.batches,
            row.received,
            "{}",
            row.what
        );
    }
}

#[tokio::test]
async fn a_connection_that_fails_is_judged_like_one_that_ends() {
    for (sent, counter) in [(4, None), (5, Some("truncated"))] {
        let rig = Rig::start();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        // A peer that closes without reading this resets the connection.
        ours.try_write(b"x").unwrap();
        theirs.write_all(&batch("s", 1)[..sent]).await.unwrap();
        drop(theirs);
        timeout(PATIENCE, rig.serve(ours)).await.unwrap();
        let rejected = rig.rejected();
        assert_eq!(rejected.first().map(|(reason, _)| reason.as_str()), counter);
    }
}

#[tokio::test]
async fn frames_survive_any_split() {
    let mut stream = batch("s", 3);
    stream.extend(frame(1, &request("", 2, 10)));
    stream.extend(frame(2, &field(2, &[8, 5, 16, 3])));
    stream.extend(batch("t", 1));
    let halves = (1..stream.len()).map(|at| vec![&stream[..at], &stream[at..]]);
    let bytes = stream.chunks(1).collect();
    for parts in halves.chain([bytes]) {
        let rig = Rig::start();
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let watched = ours.try_clone().unwrap();
        let serving = tokio::spawn(rig.serve(UnixStream::from_std(ours).unwrap()));
        for part in parts {
            theirs.write_all(part).unwrap();
            until("the part is read", || {
                rustix::io::ioctl_fionread(&watched).unwrap() == 0
            })
            .await;
        }
        drop(theirs);
        timeout(PATIENCE, serving).await.unwrap().unwrap();
        let books = rig.books();
        assert_eq!((books.received.batches, books.received.logs), (3, 6));
        assert_eq!((books.sender_channel_full, books.sender_batch_full), (5, 3));
        assert_eq!(rig.rejected(), []);
    }
}

#[tokio::test]
async fn lanes_are_sessions_or_else_connections() {
    let rig = Rig::start();
    let mut senders = [rig.connect().await, rig.connect().await];
    for (sender, session) in [(0, "s"), (1, "s"), (0, ""), (1, "")] {
        let before = rig.books().received.batches;
        senders[sender].write_all(&batch(session, 1)).await.unwrap();
        until("it is received", || rig.books().received.batches > before).await;
    }
    let mut lanes = Vec::new();
    for _ in 0..3 {
        let cargo = rig.buffer.take(u64::MAX).await;
        lanes.push((cargo.front(1).next().unwrap().lane().clone(), cargo.len()));
        forward(&rig.buffer, cargo);
    }
    let session = LaneKey::Session("s".into());
    let expected = [
        (session, 2),
        (LaneKey::Connection(1), 1),
        (LaneKey::Connection(2), 1),
    ];
    assert_eq!(lanes, expected);
}

#[tokio::test]
async fn the_payload_is_the_senders_own_bytes() {
    let rig = Rig::start();
    let mut sender = rig.connect().await;
    // A small one in a chunk full of others is the one that gets memory of its own.
    let payloads = [
        request("s", 10, 200),
        request("s", 1, 1),
        request("s", 60, 200),
        vec![],
    ];
    let mut stream = Vec::new();
    for payload in &payloads {
        stream.extend(frame(1, payload));
    }
    sender.write_all(&stream).await.unwrap();
    until("all is received", || rig.books().received.batches == 4).await;
    let mut seen = Vec::new();
    while seen.len() < payloads.len() {
        let cargo = rig.buffer.take(u64::MAX).await;
        seen.extend(
            cargo
                .front(cargo.len())
                .map(|batch| batch.payload().to_vec()),
        );
        forward(&rig.buffer, cargo);
    }
    assert_eq!(seen, payloads);
}

#[tokio::test]
async fn a_small_batch_does_not_keep_a_large_chunk() {
    let rig = Rig::start();
    let mut sender = rig.connect().await;
    let large = request("", 10, 250);
    let small = request("", 1, 20);
    sender
        .write_all(&[frame(1, &small), frame(1, &large)].concat())
        .await
        .unwrap();
    until("both are received", || rig.books().received.batches == 2).await;
    assert_eq!(
        unshared(&rig).await,
        [true, true],
        "each has memory of its own"
    );

    // Of like size, they are left where they were read.
    sender.write_all(&frame(1, &large).repeat(2)).await.unwrap();
    until("both are received", || rig.books().received.batches == 4).await;
    assert_eq!(unshared(&rig).await, [false, false]);
}

/// For each batch of the next cargo, whether nothing else holds the memory it is in.
async fn unshared(rig: &Rig) -> Vec<bool> {
    let cargo = rig.buffer.take(u64::MAX).await;
    let unshared = cargo
        .front(cargo.len())
        .map(|batch| batch.payload().is_unique())
        .collect();
    forward(&rig.buffer, cargo);
    unshared
}

#[tokio::test]
async fn a_status_is_counted_and_not_forwarded() {
    let rig = Rig::start();
    let mut sender = rig.connect().await;
    let status = [0x02, 0, 0, 0x06, 0x12, 0x04, 0x08, 0x05, 0x10, 0x03];
    sender.write_all(&status).await.unwrap();
    sender.write_all(&status).await.unwrap();
    until("both are read", || rig.books().sender_batch_full == 6).await;
    let books = rig.books();
    assert_eq!((books.sender_channel_full, books.received.batches), (10, 0));
}

#[tokio::test]
async fn senders_are_shown_as_long_as_they_are_connected() {
    let rig = Rig::start();
    let before = tokio::time::Instant::now();
    let mut sender = rig.connect().await;
    for input in [
        batch("s", 3),
        batch("s", 4),
        frame(2, &[]),
        frame(2, &field(2, &[8, 1])),
    ] {
        sender.write_all(&input).await.unwrap();
    }
    until("all is read", || rig.books().sender_channel_full == 1).await;
    until("it is shown", || {
        rig.senders
            .snapshot()
            .first()
            .is_some_and(|sender| sender.activity.frames == 3)
    })
    .await;
    let shown = rig.senders.snapshot().remove(0);
    let pid = i32::try_from(std::process::id()).unwrap();
    assert_eq!((shown.number, shown.pid), (1, Some(pid)));
    assert_eq!(shown.uid, Some(rustix::process::getuid().as_raw()));
    let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(shown.command.as_deref(), Some(comm.trim_end()));
    let last_frame_at = shown.activity.last_frame_at;
    assert!(before <= shown.connected_at && Some(shown.connected_at) <= last_frame_at);
    let expected = Activity {
        frames: 3,
        logs: 7,
        rejected: 1,
        last_frame_at,
    };
    assert_eq!(shown.activity, expected);

    drop(sender);
    until("it has left", || rig.senders.snapshot().is_empty()).await;
    assert_eq!(rig.sample("weir_connections", ""), 0);
    assert_eq!(rig.sample("weir_connections_total", ""), 1);
}
