//! One page, made in pieces.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;

use crate::metrics::catalog::Family;
use crate::metrics::exposition::text::Text;

/// Bytes of a piece, about.
const PIECE: usize = 16 << 10;

/// One family of a page.
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

/// A page on its way: its families in the order of their names.
pub struct Page {
    own: std::vec::IntoIter<Part>,
    part: Option<Part>,
}

impl Page {
    pub(super) fn new(own: Vec<Part>) -> Self {
        let mut own = own.into_iter();
        let part = own.next();
        Self { own, part }
    }

    fn next(&mut self) -> Option<Bytes> {
        loop {
            let part = self.part.as_mut()?;
            match part.pieces.next() {
                Some(piece) => return Some(piece),
                None => self.part = self.own.next(),
            }
        }
    }
}

impl Stream for Page {
    type Item = Bytes;

    fn poll_next(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        Poll::Ready(self.get_mut().next())
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").finish_non_exhaustive()
    }
}
