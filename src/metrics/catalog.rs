//! The one table of metrics: name, type, help, labels and every label value.
//!
//! Handles, the exposition, METRICS.md and the tests are made from it. A series whose label values are
//! listed here exists from the start, at 0.

use super::labels::{
    AttemptOutcome, CompletionOutcome, DialOutcome, DropReason, FrameFault, SampleFault,
    ScriptReportOutcome,
};
use Kind::{Counter, Gauge, Histogram};

/// The type of a family, as its `# TYPE` line says it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows; restarts at 0 with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, a sum and a count. Holds the upper bounds, without `+Inf`.
    Histogram(&'static [f64]),
}

impl Kind {
    /// The word of the `# TYPE` line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// A label of a family and the values it takes.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// The name of the label.
    pub name: &'static str,
    /// Every value; empty where values are only known at run time.
    pub values: &'static [&'static str],
}

/// One family of metrics.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The name, as it is scraped.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// The `# HELP` line.
    pub help: &'static str,
    /// What splits the family into series: nothing, or one label.
    pub labels: &'static [Label],
}

pub(super) const fn family(name: &'static str, kind: Kind, help: &'static str) -> Family {
    Family {
        name,
        kind,
        help,
        labels: &[],
    }
}

pub(super) const fn split(
    name: &'static str,
    kind: Kind,
    labels: &'static [Label],
    help: &'static str,
) -> Family {
    Family {
        name,
        kind,
        help,
        labels,
    }
}

/// The reasons of [`DropReason`], and the two of losses that only the sender saw.
const LOG_DROP_REASONS: &[&str] = &[
    DropReason::BufferFull.label(),
    DropReason::ForwardFailed.label(),
    DropReason::SpoolFull.label(),
    DropReason::SpoolCorrupt.label(),
    DropReason::Expired.label(),
    DropReason::Shutdown.label(),
    "channel_full",
    "batch_full",
];

/// Batches that ended undelivered, in the Go agent's words.
pub const AGENT_BATCHES_DROPPED: Family = split(
    "agent_boundary_log_proxy_batches_dropped_total",
    Counter,
    &[Label {
        name: "reason",
        values: &["buffer_full", "forward_failed"],
    }],
    "Boundary log batches dropped: buffer_full also counts spool_full, forward_failed every other reason.",
);
/// Logs that ended undelivered, in the Go agent's words.
pub const AGENT_LOGS_DROPPED: Family = split(
    "agent_boundary_log_proxy_logs_dropped_total",
    Counter,
    &[Label {
        name: "reason",
        values: &[
            "buffer_full",
            "forward_failed",
            "boundary_channel_full",
            "boundary_batch_full",
        ],
    }],
    "Boundary logs dropped, those that the senders say they dropped themselves included.",
);
/// Batches that the control plane acknowledged, in the Go agent's words.
pub const AGENT_BATCHES_FORWARDED: Family = family(
    "agent_boundary_log_proxy_batches_forwarded_total",
    Counter,
    "Boundary log batches acknowledged by the control plane, counted as received, not as sent.",
);

