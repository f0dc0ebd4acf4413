//! Between the queue and the spool: one thread that writes what memory cannot hold, and reads it back in order.
//!
//! While the spool is *engaged* every batch that comes goes to that thread, and only it puts batches into the queue, so
//! that the order of a lane is kept across memory and disk: what is read back came before all that is appended. It is
//! engaged when a batch finds no room in memory, or always with [`SpoolSync::Always`], and until all that was on disk
//! is in memory again.
//!
//! A batch that waits for the thread waits in its sender's task, which does not read on meanwhile: a disk that is slower
//! than the input slows the input down.

mod append;
mod desk;
mod refill;
mod status;
mod thread;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::Buffer;
use super::batch::{Arrival, Batch};
use crate::metrics::DropReason;
use crate::spool::Disk;
pub use refill::arrival;
pub use status::{Lifetime, SpoolStatus};
use thread::Spooler;

/// How often what was written is forced to disk with [`SpoolSync::Interval`], how often the position is written, and
/// how long the control plane is gone before what is in memory is written too.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Memory of batches on their way to the thread, in units of [`UNIT`].
const QUEUE_UNITS: usize = 256;
const UNIT: usize = 4096;

/// When the spool is forced to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolSync {
    /// Before a batch counts as received; batches that come together are synced together.
    Always,
    /// Every [`INTERVAL`].
    Interval,
    /// When the kernel does.
    Never,
}

/// A spool.
#[derive(Clone, Debug)]
pub struct SpoolSettings {
    /// Its directory; created when it is absent.
    pub dir: PathBuf,
    /// Most bytes that its files take.
    pub max_bytes: u64,
    /// When it is forced to disk.
    pub sync: SpoolSync,
}

/// A batch on its way to the thread.
#[derive(Debug)]
struct Parcel {
    content: Content,
    /// When it was sent.
    sent_at: Instant,
    /// Its part of the queue's memory.
    units: u32,
}

#[derive(Debug)]
enum Content {
    /// Counts as received once it is on disk.
    Arrival(Arrival),
    /// Counts as received already.
    Batch(Batch),
}

/// The buffer's end of the way to the thread.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) sync: SpoolSync,
    parcels: Sender<Parcel>,
    /// Wakes the thread; one ring is as good as many.
    bell: Sender<()>,
    units: Semaphore,
    status: Mutex<SpoolStatus>,
}

impl Port {
    /// Wakes the thread, so that it looks at the buffer.
    pub(super) fn ring(&self) {
        match self.bell.try_send(()) {
            // It will look, or nobody is there any more who could.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }

    pub(super) fn status(&self) -> MutexGuard<'_, SpoolStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a batch to the thread, once the queue has room. Gives it back when there is no thread any more.
    async fn send(&self, content: Content) -> Result<(), Content> {
        let units = 1 + content.bytes() / UNIT;
        let units = u32::try_from(units.min(QUEUE_UNITS)).unwrap_or(u32::MAX);
        match self.units.acquire_many(units).await {
            Ok(permit) => permit.forget(),
            Err(_closed) => return Err(content),
        }
        let parcel = Parcel {
            content,
            sent_at: Instant::now(),
            units,
        };
        // A parcel takes a unit at least, so there is room for as many as have one.
        match self.parcels.try_send(parcel) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(parcel) | TrySendError::Disconnected(parcel)) => {
                Err(parcel.content)
            }
        }
    }
}

impl Content {
    fn bytes(&self) -> usize {
        match self {
            Self::Arrival(arrival) => arrival.payload.len(),
            Self::Batch(batch) => batch.payload().len(),
        }
    }
}

/// What the thread needs, before it is started.
#[derive(Debug)]
pub(super) struct Ends {
    parcels: Receiver<Parcel>,
    bell: Receiver<()>,
}

