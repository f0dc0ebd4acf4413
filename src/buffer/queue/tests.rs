//! The queue against a model that is slow and obviously correct.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::buffer::batch::Arrival;
use crate::buffer::ledger::Ledger;
use crate::metrics::DropReason;

const LIMITS: Limits = Limits {
    max_batches: 12,
    max_bytes: 200,
};

/// Reached by some lanes of the test, and missed by others.
const BACKLOG: usize = 2;

#[derive(Clone, Debug)]
enum Action {
    Push {
        lane: u64,
        process: bool,
        mergeable: bool,
        bytes: usize,
    },
    Take {
        max_bytes: u64,
    },
    /// Ends the first `ended` batches of one of the cargos that are out.
    Settle {
        which: usize,
        ended: usize,
    },
    /// Lets the first of the lanes that rest give again.
    Rouse,
    EvictOldest,
    EvictUpTo {
        age: u64,
    },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (0..4u64, prop::bool::weighted(0.2), prop::bool::weighted(0.9), 1..60usize)
            .prop_map(|(lane, process, mergeable, bytes)| Action::Push { lane, process, mergeable, bytes }),
        3 => (0..150u64).prop_map(|max_bytes| Action::Take { max_bytes }),
        3 => (any::<usize>(), 0..5usize).prop_map(|(which, ended)| Action::Settle { which, ended }),
        2 => Just(Action::Rouse),
        1 => Just(Action::EvictOldest),
        1 => (0..20u64).prop_map(|age| Action::EvictUpTo { age }),
    ]
}

/// A batch as the model sees it; `id` is its number in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Item {
    id: u64,
    lane: u64,
    process: bool,
    mergeable: bool,
    bytes: u64,
}

/// One list of what waits, one of what is out, one of the lanes in the order of their turns, one of those that rest.
#[derive(Default)]
struct Model {
    waiting: Vec<Item>,
    out: Vec<Vec<Item>>,
    turns: VecDeque<u64>,
    resting: VecDeque<u64>,
}

impl Model {
    fn used(&self) -> (usize, u64) {
        let all = || self.waiting.iter().chain(self.out.iter().flatten());
        (all().count(), all().map(|item| item.bytes).sum())
    }

    fn out_of(&self, lane: u64) -> bool {
        self.out.iter().flatten().any(|item| item.lane == lane)
    }

    /// Lanes leave the order of turns when they have nothing to give, and join it at its end.
    fn refresh(&mut self) {
        let can_give = |model: &Self, lane: u64| {
            model.waiting.iter().any(|item| item.lane == lane)
                && !model.out_of(lane)
                && !model.resting.contains(&lane)
        };
        let kept = self
            .turns
            .iter()
            .copied()
            .filter(|lane| can_give(self, *lane))
            .collect();
        self.turns = kept;
        for lane in self
            .waiting
            .iter()
            .map(|item| item.lane)
            .collect::<Vec<_>>()
        {
            if can_give(self, lane) && !self.turns.contains(&lane) {
                self.turns.push_back(lane);
            }
        }
    }

    fn take(&mut self, max_bytes: u64) -> Option<Vec<Item>> {
        let lane = self.turns.pop_front()?;
        let mut cargo: Vec<Item> = Vec::new();
        for item in self.waiting.iter().filter(|item| item.lane == lane) {
            if let Some(last) = cargo.last() {
                let together = cargo.iter().map(|item| item.bytes).sum::<u64>() + item.bytes;
                let alike = last.mergeable && item.mergeable && last.process == item.process;
                if !alike || together > max_bytes {
                    break;
                }
            }
            cargo.push(*item);
        }
        self.waiting.retain(|item| !cargo.contains(item));
        self.out.push(cargo.clone());
        Some(cargo)
    }
}

/// The time at which the batch with this number arrives: one second after the one before it.
fn arrives(start: Instant, id: u64) -> Instant {
    start + Duration::from_secs(id)
}

fn received(ledger: &Arc<Ledger>, start: Instant, item: Item) -> Batch {
    ledger.receive(Arrival {
        payload: Bytes::from(vec![0; usize::try_from(item.bytes).unwrap()]),
        logs: 1,
        lane: LaneKey::Connection(item.lane),
        process: Bytes::from_static(if item.process { b"codex" } else { b"" }),
        mergeable: item.mergeable,
        received_at: arrives(start, item.id),
    })
}

/// The numbers of the batches, recovered from their times of arrival.
fn ids<'a>(start: Instant, batches: impl Iterator<Item = &'a Batch>) -> Vec<u64> {
    batches
        .map(|batch| batch.received_at().duration_since(start).as_secs())
        .collect()
}

