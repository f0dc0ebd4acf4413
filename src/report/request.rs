//! From samples to one request: all that goes up, within its bounds, each series once.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use prost::{Message as _, length_delimiter_len};

use super::check::{Origin, check, is_chosen};
use super::sample::{Sample, SampleKind};
use crate::metrics::SampleFault;
use crate::pb::agent::stats::Metric;
use crate::pb::agent::stats::metric::{Label, Type};
use crate::pb::agent::{Stats, UpdateStatsRequest};

/// Series in a report at most. Our own are some eighty, and come first.
pub const MAX_SERIES: usize = 5_000;

/// Bytes that the series of a report may take: a quarter of what a request may.
pub const MAX_BYTES: usize = 1 << 20;

/// Refused series that are told apart at most. Those beyond are not counted: the counter is then a lower bound.
pub const MAX_REFUSED: usize = 16_384;

/// Latency in the words of an agent that has no peers (coder/coder agent/stats.go). coderd leaves such reports aside when
/// it looks for the connections and sessions of an agent, so that our zeros never hide what the agent itself reported
/// (`GetWorkspaceAgentStatsAndLabels` in coder/coder coderd/database/queries/workspaceagentstats.sql).
const NO_LATENCY: f64 = -0.001;

/// What outlives a report: which series were refused. It tells series apart by hashes of 64 bits under a key of this
/// process, with which the chance that any two of ten thousand are taken for one is below one in 10^11.
#[derive(Debug, Default)]
pub(super) struct Memory {
    key: RandomState,
    refused: HashSet<u64>,
}

impl Memory {
    fn identify(&self, sample: &Sample) -> u64 {
        self.key.hash_one((&sample.name, &sample.labels))
    }

    /// Whether this series is refused for the first time.
    fn refuse(&mut self, series: u64) -> bool {
        self.refused.len() < MAX_REFUSED && self.refused.insert(series)
    }
}

/// A request in the making.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    agent_metrics: bool,
    memory: &'a mut Memory,
    metrics: Vec<Metric>,
    /// What they take in the request.
    bytes: usize,
    series: HashSet<u64>,
    /// By name: two types under one name would cost the control plane its page.
    types: HashMap<String, SampleKind>,
    refused: Vec<SampleFault>,
}

impl<'a> Draft<'a> {
    /// An empty one. With `agent_metrics` the names of a workspace agent may go up.
    pub(super) fn new(agent_metrics: bool, memory: &'a mut Memory) -> Self {
        Self {
            agent_metrics,
            memory,
            metrics: Vec::new(),
            bytes: 0,
            series: HashSet::new(),
            types: HashMap::new(),
            refused: Vec::new(),
        }
    }

    /// Adds what may go up, of our own what is chosen. Of two samples that exclude each other the first stays.
    pub(super) fn add(&mut self, origin: Origin, samples: impl IntoIterator<Item = Sample>) {
        for mut sample in samples {
            if origin == Origin::Own && !is_chosen(&sample.name, self.agent_metrics) {
                continue;
            }
            sample.labels.retain(|(_, value)| !value.is_empty());
            sample.labels.sort_unstable();
            let series = self.memory.identify(&sample);
            if let Err(fault) = self.take(sample, series, origin)
                && self.memory.refuse(series)
            {
                self.refused.push(fault);
            }
        }
    }

    fn take(&mut self, sample: Sample, series: u64, origin: Origin) -> Result<(), SampleFault> {
        check(&sample, origin, self.agent_metrics)?;
        let kind = sample.kind;
        let known = self.types.get(&sample.name).copied();
        if known.is_some_and(|known| known != kind) || self.series.contains(&series) {
            return Err(SampleFault::Conflict);
        }
        let metric = metric(sample);
        let length = metric.encoded_len();
        // With the key of the field, a single byte.
        let bytes = self.bytes + 1 + length_delimiter_len(length) + length;
        if self.metrics.len() == MAX_SERIES || bytes > MAX_BYTES {
            return Err(SampleFault::MaxSeries);
        }
        self.bytes = bytes;
        self.series.insert(series);
        if known.is_none() {
            self.types.insert(metric.name.clone(), kind);
        }
        self.metrics.push(metric);
        Ok(())
    }

    /// The request, and for each series that was refused for the first time the reason.
    ///
    /// It says that there are no connections, no sessions and no traffic: a sidecar is never the activity of a user.
    pub(super) fn finish(self) -> (UpdateStatsRequest, Vec<SampleFault>) {
        let stats = Stats {
            // Older control planes record nothing of a report in which this is empty.
            connections_by_proto: [("TCP".to_owned(), 0)].into(),
            connection_median_latency_ms: NO_LATENCY,
            metrics: self.metrics,
            ..Stats::default()
        };
        (UpdateStatsRequest { stats: Some(stats) }, self.refused)
    }
}

fn metric(sample: Sample) -> Metric {
    let kind = match sample.kind {
        SampleKind::Counter => Type::Counter,
        SampleKind::Gauge => Type::Gauge,
        SampleKind::Composite => Type::Unspecified,
    };
    let labels = sample.labels.into_iter();
    Metric {
        name: sample.name,
        r#type: kind.into(),
        value: sample.value,
        labels: labels.map(|(name, value)| Label { name, value }).collect(),
    }
}
