//! Queue, thread and log together, turn by turn, over a directory that fails when it is told to.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::runtime;

use super::super::way;
use super::*;
use crate::buffer::WhenFull;
use crate::buffer::batch::{Arrival, LaneKey};
use crate::buffer::ledger::{Ledger, Snapshot};
use crate::buffer::queue::Limits;
use crate::spool::memory::{Left, Memory};
use crate::wire::boundary::Summary;

const LIMITS: Limits = Limits {
    max_batches: 4,
    max_bytes: 400,
};

/// What is made of a buffer, its spool, and the directory below.
struct Rig {
    storage: Memory,
    spooler: Spooler<Memory>,
    runtime: runtime::Runtime,
    sync: SpoolSync,
    when_full: WhenFull,
    next: u8,
    /// The last number that was delivered of each lane.
    delivered: BTreeMap<u8, u8>,
    /// Batches of processes that were killed, of which nobody knows what became.
    unaccounted: u64,
}

impl Rig {
    fn new(sync: SpoolSync, when_full: WhenFull) -> Self {
        let storage = Memory::default();
        Self {
            spooler: start(&storage, sync, when_full),
            storage,
            runtime: runtime::Builder::new_current_thread().build().unwrap(),
            sync,
            when_full,
            next: 1,
            delivered: BTreeMap::new(),
            unaccounted: 0,
        }
    }

    /// Receives a batch of a lane and lets the thread take its turn.
    fn receive(&mut self, lane: u8) {
        let arrival = arrival(lane, self.next);
        self.next += 1;
        self.runtime.block_on(self.spooler.buffer.receive(arrival));
        self.turn();
    }

    fn turn(&mut self) {
        let come: Vec<_> = self.spooler.ends.parcels.try_iter().collect();
        self.spooler.waiting.extend(come);
        self.spooler.turn();
        self.check();
    }

    /// Delivers the next cargo, or has its link fail; `false` when there is none.
    fn forward(&mut self, delivers: bool) -> bool {
        let buffer = Arc::clone(&self.spooler.buffer);
        let taken = buffer.state().queue.take(300);
        let Some(mut cargo) = taken else {
            return false;
        };
        let count = cargo.len();
        buffer.ledger().launch(cargo.front_mut(count));
        self.check();
        if delivers {
            for batch in cargo.front(count) {
                let (lane, number) = identity(batch.payload());
                let last = self.delivered.insert(lane, number);
                assert!(
                    last < Some(number),
                    "{number} of {lane} came behind {last:?}"
                );
            }
            buffer.ledger().forwarded(cargo.remove_front(count));
        } else {
            buffer.ledger().land(cargo.front_mut(count));
        }
        if let Some(lane) = buffer.settle(cargo, 0) {
            buffer.rouse(lane);
        }
        self.turn();
        true
    }

    fn tick(&mut self) {
        self.spooler.next_tick = Instant::now();
        self.spooler.resume_at = None;
        self.spooler.reread_at = None;
        self.turn();
    }

    fn check(&self) {
        let books = self.books();
        assert_eq!(books.imbalance(), 0, "{books:?}");
        let unread = self.spooler.log.as_ref().map(Log::unread);
        assert_eq!(books.on_disk, unread.unwrap_or_default());
        // One may be ahead of its room.
        assert!(
            books.in_memory.batches <= LIMITS.max_batches + 1 + self.spooler.waiting.len() as u64
        );
    }

    fn books(&self) -> Snapshot {
        self.spooler.buffer.ledger().snapshot()
    }

    /// Ends this process in order and starts another one.
    fn restart(&mut self) {
        let successor = start(&Memory::default(), self.sync, self.when_full);
        let spooler = std::mem::replace(&mut self.spooler, successor);
        let buffer = Arc::clone(&spooler.buffer);
        buffer.finish_spool();
        spooler.finish();
        let books = buffer.ledger().snapshot();
        assert_eq!((books.imbalance(), books.in_memory.batches), (0, 0));
        self.spooler = start(&self.storage, self.sync, self.when_full);
        let found = self.books();
        assert_eq!(found.received, books.on_disk, "what was put there is found");
        assert_eq!(
            self.spooler.lifetime().unaccounted.batches,
            self.unaccounted
        );
        self.turn();
    }

