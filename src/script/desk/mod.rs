//! Where reports are taken in: entered on disk, then in the books, then in the metrics, and only then acknowledged.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::books::{Books, Entry, Journal};
use super::file::beside;
use super::queue::{Line, Waiting};
use super::{Report, completed};
use crate::backoff::Schedule;
use crate::metrics::{CompletionOutcome, ScriptMetrics, ScriptReportOutcome};
use crate::pb::agent::WorkspaceAgentScriptCompletedRequest;
use crate::upstream::Upstream;
use crate::warnings::Warnings;

/// How often the queue of `weir exec` is looked at, and a journal that could not be opened or written is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The desk of one sidecar. What it does is short, and may touch the disk: not for the thread of the data path.
#[derive(Debug)]
pub struct Desk {
    api_socket: PathBuf,
    state: Mutex<State>,
    /// Runs that wait for the control plane. Changed only under the lock of `state`.
    pending: watch::Sender<usize>,
    /// The first of them was first in another life too, which may have told the control plane of it.
    pub(super) first_may_be_told: bool,
    metrics: ScriptMetrics,
}

#[derive(Debug)]
struct State {
    books: Books,
    /// `None` while another process has it, or it cannot be written: runs are counted all the same, because a script is
    /// not to wait for a disk, and a queue beside the journal would be on the same one.
    journal: Option<Journal>,
    warnings: Warnings,
}

impl Desk {
    /// The desk behind this API socket, with what was kept beside it. The totals go on where they stood.
    pub fn open(api_socket: &Path, metrics: ScriptMetrics) -> Self {
        let mut state = State {
            books: Books::default(),
            journal: None,
            warnings: Warnings::default(),
        };
        let opened = open_journal(api_socket, |kept| {
            state.books = Books::resume(kept);
            &state.books
        });
        state.journal = opened.unwrap_or_else(|error| {
            metrics.journal_failed();
            state.warn(
                "cannot keep the counts of scripts: a kill will lose them",
                &error,
            );
            None
        });
        let totals = state.books.totals();
        for (success, tally) in [(true, totals.success), (false, totals.failure)] {
            metrics.executed(success, tally.runs);
            metrics.set_startup(success, tally.startup_seconds);
        }
        let desk = Self {
            api_socket: api_socket.to_owned(),
            pending: watch::Sender::new(0),
            first_may_be_told: state.books.pending() > 0,
            state: Mutex::new(state),
            metrics,
        };
        desk.show_pending(&desk.state());
        desk
    }

    /// Takes a report in. On return it is counted, and in the journal if there is one: no kill can lose it then.
    pub fn enter(&self, report: &Report) -> Entry {
        self.enter_in(&mut self.state(), report)
    }

    /// Counts something that was to be a report.
    pub fn refuse(&self) {
        self.metrics.reported(ScriptReportOutcome::Invalid, 1);
    }

    /// How many runs wait for the control plane.
    pub fn pending(&self) -> watch::Receiver<usize> {
        self.pending.subscribe()
    }

