use super::*;
use crate::buffer::batch::tests::arrival;

const ONE: Limits = Limits {
    max_batches: 1,
    max_bytes: 100,
};
const DEADLINE: Duration = Duration::from_secs(5);

fn buffer(limits: Limits, when_full: WhenFull) -> Arc<Buffer> {
    Buffer::new(limits, when_full, Ledger::new())
}

/// Takes the next cargo, ends all of it as forwarded and returns how many logs each of its batches had.
async fn forward(buffer: &Buffer) -> Vec<u64> {
    let mut cargo = buffer.take(u64::MAX).await;
    let logs = cargo
        .front(usize::MAX)
        .map(|batch| batch.tally().logs)
        .collect();
    let count = cargo.len();
    buffer.ledger().launch(cargo.front_mut(count));
    buffer.ledger().forwarded(cargo.remove_front(count));
    settle(buffer, cargo);
    logs
}

/// Ends a cargo, and lets its lane give again.
fn settle(buffer: &Buffer, cargo: Cargo) {
    if let Some(lane) = buffer.settle(cargo, 1) {
        buffer.rouse(lane);
    }
}

#[tokio::test]
async fn drop_newest_keeps_what_was_there() {
    let buffer = buffer(ONE, WhenFull::DropNewest);
    buffer.receive(arrival(b"s", 1)).await;
    buffer.receive(arrival(b"s", 2)).await;
    assert_eq!(forward(&buffer).await, [1]);
    let books = buffer.ledger().snapshot();
    assert_eq!(books.dropped(DropReason::BufferFull).logs, 2);
    assert_eq!(books.imbalance(), 0);
}

#[tokio::test]
async fn drop_oldest_makes_room_for_what_comes() {
    let buffer = buffer(ONE, WhenFull::DropOldest);
    buffer.receive(arrival(b"s", 1)).await;
    buffer.receive(arrival(b"t", 2)).await;
    assert_eq!(forward(&buffer).await, [2]);
    let books = buffer.ledger().snapshot();
    assert_eq!(books.dropped(DropReason::BufferFull).logs, 1);
    assert_eq!(books.imbalance(), 0);
}

