//! The bounded queue, without clock, lock or task: lanes of batches under one bound of count and bytes.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};

use tokio::time::Instant;

use crate::buffer::batch::{Batch, LaneKey};
use crate::buffer::ledger::Tally;

/// How much may be held at a time, whichever is reached first.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Batches, those in flight included.
    pub max_batches: u64,
    /// Payload bytes, those in flight included.
    pub max_bytes: u64,
}

impl Limits {
    fn allow(&self, held: Tally, batch: Tally) -> bool {
        held.batches < self.max_batches && held.bytes.saturating_add(batch.bytes) <= self.max_bytes
    }
}

/// The place of a batch in the order of arrival, over all lanes.
type Arrived = u64;

/// Batches of one lane that were taken out to be sent, in order. While it exists its lane rests.
#[derive(Debug)]
#[must_use = "the lane rests until the cargo is settled"]
pub struct Cargo {
    lane: LaneKey,
    batches: VecDeque<(Arrived, Batch)>,
    taken: Tally,
}

impl Cargo {
    /// How many batches are left in it.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// Whether every batch of it has ended.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The first `count` batches.
    pub fn front(&self, count: usize) -> impl Iterator<Item = &Batch> {
        self.batches.iter().take(count).map(|(_, batch)| batch)
    }

    /// The first `count` batches.
    pub fn front_mut(&mut self, count: usize) -> impl Iterator<Item = &mut Batch> {
        self.batches.iter_mut().take(count).map(|(_, batch)| batch)
    }

    /// Every batch of it, with its place in the order of arrival.
    pub(super) fn placed_mut(&mut self) -> impl Iterator<Item = (u64, &mut Batch)> {
        self.batches
            .iter_mut()
            .map(|(arrived, batch)| (*arrived, batch))
    }

    /// Takes the first `count` batches out, to be ended.
    pub fn remove_front(&mut self, count: usize) -> impl Iterator<Item = Batch> {
        self.batches
            .drain(..count.min(self.batches.len()))
            .map(|(_, batch)| batch)
    }
}

/// A lane exists while something of it waits or is out, or while it rests. It has a turn while something waits,
/// nothing is out, and it does not rest.
#[derive(Debug, Default)]
struct Lane {
    /// In the order of arrival.
    waiting: VecDeque<Arrived>,
    /// When the oldest batch of the cargo that is out was received; `None` when none is out.
    out: Option<Instant>,
    /// Gives nothing until it is roused.
    rests: bool,
    turn: Option<Turn>,
}

/// The place of a lane in the order in which lanes give out cargo.
type Turn = u64;

/// Batches in lanes. A lane gives out one cargo at a time; lanes take turns.
#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    /// All that waits, by arrival: the first is the oldest, and the first of its lane.
    waiting: BTreeMap<Arrived, Batch>,
    lanes: HashMap<LaneKey, Lane>,
    turns: BTreeMap<Turn, LaneKey>,
    /// Waiting and out together.
    used: Tally,
    /// Of that, what is out.
    out: Tally,
    next_arrived: Arrived,
    next_turn: Turn,
}