/// Batches read whole from the socket.
pub const BATCHES_RECEIVED: Family = family(
    "weir_batches_received_total",
    Counter,
    "Batches received on the audit socket.",
);
/// Log entries read whole from the socket.
pub const LOGS_RECEIVED: Family = family(
    "weir_logs_received_total",
    Counter,
    "Log entries received on the audit socket.",
);
/// Payload bytes read whole from the socket.
pub const BYTES_RECEIVED: Family = family(
    "weir_bytes_received_total",
    Counter,
    "Bytes of the ReportBoundaryLogsRequests received on the audit socket.",
);
/// Batches acknowledged by the control plane.
pub const BATCHES_FORWARDED: Family = family(
    "weir_batches_forwarded_total",
    Counter,
    "Batches acknowledged by the control plane, counted as received, not as sent.",
);
/// Log entries acknowledged by the control plane.
pub const LOGS_FORWARDED: Family = family(
    "weir_logs_forwarded_total",
    Counter,
    "Log entries acknowledged by the control plane.",
);
/// Payload bytes acknowledged by the control plane.
pub const BYTES_FORWARDED: Family = family(
    "weir_bytes_forwarded_total",
    Counter,
    "Bytes of the ReportBoundaryLogsRequests acknowledged by the control plane.",
);
/// Batches that ended undelivered.
pub const BATCHES_DROPPED: Family = split(
    "weir_batches_dropped_total",
    Counter,
    &[Label {
        name: "reason",
        values: DropReason::VALUES,
    }],
    "Batches that were received and will never be delivered, by reason.",
);
/// Log entries that ended undelivered.
pub const LOGS_DROPPED: Family = split(
    "weir_logs_dropped_total",
    Counter,
    &[Label {
        name: "reason",
        values: LOG_DROP_REASONS,
    }],
    "Log entries that will never be delivered, by reason; channel_full and batch_full were lost by the sender before they were received.",
);
/// Batches in the buffer.
pub const BATCHES_IN_MEMORY: Family = family(
    "weir_batches_in_memory",
    Gauge,
    "Batches held in memory that no call is carrying.",
);
/// Log entries in the buffer.
pub const LOGS_IN_MEMORY: Family = family(
    "weir_logs_in_memory",
    Gauge,
    "Log entries held in memory that no call is carrying.",
);
/// Batches in the spool.
pub const BATCHES_ON_DISK: Family =
    family("weir_batches_on_disk", Gauge, "Batches held on disk only.");
/// Log entries in the spool.
pub const LOGS_ON_DISK: Family =
    family("weir_logs_on_disk", Gauge, "Log entries held on disk only.");
/// Batches in an unanswered call.
pub const BATCHES_IN_FLIGHT: Family = family(
    "weir_batches_in_flight",
    Gauge,
    "Batches carried by a call that is not answered yet.",
);
/// Log entries in an unanswered call.
pub const LOGS_IN_FLIGHT: Family = family(
    "weir_logs_in_flight",
    Gauge,
    "Log entries carried by a call that is not answered yet.",
);
/// Bytes of the spool's files.
pub const SPOOL_BYTES: Family = family(
    "weir_spool_bytes",
    Gauge,
    "Bytes that the files of the spool take; 0 without a spool.",
);
/// The bound of the spool.
pub const SPOOL_CAPACITY: Family = family(
    "weir_spool_capacity_bytes",
    Gauge,
    "Bytes that the files of the spool may take; 0 without a spool.",
);
/// Whether the spool takes batches.
pub const SPOOL_AVAILABLE: Family = family(
    "weir_spool_available",
    Gauge,
    "Whether the directory of the spool is open and can be written: 0 or 1; 0 without a spool.",
);
/// Failures of the spool's directory.
pub const SPOOL_ERRORS: Family = family(
    "weir_spool_errors_total",
    Counter,
    "Operations on the directory of the spool that failed.",
);
/// Batches that the spool could not take.
pub const SPOOL_BYPASSED: Family = family(
    "weir_spool_bypassed_batches_total",
    Counter,
    "Batches that went to memory because the spool could not take them.",
);
/// The last record.
pub const SPOOL_CHAIN_RECORD: Family = family(
    "weir_spool_chain_record",
    Gauge,
    "Number of the last record of the spool; 0 before the first.",
);
/// The digest of the last record.
pub const SPOOL_CHAIN_HEAD: Family = family(
    "weir_spool_chain_head",
    Gauge,
    "First 48 bits of the digest of the last record of the spool, to compare with weir spool verify.",
);
/// Lifetime total of logs received.
pub const LEDGER_RECEIVED: Family = family(
    "weir_ledger_received_logs",
    Gauge,
    "Log entries received since the spool directory was made, by this process and those before it.",
);
/// Lifetime total of logs forwarded.
pub const LEDGER_FORWARDED: Family = family(
    "weir_ledger_forwarded_logs",
    Gauge,
    "Log entries acknowledged since the spool directory was made, by this process and those before it.",
);
/// Lifetime total of logs dropped.
pub const LEDGER_DROPPED: Family = split(
    "weir_ledger_dropped_logs",
    Gauge,
    &[Label {
        name: "reason",
        values: DropReason::VALUES,
    }],
    "Log entries that were received and will never be delivered, since the spool directory was made, by reason.",
);
/// What killed processes held in memory only.
pub const LEDGER_UNACCOUNTED: Family = family(
    "weir_ledger_unaccounted_logs",
    Gauge,
    "Log entries that killed processes held in memory only when they last wrote their totals: delivered since, or lost.",
);
/// The conservation law, as a number.
pub const IMBALANCE: Family = family(
    "weir_imbalance_logs",
    Gauge,
    "Received minus forwarded, dropped, in memory, on disk and in flight; anything but 0 is a defect.",
);
/// The bound of the buffer, in batches.
pub const BUFFER_CAPACITY_BATCHES: Family = family(
    "weir_buffer_capacity_batches",
    Gauge,
    "Batches that the buffer may hold.",
);
/// The bound of the buffer, in bytes.
pub const BUFFER_CAPACITY_BYTES: Family = family(
    "weir_buffer_capacity_bytes",
    Gauge,
    "Payload bytes that the buffer may hold.",
);
/// What the buffer holds, in bytes.
pub const BUFFER_BYTES: Family = family(
    "weir_buffer_bytes",
    Gauge,
    "Payload bytes held in memory, those in flight included.",
);
/// Attempts that may have been handled and were made again.
pub const POSSIBLE_DUPLICATES: Family = family(
    "weir_possible_duplicate_logs_total",
    Counter,
    "Log entries sent again after an attempt whose fate is unknown.",
);

