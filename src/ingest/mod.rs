//! The audit socket: accepts senders, reads their frames, and hands each batch to the buffer.
//!
//! A sender is read without delay, never written to, and never closed for being idle; whatever it sends, it costs
//! only itself. One connection takes at most 2 KiB while it is idle, and about 64 KiB at most while a frame of it is
//! incomplete or waits for room in the buffer.

mod accept;
mod conn;
mod descriptors;
mod senders;
mod socket;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::buffer::Buffer;
use crate::metrics::IngestMetrics;
use crate::warnings::Warnings;
pub use descriptors::raise_descriptor_limit;
pub use senders::{Activity, Sender, Senders};
pub use socket::{BindError, Claim, Listener, Settings};

/// The stage that reads the audit socket.
#[derive(Debug)]
pub struct Ingest {
    listener: Listener,
}

impl Ingest {
    /// Reads from the connections of this listener.
    pub fn new(listener: Listener) -> Self {
        Self { listener }
    }

    /// Accepts and reads senders until `stop`; then refuses new ones, reads those it has to their end, and
    /// returns.
    ///
    /// The order of the stop loses nothing: (1) the listener is shut down, so that a new connect is refused and its
    /// sender keeps its batch; (2) every connection is shut down for reading, so that its sender gets EPIPE and
    /// keeps its batch, while what the kernel already took from it can still be read; (3) connections that wait
    /// in the backlog are accepted and treated likewise; (4) all are read to their end and closed. This is
    /// finite, because the kernel takes nothing more; only a buffer that makes senders wait can prolong it, until
    /// [`Buffer::close`]. The socket file stays.
    ///
    /// Must be awaited to its end: dropping it drops batches that wait for room.
    ///
    /// # Errors
    /// When the runtime cannot watch the listener.
    pub async fn run(
        self,
        buffer: Arc<Buffer>,
        metrics: IngestMetrics,
        senders: Arc<Senders>,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let stage = Arc::new(Stage {
            buffer,
            metrics,
            senders,
            warnings: Mutex::default(),
        });
        accept::serve(self.listener, &stage, &stop).await
    }
}

/// What all connections share.
#[derive(Debug)]
struct Stage {
    buffer: Arc<Buffer>,
    metrics: IngestMetrics,
    senders: Arc<Senders>,
    warnings: Mutex<Warnings>,
}

impl Stage {
    /// Whether a warning about bad input may be written now; if so, how many were withheld before it.
    fn may_warn(&self) -> Option<u64> {
        self.warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .admit(Instant::now())
    }
}

#[cfg(test)]
mod tests;
