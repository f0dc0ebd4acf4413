//! What every page is made from.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use prometheus::Registry;
use prometheus::proto::MetricFamily;
use tokio::time::Instant;

use super::books::{Books, BooksCollector};
use super::health::{Health, Phase};
use super::status::{ScriptStatus, SenderStatus, StatusDocument, Surroundings, UpstreamStatus};
use crate::buffer::Buffer;
use crate::buffer::queue::Limits;
use crate::metrics::exposition::{self, Format};
use crate::metrics::{Metrics, ProcessCollector};
use crate::script::Desk;

/// Names the connections that are open on the audit socket now.
pub type Senders = Box<dyn Fn() -> Vec<SenderStatus> + Send + Sync>;

/// The stages of a sidecar, as far as its pages tell of them.
pub struct Sources {
    /// The buffer with its books.
    pub buffer: Arc<Buffer>,
    /// The bounds of that buffer.
    pub limits: Limits,
    /// What the stages count.
    pub metrics: Metrics,
    /// Who is connected.
    pub senders: Senders,
    /// Takes in the ends of scripts.
    pub scripts: Arc<Desk>,
    /// Where the control plane is dialled; anybody who may scrape can read it.
    pub upstream_url: String,
}

impl Debug for Sources {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("upstream_url", &self.upstream_url)
            .finish_non_exhaustive()
    }
}

/// One sidecar, seen from outside.
#[derive(Debug)]
pub struct View {
    sources: Sources,
    books: Arc<Books>,
    page: Registry,
    /// The page without what the kernel says of the process.
    counted: Registry,
    health: Health,
    started: Instant,
}

impl View {
    /// A view of these stages, in [`Phase::Starting`].
    ///
    /// # Errors
    /// When a row of the catalogue is not a valid metric, or stands there twice.
    pub fn new(sources: Sources, now: Instant) -> Result<Self, prometheus::Error> {
        let books = Arc::new(Books::new(Arc::clone(&sources.buffer), sources.limits));
        let counted = counted(&sources.metrics, &books)?;
        let page = self::counted(&sources.metrics, &books)?;
        page.register(Box::new(ProcessCollector::new()?))?;
        Ok(Self {
            sources,
            books,
            page,
            counted,
            health: Health::new(now),
            started: now,
        })
    }

    /// The sidecar has come this far.
    pub fn enter(&self, phase: Phase) {
        self.health.enter(phase);
    }

    /// To be called by the runtime of the data path every 10 s, and by nothing else: while this is not called, the
    /// data path counts as stuck.
    pub fn beat(&self, now: Instant) {
        self.health.beat(now);
        self.books.observe(now);
    }

    /// Whether the data path makes progress, and whether logs are taken.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Takes in the ends of scripts.
    pub(super) fn scripts(&self) -> &Desk {
        &self.sources.scripts
    }

    /// The page of metrics.
    ///
    /// # Errors
    /// When a family cannot be written in this format.
    pub fn metrics(&self, format: Format) -> Result<Vec<u8>, prometheus::Error> {
        exposition::encode(&self.page.gather(), format)
    }

    /// What the stages have counted, as the page has it: all of the books is of one moment. Nothing is read from the
    /// kernel for it.
    pub fn counted(&self) -> Vec<MetricFamily> {
        self.counted.gather()
    }

    /// The status document.
    pub fn status(&self, now: Instant) -> StatusDocument {
        let scripts = &self.sources.metrics.scripts;
        let last_success = self.sources.metrics.forward.last_success();
        let around = Surroundings {
            uptime_seconds: now.saturating_duration_since(self.started).as_secs_f64(),
            phase: self.health.phase(),
            connected: self.sources.metrics.upstream.connected(),
            upstream: UpstreamStatus {
                url: self.sources.upstream_url.clone(),
                last_success_timestamp_seconds: (last_success != 0).then_some(last_success),
            },
            scripts: ScriptStatus {
                succeeded: scripts.runs(true),
                failed: scripts.runs(false),
                pending_completions: scripts.pending(),
            },
            senders: (self.sources.senders)(),
        };
        StatusDocument::new(&self.books.account(now), around)
    }
}

/// A registry of all that the stages count.
fn counted(metrics: &Metrics, books: &Arc<Books>) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    for collector in metrics.collectors() {
        registry.register(collector)?;
    }
    registry.register(Box::new(BooksCollector::new(Arc::clone(books))?))?;
    Ok(registry)
}