#[tokio::test]
async fn drop_oldest_drops_what_comes_when_all_is_out() {
    let buffer = buffer(ONE, WhenFull::DropOldest);
    buffer.receive(arrival(b"s", 1)).await;
    let cargo = buffer.take(u64::MAX).await;
    buffer.receive(arrival(b"s", 2)).await;
    assert_eq!(
        buffer
            .ledger()
            .snapshot()
            .dropped(DropReason::BufferFull)
            .logs,
        2
    );
    settle(&buffer, cargo);
    assert_eq!(forward(&buffer).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn block_waits_for_room() {
    let buffer = buffer(ONE, WhenFull::Block { deadline: DEADLINE });
    buffer.receive(arrival(b"s", 1)).await;
    let (_, first) = tokio::join!(buffer.receive(arrival(b"s", 2)), forward(&buffer));
    assert_eq!(first, [1]);
    assert_eq!(forward(&buffer).await, [2]);
    assert_eq!(buffer.ledger().snapshot().dropped_in_all().logs, 0);
}

#[tokio::test(start_paused = true)]
async fn block_drops_the_newest_at_its_deadline() {
    let buffer = buffer(ONE, WhenFull::Block { deadline: DEADLINE });
    buffer.receive(arrival(b"s", 1)).await;
    let before = Instant::now();
    buffer.receive(arrival(b"s", 2)).await;
    assert_eq!(before.elapsed(), DEADLINE);
    assert_eq!(
        buffer
            .ledger()
            .snapshot()
            .dropped(DropReason::BufferFull)
            .logs,
        2
    );
    assert_eq!(forward(&buffer).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn room_for_many_wakes_all_who_wait() {
    let limits = Limits {
        max_batches: 10,
        max_bytes: 10,
    };
    let buffer = buffer(limits, WhenFull::Block { deadline: DEADLINE });
    buffer.receive(arrival(b"s", 10)).await;
    let before = Instant::now();
    tokio::join!(
        buffer.receive(arrival(b"a", 1)),
        buffer.receive(arrival(b"b", 1)),
        buffer.receive(arrival(b"c", 1)),
        forward(&buffer),
    );
    assert_eq!(
        before.elapsed(),
        Duration::ZERO,
        "no one waited for the deadline"
    );
    assert_eq!(buffer.ledger().snapshot().dropped_in_all().logs, 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_first_is_served_first() {
    let limits = Limits {
        max_batches: 10,
        max_bytes: 10,
    };
    let buffer = buffer(limits, WhenFull::Block { deadline: DEADLINE });
    buffer.receive(arrival(b"s", 4)).await;
    buffer.receive(arrival(b"t", 6)).await;
    // The large one waits first. The room that the first cargo leaves is enough for the small one only.
    let (_, _, first) = tokio::join!(
        buffer.receive(arrival(b"large", 8)),
        buffer.receive(arrival(b"small", 1)),
        async {
            let first = forward(&buffer).await;
            let books = buffer.ledger().snapshot();
            assert_eq!(books.in_memory.batches, 3, "nobody passed the large one");
            assert_eq!(forward(&buffer).await, [6]);
            first
        },
    );
    assert_eq!(first, [4]);
    assert_eq!(forward(&buffer).await, [8]);
    assert_eq!(forward(&buffer).await, [1]);
    assert_eq!(buffer.ledger().snapshot().dropped_in_all().logs, 0);
}

#[tokio::test(start_paused = true)]
async fn a_close_lets_everybody_go_who_waits() {
    let buffer = buffer(ONE, WhenFull::Block { deadline: DEADLINE });
    buffer.receive(arrival(b"s", 1)).await;
    let before = Instant::now();
    tokio::join!(
        buffer.receive(arrival(b"a", 2)),
        buffer.receive(arrival(b"b", 4)),
        async { buffer.close() },
    );
    assert_eq!(before.elapsed(), Duration::ZERO);
    let books = buffer.ledger().snapshot();
    assert_eq!(books.dropped(DropReason::Shutdown).logs, 7);
}

#[tokio::test]
async fn drop_oldest_spares_what_waits_when_it_would_not_help() {
    let limits = Limits {
        max_batches: 10,
        max_bytes: 10,
    };
    let buffer = buffer(limits, WhenFull::DropOldest);
    buffer.receive(arrival(b"s", 6)).await;
    let cargo = buffer.take(u64::MAX).await;
    buffer.receive(arrival(b"t", 2)).await;
    buffer.receive(arrival(b"u", 5)).await;
    let books = buffer.ledger().snapshot();
    assert_eq!(
        books.dropped(DropReason::BufferFull).logs,
        5,
        "the new one alone"
    );
    settle(&buffer, cargo);
}

#[tokio::test(start_paused = true)]
async fn an_expiry_that_empties_the_buffer_ends_the_wait_for_that() {
    let buffer = buffer(ONE, WhenFull::DropNewest);
    buffer.receive(arrival(b"s", 1)).await;
    tokio::join!(buffer.idle(), async { buffer.expire(Instant::now()) });
}

#[tokio::test]
async fn what_comes_back_is_delivered_before_what_came_later() {
    let buffer = buffer(
        Limits {
            max_batches: 9,
            max_bytes: 100,
        },
        WhenFull::DropNewest,
    );
    buffer.receive(arrival(b"s", 1)).await;
    let cargo = buffer.take(u64::MAX).await;
    buffer.receive(arrival(b"s", 2)).await;
    settle(&buffer, cargo);
    assert_eq!(forward(&buffer).await, [1, 2]);
}

#[tokio::test]
async fn a_lane_without_a_backlog_rests_until_it_is_roused() {
    let buffer = buffer(
        Limits {
            max_batches: 9,
            max_bytes: 100,
        },
        WhenFull::DropNewest,
    );
    buffer.receive(arrival(b"s", 1)).await;
    let mut cargo = buffer.take(u64::MAX).await;
    buffer.ledger().forwarded(cargo.remove_front(1));
    let resting = buffer.settle(cargo, 1).expect("nothing is left");
    buffer.receive(arrival(b"s", 2)).await;
    buffer.receive(arrival(b"t", 3)).await;
    assert_eq!(forward(&buffer).await, [3], "other lanes give");
    buffer.receive(arrival(b"s", 4)).await;
    buffer.rouse(resting);
    assert_eq!(forward(&buffer).await, [2, 4]);
}

#[tokio::test]
async fn a_closed_buffer_counts_everything_as_lost_at_shutdown() {
    let buffer = buffer(
        Limits {
            max_batches: 9,
            max_bytes: 100,
        },
        WhenFull::DropNewest,
    );
    buffer.receive(arrival(b"s", 1)).await;
    let cargo = buffer.take(u64::MAX).await;
    buffer.receive(arrival(b"t", 2)).await;
    buffer.close();
    buffer.receive(arrival(b"u", 4)).await;
    assert_eq!(
        buffer
            .ledger()
            .snapshot()
            .dropped(DropReason::Shutdown)
            .logs,
        6
    );
    settle(&buffer, cargo);
    let books = buffer.ledger().snapshot();
    assert_eq!(books.dropped(DropReason::Shutdown).logs, 7);
    assert_eq!((books.in_memory.logs, books.imbalance()), (0, 0));
    buffer.idle().await;
}

#[tokio::test(start_paused = true)]
async fn expiry_takes_only_what_is_too_old() {
    let buffer = buffer(
        Limits {
            max_batches: 9,
            max_bytes: 100,
        },
        WhenFull::DropNewest,
    );
    buffer.receive(arrival(b"s", 1)).await;
    tokio::time::advance(DEADLINE).await;
    buffer.receive(arrival(b"s", 2)).await;
    buffer.expire(Instant::now() - DEADLINE);
    assert_eq!(
        buffer.ledger().snapshot().dropped(DropReason::Expired).logs,
        1
    );
    assert_eq!(forward(&buffer).await, [2]);
}
