//! What agents report of themselves: statistics of their connections, and metrics (coder/coder coderd/agentapi/stats.go).

use std::time::Instant;

use bytes::Bytes;

use super::{Caller, Failure, Service, decode, invalid};
use crate::control::agents::Role;
use crate::control::agents::stats::Report;
use crate::wire::stats::StatsRequest;

impl Service {
    pub(super) fn update_stats(&self, caller: &Caller, request: Bytes) -> Result<Bytes, Failure> {
        let request =
            StatsRequest::read(request).map_err(|error| invalid(format!("proto: {error}")))?;
        if let Some(expiry) = self.statistics {
            let report = decode::<Report>(request.payload().clone())?;
            if let Some(stats) = report.stats {
                let own = caller.role == Role::Agent;
                let statistics = &caller.agent.statistics;
                statistics.record(&stats, own, Instant::now(), expiry);
            }
        }
        if let Some(aggregator) = &self.aggregator {
            aggregator.report(caller.reporter(), request);
        }
        Ok(self.stats_answer.clone())
    }

    /// The agent is another build than it was: what it reported before is of a program that is gone.
    pub(super) fn rebuilt(&self, caller: &Caller) {
        caller.agent.statistics.clear();
        if let Some(aggregator) = &self.aggregator {
            aggregator.rebuilt(caller.reporter());
        }
    }
}
