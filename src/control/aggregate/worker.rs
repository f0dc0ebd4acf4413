//! What the thread does: reports first, and between them a slice of each collection and of the sweep.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError, select, tick};
use tokio::sync::mpsc;

use super::Settings;
use super::queue::Load;
use super::store::{Slice, Store};
use super::thread::{Request, SLICES, Update};
use crate::metrics::control::AggregateMetrics;

/// Rows of a slice, where a member that is added up for a row counts as one: some 100 µs.
const SLICE: usize = 1024;

/// How long reports are stored before something else has its turn.
const TURN: Duration = Duration::from_millis(1);

/// Sweeps within the time to expiry: a series stays at most that part of it longer.
const SWEEPS: u32 = 16;

/// The shortest time between sweeps.
const MIN_SWEEP: Duration = Duration::from_millis(100);

/// Where the thread hears from.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) load: Arc<Load>,
    pub(super) updates: Receiver<Update>,
    pub(super) requests: Receiver<Request>,
    /// Disconnected when the thread is to end.
    pub(super) stopped: Receiver<()>,
}

pub(super) struct Worker {
    store: Store,
    metrics: AggregateMetrics,
    began: Instant,
    sweep_every: Duration,
    /// What the sweep that is under way took so far.
    sweep: Option<Duration>,
    collections: Vec<Active>,
}

/// A collection that is under way.
struct Active {
    id: u64,
    cursor: usize,
    to: mpsc::Sender<Slice>,
    /// Slices to be filled.
    empty: Vec<Slice>,
    /// What it took so far.
    took: Duration,
}

/// The thread is told to end, or nobody has a handle any more.
struct Stopped;

impl Worker {
    pub(super) fn new(store: Store, settings: &Settings, metrics: AggregateMetrics) -> Self {
        Self {
            store,
            metrics,
            began: Instant::now(),
            sweep_every: (settings.expiry / SWEEPS).max(MIN_SWEEP),
            sweep: None,
            collections: Vec::new(),
        }
    }

    pub(super) fn run(mut self, inbox: &Inbox) {
        let sweeps = tick(self.sweep_every);
        loop {
            if self.is_busy() {
                if self.sweep.is_none() && sweeps.try_recv().is_ok() {
                    self.sweep = Some(Duration::ZERO);
                }
            } else {
                select! {
                    recv(inbox.stopped) -> _ => return,
                    recv(inbox.updates) -> update => match update {
                        Ok(update) => drop(self.update(update)),
                        Err(_) => return,
                    },
                    recv(inbox.requests) -> request => match request {
                        Ok(request) => self.request(request),
                        Err(_) => return,
                    },
                    recv(sweeps) -> _ => self.sweep = Some(Duration::ZERO),
                }
            }
            if let Err(Stopped) = self.turn(inbox) {
                return;
            }
        }
    }

    /// Whether there is something to do even when nothing comes.
    fn is_busy(&self) -> bool {
        let wanted = |active: &Active| !active.empty.is_empty();
        self.sweep.is_some() || self.collections.iter().any(wanted)
    }

    fn turn(&mut self, inbox: &Inbox) -> Result<(), Stopped> {
        if inbox.stopped.try_recv() == Err(TryRecvError::Disconnected) {
            return Err(Stopped);
        }
        let began = Instant::now();
        loop {
            match inbox.updates.try_recv() {
                Ok(update) => {
                    if self.update(update).duration_since(began) >= TURN {
                        break;
                    }
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(Stopped),
            }
        }
        while let Ok(request) = inbox.requests.try_recv() {
            self.request(request);
        }
        self.fill();
        self.sweep();
        let store = &self.store;
        self.metrics.set_stored(store.len(), store.workspaces());
        let (reports, collections) = (inbox.load.reports(), self.collections.len());
        self.metrics
            .set_backlog(reports, collections, store.to_sweep());
        Ok(())
    }

    /// Returns when it was done.
    fn update(&mut self, update: Update) -> Instant {
        let began = Instant::now();
        match update {
            Update::Report {
                reporter,
                report,
                came,
                room,
            } => {
                drop(room);
                let now = began.duration_since(self.began);
                let tally = self.store.apply(reporter, &report, now);
                for (reason, samples) in tally.refused() {
                    self.metrics.refused(reason, samples);
                }
                let done = Instant::now();
                self.metrics
                    .stored(done.duration_since(began), done.duration_since(came));
                done
            }
            Update::Rebuilt(reporter) => {
                self.store.rebuilt(reporter);
                Instant::now()
            }
        }
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Begin(id, to) => self.collections.push(Active {
                id,
                cursor: self.store.begin_collection(),
                to,
                empty: (0..SLICES).map(|_| Slice::default()).collect(),
                took: Duration::ZERO,
            }),
            Request::More(id, slice) => {
                let mut all = self.collections.iter_mut();
                if let Some(active) = all.find(|active| active.id == id) {
                    active.empty.push(slice);
                }
            }
            Request::End(id, _permit) => {
                let store = &mut self.store;
                self.collections.retain(|active| {
                    let stays = active.id != id;
                    if !stays {
                        store.end_collection(active.cursor);
                    }
                    stays
                });
            }
        }
    }

    /// Fills one slice of each collection that wants one.
    fn fill(&mut self) {
        let (store, metrics) = (&mut self.store, &self.metrics);
        self.collections.retain_mut(|active| {
            let Some(mut slice) = active.empty.pop() else {
                return true;
            };
            let began = Instant::now();
            store.slice(active.cursor, SLICE, &mut slice);
            active.took += began.elapsed();
            let last = slice.last;
            // It has room for every slice there is, unless nobody takes them any more.
            let stays = active.to.try_send(slice).is_ok() && !last;
            if last {
                metrics.collected(active.took);
            }
            if !stays {
                store.end_collection(active.cursor);
            }
            stays
        });
    }

    /// Goes on with the sweep.
    fn sweep(&mut self) {
        let Some(took) = &mut self.sweep else {
            return;
        };
        let began = Instant::now();
        let swept = self.store.sweep(began.duration_since(self.began));
        *took += began.elapsed();
        self.metrics.expired(swept.expired as u64);
        if swept.done {
            self.metrics.cleaned_up(*took);
            self.sweep = None;
        }
    }
}
