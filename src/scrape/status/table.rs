//! The status document for people.

use std::time::Duration;

use bytesize::ByteSize;

use super::StatusDocument;

/// Above this the rest of the senders is only counted: it is what fits on a screen. `--json` has them all.
const MAX_ROWS: usize = 20;

/// The document as lines of text, each ended. `unix_now` is the present time in Unix seconds.
pub fn render_table(status: &StatusDocument, unix_now: i64) -> String {
    [head(status, unix_now), logs(status), senders(status)].join("\n")
}

fn head(status: &StatusDocument, unix_now: i64) -> String {
    let link = if status.connected {
        "connected to"
    } else {
        "not connected to"
    };
    let success = status.upstream.last_success_timestamp_seconds.map_or_else(
        || "nothing acknowledged yet".to_owned(),
        |then| {
            let age = unix_now.saturating_sub(then).max(0);
            format!("last acknowledgement {} ago", span(age as f64))
        },
    );
    let full = status
        .time_to_full_seconds
        .map_or_else(|| "not filling".to_owned(), span);
    let (buffer, scripts) = (&status.buffer, &status.scripts);
    let spool = status.spool.as_ref().map_or_else(String::new, |spool| {
        let unavailable = if spool.available { "" } else { ", unavailable" };
        format!(
            "spool         {bytes} of {max_bytes}, chain at record {record}, {head}{unavailable}\n",
            bytes = ByteSize(spool.bytes),
            max_bytes = ByteSize(spool.capacity_bytes),
            record = spool.head_record,
            head = printable(&spool.head),
        )
    });
    format!(
        "sidecar       {version}, {phase}, up {uptime}\n\
         upstream      {link} {url}, {success}\n\
         buffer        {batches} of {max_batches} batches, {bytes} of {max_bytes}\n\
         {spool}\
         oldest log    {oldest}\n\
         time to full  {full}\n\
         scripts       {succeeded} succeeded, {failed} failed, {pending} to be told upstream\n",
        version = printable(&status.version),
        phase = status.phase.name(),
        uptime = span(status.uptime_seconds),
        url = printable(&status.upstream.url),
        batches = buffer.batches,
        max_batches = buffer.capacity_batches,
        bytes = ByteSize(buffer.bytes),
        max_bytes = ByteSize(buffer.capacity_bytes),
        oldest = span(status.oldest_log_age_seconds),
        succeeded = scripts.succeeded,
        failed = scripts.failed,
        pending = scripts.pending_completions,
    )
}

fn logs(status: &StatusDocument) -> String {
    let row = |name: &str, logs: String| [name.to_owned(), logs];
    let dropped: u64 = status
        .dropped_logs
        .values()
        .fold(0, |sum, logs| sum.saturating_add(*logs));
    let mut rows = vec![
        row("logs", String::new()),
        row("  received", status.received_logs.to_string()),
        row("  forwarded", status.forwarded_logs.to_string()),
        row("  dropped", dropped.to_string()),
    ];
    for (reason, logs) in &status.dropped_logs {
        rows.push(row(&format!("    {}", printable(reason)), logs.to_string()));
    }
    let lost = &status.dropped_by_sender;
    rows.extend([
        row("  in memory", status.in_memory_logs.to_string()),
        row("  on disk", status.on_disk_logs.to_string()),
        row("  in flight", status.in_flight_logs.to_string()),
        row("  imbalance", status.imbalance_logs.to_string()),
        row(
            "  possible duplicates",
            status.possible_duplicate_logs.to_string(),
        ),
        row("lost by their senders", String::new()),
        row("  channel full", lost.channel_full.to_string()),
        row("  batch full", lost.batch_full.to_string()),
    ]);
    aligned(&rows, [Align::Left, Align::Right])
}

fn senders(status: &StatusDocument) -> String {
    let open = (status.senders.len() as u64).saturating_add(status.senders_left_out);
    if open == 0 {
        return "no senders\n".to_owned();
    }
    let header = [
        "sender",
        "pid",
        "uid",
        "command",
        "connected",
        "frames",
        "logs",
        "rejected",
        "last frame",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    let or_dash = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
    rows.extend(status.senders.iter().take(MAX_ROWS).map(|sender| {
        [
            sender.number.to_string(),
            or_dash(sender.pid),
            or_dash(sender.uid),
            printable(&sender.command),
            span(sender.connected_seconds),
            sender.frames.to_string(),
            sender.logs.to_string(),
            sender.rejected.to_string(),
            sender
                .last_frame_seconds
                .map_or_else(|| "never".to_owned(), |age| format!("{} ago", span(age))),
        ]
    }));
    let mut alignment = [Align::Right; 9];
    alignment[3] = Align::Left;
    let mut text = aligned(&rows, alignment);
    match open - (rows.len() as u64 - 1) {
        0 => {}
        more => text.push_str(&format!("and {more} more\n")),
    }
    text
}

#[derive(Clone, Copy)]
enum Align {
    Left,
    Right,
}

fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]], align: [Align; COLUMNS]) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).zip(align);
        let cells = cells.map(|((cell, width), align)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

/// A time span in whole seconds, such as `2h 5m 7s`.
fn span(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds).map_or(0, |span| span.as_secs());
    humantime::format_duration(Duration::from_secs(whole)).to_string()
}

/// Text that another process chose, without anything that a terminal would obey.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}
