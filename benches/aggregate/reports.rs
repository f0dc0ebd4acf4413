//! Reports as the agents of a deployment send them.
//!
//! Each agent reports 125 series under 64 names: 33 without labels, 16 by success, 11 by one of four reasons, and 4 by
//! method, code and an instance that no other agent has.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use bytes::Bytes;
use prost::Message as _;
use weir::config::control::Labels;
use weir::pb::agent::stats::Metric;
use weir::pb::agent::stats::metric::{Label, Type};
use weir::pb::agent::{Stats, UpdateStatsRequest};

/// Series of each agent.
pub const SERIES: usize = 125;

const NAMES: usize = 64;
const REASONS: [&str; 4] = ["buffer_full", "forward_failed", "expired", "shutdown"];

/// The names of an agent; those on the other side are the same.
pub fn labels(agent: usize) -> Labels {
    Labels {
        username: format!("user-{agent:05}"),
        workspace_name: format!("workspace-{agent:05}"),
        agent_name: "main".to_owned(),
        template_name: format!("template-{:02}", agent % 20),
    }
}

/// Writes the reports of that many agents: each agent's number and the length of its request, 32 bits each with the
/// highest byte first, then the request.
pub fn write(path: &Path, agents: usize) {
    let mut file = BufWriter::new(File::create(path).expect("a file"));
    for agent in 0..agents {
        let request = request(agent).encode_to_vec();
        for number in [agent, request.len()] {
            let number = u32::try_from(number).expect("32 bits");
            file.write_all(&number.to_be_bytes()).expect("written");
        }
        file.write_all(&request).expect("written");
    }
    file.flush().expect("written");
}

/// Reads them one after the other.
pub fn read(path: &Path) -> impl Iterator<Item = (u32, Bytes)> {
    let mut file = BufReader::new(File::open(path).expect("a file"));
    std::iter::from_fn(move || {
        let mut head = [0; 8];
        file.read_exact(&mut head).ok()?;
        let [agent, length] = [0, 4]
            .map(|at| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
        let mut request = vec![0; length as usize];
        file.read_exact(&mut request).expect("a whole request");
        Some((agent, request.into()))
    })
}

fn request(agent: usize) -> UpdateStatsRequest {
    let instance = format!("i-{agent:08x}");
    let metrics = (0..NAMES).flat_map(|index| {
        let sets: Vec<Vec<(&str, &str)>> = match index {
            0..33 => vec![vec![]],
            33..49 => ["true", "false"]
                .map(|success| vec![("success", success)])
                .into(),
            49..60 => REASONS.map(|reason| vec![("reason", reason)]).into(),
            _ => [
                ("200", "GET"),
                ("200", "POST"),
                ("500", "GET"),
                ("500", "POST"),
            ]
            .map(|(code, method)| {
                vec![("code", code), ("instance", &*instance), ("method", method)]
            })
            .into(),
        };
        let metrics = sets
            .into_iter()
            .zip(0_u32..)
            .map(|(set, number)| metric(agent, index, number, &set));
        metrics.collect::<Vec<_>>()
    });
    let stats = Stats {
        metrics: metrics.collect(),
        ..Stats::default()
    };
    UpdateStatsRequest { stats: Some(stats) }
}

fn metric(agent: usize, index: usize, number: u32, labels: &[(&str, &str)]) -> Metric {
    let (name, kind) = match index % 2 {
        0 => (
            format!("workspace_subsystem{index:02}_operations_total"),
            Type::Counter,
        ),
        _ => (
            format!("workspace_subsystem{index:02}_resident_memory_bytes"),
            Type::Gauge,
        ),
    };
    let label = |(name, value): &(&str, &str)| Label {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    let whole = (agent * 7919 + index * 104_729) as f64;
    Metric {
        name,
        r#type: kind.into(),
        // Every fourth is no whole number.
        value: if index % 4 == 3 {
            whole / 1024.0 + 0.1
        } else {
            whole
        } + f64::from(number),
        labels: labels.iter().map(label).collect(),
    }
}
