//! The series themselves.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;

use super::Reporter;
use crate::config::control::Labels;
use crate::wire::stats::{COUNTER, GAUGE, StatsRequest};

const HELP: &str =
    "Metrics are forwarded from workspace agents connected to this instance of coderd.";

#[derive(Debug)]
pub(super) struct Store {
    agents: Vec<String>,
    families: BTreeMap<String, (i32, BTreeMap<String, (Reporter, f64)>)>,
}

impl Store {
    pub(super) fn new<'a>(agents: impl IntoIterator<Item = &'a Labels>) -> Self {
        let text = |labels: &Labels| {
            format!(
                "username={:?},workspace_name={:?},agent_name={:?},template_name={:?}",
                labels.username, labels.workspace_name, labels.agent_name, labels.template_name
            )
        };
        Self {
            agents: agents.into_iter().map(text).collect(),
            families: BTreeMap::new(),
        }
    }

    pub(super) fn apply(&mut self, reporter: Reporter, report: &StatsRequest) {
        let mut labels = Vec::new();
        for raw in report.metrics() {
            let metric = raw.decode(&mut labels);
            if metric.kind != COUNTER && metric.kind != GAUGE {
                continue;
            }
            let name = String::from_utf8_lossy(metric.name).into_owned();
            let mut text = self.agents[reporter.agent as usize].clone();
            labels.sort_unstable();
            for label in labels.iter().filter(|label| !label.value.is_empty()) {
                let value = String::from_utf8_lossy(label.value);
                let name = String::from_utf8_lossy(label.name);
                write!(text, ",{name}={value:?}").unwrap_or_default();
            }
            let (kind, series) = self.families.entry(name).or_default();
            *kind = metric.kind;
            series.insert(text, (reporter, metric.value));
        }
    }

    pub(super) fn rebuilt(&mut self, reporter: Reporter) {
        for (_, series) in self.families.values_mut() {
            series.retain(|_, (writer, _)| *writer != reporter);
        }
        self.families.retain(|_, (_, series)| !series.is_empty());
    }

    pub(super) fn page(&self) -> Bytes {
        let mut page = String::new();
        for (name, (kind, series)) in &self.families {
            let kind = if *kind == COUNTER { "counter" } else { "gauge" };
            writeln!(page, "# HELP {name} {HELP}\n# TYPE {name} {kind}").unwrap_or_default();
            for (labels, (_, value)) in series {
                writeln!(page, "{name}{{{labels}}} {value}").unwrap_or_default();
            }
        }
        page.into()
    }

    pub(super) fn series(&self) -> usize {
        self.families.values().map(|(_, series)| series.len()).sum()
    }
}
