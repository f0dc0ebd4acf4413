//! The families that have series for each agent or workspace, written as they are asked for: a deployment may have tens
//! of thousands of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::page::Part;
use crate::config::control::Labels;
use crate::control::agents::stats::Shown;
use crate::control::agents::{Agent, Agents, lifecycle_label};
use crate::metrics::catalog::Family;
use crate::metrics::control::coderd;

/// The label values of what is not known here: versions of templates, and nodes of a tailnet.
const UNKNOWN: &str = "unknown";

/// Agents whose series have the same labels; never empty.
type Group = Box<[Arc<Agent>]>;

/// Every agent, in the groups that have series.
#[derive(Debug)]
pub(super) struct Roster {
    /// By user, workspace and template.
    workspaces: Arc<[Group]>,
    /// By agent, user and workspace: one agent each, unless some differ in their template alone.
    identities: Arc<[Group]>,
}

impl Roster {
    pub(super) fn new(agents: &Agents) -> Self {
        let workspace = |labels: &'_ Labels| {
            [
                labels.username.clone(),
                labels.workspace_name.clone(),
                labels.template_name.clone(),
            ]
        };
        let identity = |labels: &'_ Labels| labels.identity().map(str::to_owned);
        Self {
            workspaces: grouped(agents, workspace),
            identities: grouped(agents, identity),
        }
    }

    /// What is known of agents by their sessions.
    pub(super) fn agents(&self, now: SystemTime) -> Vec<Part> {
        let up = Part::rows(&coderd::AGENTS_UP, &self.workspaces, |group, text| {
            let connected = group.iter().filter(|agent| agent.is_connected()).count();
            let Some(agent) = group.first() else { return };
            let Labels {
                username,
                workspace_name,
                template_name,
                ..
            } = &agent.labels;
            let values = [template_name, UNKNOWN, username, workspace_name];
            text.sample(&coderd::AGENTS_UP, &values, connected as f64);
        });
        let connections = Part::rows(
            &coderd::AGENTS_CONNECTIONS,
            &self.identities,
            move |group, text| {
                let stands = group.iter().map(|agent| agent.status(now));
                let mut stands: Vec<_> = stands
                    .map(|(status, state)| (lifecycle_label(state), status.label()))
                    .collect();
                // No series twice.
                stands.sort_unstable();
                stands.dedup();
                let Some(agent) = group.first() else { return };
                let [name, username, workspace] = agent.labels.identity();
                for (lifecycle, status) in stands {
                    let values = [name, lifecycle, status, UNKNOWN, username, workspace];
                    text.sample(&coderd::AGENTS_CONNECTIONS, &values, 1.0);
                }
            },
        );
        vec![up, connections]
    }

    /// What agents reported of their connections, all of it at one time.
    pub(super) fn statistics(
        &self,
        now: Instant,
        expiry: Duration,
    ) -> impl Iterator<Item = Part> + use<> {
        let shown: Arc<[_]> = self
            .identities
            .iter()
            .filter_map(|group| {
                let agent = group.first()?;
                let shown = agent.statistics.shown(now, expiry)?;
                Some((Arc::clone(agent), shown))
            })
            .collect();
        STATISTICS.iter().map(move |(family, value)| {
            Part::rows(family, &shown, |(agent, shown), text| {
                if let Some(value) = value(shown) {
                    text.sample(family, &agent.labels.identity(), value);
                }
            })
        })
    }
}

/// A family, and its value of what an agent reported.
type Statistic = (Family, fn(&Shown) -> Option<f64>);

static STATISTICS: [Statistic; 8] = [
    (coderd::RX_BYTES, |shown| Some(shown.rx_bytes as f64)),
    (coderd::TX_BYTES, |shown| Some(shown.tx_bytes as f64)),
    (coderd::CONNECTION_COUNT, |shown| {
        Some(shown.counts.connections as f64)
    }),
    (coderd::MEDIAN_LATENCY, |shown| shown.counts.latency),
    (coderd::SESSIONS_JETBRAINS, |shown| {
        Some(shown.counts.jetbrains as f64)
    }),
    (coderd::SESSIONS_RECONNECTING_PTY, |shown| {
        Some(shown.counts.reconnecting_pty as f64)
    }),
    (coderd::SESSIONS_SSH, |shown| Some(shown.counts.ssh as f64)),
    (coderd::SESSIONS_VSCODE, |shown| {
        Some(shown.counts.vscode as f64)
    }),
];

/// The agents by a key, in its order.
fn grouped<K: Ord>(agents: &Agents, key: impl Fn(&Labels) -> K) -> Arc<[Group]> {
    let mut groups = BTreeMap::<K, Vec<Arc<Agent>>>::new();
    for agent in agents.iter() {
        let group = groups.entry(key(&agent.labels)).or_default();
        group.push(Arc::clone(agent));
    }
    groups.into_values().map(Vec::into_boxed_slice).collect()
}