    /// Looks after queue, journal and control plane until `stop` is cancelled; what waits then stays in the journal.
    pub async fn serve(
        self: Arc<Self>,
        upstream: impl Upstream + Sync,
        schedule: Schedule,
        stop: CancellationToken,
    ) {
        let look = async {
            let mut ticks = interval(LOOK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                self.look();
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = completed::deliver(&self, &upstream, schedule) => {}
            () = look => {}
        }
        let state = self.state();
        if state.books.pending() > 0 {
            let (pending, kept) = (state.books.pending(), state.journal.is_some());
            tracing::info!(
                pending,
                kept,
                "the control plane is still to be told of scripts"
            );
        }
    }

    /// Opens the journal when it is not, and takes in what waits in the queue.
    pub(super) fn look(&self) {
        let mut state = self.state();
        if state.journal.is_none() {
            let books = &mut state.books;
            let opened = open_journal(&self.api_socket, |kept| {
                books.join(kept);
                books
            });
            match opened {
                Ok(journal) => state.journal = journal,
                Err(error) => tracing::debug!(%error, "still cannot keep the counts of scripts"),
            }
            self.show_pending(&state);
        }
        if let Err(error) = self.take_queue(&mut state) {
            state.warn("cannot take reports of scripts from the queue", &error);
        }
    }

    /// A queue is emptied only when all of it is in the journal. A kill between the two has it read again, and recognised.
    fn take_queue(&self, state: &mut State) -> io::Result<()> {
        if state.journal.is_none() {
            return Ok(());
        }
        let Some(waiting) = Waiting::open(&self.api_socket)? else {
            return Ok(());
        };
        let mut reports: u64 = 0;
        for line in waiting.lines() {
            match line {
                Ok(Line::Ran(report)) => {
                    self.enter_in(state, &report);
                    reports += 1;
                }
                Ok(Line::Dropped(count)) => {
                    self.metrics.reported(ScriptReportOutcome::QueueFull, count);
                }
                Err(error) => {
                    self.refuse();
                    state.warn("a line of the queue is no report of a script", &error);
                }
            }
        }
        if state.journal.is_none() {
            return Ok(());
        }
        waiting.clear()?;
        tracing::info!(reports, "took reports of scripts from the queue");
        Ok(())
    }

    fn enter_in(&self, state: &mut State, report: &Report) -> Entry {
        if !state.books.has(report) {
            self.write(state, |journal| journal.ran(report));
        }
        let entry = state.books.enter(report);
        match entry {
            Entry::Repeated => self.metrics.reported(ScriptReportOutcome::Repeated, 1),
            Entry::Counted { overflow } => {
                self.metrics.reported(ScriptReportOutcome::Counted, 1);
                self.metrics.executed(report.success(), 1);
                if overflow {
                    self.metrics.completed(CompletionOutcome::Overflow);
                }
                let totals = state.books.totals();
                self.metrics
                    .set_startup(true, totals.success.startup_seconds);
                self.metrics
                    .set_startup(false, totals.failure.startup_seconds);
                self.show_pending(state);
            }
        }
        self.shorten(state);
        entry
    }

    /// The request that tells the control plane of the run that has waited longest.
    pub(super) fn next_request(&self) -> Option<Bytes> {
        let state = self.state();
        let timing = state.books.first_pending()?.timing();
        let request = WorkspaceAgentScriptCompletedRequest { timing };
        Some(request.encode_to_vec().into())
    }

    /// That run waits no more.
    pub(super) fn settle(&self, outcome: CompletionOutcome, seen: &str) {
        let mut state = self.state();
        self.write(&mut state, Journal::settled);
        state.books.settle();
        self.metrics.completed(outcome);
        self.show_pending(&state);
        if outcome != CompletionOutcome::Delivered {
            state.warn("the control plane does not take the end of a script", &seen);
        }
        self.shorten(&mut state);
    }

    /// Writes to the journal, and gives it up when that fails: it would be behind.
    fn write(&self, state: &mut State, change: impl FnOnce(&mut Journal) -> io::Result<()>) {
        let Some(mut journal) = state.journal.take() else {
            return;
        };
        match change(&mut journal) {
            Ok(()) => state.journal = Some(journal),
            Err(error) => {
                self.metrics.journal_failed();
                state.warn(
                    "cannot keep the counts of scripts: a kill will lose them",
                    &error,
                );
                if let Err(error) = journal.discard() {
                    state.warn("cannot remove the file of the counts either", &error);
                }
            }
        }
    }

    fn shorten(&self, state: &mut State) {
        if state.journal.as_ref().is_some_and(Journal::is_long) {
            let books = std::mem::take(&mut state.books);
            self.write(state, |journal| journal.snapshot(&books));
            state.books = books;
        }
    }

    fn show_pending(&self, state: &State) {
        let pending = state.books.pending();
        self.metrics.set_pending(pending);
        self.pending.send_replace(pending);
    }

    /// A panic under the lock can have left the books behind the journal, never a half entry.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn warn(&mut self, what: &str, why: &dyn std::fmt::Display) {
        if let Some(withheld) = self.warnings.admit(Instant::now()) {
            tracing::warn!(%why, withheld, "{what}");
        }
    }
}

/// Opens the journal and writes a snapshot of what `books` makes of its content; `None` when another process has it.
fn open_journal<'a>(
    api_socket: &Path,
    books: impl FnOnce(super::books::Kept) -> &'a Books,
) -> io::Result<Option<Journal>> {
    let Some((mut journal, kept)) = Journal::open(&beside(api_socket, ".scripts"))? else {
        return Ok(None);
    };
    if kept.skipped > 0 {
        tracing::warn!(
            lines = kept.skipped,
            "the file of the counts of scripts is damaged: they start at 0"
        );
    }
    match journal.snapshot(books(kept)) {
        Ok(()) => Ok(Some(journal)),
        Err(error) => journal.discard().and(Err(error)),
    }
}

#[cfg(test)]
mod tests;