/// Attempts of calls that carry batches.
pub const FORWARD_ATTEMPTS: Family = split(
    "weir_forward_attempts_total",
    Counter,
    &[Label {
        name: "outcome",
        values: AttemptOutcome::VALUES,
    }],
    "Attempts to forward a request, by what was seen; an attempt that failed is not yet a loss.",
);
/// From the socket to the acknowledgement.
pub const FORWARD_LATENCY: Family = family(
    "weir_forward_latency_seconds",
    Histogram(&[
        0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
    ]),
    "Time from receiving a batch to its acknowledgement by the control plane.",
);
/// When a call was last accepted.
pub const LAST_SUCCESS: Family = family(
    "weir_last_success_timestamp_seconds",
    Gauge,
    "Unix time of the latest acknowledgement by the control plane; 0 before the first.",
);
/// The oldest log that is held.
pub const OLDEST_LOG_AGE: Family = family(
    "weir_oldest_log_age_seconds",
    Gauge,
    "Time since the oldest batch that is still held was received; 0 when nothing is held.",
);
/// How long the buffer will last.
pub const TIME_TO_FULL: Family = family(
    "weir_time_to_full_seconds",
    Gauge,
    "Time until the buffer is full at the pace of the last minute; +Inf while it is not filling.",
);

/// Frames that were refused.
pub const FRAMES_REJECTED: Family = split(
    "weir_frames_rejected_total",
    Counter,
    &[Label {
        name: "reason",
        values: FrameFault::VALUES,
    }],
    "Frames on the audit socket that carried nothing usable, by reason.",
);
/// Open connections.
pub const CONNECTIONS: Family = family(
    "weir_connections",
    Gauge,
    "Connections open on the audit socket.",
);
/// All connections so far.
pub const CONNECTIONS_TOTAL: Family = family(
    "weir_connections_total",
    Counter,
    "Connections accepted on the audit socket.",
);

const SUCCESS: &[Label] = &[Label {
    name: "success",
    values: &["true", "false"],
}];

