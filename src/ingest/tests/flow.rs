//! Backpressure, and fairness between senders.

use std::io::Write;

use tokio::io::AsyncWriteExt;

use super::*;

const BLOCK: WhenFull = WhenFull::Block {
    deadline: Duration::from_secs(3600),
};

const FOUR: Limits = Limits {
    max_batches: 4,
    max_bytes: 1 << 20,
};

/// More than the kernel holds for one connection.
const MANY: u64 = 1000;

#[tokio::test]
async fn a_sender_waits_while_the_buffer_is_full_and_loses_nothing() {
    let rig = Rig::with(FOUR, BLOCK);
    let mut sender = rig.connect().await;
    let writing = tokio::spawn(async move {
        for _ in 0..MANY {
            sender
                .write_all(&frame(1, &request("s", 4, 250)))
                .await
                .unwrap();
        }
    });
    until("the buffer is full", || rig.books().received.batches == 5).await;
    for _ in 0..1000 {
        yield_now().await;
    }
    assert_eq!(
        rig.books().received.batches,
        5,
        "four that fit and one that waits"
    );
    assert!(!writing.is_finished());

    let forwarding = tokio::spawn(forward_all(Arc::clone(&rig.buffer)));
    timeout(PATIENCE, writing).await.unwrap().unwrap();
    let books = rig.stopped().await;
    assert_eq!(books.received.batches, MANY);
    assert_eq!(books.dropped_in_all().batches, 0);
    forwarding.abort();
}

#[tokio::test]
async fn stopping_frees_a_sender_that_waits_and_counts_what_was_read() {
    let rig = Rig::with(FOUR, BLOCK);
    let path = rig.path();
    let mut sender = rig.connect().await;
    let writing = tokio::spawn(async move {
        let mut written: u64 = 0;
        while sender
            .write_all(&frame(1, &request("s", 4, 250)))
            .await
            .is_ok()
        {
            written += 1;
        }
        written
    });
    until("the buffer is full", || rig.books().received.batches == 5).await;
    rig.stop.cancel();
    until("connects are refused", || {
        let connected = std::os::unix::net::UnixStream::connect(&path);
        connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    })
    .await;
    assert!(
        !rig.running.is_finished(),
        "what the kernel holds is still to be read"
    );
    rig.buffer.close();
    // The sender would write for ever: only the shutdown of its connection ends this.
    let written = timeout(PATIENCE, writing).await.unwrap().unwrap();
    let books = rig.stopped().await;
    assert_eq!(books.received.batches, written);
    assert_eq!(books.dropped_in_all(), books.received);
}

/// How many batches of others are received before the one of a sender that came last.
async fn batches_before_the_polite_one(flood: &[u8]) -> u64 {
    let rig = Rig::start();
    let mut rude = std::os::unix::net::UnixStream::connect(rig.path()).unwrap();
    rude.set_nonblocking(true).unwrap();
    let mut queued = 0;
    while let Ok(written) = rude.write(flood) {
        queued += written;
    }
    assert!(queued > 100_000, "the kernel holds {queued} bytes");
    let mut polite = std::os::unix::net::UnixStream::connect(rig.path()).unwrap();
    polite.write_all(&batch("polite", 1)).unwrap();
    until("the polite one is read", || rig.books().received.logs == 1).await;
    rig.books().received.batches - 1
}

#[tokio::test]
async fn a_flood_of_small_frames_does_not_starve_others() {
    let before = batches_before_the_polite_one(&[1, 0, 0, 0].repeat(4096)).await;
    assert!((1..1000).contains(&before), "{before} empty batches");
}

#[tokio::test]
async fn a_flood_of_large_frames_does_not_starve_others() {
    // Frames without logs: an unknown field of 2.6 kB.
    let one = frame(1, &field(15, &[0; 2600]));
    let before = batches_before_the_polite_one(&one.repeat(6)).await;
    assert!((1..20).contains(&before), "{before} batches");
}

#[tokio::test]
async fn hostile_senders_cost_only_themselves() {
    let rig = Rig::start();
    let mut hostile = Vec::new();
    let kinds: [&[u8]; 5] = [
        &[9; 64],
        &[1, 0xff, 0, 0],
        &[2, 0, 0, 1, 7],
        &[1, 0, 0x80, 0, 5],
        &[1],
    ];
    for kind in kinds.iter().cycle().take(50) {
        let mut sender = rig.connect().await;
        sender.write_all(kind).await.unwrap();
        hostile.push(sender);
    }
    let mut polite = rig.connect().await;
    for _ in 0..100 {
        polite.write_all(&batch("polite", 10)).await.unwrap();
    }
    until("all of the polite one is read", || {
        rig.books().received.logs == 1000
    })
    .await;
    let counts: Vec<_> = rig.rejected().into_iter().map(|(_, count)| count).collect();
    assert_eq!(counts, [10, 10, 10], "tag, too_large, undecodable");
    until("the broken ones are closed", || {
        rig.sample("weir_connections", "") == 31
    })
    .await;
    drop(hostile);
    assert_eq!(rig.stopped().await.received.batches, 100);
}
