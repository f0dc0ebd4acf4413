//! The table of the sidecar's settings: name, variable, default, limits and help stand here once.
//!
//! The command line, the environment, the configuration file, `--help`, the man page and the
//! shell completions are all derived from [`ALL`].

/// One thing that a user can set.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Long flag without its dashes. The key in the configuration file is the same in snake case.
    pub(crate) flag: &'static str,
    /// Environment variable.
    pub(crate) env: &'static str,
    /// Placeholder of the value in `--help`.
    pub(crate) value_name: &'static str,
    /// How the value is written.
    pub(crate) shape: Shape,
    /// What holds when nobody sets it.
    pub(crate) fallback: Fallback,
    /// Meaning, unit and limits.
    pub(crate) help: &'static str,
}

/// How a value is written on the command line, in a variable and in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Text that is never empty: an empty variable counts as unset, as it does for the Go agent.
    Text,
    /// Text for which empty is a value of its own, in a variable too.
    TextOrEmpty,
    /// A number or a size: the file may hold a bare integer.
    Number,
    /// A flag without a value, or `true` or `false`.
    Switch,
    /// May be repeated. One flag or variable may hold several values separated by commas, quoted
    /// as in CSV (`coder/serpent values.go`); the file holds an array.
    List,
    /// A filesystem path.
    Path,
}