fn run(actions: Vec<Action>) -> Result<(), TestCaseError> {
    let start = Instant::now();
    let ledger = Ledger::new();
    let mut queue = Queue::new(LIMITS);
    let mut model = Model::default();
    let mut cargos: Vec<Cargo> = Vec::new();
    let mut next = 0;

    for action in actions {
        match action {
            Action::Push {
                lane,
                process,
                mergeable,
                bytes,
            } => {
                let item = Item {
                    id: next,
                    lane,
                    process,
                    mergeable,
                    bytes: bytes as u64,
                };
                next += 1;
                let (count, used) = model.used();
                let fits =
                    (count as u64) < LIMITS.max_batches && used + item.bytes <= LIMITS.max_bytes;
                match queue.push(received(&ledger, start, item)) {
                    Ok(()) => model.waiting.push(item),
                    Err(batch) => ledger.dropped([batch], DropReason::BufferFull),
                }
                prop_assert_eq!(fits, model.waiting.last() == Some(&item));
            }
            Action::Take { max_bytes } => {
                let cargo = queue.take(max_bytes);
                let expected = model.take(max_bytes);
                prop_assert_eq!(
                    cargo
                        .as_ref()
                        .map(|cargo| ids(start, cargo.front(usize::MAX))),
                    expected.map(|items| items.iter().map(|item| item.id).collect())
                );
                cargos.extend(cargo);
            }
            Action::Settle { which, ended } if !cargos.is_empty() => {
                let which = which % cargos.len();
                let mut cargo = cargos.remove(which);
                ledger.forwarded(cargo.remove_front(ended));
                let mut back = model.out.remove(which);
                back.drain(..ended.min(back.len()));
                model.waiting.extend(back);
                model.waiting.sort_by_key(|item| item.id);
                let lane = cargo.lane.clone();
                let waits = |item: &&Item| LaneKey::Connection(item.lane) == lane;
                let waiting = model.waiting.iter().filter(waits).count();
                let resting = queue.settle(cargo, BACKLOG);
                prop_assert_eq!(&resting, &(waiting < BACKLOG).then_some(lane));
                if let Some(LaneKey::Connection(lane)) = resting {
                    model.resting.push_back(lane);
                }
            }
            Action::Settle { .. } => {}
            Action::Rouse => {
                if let Some(lane) = model.resting.pop_front() {
                    queue.rouse(LaneKey::Connection(lane));
                }
            }
            Action::EvictOldest => {
                let expected = (!model.waiting.is_empty()).then(|| model.waiting.remove(0).id);
                let evicted = queue.evict_oldest();
                prop_assert_eq!(ids(start, evicted.iter()), Vec::from_iter(expected));
                ledger.dropped(evicted, DropReason::BufferFull);
            }
            Action::EvictUpTo { age } => {
                let Some(cutoff) = u64::checked_sub(next, age) else {
                    continue;
                };
                while let Some(batch) = queue.evict_received_by(arrives(start, cutoff)) {
                    prop_assert_eq!(
                        ids(start, [&batch].into_iter()),
                        vec![model.waiting.remove(0).id]
                    );
                    ledger.dropped([batch], DropReason::Expired);
                }
                prop_assert!(model.waiting.iter().all(|item| item.id > cutoff));
            }
        }
        model.refresh();
        let oldest = model
            .waiting
            .iter()
            .chain(model.out.iter().flatten())
            .map(|item| item.id)
            .min();
        prop_assert_eq!(queue.oldest(), oldest.map(|id| arrives(start, id)));
        prop_assert_eq!(queue.is_idle(), oldest.is_none());
        prop_assert_eq!(queue.can_give(), !model.turns.is_empty());
        let out = model.out.iter().flatten();
        let room = LIMITS
            .max_bytes
            .checked_sub(out.clone().map(|item| item.bytes).sum());
        let fits = |bytes| Tally {
            bytes,
            ..Tally::default()
        };
        let counts = (out.count() as u64) < LIMITS.max_batches;
        prop_assert_eq!(queue.could_have_room(fits(20)), counts && room >= Some(20));
        prop_assert_eq!(ledger.snapshot().in_memory.batches, model.used().0 as u64);
        prop_assert_eq!(ledger.snapshot().imbalance(), 0);
    }
    // What is still held ends with the test, so that a leak would show above and not here.
    for cargo in cargos {
        model
            .resting
            .extend(queue.settle(cargo, BACKLOG).map(|lane| match lane {
                LaneKey::Connection(lane) => lane,
                LaneKey::Session(id) => panic!("no lane of this test is a session: {id:?}"),
            }));
    }
    for lane in model.resting {
        queue.rouse(LaneKey::Connection(lane));
    }
    while let Some(batch) = queue.evict_oldest() {
        ledger.dropped([batch], DropReason::Shutdown);
    }
    prop_assert!(queue.is_idle() && queue.lanes.is_empty() && queue.turns.is_empty());
    prop_assert_eq!(ledger.snapshot().imbalance(), 0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn behaves_as_the_model(actions in prop::collection::vec(action(), 1..120)) {
        run(actions)?;
    }
}
