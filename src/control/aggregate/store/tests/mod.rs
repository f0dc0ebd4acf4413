mod differential;
mod model;
mod rules;

use std::collections::BTreeMap;

use prost::Message as _;

use super::*;
use crate::pb::agent::stats::Metric;
use crate::pb::agent::stats::metric::Label;
use crate::pb::agent::{Stats, UpdateStatsRequest};
use crate::wire::stats::{COUNTER, GAUGE};

const SECOND: Duration = Duration::from_secs(1);
const EXPIRY: Duration = Duration::from_secs(120);

const AGENT: &str = "agent";
const SIDECAR: &str = "weir";

fn metric(name: &str, kind: i32, labels: &[(&str, &str)], value: f64) -> Metric {
    let label = |(name, value): &(&str, &str)| Label {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    Metric {
        name: name.to_owned(),
        r#type: kind,
        value,
        labels: labels.iter().map(label).collect(),
    }
}

fn report(metrics: &[Metric]) -> StatsRequest {
    let stats = Stats {
        metrics: metrics.to_vec(),
        ..Stats::default()
    };
    let request = UpdateStatsRequest { stats: Some(stats) };
    StatsRequest::read(request.encode_to_vec().into()).unwrap()
}

/// Agents of three users in two templates; the first has two.
fn labels() -> Vec<Labels> {
    let of = |username: &str, agent_name: &str, template_name: &str| Labels {
        username: username.to_owned(),
        workspace_name: "dev".to_owned(),
        agent_name: agent_name.to_owned(),
        template_name: template_name.to_owned(),
    };
    vec![
        of("alice", "main", "docker"),
        of("alice", "gpu", "docker"),
        of("bob", "main", "docker"),
        of("eve \"\\\n", "main", "vm"),
    ]
}

/// The page by name of the family: its type and its lines, each by all that stands before the value.
type Page = BTreeMap<String, (String, BTreeMap<String, String>)>;

/// Reads a page, in which no family and no line may be twice.
#[track_caller]
fn parse(page: &[u8]) -> Page {
    let page = str::from_utf8(page).unwrap();
    let mut families = Page::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line
            .strip_prefix("# HELP ")
            .unwrap()
            .split_once(' ')
            .unwrap();
        assert_eq!(
            help,
            "Metrics are forwarded from workspace agents connected to this instance of coderd."
        );
        let line = lines.next().unwrap();
        let (typed, kind) = line
            .strip_prefix("# TYPE ")
            .unwrap()
            .split_once(' ')
            .unwrap();
        assert_eq!(typed, name);
        let mut rows = BTreeMap::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(
                series == name || series.starts_with(&format!("{name}{{")),
                "{line}"
            );
            assert_eq!(
                rows.insert(series.to_owned(), value.to_owned()),
                None,
                "{page}"
            );
        }
        let last = families.last_key_value().map(|(last, _)| last.as_str());
        assert!(last < Some(name), "{page}");
        families.insert(name.to_owned(), (kind.to_owned(), rows));
    }
    families
}

/// A store with its clock.
struct Bench {
    store: Store,
    now: Duration,
}

impl Bench {
    fn with(by: By, max_series: usize) -> Self {
        let settings = Settings {
            by,
            expiry: EXPIRY,
            max_series,
        };
        Self {
            store: Store::new(&settings, &labels()),
            now: Duration::ZERO,
        }
    }

    fn new(by: By) -> Self {
        Self::with(by, 1000)
    }

    fn report(&mut self, agent: u32, program: &str, metrics: &[Metric]) -> Tally {
        let reporter = Reporter::new(agent, program);
        self.store.apply(reporter, &report(metrics), self.now)
    }

    /// Reports, and nothing is refused.
    #[track_caller]
    fn take(&mut self, agent: u32, metrics: &[Metric]) {
        assert_eq!(self.report(agent, AGENT, metrics), Tally::default());
    }

    /// Reports one sample, and it is refused.
    #[track_caller]
    fn refuse(&mut self, metric: Metric, reason: SampleRefusal) {
        let before = self.page();
        let tally = self.report(0, AGENT, std::slice::from_ref(&metric));
        assert_eq!(
            tally.refused().collect::<Vec<_>>(),
            [(reason, 1)],
            "{metric:?}"
        );
        assert_eq!(self.page(), before);
    }

    /// Looks through all series, and returns how many expired.
    fn sweep(&mut self) -> usize {
        let mut expired = 0;
        loop {
            let swept = self.store.sweep(self.now);
            expired += swept.expired;
            if swept.done {
                return expired;
            }
        }
    }

    #[track_caller]
    fn page(&mut self) -> Page {
        let collection = self.store.begin_collection();
        let mut page = Vec::new();
        loop {
            let mut slice = Slice::default();
            self.store.slice(collection, 2, &mut slice);
            assert_eq!(slice.write(0, &mut page, usize::MAX), None);
            if slice.last {
                self.store.end_collection(collection);
                return parse(&page);
            }
        }
    }

    /// All lines of the page, sorted.
    #[track_caller]
    fn lines(&mut self) -> Vec<String> {
        let page = self.page().into_values();
        page.flat_map(|(_, rows)| rows)
            .map(|(series, value)| format!("{series} {value}"))
            .collect()
    }
}
