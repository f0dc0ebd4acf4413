//! The table of the control plane's own metrics.

use super::labels::{
    DialRefusal, ProtocolFault, ReportOutcome, RpcMethod, RpcOutcome, SampleRefusal, SessionEnd,
};
use crate::metrics::catalog::Kind::{Counter, Gauge, Histogram};
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
    "Dials of agents, and calls over gRPC, that were not admitted, by reason.",
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

/// Reports of metrics.
pub const CONTROL_REPORTS: Family = split(
    "weir_control_reports_total",
    Counter,
    &[Label {
        name: "outcome",
        values: ReportOutcome::VALUES,
    }],
    "Reports of metrics from agents; dropped are those for which there was no room in the queue.",
);
/// What reports wait.
pub const CONTROL_REPORT_WAIT: Family = family(
    "weir_control_report_wait_seconds",
    Histogram(&[
        0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0, 10.0,
    ]),
    "Time from taking a report of metrics until it was stored.",
);
/// Samples that were refused.
pub const CONTROL_SERIES_REFUSED: Family = split(
    "weir_control_series_refused_total",
    Counter,
    &[Label {
        name: "reason",
        values: SampleRefusal::VALUES,
    }],
    "Samples in reports of agents that were refused, by reason; the others of their report were not.",
);
/// Series that expired.
pub const CONTROL_SERIES_EXPIRED: Family = family(
    "weir_control_series_expired_total",
    Counter,
    "Series of agents that were forgotten because they were not reported any more.",
);
/// Series of agents, in coderd's words.
pub const AGGREGATOR_STORE_SIZE: Family = family(
    "coderd_prometheusmetrics_metrics_aggregator_store_size",
    Gauge,
    "The number of metrics stored in the aggregator",
);
/// What reports take, in coderd's words.
pub const AGGREGATOR_UPDATE: Family = family(
    "coderd_prometheusmetrics_metrics_aggregator_execution_update_seconds",
    Histogram(AGGREGATOR_BUCKETS),
    "Histogram for duration of metrics aggregator update in seconds.",
);
/// What expiry takes, in coderd's words.
pub const AGGREGATOR_CLEANUP: Family = family(
    "coderd_prometheusmetrics_metrics_aggregator_execution_cleanup_seconds",
    Histogram(AGGREGATOR_BUCKETS),
    "Histogram for duration of metrics aggregator cleanup in seconds.",
);
/// The buckets of coder/coder coderd/prometheusmetrics/aggregator.go.
const AGGREGATOR_BUCKETS: &[f64] = &[
    0.001, 0.005, 0.010, 0.025, 0.050, 0.100, 0.500, 1.0, 5.0, 10.0, 30.0,
];
/// Reports that wait, in the words of coderd's first generation.
pub const AGGREGATOR_PUSH_BACKLOG: Family = family(
    "coderd_agent_aggregator_agent_push_backlog",
    Gauge,
    "Reports of agents that wait to be stored.",
);
/// Scrapes, in the words of coderd's first generation.
pub const AGGREGATOR_COLLECT_BACKLOG: Family = family(
    "coderd_agent_aggregator_collect_backlog",
    Gauge,
    "Scrapes of agents' series that are under way.",
);
/// Removals that wait, in the words of coderd's first generation.
pub const AGGREGATOR_DELETE_BACKLOG: Family = family(
    "coderd_agent_aggregator_delete_backlog",
    Gauge,
    "Series that the search for expired ones, while one is under way, has still to look at.",
);
/// What a scrape takes, in the words of coderd's first generation.
pub const AGGREGATOR_COLLECT_NANOSECONDS: Family = family(
    "coderd_agent_aggregator_collect_nanoseconds",
    Gauge,
    "Nanoseconds that the latest finished scrape of agents' series held up the storing of reports, all its pauses together.",
);
/// Series, in the words of coderd's first generation.
pub const AGGREGATOR_COUNT: Family = family(
    "coderd_agent_aggregator_count_total",
    Gauge,
    "Series of agents that are stored.",
);
/// Workspaces, in the words of coderd's first generation.
pub const AGGREGATOR_WORKSPACE_COUNT: Family = family(
    "coderd_agent_aggregator_workspace_count_total",
    Gauge,
    "Workspaces of whose agents series are stored.",
);

/// Every family of the control plane's own and of the aggregator's; its page has those of coderd's that are in `coderd`,
/// and those of the process, too. No agent may send one that begins with `weir_control_`; those of a sidecar come in
/// under its agent's name.
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
    CONTROL_REPORTS,
    CONTROL_REPORT_WAIT,
    CONTROL_SERIES_REFUSED,
    CONTROL_SERIES_EXPIRED,
    AGGREGATOR_STORE_SIZE,
    AGGREGATOR_UPDATE,
    AGGREGATOR_CLEANUP,
    AGGREGATOR_PUSH_BACKLOG,
    AGGREGATOR_COLLECT_BACKLOG,
    AGGREGATOR_DELETE_BACKLOG,
    AGGREGATOR_COLLECT_NANOSECONDS,
    AGGREGATOR_COUNT,
    AGGREGATOR_WORKSPACE_COUNT,
    CONTROL_PANICS,
    CONTROL_BUILD_INFO,
];
