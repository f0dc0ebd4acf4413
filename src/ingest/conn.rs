//! One sender: bytes in, batches out.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rustix::net::Shutdown;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::ReadHalf;
use tokio::task::yield_now;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Stage;
use super::senders::{Activity, Seat};
use crate::buffer::batch::{Arrival, LaneKey};
use crate::metrics::FrameFault;
use crate::wire::boundary::{self, Eof, Frame, FrameError, Logs, Malformed, Message};

/// Most bytes read from a sender before the others have their turn: some six full batches.
const CHUNK: usize = 16 * 1024;

/// Most frames handled before the others have their turn. Only frames that are nearly empty come so many to a
/// chunk.
const FRAMES_PER_TURN: u64 = 128;

/// A payload shares the memory of its chunk unless that is more than this many times its size; then it gets its
/// own. So what the buffer holds keeps alive at most this many times the bytes it counts, whatever was sent.
/// Batches as senders make them, alone or in a full chunk, are above the limit.
const MAX_SHARE: usize = 8;

/// Reads a sender until it closes, fails or breaks the framing. After `closing` nothing more is taken from it, and
/// what the kernel holds already is read to the end.
pub(super) async fn serve(
    mut stream: UnixStream,
    seat: Seat,
    stage: Arc<Stage>,
    closing: CancellationToken,
) {
    let _open = stage.metrics.connection();
    let (reader, other_half) = stream.split();
    let mut reading = pin!(read(reader, &seat, &stage));
    tokio::select! {
        biased;
        () = &mut reading => return,
        () = closing.cancelled() => {}
    }
    match rustix::net::shutdown(other_half.as_ref(), Shutdown::Read) {
        Ok(()) => reading.await,
        // Without it the end might never come.
        Err(error) => tracing::warn!(pid = seat.pid(), %error, "cannot end a connection in order"),
    }
}

async fn read(mut stream: ReadHalf<'_>, seat: &Seat, stage: &Stage) {
    // Holds the start of a frame whose rest has not come; without one it holds no memory.
    let mut unread = BytesMut::new();
    let failure = loop {
        let filled = match fill(&mut stream, &mut unread).await {
            Ok(Filled::End) => break None,
            Ok(filled) => filled,
            Err(error) => break Some(error),
        };
        let mut turn = Turn {
            seat,
            stage,
            read_at: Instant::now(),
            chunk: unread.capacity(),
            activity: Activity::default(),
        };
        // In memory of its own, which a connection that is idle does not hold: it is most of the task's state.
        let taken = Box::pin(turn.take(&mut unread)).await;
        seat.record(turn.activity);
        if let Err(fault) = taken {
            // Closed without another look: past this header no frame can be found.
            return refuse(fault, seat, stage);
        }
        // Without more to read the next wait lets the others have their turn.
        if filled == Filled::InPart {
            yield_now().await;
        }
    };
    end(&unread, failure, seat, stage);
}

/// What a read left in the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filled {
    /// Nothing, at the time.
    Whole,
    /// More, maybe.
    InPart,
    /// Nothing, for good.
    End,
}

/// Waits until the kernel holds something, and appends at most a chunk of it to `unread`.
///
/// Reserves what the kernel holds, never what a header announces: a batch that comes alone has a chunk of its own
/// size, and a sender that is silent has none. A byte more than it holds makes the read a short one, after which
/// the runtime knows without another call that there is nothing more.
async fn fill(stream: &mut ReadHalf<'_>, unread: &mut BytesMut) -> io::Result<Filled> {
    stream.readable().await?;
    let waiting = usize::try_from(rustix::io::ioctl_fionread(stream.as_ref())?).unwrap_or(CHUNK);
    unread.reserve(waiting.min(CHUNK) + 1);
    let room = unread.capacity() - unread.len();
    Ok(match stream.read_buf(unread).await? {
        0 => Filled::End,
        read if read < room => Filled::Whole,
        _ => Filled::InPart,
    })
}