impl Queue {
    /// An empty queue.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            waiting: BTreeMap::new(),
            lanes: HashMap::new(),
            turns: BTreeMap::new(),
            used: Tally::default(),
            out: Tally::default(),
            next_arrived: 0,
            next_turn: 0,
        }
    }

    /// How much may be held.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Whether a batch of this size may be pushed.
    pub fn has_room(&self, batch: Tally) -> bool {
        self.limits.allow(self.used, batch)
    }

    /// Whether a batch of this size might be pushed if nothing waited.
    pub fn could_have_room(&self, batch: Tally) -> bool {
        self.limits.allow(self.out, batch)
    }

    /// Appends a batch to its lane.
    ///
    /// # Errors
    /// Hands the batch back when there is no room.
    pub fn push(&mut self, batch: Batch) -> Result<(), Batch> {
        if !self.has_room(batch.tally()) {
            return Err(batch);
        }
        self.used.add(batch.tally());
        let arrived = self.next_arrived;
        self.next_arrived += 1;
        let key = batch.lane().clone();
        match self.lanes.get_mut(&key) {
            Some(lane) => lane.waiting.push_back(arrived),
            None => {
                self.lanes
                    .entry(detached(&key))
                    .or_default()
                    .waiting
                    .push_back(arrived);
            }
        }
        self.waiting.insert(arrived, batch);
        self.refresh(key);
        Ok(())
    }

    /// Takes out the batch that was received first of all that wait. What is out cannot be evicted.
    pub fn evict_oldest(&mut self) -> Option<Batch> {
        let (arrived, batch) = self.waiting.pop_first()?;
        let front = self
            .lanes
            .get_mut(batch.lane())
            .and_then(|lane| lane.waiting.pop_front());
        debug_assert_eq!(
            front,
            Some(arrived),
            "the oldest of all is the first of its lane"
        );
        self.used.sub(batch.tally());
        self.refresh(batch.lane().clone());
        Some(batch)
    }

    /// Takes out the oldest batch that waits if it was received at `cutoff` or before.
    pub fn evict_received_by(&mut self, cutoff: Instant) -> Option<Batch> {
        let (_, oldest) = self.waiting.first_key_value()?;
        if oldest.received_at() <= cutoff {
            self.evict_oldest()
        } else {
            None
        }
    }

    /// Takes out the next lane's first batch, and those behind it that merge with it while all together stay
    /// within `max_bytes`.
    pub fn take(&mut self, max_bytes: u64) -> Option<Cargo> {
        let (_, key) = self.turns.pop_first()?;
        let lane = self.lanes.get_mut(&key)?;
        lane.turn = None;
        let mut cargo = Cargo {
            lane: key,
            batches: VecDeque::new(),
            taken: Tally::default(),
        };
        while let Some(batch) = lane
            .waiting
            .front()
            .and_then(|first| self.waiting.get(first))
        {
            let joins = cargo.batches.back().is_none_or(|(_, last)| {
                last.merges_with(batch) && cargo.taken.bytes + batch.tally().bytes <= max_bytes
            });
            if !joins {
                break;
            }
            cargo.taken.add(batch.tally());
            lane.out.get_or_insert(batch.received_at());
            cargo.batches.extend(
                lane.waiting
                    .pop_front()
                    .and_then(|first| self.waiting.remove_entry(&first)),
            );
        }
        self.out.add(cargo.taken);
        Some(cargo)
    }

    /// Ends a cargo: what is left in it waits again, at its old place, and the room of what is not is free.
    ///
    /// A lane in which fewer than `backlog` batches wait rests, so that more can come together. It is returned, and
    /// gives again after [`Self::rouse`].
    #[must_use = "a lane that rests gives nothing until it is roused"]
    pub fn settle(&mut self, cargo: Cargo, backlog: usize) -> Option<LaneKey> {
        let Cargo {
            lane: key,
            batches,
            taken,
        } = cargo;
        let left: Tally = batches.iter().map(|(_, batch)| batch.tally()).sum();
        self.out.sub(taken);
        self.used.sub(taken);
        self.used.add(left);
        let lane = self.lanes.get_mut(&key)?;
        lane.out = None;
        for (arrived, batch) in batches.into_iter().rev() {
            lane.waiting.push_front(arrived);
            self.waiting.insert(arrived, batch);
        }
        lane.rests = lane.waiting.len() < backlog;
        let resting = lane.rests.then(|| key.clone());
        self.refresh(key);
        resting
    }

    /// Lets a lane that rests give again.
    pub fn rouse(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.rests = false;
        }
        self.refresh(key);
    }

    /// Takes out all that waits in the lanes of which nothing is out, if something of it has no record. Each cargo is
    /// to be settled soon: its lane gives nothing meanwhile.
    pub fn take_unrecorded(&mut self) -> Vec<Cargo> {
        let unrecorded = self
            .waiting
            .values()
            .filter(|batch| batch.record().is_none());
        let mut keys: Vec<LaneKey> = Vec::new();
        for batch in unrecorded {
            let out = self
                .lanes
                .get(batch.lane())
                .is_none_or(|lane| lane.out.is_some());
            if !out && keys.last() != Some(batch.lane()) {
                keys.push(batch.lane().clone());
            }
        }
        keys.into_iter()
            .filter_map(|key| self.take_lane(key))
            .collect()
    }

    fn take_lane(&mut self, key: LaneKey) -> Option<Cargo> {
        let lane = self.lanes.get_mut(&key)?;
        let waiting = std::mem::take(&mut lane.waiting);
        let batches: VecDeque<_> = waiting
            .into_iter()
            .filter_map(|arrived| self.waiting.remove_entry(&arrived))
            .collect();
        let (_, first) = batches.front()?;
        lane.out = Some(first.received_at());
        let cargo = Cargo {
            taken: batches.iter().map(|(_, batch)| batch.tally()).sum(),
            lane: detached(&key),
            batches,
        };
        self.out.add(cargo.taken);
        self.refresh(key);
        Some(cargo)
    }

    /// The next place in the order of arrival, for a batch that does not come here.
    pub fn next_arrived(&mut self) -> u64 {
        let arrived = self.next_arrived;
        self.next_arrived += 1;
        arrived
    }

    /// No place below this is given out any more.
    pub fn raise_arrived(&mut self, at_least: u64) {
        self.next_arrived = self.next_arrived.max(at_least);
    }

    /// Whether [`Self::take`] would give something.
    pub fn can_give(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Whether nothing waits and nothing is out.
    pub fn is_idle(&self) -> bool {
        self.used.batches == 0
    }

    /// When the oldest batch that waits was received.
    pub fn oldest_waiting(&self) -> Option<Instant> {
        self.waiting.values().next().map(Batch::received_at)
    }

    /// When the oldest batch that waits or is out was received.
    pub fn oldest(&self) -> Option<Instant> {
        let waiting = self.oldest_waiting();
        let out = self.lanes.values().filter_map(|lane| lane.out).min();
        waiting.into_iter().chain(out).min()
    }

    /// Restores what is said of [`Lane`] after its contents changed.
    fn refresh(&mut self, key: LaneKey) {
        let Entry::Occupied(mut entry) = self.lanes.entry(key) else {
            return;
        };
        let lane = entry.get_mut();
        let gives = lane.out.is_none() && !lane.rests;
        let has_turn = gives && !lane.waiting.is_empty();
        let is_over = gives && lane.waiting.is_empty();
        match lane.turn {
            None if has_turn => {
                lane.turn = Some(self.next_turn);
                self.turns.insert(self.next_turn, entry.key().clone());
                self.next_turn += 1;
            }
            Some(turn) if !has_turn => {
                lane.turn = None;
                self.turns.remove(&turn);
            }
            _ => {}
        }
        if is_over {
            entry.remove();
        }
    }
}

/// A key of its own memory: a lane may live longer than the payload that first named it.
fn detached(key: &LaneKey) -> LaneKey {
    match key {
        LaneKey::Session(id) => LaneKey::Session(bytes::Bytes::copy_from_slice(id)),
        LaneKey::Connection(number) => LaneKey::Connection(*number),
    }
}

#[cfg(test)]
mod tests;
