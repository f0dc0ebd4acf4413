//! What the log says of the books.

use crate::buffer::ledger::Snapshot;
use crate::cli::Exit;
use crate::metrics::DropReason;

/// The last line: what became of everything, and whether the stop itself lost something.
pub(super) fn conclude(books: &Snapshot) -> Exit {
    let lost = books.dropped(DropReason::Shutdown);
    log_balance(books);
    if lost.batches == 0 {
        tracing::info!(
            received_logs = books.received.logs,
            forwarded_logs = books.forwarded.logs,
            dropped_logs = books.dropped_in_all().logs,
            on_disk_logs = books.on_disk.logs,
            "stopped; nothing was lost by the stop"
        );
        return Exit::Done;
    }
    tracing::error!(
        received_logs = books.received.logs,
        forwarded_logs = books.forwarded.logs,
        dropped_logs = books.dropped_in_all().logs,
        lost_batches = lost.batches,
        lost_logs = lost.logs,
        "stopped; what was still held when the drain ended is lost"
    );
    Exit::Lost
}

pub(super) fn log_balance(books: &Snapshot) {
    let imbalance = books.imbalance();
    tracing::info!(
        received = books.received.logs,
        forwarded = books.forwarded.logs,
        in_memory = books.in_memory.logs,
        on_disk = books.on_disk.logs,
        in_flight = books.in_flight.logs,
        dropped = books.dropped_in_all().logs,
        dropped_by_senders = books
            .sender_channel_full
            .saturating_add(books.sender_batch_full),
        possible_duplicates = books.possible_duplicates,
        imbalance,
        "balance in logs"
    );
    if imbalance != 0 {
        tracing::error!(imbalance, "the books do not balance: this is a defect");
    }
}
