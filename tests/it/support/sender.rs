//! A boundary process: connects to the audit socket and writes frames.

use std::io::ErrorKind;
use std::path::Path;

use ring::digest::{Context, SHA256};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use weir::wire::boundary::encode::{LogEntry, put_logs_frame};

use super::plane::Delivered;
use super::wait::wait_for;

/// Logs in a batch of a busy boundary.
pub const BATCH: usize = 10;

/// A connection to the audit socket.
#[derive(Debug)]
pub struct Sender {
    stream: UnixStream,
}

impl Sender {
    /// Connects.
    pub async fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).await;
        Self {
            stream: stream.expect("the audit socket accepts"),
        }
    }

    /// Writes bytes to the end.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes)
            .await
            .expect("the audit socket is read");
    }

    /// Waits until the other end has closed.
    pub async fn closed(&mut self) {
        wait_for("the close of the connection", async || {
            match self.stream.try_read(&mut [0]) {
                // What was not read there makes it a reset.
                Ok(0) => Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Writes bytes; an error means that not all of them were taken.
    pub async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }
}

/// A session of a boundary process: logs numbered from 0, and a record of them.
pub struct Session {
    pub id: String,
    /// Logs so far.
    pub logs: u64,
    sent: Context,
    url: String,
}

impl Session {
    /// A session without logs.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            logs: 0,
            sent: Context::new(&SHA256),
            url: "https://example.com/v1/items?id=7&q=a%20b".to_owned(),
        }
    }

    /// The same, with this text in the URL of every log to come.
    pub fn with_url(mut self, url: &str) -> Self {
        url.clone_into(&mut self.url);
        self
    }

    /// A frame with the next `logs` logs.
    pub fn frame(&mut self, logs: usize) -> Vec<u8> {
        let entries: Vec<_> = (0..logs).map(|_| self.log()).collect();
        let mut frame = Vec::new();
        assert_eq!(put_logs_frame(&mut frame, &self.id, &entries), logs);
        frame
    }

    /// A frame with the next full batch.
    pub fn batch(&mut self) -> Vec<u8> {
        self.frame(BATCH)
    }

    fn log(&mut self) -> Vec<u8> {
        let allowed = self.logs.is_multiple_of(2);
        let mut entry = Vec::new();
        LogEntry {
            allowed,
            seconds: 1_795_415_113,
            nanos: 7,
            sequence: i32::try_from(self.logs).expect("a session holds 2^31 logs"),
            method: "GET",
            url: &self.url,
            matched_rule: if allowed { "domain=example.com" } else { "" },
        }
        .put(&mut entry);
        self.logs += 1;
        self.sent.update(inside(&entry));
        entry
    }

    /// What must have arrived when nothing was lost, repeated or disordered.
    pub fn whole(&self) -> Delivered {
        let sum = self.sent.clone().finish();
        Delivered {
            distinct: self.logs,
            duplicates: 0,
            out_of_order: 0,
            sha256: hex(sum.as_ref()),
        }
    }
}

/// A log as an encoded message of its own.
pub fn message(log: &LogEntry<'_>) -> Vec<u8> {
    let mut entry = Vec::new();
    log.put(&mut entry);
    inside(&entry).to_vec()
}

/// The message in a field, behind its key and its length.
fn inside(field: &[u8]) -> &[u8] {
    let mut message = &field[1..];
    prost::encoding::decode_varint(&mut message).expect("a length");
    message
}

/// Bytes in hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from hex.
pub fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let byte = |pair: &[Option<u32>]| match pair {
        [Some(high), Some(low)] => (high << 4 | low) as u8,
        _ => panic!("not hex: {text}"),
    };
    digits.chunks(2).map(byte).collect()
}
