//! `weir spool`: a spool directory looked at, checked and taken out without the sidecar that wrote it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use bytesize::ByteSize;
use clap::{Args, Subcommand};

use super::Exit;
use super::emit::{Pace, pace};
use super::flags::ReplayFlags;
use crate::audit_line::{self, Origin};
use crate::spool::{self, Disk, Fault, Finding, Report, Summary};
use crate::wire::boundary;

/// What to do with a spool.
#[derive(Debug, Subcommand)]
pub enum SpoolCommand {
    /// Say what is in a spool
    Inspect(LookArgs),
    /// Check every byte of a spool, and its chain
    ///
    /// Names every record that is damaged, missing, out of its place, or does not follow the one before it. Exit code 1
    /// when there is one. Compare the head with what `weir_spool_chain_head` or `weir status` showed: there is no key, so
    /// a chain that was computed anew from its start is only told by that.
    Verify(LookArgs),
    /// Print the logs of a spool as JSON lines
    ///
    /// The form is that of the control plane's boundary log. Records that are damaged are left out, told on stderr, and
    /// make the exit code 1.
    Export(ExportArgs),
    /// Send the logs of a spool to a control plane
    ///
    /// With the rules of `weir run`: in order per session, merged, tried again. The directory is not changed, so a second
    /// replay, or a sidecar that is started on it, sends them once more. It must not be in use.
    Replay(ReplayArgs),
}

/// Arguments of `weir spool inspect` and `verify`.
#[derive(Debug, Args)]
pub struct LookArgs {
    /// Directory of the spool; it may be in use, and is not changed
    pub dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `weir spool export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Directory of the spool; it may be in use, and is not changed
    pub dir: PathBuf,
    /// Logs that need nothing more too, as far as their files are still there
    #[arg(long)]
    pub all: bool,
}

/// Arguments of `weir spool replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Directory of the spool; it is not changed
    pub dir: PathBuf,
    /// Where to send.
    #[command(flatten)]
    pub flags: ReplayFlags,
    /// Send R logs a second at most; 0 sends as fast as the control plane takes them
    #[arg(long, value_name = "R", default_value = "0", value_parser = pace)]
    pub rate: Pace,
}

/// Says what is in a spool.
///
/// # Errors
/// When the directory cannot be read, or the output not be written.
pub fn inspect(arguments: &LookArgs, out: &mut dyn Write) -> io::Result<Exit> {
    let summary = spool::inspect(&mut Disk::look(&arguments.dir)).map_err(of(&arguments.dir))?;
    match arguments.json {
        true => json(out, &summary)?,
        false => write!(out, "{}", described(&summary))?,
    }
    Ok(Exit::Done)
}

/// Checks a spool.
///
/// # Errors
/// When the directory cannot be read, or the output not be written.
pub fn verify(arguments: &LookArgs, out: &mut dyn Write) -> io::Result<Exit> {
    let report = spool::verify(&mut Disk::look(&arguments.dir)).map_err(of(&arguments.dir))?;
    match arguments.json {
        true => json(out, &report)?,
        false => write!(out, "{}", judged(&report))?,
    }
    Ok(match report.whole {
        true => Exit::Done,
        false => Exit::Failed,
    })
}

/// Prints the logs of a spool.
///
/// # Errors
/// When the directory cannot be read, or the output not be written.
pub fn export(
    arguments: &ExportArgs,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> io::Result<Exit> {
    let mut disk = Disk::look(&arguments.dir);
    let mut lines = Vec::new();
    let mut unreadable = 0_u64;
    let damaged = spool::export(&mut disk, arguments.all, |record| {
        lines.clear();
        let payload = record.entry.payload;
        let rendered = boundary::Summary::read(payload).and_then(|summary| {
            audit_line::render(Origin::default(), &summary, payload, &mut lines)
        });
        if rendered.is_err() {
            unreadable += 1;
            lines.clear();
        }
        out.write_all(&lines)
    })
    .map_err(of(&arguments.dir))?;
    out.flush()?;
    if damaged == 0 && unreadable == 0 {
        return Ok(Exit::Done);
    }
    writeln!(
        complaints,
        "weir: {damaged} places are damaged and {unreadable} records hold no logs; `weir spool verify` names them"
    )?;
    Ok(Exit::Failed)
}

/// Puts the directory before an error, except where a reader has seen enough.
fn of(dir: &std::path::Path) -> impl Fn(io::Error) -> io::Error {
    move |error| match error.kind() {
        io::ErrorKind::BrokenPipe => error,
        // Not a wrong usage, which "not found" means elsewhere.
        _ => io::Error::other(format!("{}: {error}", dir.display())),
    }
}

fn json(out: &mut dyn Write, value: &impl serde::Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

fn described(summary: &Summary) -> String {
    let oldest = summary.oldest_ms.map_or_else(|| "-".to_owned(), moment);
    let ended = match summary.clean {
        None => "unknown, there is no position",
        Some(true) => "in order",
        Some(false) => "not in order, or in use",
    };
    let next = summary
        .next_record
        .map_or_else(|| "-".to_owned(), |next| next.to_string());
    let mut text = format!(
        "held         {} batches, {} logs\n\
         oldest       {oldest}\n\
         files        {} in {} segments\n\
         next record  {next}\n\
         last end     {ended}\n\
         \n\
         {:<20}  {:>7}  {:>9}  {:>9}  {:>9}  {:>9}  begun\n",
        summary.held_batches,
        summary.held_logs,
        ByteSize(summary.bytes),
        summary.segments.len(),
        "segment",
        "version",
        "bytes",
        "records",
        "held",
        "damaged",
    );
    for segment in &summary.segments {
        text.push_str(&format!(
            "{:<20}  {:>7}  {:>9}  {:>9}  {:>9}  {:>9}  {}\n",
            segment.name,
            segment.version,
            segment.bytes,
            segment.records,
            segment.held,
            segment.damaged_bytes,
            segment.created_ms.map_or_else(|| "-".to_owned(), moment),
        ));
    }
    text
}

fn judged(report: &Report) -> String {
    let mut text = format!(
        "records  {}\nhead     record {}, {}\nnumber   {}\n",
        report.records, report.head_record, report.head, report.head_number
    );
    for finding in &report.findings {
        text.push_str(&format!("{}\n", named(finding)));
    }
    if report.more > 0 {
        text.push_str(&format!("and {} more\n", report.more));
    }
    text.push_str(if report.whole {
        "whole\n"
    } else {
        "NOT whole\n"
    });
    text
}

fn named(finding: &Finding) -> String {
    let Finding {
        segment,
        offset,
        record,
        fault,
    } = finding;
    let fault = match fault {
        Fault::Damaged => "damaged".to_owned(),
        Fault::Missing { until } if *until == record + 1 => "missing".to_owned(),
        Fault::Missing { until } => format!("missing, and all up to record {}", until - 1),
        Fault::Reordered => "out of its place".to_owned(),
        Fault::Altered => "does not follow the one before it: one of them was altered".to_owned(),
        Fault::Version(version) => format!("of version {version}, which is not known"),
        Fault::NoPosition => "absent or damaged: what is done is not known".to_owned(),
    };
    format!("{segment} at {offset}, record {record}: {fault}")
}

/// A time in Unix milliseconds; one that no calendar has is the last that it has.
fn moment(unix_ms: u64) -> String {
    const LAST: u64 = 253_402_300_799_000;
    let at = UNIX_EPOCH + Duration::from_millis(unix_ms.min(LAST));
    humantime::format_rfc3339_seconds(at).to_string()
}
