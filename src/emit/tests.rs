//! Runs over real sockets, with readers that come and go.

use std::path::{Path, PathBuf};

use bytes::BytesMut;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::*;
use crate::wire::boundary::{Message, SenderDrops, decode, open};

/// What a reader got, in the order in which it came.
#[derive(Debug, Default)]
struct Received {
    buffer: BytesMut,
    /// Sequence numbers, lowest to highest, of each frame of logs.
    frames: Vec<std::ops::RangeInclusive<i32>>,
    logs: u64,
    drops: SenderDrops,
    /// Frames of logs before the first status.
    before_status: Option<usize>,
}

impl Received {
    /// Reads until `logs` logs have come or the connection ends; true when it ended.
    async fn read(&mut self, stream: &mut UnixStream, logs: u64) -> bool {
        while self.logs < logs {
            if stream.read_buf(&mut self.buffer).await.expect("readable") == 0 {
                return true;
            }
            while let Some(frame) = decode(&mut self.buffer).expect("a good header") {
                match open(frame).expect("a good frame") {
                    Message::Logs(logs) => {
                        self.logs += logs.summary.logs;
                        self.frames.extend(logs.summary.sequences);
                    }
                    Message::Status(drops) => {
                        self.before_status.get_or_insert(self.frames.len());
                        self.drops.channel_full += drops.channel_full;
                        self.drops.batch_full += drops.batch_full;
                    }
                    Message::Empty => panic!("a frame that says nothing"),
                }
            }
        }
        false
    }

    fn assert_in_order(&self) {
        let ordered = |pair: &[std::ops::RangeInclusive<i32>]| pair[0].end() < pair[1].start();
        assert!(self.frames.windows(2).all(ordered), "{:?}", self.frames);
    }

    /// What arrived, and what the sender says, is what it sums up to.
    fn assert_agrees(&self, summary: &Summary) {
        self.assert_in_order();
        assert_eq!(self.logs, summary.delivered);
        assert_eq!(self.drops.channel_full, summary.channel_full);
        assert_eq!(
            self.drops.batch_full,
            summary.batch_full + summary.too_large
        );
        let dropped = summary.channel_full + summary.batch_full + summary.too_large;
        assert_eq!(summary.logs, summary.delivered + dropped + summary.unsent);
    }
}

/// A socket in a directory of its own.
struct Socket {
    directory: TempDir,
    listener: UnixListener,
}

impl Socket {
    fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        let listener = UnixListener::bind(directory.path().join("audit.sock")).expect("bound");
        Self {
            directory,
            listener,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("audit.sock")
    }

    async fn accept(&self) -> UnixStream {
        self.listener.accept().await.expect("a connection").0
    }

    /// Nobody listens any more, and the path is gone.
    fn close(self) -> TempDir {
        std::fs::remove_file(self.path()).expect("removed");
        self.directory
    }

    fn reopen(directory: TempDir) -> Self {
        let listener = UnixListener::bind(directory.path().join("audit.sock")).expect("bound");
        Self {
            directory,
            listener,
        }
    }
}

fn options(path: &Path, when_full: WhenFull) -> Options {
    Options {
        socket_path: path.to_owned(),
        session_id: SessionId::from_bits(7),
        when_full,
        flush_timeout: Duration::from_secs(5),
    }
}

/// A run in the background.
struct Running {
    task: JoinSet<Summary>,
    stop: Stop,
}

impl Running {
    fn start(socket: &Socket, when_full: WhenFull, source: Source) -> Self {
        let stop = Stop::default();
        let run = run(options(&socket.path(), when_full), source, stop.clone());
        let mut task = JoinSet::new();
        task.spawn(async { run.await.expect("connected") });
        Self { task, stop }
    }

    async fn end(mut self) -> Summary {
        let ended = self.task.join_next().await.expect("a task");
        ended.expect("no panic")
    }
}

fn rate(per_second: f64) -> Rate {
    Rate::new(per_second).expect("a rate")
}

