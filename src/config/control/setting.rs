//! The table of the control plane's settings.

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
        "Serve what agents report of their connections, coderd_agentstats_*");
    AGGREGATE_BY = ("prometheus-aggregate-agent-stats-by",
        "CODER_PROMETHEUS_AGGREGATE_AGENT_STATS_BY", "LABEL", List,
        Text("agent_name,template_name,username,workspace_name"),
        "Labels by which the metrics of agents are told apart: agents that share them share their \
         series, counters added up, gauges added up or the latest by what their name says (see \
         METRICS.md). none makes one of all agents");
    REFRESH_INTERVAL = ("agent-stats-refresh-interval", "CODER_AGENT_STATS_REFRESH_INTERVAL",
        "DURATION", Text, Text("30s"),
        "How often agents are told to report, more than 0 and at most 30days");
    METRICS_EXPIRY = ("metrics-expiry", "WEIR_METRICS_EXPIRY", "DURATION", Text, Text("2m"),
        "Age at which a series that its agent no longer reports is forgotten, more than 0 and at \
         most 30days; it may stay a sixteenth longer");
    MAX_SERIES = ("max-series", "WEIR_MAX_SERIES", "COUNT", Number, Text("1000000"),
        "Series of all agents together, from 1 to 100000000; beyond, samples are refused and \
         counted. Of these an agent may have its equal share, or a tenth if that is more");
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

/// Most series that `--max-series` may allow: some 10 GB of memory.
pub(crate) const MAX_SERIES_LIMIT: usize = 100_000_000;
