//! One scrape, on the side of who scrapes.

use bytes::Bytes;
use crossbeam_channel::Sender;
use thiserror::Error;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::Receiver;

use super::store::Slice;
use super::thread::Request;

/// Bytes of a chunk; it is ended with the line that goes beyond.
const CHUNK: usize = 56 << 10;

/// Bytes that a line may have beyond: most have some 200, the longest 12 KiB.
const LINE: usize = 8 << 10;

/// The text of all families of agents, sorted by name, in the text format 0.0.4.
///
/// It shows every series that lives throughout exactly once, and no series or family twice. It is written as it is
/// taken, out of slices that the aggregator hands out between reports; dropped before its end it costs the aggregator
/// nothing more.
#[derive(Debug)]
pub struct Collection {
    id: u64,
    requests: Sender<Request>,
    slices: Receiver<Slice>,
    /// What is being written, and the line to go on with.
    slice: Option<(Slice, usize)>,
    ended: bool,
    /// Goes back with the end.
    permit: Option<OwnedSemaphorePermit>,
}

/// Why there is no collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CollectError {
    /// Too many are under way.
    #[error("too many scrapes at a time")]
    Busy,
    /// The aggregator has stopped.
    #[error("the aggregator has stopped")]
    Stopped,
}

/// The aggregator stopped before the collection was complete: what was collected is only a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the aggregator stopped within a scrape")]
pub struct Stopped;

impl Collection {
    pub(super) fn new(
        id: u64,
        requests: Sender<Request>,
        slices: Receiver<Slice>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            id,
            requests,
            slices,
            slice: None,
            ended: false,
            permit: Some(permit),
        }
    }

    /// The next chunk of the page, of whole lines and some 64 KiB at most; `None` at the end.
    ///
    /// # Errors
    /// When the aggregator has stopped.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Stopped> {
        let mut chunk = Vec::with_capacity(CHUNK + LINE);
        while !self.write(&mut chunk) {
            self.slice = Some((self.slices.recv().await.ok_or(Stopped)?, 0));
        }
        Ok((!chunk.is_empty()).then(|| chunk.into()))
    }

    /// As [`Self::next`], for a thread that may block.
    ///
    /// # Errors
    /// When the aggregator has stopped.
    pub fn blocking_next(&mut self) -> Result<Option<Bytes>, Stopped> {
        let mut chunk = Vec::with_capacity(CHUNK + LINE);
        while !self.write(&mut chunk) {
            self.slice = Some((self.slices.blocking_recv().ok_or(Stopped)?, 0));
        }
        Ok((!chunk.is_empty()).then(|| chunk.into()))
    }

    /// Writes what is there; false when it needs another slice for a whole chunk.
    fn write(&mut self, chunk: &mut Vec<u8>) -> bool {
        let Some((slice, from)) = &mut self.slice else {
            return self.ended;
        };
        if let Some(next) = slice.write(*from, chunk, CHUNK) {
            *from = next;
            return true;
        }
        let Some((mut slice, _)) = self.slice.take() else {
            return self.ended;
        };
        self.ended = slice.last;
        if !self.ended {
            slice.clear();
            self.ask(Request::More(self.id, slice));
        }
        self.ended
    }

    /// There is room for the request, or the aggregator has stopped.
    fn ask(&self, request: Request) {
        if self.requests.try_send(request).is_err() {
            tracing::debug!("the aggregator has stopped");
        }
    }
}

impl Drop for Collection {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.ask(Request::End(self.id, permit));
        }
    }
}
