//! The table of the control plane's own metrics.

use super::labels::{DialRefusal, ProtocolFault, RpcMethod, RpcOutcome, SessionEnd};
use crate::metrics::catalog::Kind::{Counter, Gauge};
use crate::metrics::catalog::{Family, Label, family, split};

/// Agents with a session.
pub const CONTROL_AGENTS: Family = family(
    "weir_control_agents_connected",
    Gauge,
    "Agents with at least one session.",
);
/// Open sessions.
pub const CONTROL_SESSIONS: Family = family(
    "weir_control_sessions",
    Gauge,
    "Sessions of agents that are open.",
);
/// Sessions that ended.
pub const CONTROL_SESSIONS_ENDED: Family = split(
    "weir_control_sessions_ended_total",
    Counter,
    &[Label {
        name: "reason",
        values: SessionEnd::VALUES,
    }],
    "Sessions of agents that ended, by reason.",
);
/// Open connections.
pub const CONTROL_CONNECTIONS: Family = family(
    "weir_control_connections",
    Gauge,
    "TCP connections that are open, those without a session included.",
);
/// Dials that did not become sessions.
pub const CONTROL_DIALS_REFUSED: Family = split(
    "weir_control_dials_refused_total",
    Counter,
    &[Label {
        name: "reason",
        values: DialRefusal::VALUES,
    }],
    "Dials of agents that were refused, by reason.",
);
/// Calls of agents.
pub const CONTROL_RPCS: Family = split(
    "weir_control_rpcs_total",
    Counter,
    &[
        Label {
            name: "method",
            values: RpcMethod::VALUES,
        },
        Label {
            name: "outcome",
            values: RpcOutcome::VALUES,
        },
    ],
    "Calls of agents, by method and by how they were answered.",
);
/// Broken rules.
pub const CONTROL_VIOLATIONS: Family = split(
    "weir_control_protocol_violations_total",
    Counter,
    &[Label {
        name: "kind",
        values: ProtocolFault::VALUES,
    }],
    "What agents did that ended their session or stream, by kind.",
);
/// Log entries that were acknowledged.
pub const CONTROL_BOUNDARY_LOGS: Family = family(
    "weir_control_boundary_logs_total",
    Counter,
    "Boundary log entries in calls that were answered with success.",
);
/// Log entries that were written.
pub const CONTROL_BOUNDARY_WRITTEN: Family = family(
    "weir_control_boundary_lines_written_total",
    Counter,
    "Lines written to the boundary log output.",
);
/// Requests that could not be written.
pub const CONTROL_BOUNDARY_FAILURES: Family = family(
    "weir_control_boundary_output_failures_total",
    Counter,
    "Requests that the boundary log output did not take; their agents were told.",
);
/// Panics.
pub const CONTROL_PANICS: Family = family(
    "weir_control_panics_total",
    Counter,
    "Panics in this process; anything but 0 is a defect.",
);
/// Which build is running.
pub const CONTROL_BUILD_INFO: Family = split(
    "weir_control_build_info",
    Gauge,
    &[Label {
        name: "version",
        values: &[],
    }],
    "Always 1; the labels say which build is running.",
);

/// Every family of the control plane's own; its page has those of coderd and of the process too. Their names begin with
/// `weir_control_`, which no agent may send: those of a sidecar come in under its agent's name.
pub const CONTROL: &[Family] = &[
    CONTROL_AGENTS,
    CONTROL_SESSIONS,
    CONTROL_SESSIONS_ENDED,
    CONTROL_CONNECTIONS,
    CONTROL_DIALS_REFUSED,
    CONTROL_RPCS,
    CONTROL_VIOLATIONS,
    CONTROL_BOUNDARY_LOGS,
    CONTROL_BOUNDARY_WRITTEN,
    CONTROL_BOUNDARY_FAILURES,
    CONTROL_PANICS,
    CONTROL_BUILD_INFO,
];
