//! Who is connected, for people to look at.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::UnixStream;
use tokio::time::Instant;

/// Bytes read of a process's name: the kernel keeps 15 and a newline (`proc_pid_comm(5)`).
const MAX_COMMAND: u64 = 16;

/// A connection, as it stands.
#[derive(Clone, Debug)]
pub struct Sender {
    /// Its number, from 1 in the order of acceptance.
    pub number: u64,
    /// The process at the other end when it connected; `None` when it is not visible from here.
    pub pid: Option<i32>,
    /// The user at the other end when it connected; `None` when the kernel did not say.
    pub uid: Option<u32>,
    /// The name of that process, control characters replaced; `None` when it could not be read.
    pub command: Option<Arc<str>>,
    /// When it was accepted.
    pub connected_at: Instant,
    /// What it has sent so far.
    pub activity: Activity,
}

/// What a connection has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Frames that carried logs or a status.
    pub frames: u64,
    /// Log entries in them.
    pub logs: u64,
    /// Frames that carried nothing usable.
    pub rejected: u64,
    /// When the latest of `frames` was read.
    pub last_frame_at: Option<Instant>,
}

impl Activity {
    fn add(&mut self, turn: Self) {
        self.frames += turn.frames;
        self.logs += turn.logs;
        self.rejected += turn.rejected;
        self.last_frame_at = turn.last_frame_at.or(self.last_frame_at);
    }
}

/// All open connections; as many entries as there are connections.
#[derive(Debug, Default)]
pub struct Senders {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// The number of the latest connection.
    latest: u64,
    open: BTreeMap<u64, Sender>,
}

impl Senders {
    /// Nobody is connected.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// All that are connected, in the order in which they came.
    pub fn snapshot(&self) -> Vec<Sender> {
        self.table().open.values().cloned().collect()
    }

    /// Enters a connection that was just accepted.
    pub(super) fn enter(self: &Arc<Self>, stream: &UnixStream, now: Instant) -> Seat {
        let peer = stream.peer_cred().ok();
        let uid = peer.map(|peer| peer.uid());
        // A process outside this pid namespace is shown as 0.
        let pid = peer.and_then(|peer| peer.pid()).filter(|pid| *pid != 0);
        let command = pid.and_then(command);
        let mut table = self.table();
        table.latest += 1;
        let number = table.latest;
        let sender = Sender {
            number,
            pid,
            uid,
            command,
            connected_at: now,
            activity: Activity::default(),
        };
        table.open.insert(number, sender);
        drop(table);
        Seat {
            number,
            pid,
            senders: Arc::clone(self),
        }
    }

    /// No change of the table can panic half way, so one behind a poisoned lock is whole.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's entry, which leaves with it.
#[derive(Debug)]
pub(super) struct Seat {
    number: u64,
    pid: Option<i32>,
    senders: Arc<Senders>,
}

impl Seat {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// Adds what was read in one turn.
    pub(super) fn record(&self, turn: Activity) {
        if let Some(sender) = self.senders.table().open.get_mut(&self.number) {
            sender.activity.add(turn);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.senders.table().open.remove(&self.number);
    }
}

/// The name of a process. It chose that name itself, so nothing in it may reach a terminal as a control.
fn command(pid: i32) -> Option<Arc<str>> {
    let mut name = Vec::new();
    File::open(format!("/proc/{pid}/comm"))
        .and_then(|file| file.take(MAX_COMMAND).read_to_end(&mut name))
        .ok()?;
    let name = String::from_utf8_lossy(name.trim_ascii_end());
    let shown = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    Some(name.chars().map(shown).collect::<String>().into())
}
