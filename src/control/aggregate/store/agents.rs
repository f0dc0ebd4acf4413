//! The agents, and which of them share their rows.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use hashbrown::HashTable;

use super::row::{Row, Series};
use super::slab::Id;
use super::text::put_label;
use crate::config::control::{By, Labels};

/// What is kept of one agent.
#[derive(Debug)]
pub(super) struct Agent {
    /// Whom it shares its rows with.
    pub(super) group: u32,
    workspace: u32,
    /// The series that its latest report began with.
    pub(super) first: Option<Id<Series>>,
    pub(super) series: HashTable<Id<Series>>,
}

/// Agents that are not told apart.
#[derive(Debug)]
struct Group {
    /// Their labels as they stand on the page.
    text: Arc<[u8]>,
    rows: HashTable<Id<Row>>,
}

/// All agents.
#[derive(Debug)]
pub(super) struct Agents {
    agents: Vec<Agent>,
    groups: Vec<Group>,
    /// For each workspace, how many of its agents have series.
    reporting: Vec<u32>,
    /// Workspaces of which one has.
    workspaces: usize,
}

impl Agents {
    pub(super) fn new<'a>(by: By, labels: impl IntoIterator<Item = &'a Labels>) -> Self {
        let mut agents = Vec::new();
        let mut groups = Vec::new();
        let mut by_text = HashMap::new();
        let mut by_workspace = HashMap::new();
        for labels in labels {
            let text = text(by, labels);
            // The agents of 16 MiB of configuration are far fewer than 2^32.
            let group = *by_text.entry(text.clone()).or_insert(groups.len() as u32);
            if group as usize == groups.len() {
                groups.push(Group {
                    text: text.into(),
                    rows: HashTable::new(),
                });
            }
            let count = by_workspace.len() as u32;
            let workspace = (&labels.username, &labels.workspace_name);
            agents.push(Agent {
                group,
                workspace: *by_workspace.entry(workspace).or_insert(count),
                first: None,
                series: HashTable::new(),
            });
        }
        Self {
            agents,
            groups,
            reporting: vec![0; by_workspace.len()],
            workspaces: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.agents.len()
    }

    pub(super) fn workspaces(&self) -> usize {
        self.workspaces
    }

    pub(super) fn text(&self, group: u32) -> &Arc<[u8]> {
        &self.groups[group as usize].text
    }

    pub(super) fn rows(&self, group: u32) -> &HashTable<Id<Row>> {
        &self.groups[group as usize].rows
    }

    pub(super) fn rows_mut(&mut self, group: u32) -> &mut HashTable<Id<Row>> {
        &mut self.groups[group as usize].rows
    }

    pub(super) fn drop_row(&mut self, group: u32, hash: u64, id: Id<Row>) {
        take(self.rows_mut(group), hash, id);
    }

    pub(super) fn add(
        &mut self,
        agent: u32,
        hash: u64,
        id: Id<Series>,
        rehash: impl Fn(&Id<Series>) -> u64,
    ) {
        let agent = &mut self.agents[agent as usize];
        if agent.series.is_empty() {
            let reporting = &mut self.reporting[agent.workspace as usize];
            self.workspaces += usize::from(*reporting == 0);
            *reporting += 1;
        }
        agent.series.insert_unique(hash, id, rehash);
    }

    pub(super) fn drop_series(&mut self, agent: u32, hash: u64, id: Id<Series>) {
        let agent = &mut self.agents[agent as usize];
        take(&mut agent.series, hash, id);
        if agent.series.is_empty() {
            let reporting = &mut self.reporting[agent.workspace as usize];
            *reporting -= 1;
            self.workspaces -= usize::from(*reporting == 0);
        }
    }
}

impl Index<u32> for Agents {
    type Output = Agent;

    fn index(&self, agent: u32) -> &Agent {
        &self.agents[agent as usize]
    }
}

impl IndexMut<u32> for Agents {
    fn index_mut(&mut self, agent: u32) -> &mut Agent {
        &mut self.agents[agent as usize]
    }
}

/// Takes a number out of a table; one that is left empty gives its memory back.
fn take<T>(table: &mut HashTable<Id<T>>, hash: u64, id: Id<T>) {
    if let Ok(entry) = table.find_entry(hash, |other| *other == id) {
        entry.remove();
    }
    if table.is_empty() {
        *table = HashTable::new();
    }
}

/// The labels of an agent as they stand on the page, in the order of the reference.
fn text(by: By, labels: &Labels) -> Vec<u8> {
    let all = [
        (by.username, "username", &labels.username),
        (by.workspace_name, "workspace_name", &labels.workspace_name),
        (by.agent_name, "agent_name", &labels.agent_name),
        (by.template_name, "template_name", &labels.template_name),
    ];
    let mut text = Vec::new();
    for (wanted, name, value) in all {
        if wanted {
            put_label(&mut text, name.as_bytes(), value.as_bytes());
        }
    }
    text
}
