//! The table of the control plane's settings, and what of them this version cannot honour.

use std::time::Duration;

use crate::config::parse::{choice, count, positive_duration, switch};
use crate::config::refused::Refusal;
use crate::config::setting::Fallback::{Required, Text, Unset};
use crate::config::setting::settings;

settings! {
    /// Every setting of the control plane, in the order of `--help`.
    ALL:
    LISTEN = ("listen", "CODER_HTTP_ADDRESS", "HOST:PORT", Text, Text("127.0.0.1:3000"),
        "Where agents connect, by WebSocket or gRPC (port 0 takes a free one, :PORT listens on every \
         IPv4 interface)");
    AGENTS = ("agents", "WEIR_AGENTS", "FILE", Path, Required("required, or --agent-token"),
        "TOML file of at most 16MiB with one [[agent]] table for each agent: token (a UUID), \
         username, workspace_name, agent_name, template_name, optional created_at (RFC 3339), \
         optional [[agent.script]] tables for its manifest. Read once, at start");
    AGENT_TOKEN = ("agent-token", "WEIR_AGENT_TOKEN", "TOKEN", Text, Unset,
        "Token, a UUID, of a single agent of the user weir: agent main of the workspace default, \
         made of the template default. Other users of the machine can read a command line: prefer \
         the variable or --agents. Not together with --agents");
    PROMETHEUS_ENABLE = ("prometheus-enable", "CODER_PROMETHEUS_ENABLE", "true|false", Switch,
        Text("false"), "Serve metrics on --prometheus-address");
    PROMETHEUS_ADDRESS = ("prometheus-address", "CODER_PROMETHEUS_ADDRESS", "HOST:PORT", Text,
        Text("127.0.0.1:2112"),
        "Where metrics are served (port 0 takes a free one); an address in use is an error");
    COLLECT_AGENT_STATS = ("prometheus-collect-agent-stats",
        "CODER_PROMETHEUS_COLLECT_AGENT_STATS", "true|false", Switch, Text("false"),
        "Serve the statistics that agents report");
    AGGREGATE_BY = ("prometheus-aggregate-agent-stats-by",
        "CODER_PROMETHEUS_AGGREGATE_AGENT_STATS_BY", "LABEL", List,
        Text("agent_name,template_name,username,workspace_name"),
        "Labels to aggregate the metrics of agents by; none aggregates all of them");
    REFRESH_INTERVAL = ("agent-stats-refresh-interval", "CODER_AGENT_STATS_REFRESH_INTERVAL",
        "DURATION", Text, Text("30s"),
        "How often agents are told to report, more than 0 and at most 30days");
    METRICS_EXPIRY = ("metrics-expiry", "WEIR_METRICS_EXPIRY", "DURATION", Text, Text("2m"),
        "Age at which a metric that its agent no longer reports is forgotten");
    MAX_SERIES = ("max-series", "WEIR_MAX_SERIES", "COUNT", Number, Text("1000000"),
        "Series of all agents together at most");
    BOUNDARY_LOG_OUTPUT = ("boundary-log-output", "WEIR_BOUNDARY_LOG_OUTPUT", "PATH|-", Text,
        Unset,
        "File that gets one line of JSON for each boundary log entry, written before the agent is \
         answered; - for stderr. Without it the entries are only counted");
    TLS_CERT = ("tls-cert", "WEIR_TLS_CERT", "FILE", Path, Unset,
        "PEM file with the certificate to serve TLS with, followed by its chain");
    TLS_KEY = ("tls-key", "WEIR_TLS_KEY", "FILE", Path, Unset,
        "PEM file with the private key of --tls-cert");
    LOG_LEVEL = ("log-level", "WEIR_LOG", "LEVEL", Text, Text("info"),
        "error, warn, info, debug, trace or off; or several TARGET=LEVEL separated by commas, such \
         as info,weir::control=debug");
    LOG_FORMAT = ("log-format", "WEIR_LOG_FORMAT", "text|json", Text, Text("text"),
        "Format of the log on stderr");
}

/// What metrics of agents may be aggregated by, and whether that is a label; by all labels is by default.
pub(crate) const LABELS: [(&str, bool); 5] = [
    ("agent_name", true),
    ("template_name", true),
    ("username", true),
    ("workspace_name", true),
    ("none", false),
];

/// Defaults of `--metrics-expiry` and `--max-series`, the only values that ask for nothing.
const DEFAULT_EXPIRY: Duration = Duration::from_secs(120);
const DEFAULT_MAX_SERIES: usize = 1_000_000;

pub(crate) const NO_AGGREGATION: &str = "metrics of agents are not served yet";

pub(crate) static REFUSALS: &[Refusal] = &[
    Refusal {
        setting: &COLLECT_AGENT_STATS,
        available: |value| Ok(!switch(value)?),
        reason: NO_AGGREGATION,
    },
    Refusal {
        setting: &AGGREGATE_BY,
        available: |value| choice(value, &LABELS),
        reason: NO_AGGREGATION,
    },
    Refusal {
        setting: &METRICS_EXPIRY,
        available: |value| Ok(positive_duration(value)? == DEFAULT_EXPIRY),
        reason: NO_AGGREGATION,
    },
    Refusal {
        setting: &MAX_SERIES,
        available: |value| Ok(count(value, usize::MAX)? == DEFAULT_MAX_SERIES),
        reason: NO_AGGREGATION,
    },
];
