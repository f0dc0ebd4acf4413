//! The page of the control plane: what it counts itself, what it knows of the agents, and what they reported.

mod page;
mod roster;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use prometheus::{Histogram, Registry};

use super::agents::Agents;
use crate::metrics::ProcessCollector;
use crate::metrics::control::{ControlMetrics, ScrapeError, ScrapeMetrics, statistics_execution};
use crate::metrics::exposition::{self, Format};
use crate::scrape::Pages;
use page::{Page, Part};
use roster::Roster;

/// Where the pages of a control plane come from.
pub struct Exposition {
    registry: Registry,
    scrapes: ScrapeMetrics,
    roster: Roster,
    /// When the statistics of agents are shown: how long it takes to collect them.
    statistics: Option<Histogram>,
    expiry: Duration,
}

impl Exposition {
    pub(super) fn new(
        agents: &Agents,
        collect_statistics: bool,
        expiry: Duration,
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
        let statistics = collect_statistics.then(statistics_execution).transpose()?;
        if let Some(execution) = &statistics {
            registry.register(Box::new(execution.clone()))?;
        }
        Ok(Self {
            registry,
            scrapes: metrics.scrapes.clone(),
            roster: Roster::new(agents),
            statistics,
            expiry,
        })
    }

    /// The families that are made here, in the order of their names.
    fn own(&self) -> Vec<Part> {
        let mut parts = self.roster.agents(SystemTime::now());
        if let Some(execution) = &self.statistics {
            let began = Instant::now();
            parts.extend(self.roster.statistics(began, self.expiry));
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

impl Pages for Exposition {
    type Page = Page;

    fn page(&self) -> Page {
        Page::new(self.own())
    }
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").finish_non_exhaustive()
    }
}
