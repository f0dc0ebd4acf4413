//! The other end of a connection, for tests: frames as bytes, or a server.

use std::sync::Arc;

use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::session::{Driver, Session, open};
use crate::backoff::Schedule;
use crate::upstream::transport::{Ended, Known};
use crate::upstream::{ProxySettings, RootFiles, Settings, Transport};

/// What the client writes before it knows anything of the server.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const HEADERS: u8 = 1;
pub(super) const RESET: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;

/// A flag of SETTINGS and PING.
const ACK: u8 = 1;

/// A flag of DATA and HEADERS.
pub(super) const END_STREAM: u8 = 1;

/// A connection that runs.
pub(super) struct Bench {
    pub(super) session: Session,
    pub(super) known: Known,
    pub(super) stop: CancellationToken,
    pub(super) driver: JoinSet<Ended>,
    /// Whether it takes no new calls any more.
    pub(super) left: watch::Receiver<bool>,
    pub(super) begun: Instant,
}

/// A connection, and the other end of its socket, which holds `buffer` bytes.
pub(super) async fn bench(buffer: usize) -> (Bench, DuplexStream) {
    let (near, far) = duplex(buffer);
    let settings = Settings {
        url: "http://control.example:3000".parse().unwrap(),
        transport: Transport::Grpc,
        token: Arc::new(|| Ok(String::new())),
        headers: HeaderMap::new(),
        role: "weir".to_owned(),
        schedule: Schedule::new(Duration::from_secs(1), Duration::from_secs(1)).unwrap(),
        proxy: ProxySettings::default(),
        roots: RootFiles::default(),
    };
    let known = Known {
        token: HeaderValue::from_static("token"),
        tls: crate::upstream::tls::Tls::new(RootFiles::default()),
        pace: Arc::default(),
    };
    let opened = open(Box::new(near), &settings, &known).await;
    let (session, driver) = opened.unwrap_or_else(|error| panic!("{error}"));
    let stop = CancellationToken::new();
    let (leave, left) = watch::channel(false);
    let driver = JoinSet::from_iter([run(driver, leave, stop.clone())]);
    let bench = Bench {
        session,
        known,
        stop,
        driver,
        left,
        begun: Instant::now(),
    };
    (bench, far)
}

/// Serves, as after a dial, which has served for a moment; and closes where there is something left to close.
async fn run(mut driver: Driver, leave: watch::Sender<bool>, stop: CancellationToken) -> Ended {
    let at_the_dial = driver.serve(&stop).now_or_never();
    let ended = match at_the_dial {
        Some(ended) => ended,
        None => driver.serve(&stop).await,
    };
    leave.send_replace(true);
    if ended.leaves_it_open() {
        driver.close(&stop).await;
    }
    ended
}

/// What the one task of a set came to.
pub(super) async fn end<T: 'static>(mut task: JoinSet<T>) -> T {
    task.join_next().await.unwrap().unwrap()
}

pub(super) fn runs<T: 'static>(task: &mut JoinSet<T>) -> bool {
    task.try_join_next().is_none()
}

/// A frame as it came.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

/// A server made of frames alone, which says nothing by itself but its settings.
pub(super) struct Frames(pub(super) DuplexStream);

impl Frames {
    pub(super) async fn accept(mut io: DuplexStream) -> Self {
        let mut preface = [0; PREFACE.len()];
        io.read_exact(&mut preface).await.unwrap();
        assert_eq!(preface, PREFACE);
        let mut frames = Self(io);
        frames.send(SETTINGS, 0, 0, &[]).await;
        frames
    }

    pub(super) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    pub(super) async fn go_away(&mut self, last: u32, reason: u32) {
        let payload = [last.to_be_bytes(), reason.to_be_bytes()].concat();
        self.send(GOAWAY, 0, 0, &payload).await;
    }

    /// `None` at the end of the connection.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let [l0, l1, l2, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(stream),
            payload,
        })
    }

    /// Reads until a frame of that kind.
    pub(super) async fn until(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().await.expect("the connection goes on");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Reads until a request is whole, and tells its stream.
    pub(super) async fn request(&mut self) -> u32 {
        loop {
            let frame = self.next().await.expect("the connection goes on");
            if frame.kind == 0 && frame.flags & END_STREAM != 0 {
                return frame.stream;
            }
        }
    }

    /// Reads on and answers pings until the connection ends; tells how many there were, and the reason of a GOAWAY.
    pub(super) async fn attend(mut self) -> (usize, Option<u32>) {
        let (mut pings, mut reason) = (0, None);
        while let Some(frame) = self.next().await {
            match frame.kind {
                PING if frame.flags & ACK == 0 => {
                    pings += 1;
                    self.send(PING, ACK, 0, &frame.payload).await;
                }
                GOAWAY => {
                    let code = frame.payload[4..8].try_into().unwrap();
                    reason = Some(u32::from_be_bytes(code));
                }
                _ => {}
            }
        }
        (pings, reason)
    }
}