/// The two ends of the way to a thread.
pub(super) fn way(settings: &SpoolSettings) -> (Port, Ends) {
    let (parcels, parcels_end) = bounded(QUEUE_UNITS);
    let (bell, bell_end) = bounded(1);
    let port = Port {
        sync: settings.sync,
        parcels,
        bell,
        units: Semaphore::new(QUEUE_UNITS),
        status: Mutex::new(SpoolStatus::new(settings.max_bytes)),
    };
    let ends = Ends {
        parcels: parcels_end,
        bell: bell_end,
    };
    (port, ends)
}

/// A spool whose thread has not started. What an earlier process left in it is in the books already.
#[derive(Debug)]
pub struct SpoolStart {
    spooler: Spooler<Disk>,
    buffer: Arc<Buffer>,
}

impl SpoolStart {
    pub(super) fn new(buffer: &Arc<Buffer>, ends: Ends, settings: SpoolSettings) -> Self {
        let dir = settings.dir.clone();
        let open = Box::new(move || Disk::lock(&dir));
        Self {
            spooler: Spooler::new(Arc::clone(buffer), ends, settings, open),
            buffer: Arc::clone(buffer),
        }
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(self) -> io::Result<Spool> {
        let Self { spooler, buffer } = self;
        let (tell, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("weir-spool".to_owned())
            .spawn(move || {
                spooler.run();
                // Nobody waits when the process stops for another reason.
                tell.send(()).unwrap_or_default();
            })?;
        Ok(Spool {
            buffer,
            thread,
            ended: Some(ended),
        })
    }
}

/// A running spool.
#[derive(Debug)]
#[must_use = "what is in memory goes to disk only by finish"]
pub struct Spool {
    buffer: Arc<Buffer>,
    thread: JoinHandle<()>,
    /// `None` once it was seen to end.
    ended: Option<oneshot::Receiver<()>>,
}

impl Spool {
    /// Returns when the thread has ended. Dropping the future loses nothing.
    pub async fn ended(&mut self) {
        if let Some(ended) = &mut self.ended {
            // Either it says so, or it can say nothing any more.
            ended.await.unwrap_or_default();
            self.ended = None;
        }
    }

    /// Writes all that is in memory, and ends the thread. To be called when nobody fills or empties the buffer any
    /// more. What the disk does not take is dropped as lost at shutdown.
    pub async fn finish(mut self) {
        self.buffer.finish_spool();
        self.ended().await;
        if self.thread.join().is_err() {
            tracing::error!("the thread of the spool failed");
        }
    }
}

impl Buffer {
    pub(super) async fn receive_spooled(&self, port: &Port, arrival: Arrival) {
        let content = match port.sync {
            SpoolSync::Always => {
                self.state().spooling.pending += 1;
                Content::Arrival(arrival)
            }
            SpoolSync::Interval | SpoolSync::Never => {
                match self.store_or_engage(self.ledger.receive(arrival)) {
                    None => return,
                    Some(batch) => Content::Batch(batch),
                }
            }
        };
        if let Err(content) = port.send(content).await {
            let batch = match content {
                Content::Arrival(arrival) => self.ledger.receive(arrival),
                Content::Batch(batch) => batch,
            };
            self.ledger.dropped([batch], DropReason::Shutdown);
            self.state().spooling.pending -= 1;
            self.idle.notify_waiters();
        }
    }

    /// Stores the batch in memory, unless the spool is engaged or is now, for lack of room: then it is given back, to
    /// go to the thread.
    fn store_or_engage(&self, batch: Batch) -> Option<Batch> {
        let mut state = self.state();
        let refused = match state.spooling.engaged {
            true => Err(batch),
            false => state.queue.push(batch),
        };
        let Err(batch) = refused else {
            let gives = state.queue.can_give();
            drop(state);
            if gives {
                self.arrived.notify_one();
            }
            return None;
        };
        state.spooling.engaged = true;
        state.spooling.pending += 1;
        Some(batch)
    }
}
