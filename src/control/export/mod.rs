//! The page of the control plane: what it counts itself, what it knows of the agents, and what they reported.

mod page;
mod roster;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use prometheus::{Histogram, Registry};

use super::agents::Agents;
use super::aggregate::{Aggregator, CollectError};
use crate::metrics::ProcessCollector;
use crate::metrics::control::{ControlMetrics, ScrapeError, ScrapeMetrics, statistics_execution};
use crate::metrics::exposition::{self, Format};
pub use page::Page;
use page::Part;
use roster::Roster;

/// Where the pages of a control plane come from.
pub struct Exposition {
    registry: Registry,
    scrapes: ScrapeMetrics,
    roster: Roster,
    /// When the statistics of agents are shown: how long it takes to collect them, and how long they are shown after the
    /// last.
    statistics: Option<(Histogram, Duration)>,
    aggregator: Option<Aggregator>,
}

impl Exposition {
    /// `expiry` is how long statistics of agents are shown after the last, when they are.
    pub(super) fn new(
        agents: &Agents,
        aggregator: Option<Aggregator>,
        expiry: Option<Duration>,
        metrics: &ControlMetrics,
    ) -> Result<Self, prometheus::Error> {
        for agent in agents.iter() {
            metrics.expect_agent(&agent.labels.template_name, &agent.labels.agent_name);
        }
        let registry = Registry::new();
        for collector in metrics.collectors() {
            registry.register(collector)?;
        }
        registry.register(Box::new(ProcessCollector::new()?))?;
        let mut statistics = None;
        if let Some(expiry) = expiry {
            let execution = statistics_execution()?;
            registry.register(Box::new(execution.clone()))?;
            statistics = Some((execution, expiry));
        }
        Ok(Self {
            registry,
            scrapes: metrics.scrapes.clone(),
            roster: Roster::new(agents),
            statistics,
            aggregator,
        })
    }

    /// Begins a page: families in the order of their names, in the text format 0.0.4. `None` when too many are under way.
    pub fn page(&self) -> Option<Page> {
        let reported = match self.aggregator.as_ref().map(Aggregator::collect) {
            None => None,
            Some(Ok(collection)) => Some(collection),
            Some(Err(CollectError::Busy)) => return None,
            Some(Err(CollectError::Stopped)) => {
                self.scrapes.failed(ScrapeError::Gathering);
                None
            }
        };
        Some(page::page(self.own(), reported, self.scrapes.clone()))
    }

    /// The families that are made here, in the order of their names.
    fn own(&self) -> Vec<Part> {
        let mut parts = self.roster.agents(SystemTime::now());
        if let Some((execution, expiry)) = &self.statistics {
            let began = Instant::now();
            parts.extend(self.roster.statistics(began, *expiry));
            execution.observe(began.elapsed().as_secs_f64());
        }
        for family in self.registry.gather() {
            match exposition::encode(std::slice::from_ref(&family), Format::Text) {
                Ok(text) => parts.push(Part::whole(family.name(), text)),
                Err(error) => {
                    tracing::error!(%error, family = family.name(), "a family is left out");
                    self.scrapes.failed(ScrapeError::Gathering);
                }
            }
        }
        parts.sort_unstable_by(|one, other| one.name().cmp(other.name()));
        parts
    }
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").finish_non_exhaustive()
    }
}