    /// Kills this process and starts another one.
    fn kill(&mut self) {
        let before = self.books();
        self.storage = self.storage.after(Left::All);
        self.spooler = start(&self.storage, self.sync, self.when_full);
        // What was delivered since the last position comes again.
        self.delivered.clear();
        let found = self.books();
        assert!(found.on_disk.batches >= before.on_disk.batches);
        assert_eq!(found.dropped_in_all().batches, 0);
        self.unaccounted = self.spooler.lifetime().unaccounted.batches;
        self.turn();
    }

    /// Delivers all that is held, and tells how many batches were delivered and dropped since the start.
    fn drain(&mut self) -> (u64, u64) {
        let mut turns = 0;
        while !self.spooler.buffer.state().is_idle() {
            while self.forward(true) {}
            self.tick();
            turns += 1;
            assert!(turns < 1000, "{:?}", self.books());
        }
        let books = self.books();
        (books.forwarded.batches, books.dropped_in_all().batches)
    }

    fn status(&self) -> super::super::SpoolStatus {
        self.spooler.buffer.spool_status().unwrap()
    }
}

fn start(storage: &Memory, sync: SpoolSync, when_full: WhenFull) -> Spooler<Memory> {
    let settings = SpoolSettings {
        dir: "memory".into(),
        max_bytes: 4096,
        sync,
    };
    let (port, ends) = way(&settings);
    let buffer = Buffer::over(LIMITS, when_full, Ledger::new(), Some(port));
    let storage = storage.clone();
    let open = Box::new(move || Ok(storage.clone()));
    Spooler::new(Arc::new(buffer), ends, settings, open)
}

/// A request of one log: the number in its sequence number, the lane in its session.
fn arrival(lane: u8, number: u8) -> Arrival {
    let (low, high) = (0x80 | (number & 0x7f), number >> 7);
    let payload = [0x0a, 3, 0x20, low, high, 0x12, 1, b'a' + lane];
    let payload = Bytes::copy_from_slice(&payload);
    assert_eq!(identity(&payload), (lane, number));
    Arrival {
        lane: LaneKey::Session(payload.slice(7..)),
        logs: 1,
        process: Bytes::new(),
        mergeable: true,
        received_at: Instant::now(),
        payload,
    }
}

fn identity(payload: &Bytes) -> (u8, u8) {
    let summary = Summary::read(payload).unwrap();
    let lane = summary.session_id.of(payload).as_bytes()[0] - b'a';
    let number = *summary.sequences.unwrap().start();
    (lane, u8::try_from(number).unwrap())
}

#[derive(Clone, Debug)]
enum Action {
    Receive { lane: u8 },
    Forward { delivers: bool },
    Tick,
    Link(bool),
    Break(bool),
    Fill(bool),
    Restart,
    Kill,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        12 => (0..3u8).prop_map(|lane| Action::Receive { lane }),
        6 => prop::bool::weighted(0.7).prop_map(|delivers| Action::Forward { delivers }),
        2 => Just(Action::Tick),
        2 => any::<bool>().prop_map(Action::Link),
        1 => any::<bool>().prop_map(Action::Break),
        1 => any::<bool>().prop_map(Action::Fill),
        1 => Just(Action::Restart),
        1 => Just(Action::Kill),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_every_batch_is_accounted_for_and_no_lane_is_disordered(
        actions in prop::collection::vec(action(), 1..120),
        sync in prop::sample::select(&[SpoolSync::Always, SpoolSync::Interval, SpoolSync::Never][..]),
        when_full in prop::sample::select(&[WhenFull::DropNewest, WhenFull::DropOldest][..]),
    ) {
        let mut rig = Rig::new(sync, when_full);
        let repair = |storage: &Memory| {
            storage.set_broken(false);
            storage.set_capacity(None);
        };
        for action in actions {
            match action {
                Action::Receive { lane } => rig.receive(lane),
                Action::Forward { delivers } => {
                    rig.forward(delivers);
                }
                Action::Tick => rig.tick(),
                Action::Link(linked) => rig.spooler.buffer.set_linked(linked),
                Action::Break(broken) => rig.storage.set_broken(broken),
                Action::Fill(full) => {
                    let used = rig.storage.used();
                    rig.storage.set_capacity(full.then_some(used));
                }
                Action::Restart => {
                    repair(&rig.storage);
                    rig.restart();
                }
                Action::Kill => rig.kill(),
            }
        }
        repair(&rig.storage);
        rig.drain();
    }
}

