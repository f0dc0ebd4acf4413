//! One page, made in pieces: the families of the control plane, and among them those that agents reported, in the order
//! of their names.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::time::timeout;

use crate::control::aggregate::Collection;
use crate::metrics::catalog::Family;
use crate::metrics::control::{ScrapeError, ScrapeMetrics};
use crate::metrics::exposition::text::Text;

/// Bytes of a piece that is written here, about.
const PIECE: usize = 16 << 10;

/// How long the next piece of what agents reported may take. The aggregator pauses for microseconds; without its series
/// a page is worth more than none.
const GATHER_WITHIN: Duration = Duration::from_secs(5);

/// What begins a family.
const HEAD: &[u8] = b"# HELP ";

/// A page on its way, in pieces of whole lines.
pub type Page = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// A page of the families of the control plane, in the order of their names, and of what agents reported.
pub(super) fn page(own: Vec<Part>, reported: Option<Collection>, metrics: ScrapeMetrics) -> Page {
    let merge = Merge {
        own: own.into_iter().peekable(),
        part: None,
        reported,
        chunk: Bytes::new(),
        metrics,
    };
    Box::pin(stream::unfold(merge, async |mut merge| {
        let piece = merge.next().await?;
        Some((piece, merge))
    }))
}

/// One family of the control plane.
pub(super) struct Part {
    name: String,
    pieces: Box<dyn Iterator<Item = Bytes> + Send>,
}

impl Part {
    /// A family that is written already.
    pub(super) fn whole(name: &str, text: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            pieces: Box::new(std::iter::once(text.into())),
        }
    }

    /// A family whose series are written some at a time, from rows.
    pub(super) fn rows<T: Send + Sync + 'static>(
        family: &'static Family,
        rows: &Arc<[T]>,
        mut write: impl FnMut(&T, &mut Text) + Send + 'static,
    ) -> Self {
        let rows = Arc::clone(rows);
        let mut head = Some(family);
        let mut next = 0;
        let pieces = std::iter::from_fn(move || {
            let mut text = Text::default();
            if let Some(family) = head.take() {
                text.head(family);
            }
            while text.len() < PIECE
                && let Some(row) = rows.get(next)
            {
                write(row, &mut text);
                next += 1;
            }
            (text.len() > 0).then(|| text.into())
        });
        Self {
            name: family.name.to_owned(),
            pieces: Box::new(pieces),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

struct Merge {
    own: std::iter::Peekable<std::vec::IntoIter<Part>>,
    /// The one that is being written.
    part: Option<Part>,
    reported: Option<Collection>,
    /// What is left of the latest chunk of `reported`: whole lines.
    chunk: Bytes,
    metrics: ScrapeMetrics,
}

impl Merge {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(part) = &mut self.part {
                match part.pieces.next() {
                    Some(piece) => return Some(piece),
                    None => self.part = None,
                }
            }
            if self.chunk.is_empty() {
                self.chunk = self.gather().await;
            }
            let Some(part) = self.own.peek() else {
                // Whole, as they come.
                return Some(std::mem::take(&mut self.chunk)).filter(|chunk| !chunk.is_empty());
            };
            let before = before(&self.chunk, part.name.as_bytes());
            if before > 0 {
                return Some(self.chunk.split_to(before));
            }
            self.part = self.own.next();
        }
    }

    /// The next chunk of what agents reported; empty when there is no more.
    async fn gather(&mut self) -> Bytes {
        let Some(reported) = &mut self.reported else {
            return Bytes::new();
        };
        match timeout(GATHER_WITHIN, reported.next()).await {
            Ok(Ok(Some(chunk))) => return chunk,
            Ok(Ok(None)) => {}
            Ok(Err(_)) | Err(_) => {
                tracing::warn!("a page lacks series of agents: they were not there in time");
                self.metrics.failed(ScrapeError::Gathering);
            }
        }
        self.reported = None;
        Bytes::new()
    }
}

/// How much of a chunk of whole lines comes before a family of that name.
fn before(chunk: &[u8], name: &[u8]) -> usize {
    let mut at = 0;
    while let Some(rest) = chunk.get(at..).filter(|rest| !rest.is_empty()) {
        if let Some(head) = rest.strip_prefix(HEAD) {
            let end = head.iter().position(|byte| *byte == b' ');
            if head.get(..end.unwrap_or(head.len())) > Some(name) {
                return at;
            }
        }
        // No line but a head begins with #.
        let next = rest.windows(2).position(|two| two == b"\n#");
        at = next.map_or(chunk.len(), |next| at + next + 1);
    }
    chunk.len()
}

#[cfg(test)]
mod tests {
    use super::before;

    #[test]
    fn a_chunk_is_cut_before_the_first_family_behind_a_name() {
        let chunk = "a{x=\"#\\n# HELP z \"} 1\n# HELP b B\n# TYPE b counter\nb 2\n# HELP d D\n# TYPE d gauge\nd 3\n";
        let cut = |name: &str| chunk.split_at(before(chunk.as_bytes(), name.as_bytes()));
        // The rest of a family that a chunk before began goes with it.
        assert!(cut("a").1.starts_with("# HELP b"));
        assert!(cut("a0").1.starts_with("# HELP b"));
        assert!(cut("c").1.starts_with("# HELP d"));
        assert!(cut("bb").1.starts_with("# HELP d"));
        assert_eq!(cut("e").1, "");
        assert_eq!(before(b"# HELP b B\n", b"a"), 0);
        assert_eq!(before(b"", b"a"), 0);
    }
}
