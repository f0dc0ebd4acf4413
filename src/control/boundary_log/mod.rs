//! The boundary log output: one line of JSON for each entry, written before its agent is answered.
//!
//! A thread of its own writes, so that a slow disk costs nothing but the calls that wait for it.

mod output;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::agents::Agent;
use crate::audit_line::{self, Origin};
use crate::config::control::{BoundaryLogOutput, Labels};
use crate::metrics::control::ControlMetrics;
use crate::wire::boundary::{Malformed, Summary};
use output::{Output, Whole};

/// Requests that wait for the thread. Each of them is in memory anyway, for its call; this many keep the disk busy
/// while the agents send more.
const QUEUE: usize = 64;

/// How long a call waits until its entries are written: less than the 30 s that a sidecar waits for a call, so that
/// it learns that the disk is slow rather than guessing.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// How long a stop waits for the thread.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Bytes of lines that are kept allocated between requests.
const KEPT_BUFFER: usize = 4 << 20;

/// Where the entries of requests go.
#[derive(Debug)]
pub(super) struct BoundaryLog {
    requests: mpsc::Sender<Request>,
}

/// The thread that writes.
#[derive(Debug)]
pub(super) struct Writer {
    ended: oneshot::Receiver<()>,
}

/// A request whose entries are to be written.
#[derive(Debug)]
struct Request {
    agent: Arc<Agent>,
    payload: Bytes,
    summary: Summary,
    /// Gone when nobody waits for it any more: then nothing is written.
    written: oneshot::Sender<Result<(), NotWritten>>,
}

/// Why the entries of a request are not in the output, or only some of them will be.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotWritten {
    #[error("cannot write the boundary log: {0}")]
    Io(#[from] io::Error),
    #[error("the boundary log was not written within {WRITE_LIMIT:?}")]
    TooSlow,
    #[error("the boundary log is not written any more")]
    Stopped,
    #[error("an entry does not decode: {0}")]
    Malformed(#[from] Malformed),
}

impl BoundaryLog {
    /// Opens the output, creating a file readable by its owner alone, and starts the thread.
    ///
    /// # Errors
    /// When the file cannot be opened, or there can be no thread.
    pub(super) fn open(
        to: &BoundaryLogOutput,
        metrics: ControlMetrics,
    ) -> io::Result<(Self, Writer)> {
        match to {
            BoundaryLogOutput::Stderr => Self::start(Whole::new(io::stderr(), false), metrics),
            BoundaryLogOutput::File(path) => {
                let file = output::open(path)?;
                let torn = output::ends_in_a_line(&file)?;
                Self::start(Whole::new(file, torn), metrics)
            }
        }
    }

    fn start(
        output: Whole<impl Output + Send + 'static>,
        metrics: ControlMetrics,
    ) -> io::Result<(Self, Writer)> {
        let (requests, queue) = mpsc::channel(QUEUE);
        let (end, ended) = oneshot::channel();
        thread::Builder::new()
            .name("weir-boundary".to_owned())
            .spawn(move || {
                write_all(queue, output, &metrics);
                // Nobody waits when the stop has taken too long.
                end.send(()).unwrap_or_default();
            })?;
        Ok((Self { requests }, Writer { ended }))
    }

    /// Writes the entries of a request that `summary` was read of. They are in the output when this returns `Ok`;
    /// otherwise none of them is, except that after [`NotWritten::TooSlow`] all of them may still come.
    pub(super) async fn write(
        &self,
        agent: &Arc<Agent>,
        summary: Summary,
        payload: Bytes,
    ) -> Result<(), NotWritten> {
        let (written, answer) = oneshot::channel();
        let request = Request {
            agent: Arc::clone(agent),
            payload,
            summary,
            written,
        };
        let wait = async {
            let queued = self.requests.send(request).await;
            queued.map_err(|_| NotWritten::Stopped)?;
            answer.await.unwrap_or(Err(NotWritten::Stopped))
        };
        timeout(WRITE_LIMIT, wait)
            .await
            .unwrap_or(Err(NotWritten::TooSlow))
    }
}

impl Writer {
    /// Waits until everything that was taken is written. All [`BoundaryLog`]s are to be dropped before.
    pub(super) async fn finish(self) {
        if timeout(STOP_LIMIT, self.ended).await.is_err() {
            tracing::error!("the boundary log is still being written; what is left of it is lost");
        }
    }
}

/// Writes requests until there can be no more.
fn write_all(
    mut queue: mpsc::Receiver<Request>,
    mut output: Whole<impl Output>,
    metrics: &ControlMetrics,
) {
    let mut lines = Vec::new();
    let mut failing = false;
    while let Some(request) = queue.blocking_recv() {
        if request.written.is_closed() {
            continue;
        }
        lines.clear();
        let written = audit_line::render(
            origin(&request.agent.labels),
            &request.summary,
            &request.payload,
            &mut lines,
        )
        .map_err(NotWritten::from)
        .and_then(|()| Ok(output.append(&lines)?));
        match &written {
            Ok(()) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("the boundary log is written again");
                }
                metrics.written(request.summary.logs);
            }
            // The agents are told each time; the log once for a row of failures.
            Err(error) if !failing => {
                tracing::error!(%error, "cannot write the boundary log: agents are answered with an error");
                failing = true;
            }
            Err(_) => {}
        }
        // The call may have been given up meanwhile.
        request.written.send(written).unwrap_or_default();
        lines.shrink_to(KEPT_BUFFER);
    }
}

fn origin(labels: &Labels) -> Origin<'_> {
    Origin {
        username: &labels.username,
        workspace_name: &labels.workspace_name,
        agent_name: &labels.agent_name,
    }
}