/// What holds when a setting is absent from the command line, the environment and the file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fallback {
    /// This text, parsed like any other.
    Text(&'static str),
    /// A value that depends on other settings, described for `--help`.
    Derived(&'static str),
    /// Nothing holds: it, or what this says, must be set.
    Required(&'static str),
    /// There is no value.
    Unset,
}

impl Setting {
    /// The flag as the user writes it.
    pub(crate) fn long(&self) -> String {
        format!("--{}", self.flag)
    }

    /// Key in the configuration file.
    pub(crate) fn key(&self) -> String {
        self.flag.replace('-', "_")
    }
}

/// Declares the settings of one command, and the table of all of them.
macro_rules! settings {
    ($(#[$doc:meta])* $all:ident: $($name:ident = ($flag:literal, $env:literal, $value_name:literal, $shape:ident, $fallback:expr, $help:expr);)*) => {
        $(pub(crate) static $name: $crate::config::setting::Setting = $crate::config::setting::Setting {
            flag: $flag,
            env: $env,
            value_name: $value_name,
            shape: $crate::config::setting::Shape::$shape,
            fallback: $fallback,
            help: $help,
        };)*

        $(#[$doc])*
        pub(crate) static $all: &[&$crate::config::setting::Setting] = &[$(&$name),*];
    };
}

pub(super) use settings;

use Fallback::{Derived, Required, Text, Unset};

settings! {
    /// Every setting of the sidecar, in the order of `--help`.
    ALL:
    AGENT_URL = ("agent-url", "CODER_AGENT_URL", "URL", Text, Required("required"),
        "Control plane to forward to: http:// or https:// with a host, without credentials, query \
         or fragment. Its path is not used");
    AGENT_TOKEN = ("agent-token", "CODER_AGENT_TOKEN", "TOKEN", Text,
        Required("required, or --agent-token-file"),
        "Agent token, 1 to 4096 visible ASCII characters. Other users of the machine can read a \
         command line: prefer the variable or --agent-token-file");
    AGENT_TOKEN_FILE = ("agent-token-file", "CODER_AGENT_TOKEN_FILE", "FILE", Path, Unset,
        "File with the agent token, at most 64KiB; white space around it is ignored. Read again \
         when the control plane does not accept it and on SIGHUP. Not together with --agent-token");
    AGENT_HEADER = ("agent-header", "CODER_AGENT_HEADER", "NAME=VALUE", List, Unset,
        "Header to add to every request to the control plane, at most 64; may be repeated, and one \
         flag or variable may hold several separated by commas (quote as in CSV). With gRPC it is \
         metadata of every call. Headers of the protocols and the token header are refused");
    SOCKET_PATH = ("boundary-log-proxy-socket-path", "CODER_AGENT_BOUNDARY_LOG_PROXY_SOCKET_PATH",
        "PATH", Path, Derived("$TMPDIR/boundary-audit.sock, TMPDIR being /tmp when unset"),
        "Unix socket that boundary writes its audit logs to, at most 107 bytes long");
    PROMETHEUS_ADDRESS = ("prometheus-address", "CODER_AGENT_PROMETHEUS_ADDRESS", "ADDRESS",
        TextOrEmpty, Text("127.0.0.1:2112"),
        "Where metrics are served: HOST:PORT (port 0 takes a free one, :PORT listens on every IPv4 \
         interface), unix:PATH, or empty for off");
    TRANSPORT = ("transport", "WEIR_TRANSPORT", "websocket|grpc", Text, Text("websocket"),
        "Protocol spoken to the control plane. websocket: as coderd speaks it. grpc: the same calls \
         to any control plane that serves them as gRPC, over TLS for an https:// URL, without for \
         http://");
    ROLE = ("role", "WEIR_ROLE", "NAME", Text, Text("weir"),
        "Role told to the control plane, 1 to 64 of the characters A-Z a-z 0-9 . _ -; any name but \
         agent leaves the status of the workspace agent alone");
    REPORT_AGENT_METRICS = ("report-agent-metrics", "WEIR_REPORT_AGENT_METRICS",
        "auto|always|never", Text, Text("auto"),
        "Whether metrics under the names of the workspace agent (agent_*) are reported to the control \
         plane beside weir_*; auto: only with --role agent. Do not set always where an agent reports \
         them under the same token: each value would flip between two");
    SOCKET_MODE = ("socket-mode", "WEIR_SOCKET_MODE", "OCTAL", Text, Text("0600"),
        "Permissions of the boundary socket, octal, 0000 to 0777");
    TAKE_OVER = ("take-over", "WEIR_TAKE_OVER", "true|false", Switch, Text("false"),
        "Take the boundary socket from another program that answers on it, instead of refusing to \
         start");
    BUFFER_MAX_BATCHES = ("buffer-max-batches", "WEIR_BUFFER_MAX_BATCHES", "COUNT", Number,
        Text("10000"),
        "Batches held in memory at most, 1 to 10000000; this or --buffer-max-bytes, whichever is \
         reached first");
    BUFFER_MAX_BYTES = ("buffer-max-bytes", "WEIR_BUFFER_MAX_BYTES", "SIZE", Number,
        Derived("16MiB, or 4MiB with --spool-dir"),
        "Bytes of batches held in memory at most, 64KiB to 1TiB");
    WHEN_FULL = ("when-full", "WEIR_WHEN_FULL", "drop-newest|drop-oldest|block", Text,
        Text("drop-newest"),
        "What happens to a batch that the full buffer cannot hold; block lets senders wait for \
         --block-deadline first. With --spool-dir it decides only when the spool is full too");
    BLOCK_DEADLINE = ("block-deadline", "WEIR_BLOCK_DEADLINE", "DURATION", Text, Text("5s"),
        "How long --when-full block waits for room before it drops the newest batch, more than 0 \
         and at most 30days");
    SPOOL_DIR = ("spool-dir", "WEIR_SPOOL_DIR", "DIR", Path, Unset,
        "Directory of the disk spool, which takes what memory cannot hold and what a stop cannot \
         deliver; created with mode 0700 when it is absent. One Weir at a time uses it. While it \
         cannot be used, batches are held in memory, and it is tried again");
    SPOOL_MAX_BYTES = ("spool-max-bytes", "WEIR_SPOOL_MAX_BYTES", "SIZE", Number, Text("256MiB"),
        "Bytes that the files of the spool take at most, 1MiB to 1TiB. 16MiB of the file system, \
         or a twentieth of a small one, always stay free");
    SPOOL_SYNC = ("spool-sync", "WEIR_SPOOL_SYNC", "always|interval|never", Text,
        Text("interval"),
        "When the spool is forced to disk. always: every batch is on disk before it counts as \
         received, and a kill costs none. interval: memory first, disk when that is full or the \
         control plane is gone, forced every second. never: as interval, and left to the kernel");
    DELIVERY = ("delivery", "WEIR_DELIVERY", "at-least-once|at-most-once", Text,
        Text("at-least-once"),
        "Whether a request whose fate is unknown is sent again (and counted as a possible \
         duplicate) or dropped (and counted as lost)");
    RETRY_INITIAL = ("retry-initial", "WEIR_RETRY_INITIAL", "DURATION", Text, Text("100ms"),
        "Ceiling of the first delay between attempts, more than 0 and at most --retry-max");
    RETRY_MAX = ("retry-max", "WEIR_RETRY_MAX", "DURATION", Text, Text("10s"),
        "Ceiling of every delay between attempts, more than 0 and at most 30days");
    RETRY_MAX_AGE = ("retry-max-age", "WEIR_RETRY_MAX_AGE", "DURATION", Text, Unset,
        "Age at which a batch that could not be sent is dropped, more than 0 and at most 30days; \
         without it a batch is tried for ever");
    COALESCE_MAX_BYTES = ("coalesce-max-bytes", "WEIR_COALESCE_MAX_BYTES", "SIZE", Number,
        Text("1MiB"),
        "Batches of one session are joined into requests of up to this size: 0 for one request per \
         batch, else 32KiB to 3MiB. Never more than --buffer-max-bytes");
    DRAIN_TIMEOUT = ("drain-timeout", "WEIR_DRAIN_TIMEOUT", "DURATION", Text, Text("5s"),
        "How long a stop may take to send what is still held, 0s to 30days; the rest goes to the \
         spool, or without one is counted as lost");
    SCRAPE = ("scrape", "WEIR_SCRAPE", "NAME=URL", List, Unset,
        "Program whose counters and gauges are reported to the control plane too, at most 16; may be \
         repeated. NAME is 1 to 64 of A-Z a-z 0-9 . _ -, URL is http://, https:// or \
         unix:/SOCKET:/PATH, and the path /metrics where it is left out. Asked as often as reports \
         are made");
    API_SOCKET = ("api-socket", "WEIR_API_SOCKET", "PATH", Path,
        Derived("weir.sock beside the boundary socket"),
        "Unix socket that answers `weir status` and takes reports of scripts, mode 0600, at most 107 \
         bytes long; what is kept of scripts stands beside it, in files of its name with .scripts \
         and .queue behind it");
    LOG_LEVEL = ("log-level", "WEIR_LOG", "LEVEL", Text, Text("info"),
        "error, warn, info, debug, trace or off; or several TARGET=LEVEL separated by commas, such \
         as info,weir::forward=debug");
    LOG_FORMAT = ("log-format", "WEIR_LOG_FORMAT", "text|json", Text, Text("text"),
        "Format of the log on stderr");
}