/// Runs of scripts, in the Go agent's words.
pub const AGENT_SCRIPTS_EXECUTED: Family = split(
    "agent_scripts_executed_total",
    Counter,
    SUCCESS,
    "Scripts that ran to their end, cron jobs included; a timeout and outputs left open are no success. Goes on over a restart.",
);
/// Runs of scripts, for the control plane: the agent may be counting under the other name.
pub const SCRIPTS_EXECUTED: Family = split(
    "weir_scripts_executed_total",
    Counter,
    SUCCESS,
    "The same as agent_scripts_executed_total, under a name that no agent reports.",
);
/// The start script, in the Go agent's words.
pub const STARTUP_SCRIPT: Family = split(
    "coderd_agentstats_startup_script_seconds",
    Gauge,
    SUCCESS,
    "Time that the start script which ended last took, in seconds; 0 before the first.",
);
/// Reports of runs.
pub const SCRIPT_REPORTS: Family = split(
    "weir_script_reports_total",
    Counter,
    &[Label {
        name: "outcome",
        values: ScriptReportOutcome::VALUES,
    }],
    "Reports of scripts on the API socket and in the queue beside it, by what became of them.",
);
/// Runs that the control plane was to be told of.
pub const SCRIPT_COMPLETIONS: Family = split(
    "weir_script_completions_total",
    Counter,
    &[Label {
        name: "outcome",
        values: CompletionOutcome::VALUES,
    }],
    "Runs of scripts with an id that wait for the control plane no more, by what became of them.",
);
/// Runs that the control plane is to be told of.
pub const SCRIPT_COMPLETIONS_PENDING: Family = family(
    "weir_script_completions_pending",
    Gauge,
    "Runs of scripts with an id that the control plane is still to be told of.",
);
/// The state of scripts on disk.
pub const SCRIPT_JOURNAL_ERRORS: Family = family(
    "weir_script_journal_errors_total",
    Counter,
    "Failures to keep the counts of scripts on disk; a kill before they are kept again loses them.",
);

/// Whether a link stands.
pub const UPSTREAM_CONNECTED: Family = family(
    "weir_upstream_connected",
    Gauge,
    "1 while the control plane is connected, else 0.",
);
/// Attempts to connect.
pub const UPSTREAM_DIALS: Family = split(
    "weir_upstream_dials_total",
    Counter,
    &[Label {
        name: "outcome",
        values: DialOutcome::VALUES,
    }],
    "Attempts to connect to the control plane, by outcome.",
);

/// Calls of UpdateStats.
pub const REPORT_ATTEMPTS: Family = split(
    "weir_report_attempts_total",
    Counter,
    &[Label {
        name: "outcome",
        values: AttemptOutcome::VALUES,
    }],
    "Calls that report metrics to the control plane, or ask it how often to, by what was seen.",
);
/// Series that are not reported.
pub const REPORT_SAMPLES_REFUSED: Family = split(
    "weir_report_samples_refused_total",
    Counter,
    &[Label {
        name: "reason",
        values: SampleFault::VALUES,
    }],
    "Series that are not reported to the control plane, by reason; each is counted once.",
);
/// When a report was last accepted.
pub const REPORT_LAST_SUCCESS: Family = family(
    "weir_report_last_success_timestamp_seconds",
    Gauge,
    "Unix time of the latest report of metrics that the control plane took; 0 before the first.",
);

const TARGET: &[Label] = &[Label {
    name: "target",
    values: &[],
}];

/// Whether the page of another program could be read.
pub const SCRAPE_UP: Family = split(
    "weir_scrape_up",
    Gauge,
    TARGET,
    "1 if the latest scrape of this target gave a page, else 0.",
);
/// How long it took.
pub const SCRAPE_DURATION: Family = split(
    "weir_scrape_duration_seconds",
    Gauge,
    TARGET,
    "How long the latest scrape of this target took, whatever came of it.",
);
/// What was on it.
pub const SCRAPE_SAMPLES: Family = split(
    "weir_scrape_samples",
    Gauge,
    TARGET,
    "Samples on the latest page of this target that could be read.",
);
/// What could not be read of it.
pub const SCRAPE_FAULTS: Family = split(
    "weir_scrape_faults_total",
    Counter,
    TARGET,
    "Lines of the pages of this target that could not be read; each costs itself.",
);
/// When its program began anew.
pub const SCRAPE_RESETS: Family = split(
    "weir_scrape_counter_resets_total",
    Counter,
    TARGET,
    "Counters of this target that were lower than on the page before; they are reported as they are.",
);

