//! `weir emit`: logs in, frames out.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};

use super::Exit;
use super::flags::EmitFlags;
use crate::config::{Host, Log, resolve_producer};
use crate::emit::{self, MIN_URL_BYTES, Options, Rate, SessionId, Source, Summary};
use crate::logging;
use crate::shutdown::{Request, Signals, Stop};

/// Most made-up logs: the sequence numbers that a session has.
const MAX_COUNT: u64 = 1 << 31;

/// Longest made-up URL: twice what a frame holds, so that what happens to it can be seen.
const MAX_URL_BYTES: u64 = 64 * 1024;

/// Arguments of `weir emit`.
#[derive(Debug, Args)]
#[command(after_long_help = INPUT)]
pub struct EmitArgs {
    /// Where to write.
    #[command(flatten)]
    pub flags: EmitFlags,
    /// Send N made-up logs instead of those on standard input
    #[arg(long, value_name = "N",
        value_parser = RangedU64ValueParser::<u64>::new().range(..=MAX_COUNT))]
    pub count: Option<u64>,
    /// Take R logs a second; 0 takes them as fast as the socket does
    #[arg(long, value_name = "R", default_value = "0", value_parser = pace)]
    pub rate: Pace,
    /// What becomes of a log for which there is no room [default: drop with --rate, else wait]
    #[arg(long, value_name = "POLICY")]
    pub when_full: Option<WhenFull>,
    /// UUID of the session [default: a random one]
    #[arg(long, value_name = "UUID")]
    pub session_id: Option<SessionId>,
    /// Bytes of each made-up URL
    #[arg(long, value_name = "BYTES", default_value = "100", requires = "count",
        value_parser = RangedU64ValueParser::<usize>::new().range(MIN_URL_BYTES as u64..=MAX_URL_BYTES))]
    pub url_bytes: usize,
    /// How long to go on trying to send what is left at the end
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = flush_timeout)]
    pub flush_timeout: Duration,
}

/// The end of `weir emit --help`.
const INPUT: &str = "\
Standard input has one JSON object a line:
  {\"decision\":\"allow\",\"http_method\":\"GET\",\"http_url\":\"https://example.com/\",
   \"matched_rule\":\"domain=example.com\",\"time\":\"2026-11-23T09:00:00.123Z\"}
`decision` is `allow` or `deny`; `\"allowed\":true` says the same. `matched_rule` and `time` (RFC
3339, UTC; now) may be left out, other fields are passed over, and so are blank lines. A line that
is no log is named on stderr with line and column, counted, and makes the exit code 1.

The last line on stdout is one JSON object:
  {\"logs\":12,\"delivered\":12,\"channel_full\":0,\"batch_full\":0,\"too_large\":0,\"unsent\":0,
   \"bad_lines\":0,\"session_id\":\"6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d\"}
`delivered` logs were written to the socket, which never answers. Exit codes: 0 all were, 1 failed
or bad lines, 2 usage, 3 logs were lost.

SIGINT, SIGTERM and SIGHUP end the input; what is held is still sent. A second SIGINT or SIGTERM
ends that too.";

/// How fast logs are taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As fast as the socket takes them.
    Unlimited,
    /// At a rate.
    Rate(Rate),
}

/// What becomes of a log for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WhenFull {
    /// Drop and count it, as boundary does: the input never waits
    Drop,
    /// Let the input wait: nothing is dropped
    Wait,
}

/// Sends what the arguments say until that ends or a signal comes, and prints what became of it.
///
/// `out` gets one line at the end, `complaints` what keeps the command from starting; the rest is
/// logged.
pub fn run(
    arguments: EmitArgs,
    host: &dyn Host,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> Exit {
    let (path, log) = match resolve_producer(&arguments.flags.0, host) {
        Ok(resolved) => resolved,
        Err(faults) => {
            complain(complaints, &faults.to_string());
            return Exit::Usage;
        }
    };
    match start(arguments, path, &log) {
        Ok(summary) => conclude(&summary, out, complaints),
        Err(error) => {
            complain(complaints, &format!("{error:#}"));
            Exit::Failed
        }
    }
}

fn start(arguments: EmitArgs, path: PathBuf, log: &Log) -> anyhow::Result<Summary> {
    logging::init(log)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let stop = Stop::default();
        let hang_up = |request| {
            if request == Request::Reload {
                stop.drain.cancel();
            }
        };
        let signals = Signals::listen()?.serve(&stop, arguments.flush_timeout, hang_up);
        let source = arguments.source(io::stdin())?;
        let options = arguments.options(path.clone());
        let run = emit::run(options, source, stop.clone());
        tokio::pin!(run);
        let result = tokio::select! {
            result = &mut run => result,
            // After the deadline the run has nothing to wait for.
            () = signals => run.await,
        };
        result.map_err(|cause| {
            let path = path.display();
            anyhow::Error::new(cause).context(format!("cannot connect to {path}"))
        })
    })
}

impl EmitArgs {
    fn source(&self, input: impl io::Read + Send + 'static) -> io::Result<Source> {
        let source = match self.count {
            Some(count) => Source::made_up(count, self.url_bytes),
            None => Source::lines(input)?,
        };
        Ok(match self.rate {
            Pace::Unlimited => source,
            Pace::Rate(rate) => source.at_rate(rate),
        })
    }

    fn options(&self, socket_path: PathBuf) -> Options {
        let when_full = self.when_full.unwrap_or(match self.rate {
            Pace::Unlimited => WhenFull::Wait,
            Pace::Rate(_) => WhenFull::Drop,
        });
        let session_id = self.session_id.clone();
        Options {
            socket_path,
            session_id: session_id.unwrap_or_else(|| SessionId::random(&mut fastrand::Rng::new())),
            when_full: match when_full {
                WhenFull::Drop => emit::WhenFull::Drop,
                WhenFull::Wait => emit::WhenFull::Wait,
            },
            flush_timeout: self.flush_timeout,
        }
    }
}

