//! The table of the families that coderd serves, under its names, with its labels and its help (coder/coder
//! coderd/prometheusmetrics, coderd/workspaceagentsrpc.go; client_golang prometheus/promhttp). Their names are kept to
//! the letter, for dashboards that exist.

use crate::metrics::catalog::Kind::{Counter, Gauge, Histogram};
use crate::metrics::catalog::{Family, Label, family, split};

/// Buckets of first connections: from a second to an hour.
const FIRST_CONNECTION_BUCKETS: &[f64] =
    &[1.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

/// Buckets of the times that collecting takes.
const EXECUTION_BUCKETS: &[f64] = &[
    0.001, 0.005, 0.010, 0.025, 0.050, 0.100, 0.500, 1.0, 5.0, 10.0, 30.0,
];

/// A label whose values are those of the agents.
const fn of_agents(name: &'static str) -> Label {
    Label { name, values: &[] }
}

const AGENT_NAME: Label = of_agents("agent_name");
const TEMPLATE_NAME: Label = of_agents("template_name");
const USERNAME: Label = of_agents("username");
const WORKSPACE_NAME: Label = of_agents("workspace_name");

/// The labels of an agent's statistics, in the order in which values are given.
const OF_STATISTICS: &[Label] = &[AGENT_NAME, USERNAME, WORKSPACE_NAME];

const fn statistic(name: &'static str, help: &'static str) -> Family {
    split(name, Gauge, OF_STATISTICS, help)
}

/// Agents that are connected, of each workspace.
pub const AGENTS_UP: Family = split(
    "coderd_agents_up",
    Gauge,
    &[
        TEMPLATE_NAME,
        Label {
            name: "template_version",
            values: &["unknown"],
        },
        USERNAME,
        WORKSPACE_NAME,
    ],
    "The number of active agents per workspace.",
);
/// Where each agent stands.
pub const AGENTS_CONNECTIONS: Family = split(
    "coderd_agents_connections",
    Gauge,
    &[
        AGENT_NAME,
        Label {
            name: "lifecycle_state",
            values: &[
                "created",
                "starting",
                "start_timeout",
                "start_error",
                "ready",
                "shutting_down",
                "shutdown_timeout",
                "shutdown_error",
                "off",
            ],
        },
        Label {
            name: "status",
            values: &["connecting", "connected", "disconnected", "timeout"],
        },
        Label {
            name: "tailnet_node",
            values: &["unknown"],
        },
        USERNAME,
        WORKSPACE_NAME,
    ],
    "Agent connections with statuses.",
);
/// How long agents took to connect for the first time.
pub const FIRST_CONNECTION: Family = split(
    "coderd_agents_first_connection_seconds",
    Histogram(FIRST_CONNECTION_BUCKETS),
    &[TEMPLATE_NAME, AGENT_NAME],
    "Duration from agent creation to first connection in seconds.",
);

/// Bytes that connections received.
pub const RX_BYTES: Family = statistic("coderd_agentstats_rx_bytes", "Agent Rx bytes");
/// Bytes that connections sent.
pub const TX_BYTES: Family = statistic("coderd_agentstats_tx_bytes", "Agent Tx bytes");
/// Connections.
pub const CONNECTION_COUNT: Family = statistic(
    "coderd_agentstats_connection_count",
    "The number of established connections by agent",
);
/// Their latency.
pub const MEDIAN_LATENCY: Family = statistic(
    "coderd_agentstats_connection_median_latency_seconds",
    "The median agent connection latency in seconds",
);
/// Sessions of JetBrains.
pub const SESSIONS_JETBRAINS: Family = statistic(
    "coderd_agentstats_session_count_jetbrains",
    "The number of session established by JetBrains",
);
/// Sessions of terminals in the browser.
pub const SESSIONS_RECONNECTING_PTY: Family = statistic(
    "coderd_agentstats_session_count_reconnecting_pty",
    "The number of session established by reconnecting PTY",
);
/// Sessions of SSH.
pub const SESSIONS_SSH: Family = statistic(
    "coderd_agentstats_session_count_ssh",
    "The number of session established by SSH",
);
/// Sessions of VS Code and its kin.
pub const SESSIONS_VSCODE: Family = statistic(
    "coderd_agentstats_session_count_vscode",
    "The number of session established by VSCode",
);
/// How long it took to put the statistics on a page.
pub const STATISTICS_EXECUTION: Family = family(
    "coderd_prometheusmetrics_agentstats_execution_seconds",
    Histogram(EXECUTION_BUCKETS),
    "Histogram for duration of agent stats metrics collection in seconds.",
);

/// Scrapes that are being answered.
pub const SCRAPES_IN_FLIGHT: Family = family(
    "promhttp_metric_handler_requests_in_flight",
    Gauge,
    "Current number of scrapes being served.",
);
/// Scrapes that were answered.
pub const SCRAPES: Family = split(
    "promhttp_metric_handler_requests_total",
    Counter,
    &[Label {
        name: "code",
        values: &["200", "500", "503"],
    }],
    "Total number of scrapes by HTTP status code.",
);
/// Scrapes that were not answered in full.
pub const SCRAPE_ERRORS: Family = split(
    "promhttp_metric_handler_errors_total",
    Counter,
    &[Label {
        name: "cause",
        values: &["gathering", "encoding"],
    }],
    "Total number of internal errors encountered by the promhttp_metric_handler.",
);

/// Every family of this table.
pub const CODERD: &[Family] = &[
    AGENTS_UP,
    AGENTS_CONNECTIONS,
    FIRST_CONNECTION,
    RX_BYTES,
    TX_BYTES,
    CONNECTION_COUNT,
    MEDIAN_LATENCY,
    SESSIONS_JETBRAINS,
    SESSIONS_RECONNECTING_PTY,
    SESSIONS_SSH,
    SESSIONS_VSCODE,
    STATISTICS_EXECUTION,
    SCRAPES_IN_FLIGHT,
    SCRAPES,
    SCRAPE_ERRORS,
];