#[test]
fn memory_is_first_the_disk_takes_the_rest_and_all_of_it_comes_in_order() {
    let mut rig = Rig::new(SpoolSync::Interval, WhenFull::DropNewest);
    for _ in 0..4 {
        rig.receive(0);
    }
    assert_eq!(rig.status().head_record, 0, "memory has room");
    for _ in 0..10 {
        rig.receive(0);
    }
    let books = rig.books();
    assert_eq!((books.in_memory.batches, books.on_disk.batches), (5, 9));
    assert_eq!(rig.drain(), (14, 0));
    rig.receive(1);
    assert_eq!(rig.status().head_record, 10, "memory is first again");
}

#[test]
fn with_always_what_counts_as_received_survives_a_kill() {
    let mut rig = Rig::new(SpoolSync::Always, WhenFull::DropNewest);
    for _ in 0..10 {
        rig.receive(0);
    }
    assert_eq!(rig.books().received.batches, 10);
    rig.storage = rig.storage.after(Left::Nothing);
    rig.kill();
    assert_eq!(rig.drain(), (10, 0));
    assert_eq!(rig.books().possible_duplicates, 10, "nobody knows");
}

#[test]
fn what_is_in_memory_when_the_link_is_lost_is_on_disk_at_the_next_tick() {
    let mut rig = Rig::new(SpoolSync::Interval, WhenFull::DropNewest);
    rig.receive(0);
    rig.receive(1);
    rig.tick();
    assert_eq!(rig.status().head_record, 0);
    rig.spooler.buffer.set_linked(false);
    rig.tick();
    let books = rig.books();
    assert_eq!((books.in_memory.batches, books.on_disk.batches), (2, 0));
    assert_eq!(rig.status().head_record, 2);
    rig.kill();
    assert_eq!(rig.drain(), (2, 0));
}

#[test]
fn a_disk_that_fails_is_passed_by_counted_and_used_again() {
    let mut rig = Rig::new(SpoolSync::Always, WhenFull::DropNewest);
    rig.storage.set_broken(true);
    rig.receive(0);
    assert!(!rig.status().available);
    assert_eq!(rig.status().bypassed, 1);
    assert!(rig.status().errors > 0);
    assert_eq!(rig.books().in_memory.batches, 1);
    for _ in 0..5 {
        rig.receive(0);
    }
    assert_eq!(rig.books().dropped(DropReason::SpoolFull).batches, 2);

    rig.storage.set_broken(false);
    rig.tick();
    assert!(rig.status().available);
    assert_eq!(
        rig.status().head_record,
        4,
        "what is in memory is written now"
    );
    rig.restart();
    assert_eq!(rig.drain(), (4, 0));
}

#[test]
fn a_disk_that_cannot_be_read_is_tried_again_before_anything_is_given_up() {
    for recovers in [true, false] {
        let mut rig = Rig::new(SpoolSync::Interval, WhenFull::DropNewest);
        for _ in 0..10 {
            rig.receive(0);
        }
        rig.storage.set_unreadable(true);
        while rig.forward(true) {}
        rig.tick();
        assert_eq!(rig.books().dropped_in_all().batches, 0);
        if recovers {
            rig.storage.set_unreadable(false);
            assert_eq!(rig.drain(), (10, 0));
        } else {
            let (delivered, lost) = rig.drain();
            assert_eq!(rig.books().dropped(DropReason::SpoolCorrupt).batches, lost);
            assert!(lost > 0);
            assert_eq!(delivered + lost, 10);
        }
    }
}

#[test]
fn with_block_a_batch_waits_for_the_disk_until_its_deadline() {
    let deadline = std::time::Duration::from_secs(3600);
    let mut rig = Rig::new(SpoolSync::Interval, WhenFull::Block { deadline });
    while rig.spooler.waiting.is_empty() {
        rig.receive(0);
    }
    let received = rig.books().received.batches;
    assert_eq!(rig.books().dropped_in_all().batches, 0);
    rig.turn();
    assert_eq!(rig.books().dropped_in_all().batches, 0, "it waits");
    let waiting = &mut rig.spooler.waiting[0];
    waiting.sent_at = waiting.sent_at.checked_sub(deadline).unwrap();
    rig.turn();
    assert_eq!(rig.books().dropped(DropReason::SpoolFull).batches, 1);
    assert_eq!(rig.drain(), (received - 1, 1));
}
