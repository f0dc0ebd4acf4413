//! The command line: its types, and the commands that need nothing but them.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

pub mod check;
pub mod emit;
pub mod exec;
mod exit;
mod flags;
pub mod generate;
mod ready;
pub mod spool;

use crate::collect::Location;

pub use exit::Exit;
pub use flags::{ControlFlags, EmitFlags, ReplayFlags, RunFlags, StatusFlags};
pub use ready::{ControlReady, Ready};

/// Forwards boundary audit logs out of a developer workspace, and counts every loss.
///
/// Settings are taken from flags, then from the environment, then from the file given by --config
/// (TOML; keys are the flag names in snake case), then from the defaults. An empty variable counts
/// as unset, except for --prometheus-address, where empty means off. Relative paths start from the
/// working directory.
#[derive(Debug, Parser)]
#[command(name = "weir", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the sidecar
    ///
    /// Takes audit-log batches from the boundary socket and forwards them to the control plane.
    /// When every listener is bound, one JSON line is printed on stdout; logs go to stderr.
    Run(RunFlags),
    /// Run the embedded control plane
    ///
    /// Takes agents and sidecars over WebSocket as coderd does, and over gRPC, and writes their boundary logs.
    /// When every listener is bound, one JSON line is printed on stdout; logs go to stderr.
    ControlPlane(ControlFlags),
    /// Watch the whole job run on this machine
    ///
    /// Starts a control plane, a sidecar and senders in one process, over real sockets and the real wire, takes the
    /// control plane away for a while in the middle, and accounts for every log at the end. Exit code 1 when
    /// anything is unaccounted for.
    Demo(DemoArgs),
    /// Check the configuration and print it, secrets redacted
    ///
    /// Takes the settings of `weir run`. Every fault is listed at once, with exit code 2.
    Check(CheckArgs),
    /// Run a script as the workspace agent does, and report it to the sidecar
    ///
    /// The script runs in a process group of its own, with input, outputs and terminal as they are; signals are handed on to
    /// the group. Exit code: the script's own, 128 and the signal that killed it, 124 at the timeout, 126 when it cannot be
    /// executed, 127 when it is not found. A script that exits with 0 while a process which it left behind still holds its
    /// outputs is given 10 s for that, and then reported as PIPES_LEFT_OPEN, which counts as a failure. A process that has
    /// left the group, as by setsid, is not looked after.
    ///
    /// Without a sidecar the report is queued in a file beside its socket, at most 1000 of them and 1MiB. Without this
    /// command, a run can be reported by
    ///
    /// curl --unix-socket $TMPDIR/weir.sock http://weir/v1/scripts -d '{"name":"backup","exit_code":0,"started_at":1767225600,"ended_at":1767225603.5}'
    ///
    /// with "id" (UUID), "stage" (start, stop, cron) and "status" (OK, EXIT_FAILURE, TIMED_OUT, PIPES_LEFT_OPEN) where they
    /// are known; times are Unix seconds or as 2026-01-01T00:00:00Z. The answer is 201, or 200 when a run of this id, or
    /// else name, and this start had been counted before.
    Exec(exec::ExecArgs),
    /// Write logs to the audit socket, as boundary does
    Emit(emit::EmitArgs),
    /// Ask a running sidecar how it is doing
    Status(StatusArgs),
    /// Look at a spool directory, check it, and take out what it holds
    #[command(subcommand)]
    Spool(spool::SpoolCommand),
    /// Fetch the metrics page of another program and print what it says
    ///
    /// Reads the text format 0.0.4 and OpenMetrics 1.0. Lines that cannot be read are told on stderr, each with line,
    /// column, what was expected and what is there; the others are printed. A page has at most 64 MiB after
    /// decompression and a million samples, and takes at most 30 s; redirects are not followed, proxies not asked.
    Scrape(ScrapeArgs),
    /// Describe the metrics
    #[command(subcommand)]
    Metrics(MetricsCommand),
    /// Print shell completions
    Completions {
        /// The shell to complete for.
        shell: Shell,
    },
    /// Print a manual page in roff
    Man {
        /// Command to print the page of; without it, the page of weir itself.
        command: Option<String>,
    },
}

/// Arguments of `weir demo`.
#[derive(Clone, Copy, Debug, Args)]
pub struct DemoArgs {
    /// How long to run, at least 1s, as in 10s [default: until interrupted]
    #[arg(long = "for", value_name = "TIME", value_parser = demo_length)]
    pub length: Option<Duration>,
}

fn demo_length(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(length) if length >= Duration::from_secs(1) => Ok(length),
        Ok(_) => Err("expected at least 1s".to_owned()),
        Err(error) => Err(format!("expected a duration such as 10s: {error}")),
    }
}

/// Arguments of `weir check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The settings to check.
    #[command(flatten)]
    pub flags: RunFlags,
    /// Dial the control plane too, and say what it answers
    #[arg(long)]
    pub connect: bool,
}

/// Arguments of `weir status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Where the sidecar answers.
    #[command(flatten)]
    pub flags: StatusFlags,
    /// Ask again and again until interrupted
    #[arg(long)]
    pub watch: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `weir scrape`.
#[derive(Clone, Debug, Args)]
pub struct ScrapeArgs {
    /// Where the page is.
    #[arg(
        value_name = "URL",
        help = "http://HOST[:PORT][/PATH], https://HOST[:PORT][/PATH] or unix:/SOCKET[:/PATH]; the path is /metrics where it is left out"
    )]
    pub location: Location,
    /// Print JSON: an array of families, each with name, type, help and samples
    #[arg(long)]
    pub json: bool,
    /// Fail, with exit code 1, if a line cannot be read
    #[arg(long)]
    pub strict: bool,
}

/// Views of the catalogue of metrics.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum MetricsCommand {
    /// Print a table of name, type, labels and meaning
    List,
    /// Print the catalogue as markdown
    Docs,
    /// Print an exposition page with every series at zero
    Dump,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_parsed_command_line_hides_its_secrets() {
        let cli = Cli::try_parse_from(["weir", "run", "--agent-token=s3cr3t", "--role=x"]).unwrap();
        let shown = format!("{cli:?}");
        assert!(shown.contains("agent-token"), "{shown}");
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
}