#[tokio::test]
async fn without_a_rate_every_log_arrives() {
    let socket = Socket::new();
    let run = Running::start(&socket, WhenFull::Wait, Source::made_up(10_007, 200));
    let mut received = Received::default();
    assert!(received.read(&mut socket.accept().await, u64::MAX).await);
    let summary = run.end().await;
    received.assert_agrees(&summary);
    assert_eq!((summary.logs, summary.delivered), (10_007, 10_007));
    assert_eq!(summary.lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_comes_back_gets_the_kept_batch_then_a_status_then_the_rest() {
    let socket = Socket::new();
    let source = Source::made_up(200, 100).at_rate(rate(20.0));
    let run = Running::start(&socket, WhenFull::Drop, source);
    let mut received = Received::default();
    let mut stream = socket.accept().await;
    assert!(!received.read(&mut stream, 30).await);
    drop(stream);
    let directory = socket.close();

    // Ten logs fill the batch, and the others of this time are lost.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let socket = Socket::reopen(directory);
    received.buffer.clear();
    assert!(received.read(&mut socket.accept().await, u64::MAX).await);
    let summary = run.end().await;
    received.assert_agrees(&summary);
    assert_eq!(received.frames[3], 30..=39, "the kept batch");
    assert_eq!(received.before_status, Some(4));
    assert_eq!(summary.channel_full, 0);
    assert!((25..=35).contains(&summary.batch_full), "{summary:?}");
    assert_eq!(*received.frames[4].start(), 40 + summary.batch_full as i32);
    assert_eq!(received.frames.last().map(|it| *it.end()), Some(199));
}

#[tokio::test(start_paused = true)]
async fn a_stalled_reader_costs_what_neither_the_socket_nor_the_channel_holds() {
    let socket = Socket::new();
    let source = Source::made_up(50_000, 300).at_rate(rate(10_000.0));
    let run = Running::start(&socket, WhenFull::Drop, source);
    let mut stream = socket.accept().await;
    // The clock stands until all is idle, which is when the source waits and the socket is full.
    tokio::time::sleep(Duration::from_secs(3)).await;
    run.stop.drain.cancel();
    let mut received = Received::default();
    assert!(received.read(&mut stream, u64::MAX).await);
    let summary = run.end().await;
    received.assert_agrees(&summary);
    assert!(summary.channel_full > 0, "{summary:?}");
    assert_eq!(summary.batch_full, 0);
    assert_eq!(summary.unsent, 0);
    let last = received.frames.len() - 1;
    assert_eq!(
        received.before_status,
        Some(last),
        "the blocked frame, the status, the channel"
    );
    let tail = &received.frames[last];
    assert_eq!(tail.end() - tail.start() + 1, CHANNEL_LOGS as i32);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_run_sends_its_tail_at_once() {
    let socket = Socket::new();
    let source = Source::made_up(1_000, 100).at_rate(rate(1.0));
    let run = Running::start(&socket, WhenFull::Drop, source);
    let mut stream = socket.accept().await;
    let begin = Instant::now();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    run.stop.drain.cancel();
    let mut received = Received::default();
    assert!(received.read(&mut stream, u64::MAX).await);
    let summary = run.end().await;
    received.assert_agrees(&summary);
    assert_eq!(received.frames, [0..=2]);
    assert_eq!(begin.elapsed(), Duration::from_millis(2_500));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_reads_is_given_up_at_the_deadline_and_counted() {
    for when_full in [WhenFull::Drop, WhenFull::Wait] {
        let socket = Socket::new();
        let source = Source::made_up(15, 100).at_rate(rate(10.0));
        let run = Running::start(&socket, when_full, source);
        drop(socket.accept().await);
        socket.close();
        let begin = Instant::now();
        let summary = run.end().await;
        assert_eq!((summary.logs, summary.delivered), (15, 0));
        assert_eq!(summary.batch_full + summary.unsent, 15, "{summary:?}");
        assert!(summary.unsent >= 10, "{summary:?}");
        let taken = begin.elapsed();
        let expected = Duration::from_millis(1_500) + Duration::from_secs(5);
        assert!(
            taken.abs_diff(expected) <= Duration::from_millis(10),
            "{taken:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_waits_loses_nothing_over_an_outage() {
    let socket = Socket::new();
    let mut run = Running::start(&socket, WhenFull::Wait, Source::made_up(5_000, 100));
    let mut received = Received::default();
    let mut stream = socket.accept().await;
    assert!(!received.read(&mut stream, 1_000).await);
    // What the kernel holds would die with its reader, so it is read out first.
    let closing = stream.into_std().expect("a socket");
    closing
        .shutdown(std::net::Shutdown::Read)
        .expect("shut down");
    let mut stream = UnixStream::from_std(closing).expect("a socket");
    assert!(received.read(&mut stream, u64::MAX).await);
    drop(stream);
    let directory = socket.close();
    assert!(received.logs < 5_000, "the outage came too late");

    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(run.task.try_join_next().is_none());
    let socket = Socket::reopen(directory);
    received.buffer.clear();
    assert!(received.read(&mut socket.accept().await, u64::MAX).await);
    let summary = run.end().await;
    received.assert_agrees(&summary);
    assert_eq!(summary.delivered, 5_000);
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_ends_the_flush_at_once() {
    let socket = Socket::new();
    let source = Source::made_up(15, 100).at_rate(rate(10.0));
    let run = Running::start(&socket, WhenFull::Drop, source);
    drop(socket.accept().await);
    socket.close();
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    run.stop.drain.cancel();
    tokio::time::sleep(Duration::from_millis(10)).await;
    run.stop.deadline.cancel();
    let begin = Instant::now();
    let summary = run.end().await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!((summary.logs, summary.delivered), (11, 0));
    assert_eq!((summary.batch_full, summary.unsent), (1, 10));
}

#[tokio::test]
async fn lines_are_sent_and_bad_ones_counted() {
    let socket = Socket::new();
    let good = "{\"allowed\":true,\"http_method\":\"GET\",\"http_url\":\"u\"}\n";
    let input = format!("{good}nonsense\n{}{{}}\n{good}", good.repeat(23));
    let source = Source::lines(std::io::Cursor::new(input)).expect("a thread");
    let run = Running::start(&socket, WhenFull::Wait, source);
    let mut received = Received::default();
    assert!(received.read(&mut socket.accept().await, u64::MAX).await);
    let summary = run.end().await;
    received.assert_agrees(&summary);
    assert_eq!((summary.logs, summary.bad_lines), (25, 2));
    assert!(!summary.cut_short);
    assert_eq!(
        serde_json::to_string(&summary).expect("JSON"),
        "{\"logs\":25,\"delivered\":25,\"channel_full\":0,\"batch_full\":0,\"too_large\":0,\
         \"unsent\":0,\"bad_lines\":2,\"session_id\":\"00000000-0000-0000-0000-000000000007\"}"
    );
}

#[tokio::test]
async fn a_log_that_no_frame_holds_is_dropped_and_told() {
    let socket = Socket::new();
    let run = Running::start(&socket, WhenFull::Wait, Source::made_up(3, 40_000));
    let mut received = Received::default();
    assert!(received.read(&mut socket.accept().await, u64::MAX).await);
    let summary = run.end().await;
    received.assert_agrees(&summary);
    assert_eq!((summary.too_large, summary.lost()), (3, 3));
}

#[tokio::test]
async fn an_input_that_breaks_off_is_sent_as_far_as_it_came() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    let socket = Socket::new();
    let line = &b"{\"allowed\":true,\"http_method\":\"GET\",\"http_url\":\"u\"}\n"[..];
    let source = Source::lines(std::io::Read::chain(line, Broken)).expect("a thread");
    let run = Running::start(&socket, WhenFull::Wait, source);
    let mut received = Received::default();
    assert!(received.read(&mut socket.accept().await, u64::MAX).await);
    let summary = run.end().await;
    received.assert_agrees(&summary);
    assert_eq!(summary.delivered, 1);
    assert!(summary.cut_short);
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_an_error() {
    let directory = TempDir::new().expect("a directory");
    let options = options(&directory.path().join("none.sock"), WhenFull::Drop);
    let error = run(options, Source::made_up(1, 0), Stop::default())
        .await
        .expect_err("no socket");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn load_is_numbered_without_a_gap_over_any_number_of_writes() {
    let mut load = load::Load::new(3, load::MAX_URL_BYTES);
    let (mut near, mut far) = UnixStream::pair().expect("a pair");
    let id = load.session_id().clone();
    let mut blocking = Vec::new();
    load.write_to(&mut blocking, 25).expect("written");
    let mut received = Received::default();
    let (sent, ended) = tokio::join!(
        async move {
            near.write_all(&blocking).await?;
            load.send_to(&mut near, 1_001).await
        },
        received.read(&mut far, u64::MAX),
    );
    sent.expect("written");
    assert!(ended);
    received.assert_in_order();
    assert_eq!(received.logs, 1_026);
    assert_eq!(received.frames.first(), Some(&(0..=9)));
    assert_eq!(received.frames.last().map(|it| *it.end()), Some(1_025));
    assert_eq!(id.as_str(), "00000000-0000-0000-0000-000000000003");
}
