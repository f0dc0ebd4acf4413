//! Reports of `weir exec` that nobody took, in a file beside the API socket until the sidecar does.
//!
//! A line each, as JSON. The file holds at most [`MAX_REPORTS`] of them and [`MAX_BYTES`]: the oldest go for new ones, and
//! are counted in a line of their own. Whoever reads or writes has its lock. A writer that is killed leaves a torn line at
//! the end; the next begins a new one, so that it costs itself only.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use super::Report;
use super::file::{self, beside, has_name, open_private, owner_of, read_all, try_lock};

/// Most reports that wait.
pub const MAX_REPORTS: usize = 1000;
/// Most bytes of the file.
pub const MAX_BYTES: u64 = 1 << 20;

/// How long the lock is tried for. It is held for some milliseconds at a time.
const LOCK_WITHIN: Duration = Duration::from_secs(2);
/// Between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// A run.
    Ran(Report),
    /// So many reports had to go.
    Dropped(u64),
}

/// Adds a report to the queue beside this API socket; returns how many of the oldest went for it.
///
/// # Errors
/// When the file cannot be opened, locked within 2 s, or written; the report is not in it then.
pub async fn append(api_socket: &Path, report: &Report) -> io::Result<u64> {
    let mut line = serde_json::to_vec(&Line::Ran(report.clone()))?;
    line.push(b'\n');
    let locked = timeout(LOCK_WITHIN, lock(api_socket)).await;
    let file = locked.map_err(|_late| {
        let what = format!("the lock of the queue is not free within {LOCK_WITHIN:?}");
        io::Error::new(ErrorKind::TimedOut, what)
    })??;
    // More than what fits may be there: a line that is torn or written by hand is longer than it looks.
    let content = read_all(&file, 2 * MAX_BYTES)?;
    match make_room(&content, line.len()) {
        None => {
            if !content.is_empty() && !content.ends_with(b"\n") {
                line.insert(0, b'\n');
            }
            file::append(&file, content.len() as u64, &line)?;
            Ok(0)
        }
        Some((mut kept, dropped)) => {
            kept.extend_from_slice(&line);
            file::replace(&path(api_socket), owner_of(api_socket), &kept)?;
            Ok(dropped)
        }
    }
}

/// Opens the file with its lock.
async fn lock(api_socket: &Path) -> io::Result<File> {
    let (path, owner) = (path(api_socket), owner_of(api_socket));
    loop {
        let file = open_private(&path, owner, true)?;
        if try_lock(&file)? && has_name(&file)? {
            return Ok(file);
        }
        sleep(LOCK_PAUSE).await;
    }
}

fn path(api_socket: &Path) -> PathBuf {
    beside(api_socket, ".queue")
}

/// What of `content` stays, and how many reports go, when a line of `more` bytes is to come; `None` when all can stay.
fn make_room(content: &[u8], more: usize) -> Option<(Vec<u8>, u64)> {
    let mut before = 0;
    let mut lines: Vec<&[u8]> = Vec::new();
    for line in content
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        match dropped_in(line) {
            Some(count) => before += count,
            None => lines.push(line),
        }
    }
    // Room for the line that counts.
    let limit = usize::try_from(MAX_BYTES).unwrap_or(usize::MAX) - more - 64;
    let mut bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
    let mut drop = 0;
    while lines.len() - drop >= MAX_REPORTS || (bytes > limit && drop < lines.len()) {
        bytes -= lines[drop].len() + 1;
        drop += 1;
    }
    if drop == 0 {
        return None;
    }
    let dropped = drop as u64;
    let mut kept = format!("{{\"dropped\":{}}}\n", before + dropped).into_bytes();
    for line in &lines[drop..] {
        kept.extend_from_slice(line);
        kept.push(b'\n');
    }
    Some((kept, dropped))
}

/// The count of a line that counts.
fn dropped_in(line: &[u8]) -> Option<u64> {
    // Nearly all are reports, of which only the number is of interest here.
    if !line.starts_with(b"{\"dropped\"") {
        return None;
    }
    match serde_json::from_slice(line) {
        Ok(Line::Dropped(count)) => Some(count),
        _ => None,
    }
}

/// What waits in the file, which is locked until this is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    file: File,
    content: Vec<u8>,
}

impl Waiting {
    /// Opens the queue beside this API socket; `None` when nothing waits, or somebody is at it.
    pub(super) fn open(api_socket: &Path) -> io::Result<Option<Self>> {
        let file = match open_private(&path(api_socket), geteuid(), false) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        if file.metadata()?.len() == 0 || !try_lock(&file)? || !has_name(&file)? {
            return Ok(None);
        }
        let content = read_all(&file, 2 * MAX_BYTES)?;
        Ok(Some(Self { file, content }))
    }

    /// Each line, or why it is none.
    pub(super) fn lines(&self) -> impl Iterator<Item = serde_json::Result<Line>> {
        let lines = self.content.split(|byte| *byte == b'\n');
        lines
            .filter(|line| !line.is_empty())
            .map(serde_json::from_slice)
    }

    /// Empties the file.
    pub(super) fn clear(self) -> io::Result<()> {
        self.file.set_len(0)
    }
}

#[cfg(test)]
mod tests;
