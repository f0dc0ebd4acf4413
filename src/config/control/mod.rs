//! Configuration of the embedded control plane.

mod agents;
mod file;
pub(crate) mod setting;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use super::Log;
pub use agents::{AgentSpec, AgentToken, By, Labels, ScriptSpec};
pub(super) use file::{MAX_FILE_BYTES, parse_file};

/// The configuration of a control plane; every value of one that was resolved is checked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ControlConfig {
    /// Where agents connect: `HOST:PORT`, checked in form; a name is looked up when it is bound.
    pub listen: String,
    /// The agents that may connect: at least one, no two with the same token or labels.
    pub agents: Vec<AgentSpec>,
    /// Where metrics are served, `HOST:PORT`; `None` when off.
    pub prometheus: Option<String>,
    /// Whether what agents report of their connections is served.
    pub collect_agent_stats: bool,
    /// How often agents are told to report; positive.
    pub refresh_interval: Duration,
    /// By which names of their agents metrics are told apart.
    pub aggregate_by: By,
    /// Age at which a series that is no longer reported is forgotten; positive.
    pub metrics_expiry: Duration,
    /// Series of all agents together, at most; positive.
    pub max_series: usize,
    /// Where boundary log entries are written; `None` when off.
    pub boundary_log: Option<BoundaryLogOutput>,
    /// What TLS is served with; `None` when it is not.
    pub tls: Option<TlsFiles>,
    /// What is logged, and how.
    pub log: Log,
}

/// Where boundary log entries are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoundaryLogOutput {
    /// Standard error, between the lines of the log.
    Stderr,
    /// A file, appended to; absolute.
    File(PathBuf),
}

/// Files of a TLS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM certificates, the server's own first; absolute.
    pub cert: PathBuf,
    /// PEM private key; absolute.
    pub key: PathBuf,
}
