//! The body of an answer: whole, or a page that is made while it is taken.

use std::convert::Infallible;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::Stream;
use http::StatusCode;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

use crate::metrics::control::{Present, ScrapeError, ScrapeMetrics};

/// Bytes that are gathered before they are handed on. A scraper that does not take them costs no more than a few of
/// these: the next are made when there is room for them.
const FRAME: usize = 32 << 10;

/// A body.
#[derive(Debug)]
pub(super) enum Answer<S> {
    /// It is there.
    Whole(Full<Bytes>),
    /// Of the answer to HEAD nothing is sent; how long a page would be is not known.
    Unsized,
    /// It is made.
    Made(Made<S>),
}

/// A page that is made while it is taken.
#[derive(Debug)]
pub(super) struct Made<S> {
    pieces: S,
    /// Until the last byte was handed on.
    packer: Option<Packer>,
    metrics: ScrapeMetrics,
    _in_flight: Present,
}

/// What was made and not handed on yet.
#[derive(Debug)]
enum Packer {
    Plain(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl<S> Made<S> {
    pub(super) fn new(pieces: S, gzip: bool, metrics: &ScrapeMetrics, in_flight: Present) -> Self {
        let packer = if gzip {
            Packer::Gzip(GzEncoder::new(Vec::new(), Compression::fast()))
        } else {
            Packer::Plain(Vec::new())
        };
        Self {
            pieces,
            packer: Some(packer),
            metrics: metrics.clone(),
            _in_flight: in_flight,
        }
    }
}

impl<S> Drop for Made<S> {
    fn drop(&mut self) {
        self.metrics.answered(StatusCode::OK);
        if self.packer.is_some() {
            self.metrics.failed(ScrapeError::Encoding);
        }
    }
}

impl Packer {
    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(packed) => packed.write_all(piece),
            Self::Gzip(encoder) => encoder.write_all(piece),
        }
    }

    fn packed(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Plain(packed) => packed,
            Self::Gzip(encoder) => encoder.get_mut(),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain(packed) => Ok(packed),
            Self::Gzip(encoder) => encoder.finish(),
        }
    }
}

impl<S: Stream<Item = Bytes> + Unpin> Made<S> {
    /// The next bytes to hand on.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Vec<u8>>>> {
        while let Some(packer) = &mut self.packer {
            match ready!(Pin::new(&mut self.pieces).poll_next(cx)) {
                Some(piece) => {
                    packer.write(&piece)?;
                    let packed = packer.packed();
                    if packed.len() >= FRAME {
                        return Poll::Ready(Ok(Some(std::mem::take(packed))));
                    }
                }
                None => {
                    let rest = self.packer.take().map(Packer::finish).transpose()?;
                    return Poll::Ready(Ok(rest.filter(|rest| !rest.is_empty())));
                }
            }
        }
        Poll::Ready(Ok(None))
    }
}

impl<S: Stream<Item = Bytes> + Unpin> Body for Answer<S> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Whole(whole) => {
                let frame = ready!(Pin::new(whole).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(|never: Infallible| match never {})))
            }
            Self::Unsized => Poll::Ready(None),
            Self::Made(made) => {
                let next = ready!(made.poll(cx)).transpose();
                Poll::Ready(next.map(|next| next.map(|bytes| Frame::data(bytes.into()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Unsized | Self::Made(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Unsized | Self::Made(_) => SizeHint::default(),
        }
    }
}
