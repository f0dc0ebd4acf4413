//! What an agent reports of its connections, as coderd's `coderd_agentstats_*` have it (coder/coder
//! coderd/prometheusmetrics AgentStats, coderd/workspacestats). No clock: times are passed in.

#[cfg(test)]
pub(in crate::control) mod tests;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prost::Message;

/// The part of an `UpdateStatsRequest` that is about connections: reading it costs nothing for the metrics beside it.
#[derive(Clone, PartialEq, Message)]
pub(in crate::control) struct Report {
    /// Absent, an agent asks for the interval alone.
    #[prost(message, optional, tag = "1")]
    pub(in crate::control) stats: Option<Stats>,
}

/// The part of `Stats` that is about connections.
#[derive(Clone, PartialEq, Message)]
pub(in crate::control) struct Stats {
    #[prost(int64, tag = "2")]
    connection_count: i64,
    #[prost(double, tag = "3")]
    connection_median_latency_ms: f64,
    #[prost(int64, tag = "5")]
    rx_bytes: i64,
    #[prost(int64, tag = "7")]
    tx_bytes: i64,
    #[prost(int64, tag = "8")]
    session_count_vscode: i64,
    #[prost(int64, tag = "9")]
    session_count_jetbrains: i64,
    #[prost(int64, tag = "10")]
    session_count_reconnecting_pty: i64,
    #[prost(int64, tag = "11")]
    session_count_ssh: i64,
    /// By the name of the program; when there are any, the four above mean nothing.
    #[prost(btree_map = "string, int64", tag = "13")]
    session_counts: BTreeMap<String, i64>,
}

/// The statistics under one combination of agent, user and workspace.
#[derive(Debug, Default)]
pub(in crate::control) struct Statistics {
    recorded: Mutex<Option<Recorded>>,
}

#[derive(Clone, Copy, Debug)]
struct Recorded {
    at: Instant,
    /// When the agent itself last reported.
    own_at: Option<Instant>,
    shown: Shown,
}

/// The values that are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::control) struct Shown {
    /// All that was reported since the series began.
    pub(in crate::control) rx_bytes: u64,
    pub(in crate::control) tx_bytes: u64,
    pub(in crate::control) counts: Counts,
}

/// What the latest report said; none of it is ever negative.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::control) struct Counts {
    pub(in crate::control) connections: i64,
    /// In seconds; `None` when the agent has no connection to measure, which it reports as 0 or less.
    pub(in crate::control) latency: Option<f64>,
    pub(in crate::control) vscode: i64,
    pub(in crate::control) jetbrains: i64,
    pub(in crate::control) ssh: i64,
    pub(in crate::control) reconnecting_pty: i64,
}

impl Statistics {
    /// Takes a report, of the agent itself or of something that shares its token. Bytes add up; the counts of such
    /// another, which has no connections of its own, stand only while the agent itself reports none.
    pub(in crate::control) fn record(
        &self,
        stats: &Stats,
        own: bool,
        now: Instant,
        expiry: Duration,
    ) {
        let is_fresh = |at: Instant| now.saturating_duration_since(at) <= expiry;
        let mut recorded = self.recorded();
        let before = recorded.filter(|before| is_fresh(before.at));
        let own_at = before
            .and_then(|before| before.own_at)
            .filter(|at| is_fresh(*at));
        let shown = before.map(|before| before.shown).unwrap_or_default();
        // A delta that is negative is none.
        let added = |bytes: i64| u64::try_from(bytes).unwrap_or_default();
        *recorded = Some(Recorded {
            at: now,
            own_at: if own { Some(now) } else { own_at },
            shown: Shown {
                rx_bytes: shown.rx_bytes.saturating_add(added(stats.rx_bytes)),
                tx_bytes: shown.tx_bytes.saturating_add(added(stats.tx_bytes)),
                counts: match own_at {
                    Some(_) if !own => shown.counts,
                    _ => Counts::of(stats),
                },
            },
        });
    }

    /// What is shown now; `None` when nothing was reported for longer than the expiry.
    pub(in crate::control) fn shown(&self, now: Instant, expiry: Duration) -> Option<Shown> {
        let recorded = (*self.recorded())?;
        (now.saturating_duration_since(recorded.at) <= expiry).then_some(recorded.shown)
    }

    /// Forgets everything: the agent is another build.
    pub(in crate::control) fn clear(&self) {
        *self.recorded() = None;
    }

    fn recorded(&self) -> MutexGuard<'_, Option<Recorded>> {
        // Nothing that can panic runs while it is held.
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn of(stats: &Stats) -> Self {
        let latency = stats.connection_median_latency_ms / 1000.0;
        let mut counts = Self {
            connections: stats.connection_count.max(0),
            latency: (latency.is_finite() && latency > 0.0).then_some(latency),
            ..Self::default()
        };
        if stats.session_counts.is_empty() {
            counts.vscode = stats.session_count_vscode.max(0);
            counts.jetbrains = stats.session_count_jetbrains.max(0);
            counts.ssh = stats.session_count_ssh.max(0);
            counts.reconnecting_pty = stats.session_count_reconnecting_pty.max(0);
        } else {
            counts.add(&stats.session_counts);
        }
        counts
    }

    /// Adds sessions by the name of their program. Names of programs that no family has are not counted, here as in
    /// coderd's metrics.
    fn add(&mut self, sessions: &BTreeMap<String, i64>) {
        for (program, count) in sessions {
            let name = program.trim().to_lowercase().replace('-', "_");
            let Some(family) = self.family(&name) else {
                continue;
            };
            *family = family.saturating_add((*count).max(0));
        }
    }

    /// Where sessions of a program count (coder/coder coderd/idemetadata).
    fn family(&mut self, program: &str) -> Option<&mut i64> {
        match program {
            "vscode" | "vscode_insiders" | "vscode_web" | "code_server" | "cursor" | "windsurf"
            | "positron" | "vscodium" | "codium" | "antigravity" | "trae" | "kiro" | "devin" => {
                Some(&mut self.vscode)
            }
            "jetbrains" => Some(&mut self.jetbrains),
            "ssh" | "zed" => Some(&mut self.ssh),
            "reconnecting_pty" => Some(&mut self.reconnecting_pty),
            _ => None,
        }
    }
}