/// What is done with one chunk.
struct Turn<'a> {
    seat: &'a Seat,
    stage: &'a Stage,
    read_at: Instant,
    /// Bytes of memory that the frames of this chunk share.
    chunk: usize,
    activity: Activity,
}

impl Turn<'_> {
    /// Handles every whole frame of `unread` and leaves the rest there, in memory of its own.
    async fn take(&mut self, unread: &mut BytesMut) -> Result<(), FrameError> {
        let mut frames: u64 = 0;
        while let Some(frame) = boundary::decode(unread)? {
            self.handle(frame).await;
            frames += 1;
            if frames.is_multiple_of(FRAMES_PER_TURN) {
                yield_now().await;
            }
        }
        if frames > 0 {
            *unread = BytesMut::from(&unread[..]);
        }
        Ok(())
    }

    async fn handle(&mut self, frame: Frame) {
        match boundary::open(frame) {
            Ok(Message::Logs(logs)) => {
                self.used(logs.summary.logs);
                let arrival = self.arrival(logs);
                self.stage.buffer.receive(arrival).await;
            }
            Ok(Message::Status(drops)) => {
                self.used(0);
                let ledger = self.stage.buffer.ledger();
                ledger.dropped_by_sender(drops.channel_full, drops.batch_full);
            }
            Ok(Message::Empty) => self.skip(FrameFault::Empty, None),
            Err(malformed) => self.skip(FrameFault::Undecodable, Some(malformed)),
        }
    }

    fn used(&mut self, logs: u64) {
        self.activity.frames += 1;
        self.activity.logs += logs;
        self.activity.last_frame_at = Some(self.read_at);
    }

    fn arrival(&self, logs: Logs) -> Arrival {
        let Logs { payload, summary } = logs;
        let payload = if payload.len() * MAX_SHARE < self.chunk {
            Bytes::copy_from_slice(&payload)
        } else {
            payload
        };
        let session = summary.session_id.of(&payload);
        let lane = if session.is_empty() {
            LaneKey::Connection(self.seat.number())
        } else {
            LaneKey::Session(payload.slice_ref(session.as_bytes()))
        };
        Arrival {
            process: payload.slice_ref(summary.process.of(&payload).as_bytes()),
            logs: summary.logs,
            lane,
            mergeable: summary.mergeable,
            received_at: self.read_at,
            payload,
        }
    }

    /// Counts a frame that is skipped; the connection goes on.
    fn skip(&mut self, fault: FrameFault, malformed: Option<Malformed>) {
        self.activity.rejected += 1;
        self.stage.metrics.rejected(fault);
        if let Some(withheld) = self.stage.may_warn() {
            let pid = self.seat.pid();
            match malformed {
                Some(error) => tracing::warn!(pid, %error, withheld, "undecodable frame skipped"),
                None => tracing::warn!(pid, withheld, "frame with neither logs nor status skipped"),
            }
        }
    }
}

/// Counts a header that ends its connection.
fn refuse(error: FrameError, seat: &Seat, stage: &Stage) {
    stage.metrics.rejected(match error {
        FrameError::Tag { .. } => FrameFault::Tag,
        FrameError::TooLarge { .. } => FrameFault::TooLarge,
    });
    if let Some(withheld) = stage.may_warn() {
        tracing::warn!(pid = seat.pid(), %error, withheld, "connection closed");
    }
}

/// Counts a frame of which only `unread` came before the connection ended or failed.
fn end(unread: &[u8], failure: Option<io::Error>, seat: &Seat, stage: &Stage) {
    let pid = seat.pid();
    if let Some(error) = failure
        && let Some(withheld) = stage.may_warn()
    {
        tracing::warn!(pid, %error, withheld, "connection failed");
    }
    if let Eof::Truncated { have, want } = boundary::at_eof(unread) {
        stage.metrics.rejected(FrameFault::Truncated);
        if let Some(withheld) = stage.may_warn() {
            tracing::warn!(pid, have, want, withheld, "connection ended inside a frame");
        }
    }
}
