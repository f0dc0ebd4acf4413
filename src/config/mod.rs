//! Configuration: as written, then as used.
//!
//! Values are taken as written from flags, environment, file and defaults, in that order of
//! precedence, each with its origin; [`Config::resolve`] turns them into a [`Config`], which
//! cannot be built any other way and so is always valid, or reports every fault at once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use fault::Origin;
use http::HeaderMap;
use tracing_subscriber::filter::Targets;
use url::Url;

pub mod control;
mod fault;
mod file;
mod host;
mod memory;
mod parse;
mod raw;
pub(crate) mod refused;
mod resolve;
mod secret;
pub(crate) mod setting;
mod show;
mod token;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

pub use fault::Faults;
pub use host::{Host, ThisMachine};
pub use memory::MemoryBound;
pub(crate) use memory::memory_limit;
pub use raw::Flags;
pub use resolve::{resolve_api_socket, resolve_producer, resolve_reporter};
pub use secret::Secret;
pub use token::{TokenError, TokenSource};

use crate::backoff::Schedule;
use crate::buffer::WhenFull;
use crate::buffer::spooler::SpoolSettings;
use crate::collect::Target;
use crate::forward::retry::Delivery;
use crate::report::AgentMetrics;
use crate::upstream::Transport;

/// Longest Unix socket path in bytes: `sun_path` has 108, one of them ends the string (unix(7)).
pub const MAX_SOCKET_PATH: usize = 107;

/// The configuration of a sidecar. Every value is checked; the private fields keep it so.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the batches go.
    pub upstream: Upstream,
    /// Where they come from.
    pub socket: Socket,
    /// How many wait in between.
    pub buffer: Buffer,
    /// Where they go when memory cannot hold them; `None` when off.
    pub spool: Option<SpoolSettings>,
    /// How they are sent.
    pub forward: Forward,
    /// Whether metrics under the names of the workspace agent are reported to the control plane.
    pub report_agent_metrics: AgentMetrics,
    /// Where metrics are served; `None` when off.
    pub prometheus: Option<ScrapeAddress>,
    /// Unix socket of the API; absolute, at most [`MAX_SOCKET_PATH`] bytes.
    pub api_socket: PathBuf,
    /// Time that a stop may take to send what is held; may be zero.
    pub drain_timeout: Duration,
    /// Programs whose metrics are reported too: at most 16, each with a name of its own.
    pub scrape: Vec<Target>,
    /// What is logged, and how.
    pub log: Log,
    origins: BTreeMap<&'static str, Origin>,
    warnings: Vec<String>,
}

impl Config {
    /// What is valid but probably not meant, one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// The control plane and how to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// `http` or `https` with a host; no credentials, query or fragment. Its path is not used.
    pub url: Url,
    /// What is spoken there.
    pub transport: Transport,
    /// The agent token.
    pub token: TokenSource,
    /// Extra headers, marked sensitive: none of the handshake's own, nor the token's.
    pub headers: HeaderMap,
    /// Role told to the control plane: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub role: String,
    /// The waits between attempts.
    pub schedule: Schedule,
}

/// The socket that boundary writes to.
#[derive(Clone, Debug)]
pub struct Socket {
    /// Absolute, at most [`MAX_SOCKET_PATH`] bytes, not a directory when it was checked.
    pub path: PathBuf,
    /// Permission bits, at most `0o777`.
    pub mode: u32,
    /// Take the path from another program that answers on it.
    pub take_over: bool,
}

/// The bounds of the buffer; whichever is reached first.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// Batches, at least 1.
    pub max_batches: usize,
    /// Bytes of batches, at least 64 KiB, so that the largest frame always fits.
    pub max_bytes: u64,
    /// What happens to a batch beyond the bounds.
    pub when_full: WhenFull,
}

/// How batches are sent.
#[derive(Clone, Debug)]
pub struct Forward {
    /// What happens to a request whose fate is unknown.
    pub delivery: Delivery,
    /// Age at which a batch that could not be sent is dropped; positive. `None`: never.
    pub max_age: Option<Duration>,
    /// Batches of one session are joined up to this size; 0: never joined, else 32 KiB to 3 MiB
    /// and at most the buffer's bytes.
    pub coalesce_max_bytes: usize,
}

/// Where metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScrapeAddress {
    /// `HOST:PORT`, checked in form; a name is looked up when the port is bound.
    Tcp(String),
    /// A Unix socket; absolute, at most [`MAX_SOCKET_PATH`] bytes.
    Unix(PathBuf),
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct Log {
    /// Level of each target; targets that are not named have the default level, which is set.
    pub filter: Targets,
    /// Form of a line.
    pub format: LogFormat,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}
