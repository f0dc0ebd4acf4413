//! What waits to be stored, within bounds of count and bytes, in all and for each agent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Reports that wait, in all: as many as the reference lets wait.
pub(super) const MAX_REPORTS: usize = 4096;

/// Their bytes, in all. A report of 1000 series has some 100 KB.
const MAX_BYTES: usize = 64 << 20;

/// The share of an agent in both: one that reports without end does not keep the others out.
const SHARE: usize = 8;

/// What waits.
#[derive(Debug)]
pub(super) struct Load {
    all: Count,
    agents: Box<[Count]>,
}

#[derive(Debug, Default)]
struct Count {
    reports: AtomicUsize,
    bytes: AtomicUsize,
}

impl Load {
    pub(super) fn new(agents: usize) -> Arc<Self> {
        Arc::new(Self {
            all: Count::default(),
            agents: (0..agents).map(|_| Count::default()).collect(),
        })
    }

    /// Whether there is such an agent.
    pub(super) fn knows(&self, agent: u32) -> bool {
        (agent as usize) < self.agents.len()
    }

    /// Room for a report of that many bytes of an agent, until it is dropped; `None` when there is none.
    pub(super) fn enter(self: &Arc<Self>, agent: u32, bytes: usize) -> Option<Room> {
        let own = self.agents.get(agent as usize)?;
        if !own.add(bytes, MAX_REPORTS / SHARE, MAX_BYTES / SHARE) {
            return None;
        }
        if !self.all.add(bytes, MAX_REPORTS, MAX_BYTES) {
            own.sub(bytes);
            return None;
        }
        Some(Room {
            load: Arc::clone(self),
            agent,
            bytes,
        })
    }

    /// Reports that wait.
    pub(super) fn reports(&self) -> usize {
        self.all.reports.load(Ordering::Relaxed)
    }
}

impl Count {
    /// Adds a report if it has room.
    fn add(&self, bytes: usize, max_reports: usize, max_bytes: usize) -> bool {
        let reports = self.reports.fetch_add(1, Ordering::Relaxed) + 1;
        let held = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let fits = reports <= max_reports && held <= max_bytes;
        if !fits {
            self.sub(bytes);
        }
        fits
    }

    fn sub(&self, bytes: usize) {
        self.reports.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The room that a report takes while it waits.
#[derive(Debug)]
pub(super) struct Room {
    load: Arc<Load>,
    agent: u32,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.load.all.sub(self.bytes);
        self.load.agents[self.agent as usize].sub(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_has_its_share_and_all_have_the_whole() {
        let load = Load::new(SHARE + 1);
        let mut rooms = Vec::new();
        for agent in 0..SHARE as u32 {
            rooms.extend((0..MAX_REPORTS / SHARE).map(|_| load.enter(agent, 0).unwrap()));
            assert!(load.enter(agent, 0).is_none());
        }
        let late = SHARE as u32;
        assert!(load.enter(late, 0).is_none());
        assert_eq!(load.reports(), MAX_REPORTS);
        rooms.pop();
        assert!(load.enter(late, 0).is_some());
        rooms.clear();
        assert_eq!(load.reports(), 0);
    }

    #[test]
    fn bytes_are_limited_too() {
        let load = Load::new(SHARE + 1);
        assert!(load.enter(0, MAX_BYTES / SHARE + 1).is_none());
        let rooms: Vec<_> = (0..SHARE as u32)
            .map(|agent| load.enter(agent, MAX_BYTES / SHARE).unwrap())
            .collect();
        assert!(load.enter(0, 1).is_none());
        assert!(load.enter(SHARE as u32, 1).is_none());
        drop(rooms);
        assert!(load.enter(SHARE as u32, 1).is_some());
    }

    #[test]
    fn an_agent_that_is_none_has_no_room() {
        assert!(Load::new(1).enter(1, 0).is_none());
    }
}
