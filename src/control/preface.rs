//! Which HTTP a connection speaks. HTTP/2 begins with a preface that no request of HTTP/1.1 begins with (RFC 9113,
//! section 3.4).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads until it is clear whether the peer speaks HTTP/2; the stream begins with what was read.
pub(super) async fn is_http2<S>(mut stream: S) -> io::Result<(bool, Rewound<S>)>
where
    S: AsyncRead + Unpin,
{
    let mut head = BytesMut::with_capacity(PREFACE.len());
    while head.len() < PREFACE.len() && PREFACE.starts_with(&head) {
        let missing = PREFACE.len() - head.len();
        if stream.read_buf(&mut (&mut head).limit(missing)).await? == 0 {
            break;
        }
    }
    let is_http2 = head == PREFACE;
    let head = head.freeze();
    Ok((is_http2, Rewound { head, stream }))
}

/// A stream whose front was read, and is read again.
#[derive(Debug)]
pub(super) struct Rewound<S> {
    head: Bytes,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.head.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let here = self.head.len().min(buf.remaining());
        buf.put_slice(&self.head.copy_to_bytes(here));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made of a peer that sends this in two pieces and hangs up, and what is then read.
    async fn sniff(front: &[u8], back: &[u8]) -> (bool, Vec<u8>) {
        let (http2, mut stream) = is_http2(AsyncReadExt::chain(front, back)).await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        (http2, all)
    }

    #[tokio::test]
    async fn the_preface_is_recognised_in_any_pieces_and_read_again() {
        let whole = [PREFACE, b"and frames"].concat();
        for cut in 0..whole.len() {
            let (front, back) = whole.split_at(cut);
            assert_eq!(sniff(front, back).await, (true, whole.clone()));
        }
    }

    #[tokio::test]
    async fn anything_else_is_left_to_the_older_version() {
        for other in [
            "",
            "P",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r",
            "PRI * HTTP/1.1\r\nHost: x\r\n\r\n",
            "POST / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
        ] {
            let bytes = other.as_bytes();
            assert_eq!(sniff(bytes, b"").await, (false, bytes.to_vec()), "{other}");
        }
    }
}
