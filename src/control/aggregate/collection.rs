//! One scrape, as the scraper sees it.

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::mpsc::Receiver;

/// The text of all families, sorted by name, in the text format 0.0.4.
///
/// It shows every series that lives throughout exactly once, and no series or family twice. Dropped before its end it
/// costs the aggregator nothing more.
#[derive(Debug)]
pub struct Collection {
    pub(super) chunks: Receiver<Option<Bytes>>,
    pub(super) ended: bool,
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
    /// The next chunk of the page, of whole lines and about 64 KiB; `None` at the end.
    ///
    /// # Errors
    /// When the aggregator has stopped.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Stopped> {
        if self.ended {
            return Ok(None);
        }
        let chunk = self.chunks.recv().await.ok_or(Stopped)?;
        self.ended = chunk.is_none();
        Ok(chunk)
    }

    /// As [`Self::next`], for a thread that may block.
    ///
    /// # Errors
    /// When the aggregator has stopped.
    pub fn blocking_next(&mut self) -> Result<Option<Bytes>, Stopped> {
        if self.ended {
            return Ok(None);
        }
        let chunk = self.chunks.blocking_recv().ok_or(Stopped)?;
        self.ended = chunk.is_none();
        Ok(chunk)
    }
}