/// Prints what became of the logs; a reader of stdout that has gone does not change it.
fn conclude(summary: &Summary, out: &mut dyn Write, complaints: &mut dyn Write) -> Exit {
    match print(summary, out) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(complaints, &error.to_string());
            Exit::Failed
        }
        Ok(()) | Err(_) => judge(summary),
    }
}

fn print(summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
    let mut line = serde_json::to_vec(summary)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

fn judge(summary: &Summary) -> Exit {
    if summary.lost() > 0 {
        Exit::Lost
    } else if summary.bad_lines > 0 || summary.cut_short {
        Exit::Failed
    } else {
        Exit::Done
    }
}

/// Says what is wrong. When that fails too, the exit code is all that is left.
fn complain(complaints: &mut dyn Write, message: &str) {
    writeln!(complaints, "weir emit: {message}").unwrap_or_default();
}

/// The longest flush: what a clock can be moved by without running over.
const MAX_FLUSH: Duration = Duration::from_secs(24 * 60 * 60);

fn flush_timeout(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(timeout) if timeout <= MAX_FLUSH => Ok(timeout),
        Ok(_) => Err(format!("expected at most 24h, got {text:?}")),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn pace(text: &str) -> Result<Pace, String> {
    let expected = || format!("expected 0, or 0.001 to 1000000 logs a second, got {text:?}");
    match text.parse::<f64>() {
        Ok(0.0) => Ok(Pace::Unlimited),
        Ok(per_second) => Rate::new(per_second).map(Pace::Rate).ok_or_else(expected),
        Err(_) => Err(expected()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Emit {
        #[command(flatten)]
        arguments: EmitArgs,
    }

    fn parse(arguments: &[&str]) -> Result<EmitArgs, String> {
        Emit::try_parse_from([&["emit"], arguments].concat())
            .map(|emit| emit.arguments)
            .map_err(|error| error.to_string())
    }

    fn summary() -> Summary {
        Summary {
            logs: 3,
            delivered: 3,
            channel_full: 0,
            batch_full: 0,
            too_large: 0,
            unsent: 0,
            bad_lines: 0,
            session_id: SessionId::from_bits(0).to_string(),
            cut_short: false,
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        Emit::command().debug_assert();
    }

    #[test]
    fn logs_are_dropped_only_when_they_come_at_a_rate_or_on_demand() {
        use emit::WhenFull::{Drop, Wait};
        for (arguments, when_full) in [
            (&[][..], Wait),
            (&["--count=5"], Wait),
            (&["--rate=0"], Wait),
            (&["--rate=2.5"], Drop),
            (&["--rate=5", "--when-full=wait"], Wait),
            (&["--when-full=drop"], Drop),
        ] {
            let options = parse(arguments).unwrap().options(PathBuf::new());
            assert_eq!(options.when_full, when_full, "{arguments:?}");
        }
    }

    #[test]
    fn a_session_is_random_unless_given() {
        let session = |arguments: &[&str]| parse(arguments).unwrap().options(PathBuf::new());
        let (one, other) = (session(&[]).session_id, session(&[]).session_id);
        assert_ne!(one, other);
        let given = session(&["--session-id=6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d"]).session_id;
        assert_eq!(given.as_str(), "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d");
    }

    #[test]
    fn faults_say_what_was_expected() {
        for (argument, expected) in [
            (
                "--rate=fast",
                "expected 0, or 0.001 to 1000000 logs a second, got \"fast\"",
            ),
            ("--rate=-1", "expected 0, or 0.001"),
            ("--rate=NaN", "expected 0, or 0.001"),
            ("--count=2147483649", "2147483649 is not in 0..=2147483648"),
            ("--session-id=7", "expected a UUID like"),
            ("--url-bytes=200", "--count <N>"),
            ("--flush-timeout=5", "time unit needed"),
            ("--flush-timeout=300000000000years", "expected"),
            ("--flush-timeout=25h", "expected at most 24h"),
            ("--when-full=block", "[possible values: drop, wait]"),
        ] {
            let error = parse(&[argument]).expect_err(argument);
            assert!(error.contains(expected), "{argument}: {error}");
        }
        let error = parse(&["--count=1", "--url-bytes=31"]).expect_err("too short");
        assert!(error.contains("31 is not in 32..=65536"), "{error}");
    }

    #[test]
    fn the_exit_code_tells_loss_from_failure() {
        let lost = Summary {
            delivered: 2,
            unsent: 1,
            bad_lines: 1,
            ..summary()
        };
        let bad = Summary {
            bad_lines: 1,
            ..summary()
        };
        let cut_short = Summary {
            cut_short: true,
            ..summary()
        };
        for (summary, exit) in [
            (summary(), Exit::Done),
            (lost, Exit::Lost),
            (bad, Exit::Failed),
            (cut_short, Exit::Failed),
        ] {
            assert_eq!(judge(&summary), exit, "{summary:?}");
        }
    }

    #[test]
    fn only_a_reader_that_has_gone_may_miss_the_summary() {
        struct Fails(io::ErrorKind);
        impl Write for Fails {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut complaints = Vec::new();
        let mut conclude = |kind| conclude(&summary(), &mut Fails(kind), &mut complaints);
        assert_eq!(conclude(io::ErrorKind::BrokenPipe), Exit::Done);
        assert_eq!(conclude(io::ErrorKind::StorageFull), Exit::Failed);
        assert!(!complaints.is_empty());
    }
}
