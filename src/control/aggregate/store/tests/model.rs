//! The rules of the store, as slowly as they are said.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Labels without those of the agent, sorted.
type Extra = BTreeMap<String, String>;

/// Name and labels of a row, and the agents' labels that it has.
type RowKey = (String, Vec<(&'static str, String)>, Extra);

#[derive(Debug)]
struct Member {
    kind: Kind,
    value: f64,
    program: String,
    updated: Duration,
    /// Counts the updates of all.
    order: u64,
}

pub(super) struct Model {
    by: By,
    agents: Vec<Labels>,
    max_series: usize,
    members: BTreeMap<(usize, String, Extra), Member>,
    /// What the rows of counters have counted.
    totals: BTreeMap<RowKey, f64>,
    order: u64,
}

impl Model {
    pub(super) fn new(by: By, max_series: usize) -> Self {
        Self {
            by,
            agents: labels(),
            max_series,
            members: BTreeMap::new(),
            totals: BTreeMap::new(),
            order: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn workspaces(&self) -> usize {
        let agents = self.members.keys().map(|(agent, ..)| &self.agents[*agent]);
        let workspaces = agents.map(|labels| (&labels.username, &labels.workspace_name));
        workspaces.collect::<BTreeSet<_>>().len()
    }

    pub(super) fn report(
        &mut self,
        agent: usize,
        program: &str,
        metrics: &[Metric],
        now: Duration,
    ) -> Tally {
        let mut tally = Tally::default();
        for metric in metrics {
            if let Err(reason) = self.sample(agent, program, metric, now) {
                tally.refuse(reason);
            }
        }
        tally
    }

    fn sample(
        &mut self,
        agent: usize,
        program: &str,
        metric: &Metric,
        now: Duration,
    ) -> Result<(), SampleRefusal> {
        let (kind, extra) = accept(metric)?;
        let same_name = self
            .members
            .iter()
            .filter(|((_, name, _), _)| *name == metric.name);
        if same_name
            .map(|(_, member)| member.kind)
            .any(|other| other != kind)
        {
            return Err(SampleRefusal::Type);
        }
        let key = (agent, metric.name.clone(), extra);
        let row = self.row(&key);
        let former = match self.members.get(&key) {
            Some(member) => member.value,
            None => {
                let own = self
                    .members
                    .keys()
                    .filter(|(other, ..)| *other == agent)
                    .count();
                let share = (self.max_series / self.agents.len()).max(self.max_series / 10);
                if self.members.len() == self.max_series || own >= share.max(1) {
                    return Err(SampleRefusal::MaxSeries);
                }
                0.0
            }
        };
        if kind == Kind::Counter {
            let restarted = metric.value < former;
            let more = if restarted {
                metric.value
            } else {
                metric.value - former
            };
            *self.totals.entry(row).or_default() += more;
        }
        self.order += 1;
        let member = Member {
            kind,
            value: metric.value,
            program: program.to_owned(),
            updated: now,
            order: self.order,
        };
        self.members.insert(key, member);
        Ok(())
    }

    pub(super) fn rebuilt(&mut self, agent: usize, program: &str) {
        self.keep(|(other, ..), member| *other != agent || member.program != program);
    }

    /// Returns how many expired.
    pub(super) fn sweep(&mut self, now: Duration) -> usize {
        let before = self.members.len();
        self.keep(|_, member| now - member.updated <= EXPIRY);
        before - self.members.len()
    }

    fn keep(&mut self, stays: impl Fn(&(usize, String, Extra), &Member) -> bool) {
        self.members.retain(|key, member| stays(key, member));
        let rows: BTreeSet<_> = self.members.keys().map(|key| self.row(key)).collect();
        self.totals.retain(|row, _| rows.contains(row));
    }

    fn row(&self, (agent, name, extra): &(usize, String, Extra)) -> RowKey {
        let labels = &self.agents[*agent];
        let all = [
            (self.by.username, "username", &labels.username),
            (
                self.by.workspace_name,
                "workspace_name",
                &labels.workspace_name,
            ),
            (self.by.agent_name, "agent_name", &labels.agent_name),
            (
                self.by.template_name,
                "template_name",
                &labels.template_name,
            ),
        ];
        let wanted = all.into_iter().filter(|(wanted, ..)| *wanted);
        let of_agents = wanted
            .map(|(_, label, value)| (label, value.clone()))
            .collect();
        (name.clone(), of_agents, extra.clone())
    }

    pub(super) fn page(&self) -> Page {
        let mut rows: BTreeMap<RowKey, Vec<&Member>> = BTreeMap::new();
        for (key, member) in &self.members {
            rows.entry(self.row(key)).or_default().push(member);
        }
        let mut page = Page::new();
        for (key, members) in rows {
            let latest = members.iter().max_by_key(|member| member.order).unwrap();
            let sum = || members.iter().map(|member| member.value).sum();
            let additive = ["_bytes", "_logs"].iter().any(|end| key.0.ends_with(end));
            let value = match latest.kind {
                _ if self.by == By::ALL => latest.value,
                Kind::Counter => self.totals[&key],
                Kind::Gauge if additive => sum(),
                Kind::Gauge => latest.value,
            };
            let kind = match latest.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            let family = page.entry(key.0.clone()).or_default();
            family.0 = kind.to_owned();
            family.1.insert(line(&key), number(value));
        }
        page
    }
}

fn accept(metric: &Metric) -> Result<(Kind, Extra), SampleRefusal> {
    let kind = match metric.r#type {
        COUNTER => Kind::Counter,
        GAUGE => Kind::Gauge,
        _ => return Err(SampleRefusal::Type),
    };
    let valid = |name: &str, colon: bool| {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colon && c == ':');
        !name.is_empty() && name.chars().all(fits) && !name.starts_with(|c: char| c.is_numeric())
    };
    if !valid(&metric.name, true) {
        return Err(SampleRefusal::InvalidName);
    }
    let begins = ["go_", "process_", "promhttp_", "coderd_", "weir_control_"];
    if begins.iter().any(|begin| metric.name.starts_with(begin))
        && metric.name != "coderd_agentstats_startup_script_seconds"
        && metric.name != "coderd_agentstats_currently_reachable_peers"
    {
        return Err(SampleRefusal::ReservedName);
    }
    let labels = metric.labels.iter().filter(|label| !label.value.is_empty());
    let mut extra = Extra::new();
    for label in labels {
        let fits = valid(&label.name, false) && !label.name.starts_with("__");
        if extra
            .insert(label.name.clone(), label.value.clone())
            .is_some()
            || !fits
        {
            return Err(SampleRefusal::InvalidLabel);
        }
    }
    let reserved = ["username", "workspace_name", "agent_name", "template_name"];
    if reserved.iter().any(|label| extra.contains_key(*label)) {
        return Err(SampleRefusal::ReservedLabel);
    }
    let value = metric.value;
    if kind == Kind::Counter && (value.is_nan() || value < 0.0 || value.is_infinite()) {
        return Err(SampleRefusal::InvalidValue);
    }
    Ok((kind, extra))
}

fn line((name, of_agents, extra): &RowKey) -> String {
    let of_agents = of_agents.iter().map(|(label, value)| (*label, value));
    let extra = extra.iter().map(|(label, value)| (label.as_str(), value));
    let labels: Vec<_> = of_agents
        .chain(extra)
        .map(|(label, value)| {
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            format!("{label}=\"{value}\"")
        })
        .collect();
    match labels.is_empty() {
        true => name.clone(),
        false => format!("{name}{{{}}}", labels.join(",")),
    }
}

fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        _ if value.is_nan() => "NaN".to_owned(),
        // Small numbers alone, of which both have the same form.
        _ => value.to_string(),
    }
}