/// Panics caught anywhere in the process.
pub const PANICS: Family = family(
    "weir_panics_total",
    Counter,
    "Panics in this process; anything but 0 is a defect.",
);
/// What is running.
pub const BUILD_INFO: Family = split(
    "weir_build_info",
    Gauge,
    &[Label {
        name: "version",
        values: &[],
    }],
    "Always 1; the labels say which build is running.",
);
/// CPU time of the process.
pub const PROCESS_CPU: Family = family(
    "process_cpu_seconds_total",
    Counter,
    "Total user and system CPU time spent in seconds.",
);
/// Open file descriptors.
pub const PROCESS_OPEN_FDS: Family = family(
    "process_open_fds",
    Gauge,
    "Number of open file descriptors.",
);
/// The limit of open file descriptors.
pub const PROCESS_MAX_FDS: Family = family(
    "process_max_fds",
    Gauge,
    "Maximum number of open file descriptors.",
);
/// Resident memory.
pub const PROCESS_RESIDENT: Family = family(
    "process_resident_memory_bytes",
    Gauge,
    "Resident memory size in bytes.",
);
/// Address space.
pub const PROCESS_VIRTUAL: Family = family(
    "process_virtual_memory_bytes",
    Gauge,
    "Virtual memory size in bytes.",
);
/// Threads.
pub const PROCESS_THREADS: Family = family(
    "process_threads",
    Gauge,
    "Number of OS threads in the process.",
);
/// When the process started.
pub const PROCESS_START: Family = family(
    "process_start_time_seconds",
    Gauge,
    "Start time of the process since unix epoch in seconds.",
);

/// Every family on the sidecar's page.
pub const SIDECAR: &[Family] = &[
    AGENT_BATCHES_DROPPED,
    AGENT_LOGS_DROPPED,
    AGENT_BATCHES_FORWARDED,
    BATCHES_RECEIVED,
    LOGS_RECEIVED,
    BYTES_RECEIVED,
    BATCHES_FORWARDED,
    LOGS_FORWARDED,
    BYTES_FORWARDED,
    BATCHES_DROPPED,
    LOGS_DROPPED,
    BATCHES_IN_MEMORY,
    LOGS_IN_MEMORY,
    BATCHES_ON_DISK,
    LOGS_ON_DISK,
    BATCHES_IN_FLIGHT,
    LOGS_IN_FLIGHT,
    SPOOL_BYTES,
    SPOOL_CAPACITY,
    SPOOL_AVAILABLE,
    SPOOL_ERRORS,
    SPOOL_BYPASSED,
    SPOOL_CHAIN_RECORD,
    SPOOL_CHAIN_HEAD,
    LEDGER_RECEIVED,
    LEDGER_FORWARDED,
    LEDGER_DROPPED,
    LEDGER_UNACCOUNTED,
    IMBALANCE,
    BUFFER_CAPACITY_BATCHES,
    BUFFER_CAPACITY_BYTES,
    BUFFER_BYTES,
    POSSIBLE_DUPLICATES,
    FORWARD_ATTEMPTS,
    FORWARD_LATENCY,
    LAST_SUCCESS,
    OLDEST_LOG_AGE,
    TIME_TO_FULL,
    FRAMES_REJECTED,
    CONNECTIONS,
    CONNECTIONS_TOTAL,
    AGENT_SCRIPTS_EXECUTED,
    SCRIPTS_EXECUTED,
    STARTUP_SCRIPT,
    SCRIPT_REPORTS,
    SCRIPT_COMPLETIONS,
    SCRIPT_COMPLETIONS_PENDING,
    SCRIPT_JOURNAL_ERRORS,
    UPSTREAM_CONNECTED,
    UPSTREAM_DIALS,
    REPORT_ATTEMPTS,
    REPORT_SAMPLES_REFUSED,
    REPORT_LAST_SUCCESS,
    SCRAPE_UP,
    SCRAPE_DURATION,
    SCRAPE_SAMPLES,
    SCRAPE_FAULTS,
    SCRAPE_RESETS,
    PANICS,
    BUILD_INFO,
    PROCESS_CPU,
    PROCESS_OPEN_FDS,
    PROCESS_MAX_FDS,
    PROCESS_RESIDENT,
    PROCESS_VIRTUAL,
    PROCESS_THREADS,
    PROCESS_START,
];
