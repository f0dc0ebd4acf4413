//! The store against the model, step by step, with collections that go on over the steps.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::model::Model;
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Report(usize, &'static str, Vec<Metric>),
    /// The latest report of that agent once more, with other values.
    Again(usize, u8),
    Rebuilt(usize, &'static str),
    Pass(u32),
    Sweep,
    Begin,
    /// So many rows of the oldest collection.
    Slice(usize),
}

fn program() -> impl Strategy<Value = &'static str> {
    select(vec![AGENT, SIDECAR])
}

fn sample() -> impl Strategy<Value = Metric> {
    prop_oneof![3 => plain(), 1 => odd()]
}

/// So few names that agents share them.
fn plain() -> impl Strategy<Value = Metric> {
    let kinds = vec![
        ("a_total", COUNTER),
        ("d_bytes", GAUGE),
        ("f_seconds", GAUGE),
    ];
    let labels = select(vec![vec![], vec![("x", "1")]]);
    (select(kinds), labels, 0..9_u8)
        .prop_map(|((name, kind), labels, value)| metric(name, kind, &labels, value.into()))
}

fn odd() -> impl Strategy<Value = Metric> {
    let names = vec![
        "a_total",
        "b:c_total",
        "d_bytes",
        "e_logs",
        "f_seconds",
        "g",
        "coderd_agentstats_startup_script_seconds",
        "coderd_x",
        "go_x",
        "bad-name",
        "",
    ];
    let label_names = vec!["x", "y", "_z", "__z", "1", "username", "é"];
    let label_values = vec!["", "1", "2", "\"", "\\", "a\nb", "é"];
    let labels = vec((select(label_names), select(label_values)), 0..3);
    let kinds = select(vec![
        COUNTER, COUNTER, COUNTER, GAUGE, GAUGE, GAUGE, 0, 3, -1,
    ]);
    let values = select(vec![
        0.0,
        1.0,
        2.0,
        3.0,
        5.0,
        8.0,
        0.5,
        -1.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ]);
    (select(names), kinds, labels, values)
        .prop_map(|(name, kind, labels, value)| metric(name, kind, &labels, value))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4_usize, program(), vec(sample(), 0..12))
            .prop_map(|(agent, program, metrics)| Step::Report(agent, program, metrics)),
        6 => (0..4_usize, 0..9_u8).prop_map(|(agent, by)| Step::Again(agent, by)),
        1 => (0..4_usize, program()).prop_map(|(agent, program)| Step::Rebuilt(agent, program)),
        3 => (0..80_u32).prop_map(Step::Pass),
        3 => Just(Step::Sweep),
        1 => Just(Step::Begin),
        4 => (1..6_usize).prop_map(Step::Slice),
    ]
}

fn any_by() -> impl Strategy<Value = By> {
    any::<(bool, bool, bool, bool)>().prop_map(
        |(username, workspace_name, agent_name, template_name)| By {
            username,
            workspace_name,
            agent_name,
            template_name,
        },
    )
}

/// A collection and what it may and must show.
struct Open {
    collection: usize,
    page: Vec<u8>,
    /// Lines that were there at every moment since it began.
    throughout: BTreeSet<String>,
    /// Each value that a line has had meanwhile.
    seen: BTreeSet<(String, String)>,
}

struct Run {
    bench: Bench,
    model: Model,
    latest: [Option<(&'static str, Vec<Metric>)>; 4],
    open: Vec<Open>,
}

impl Run {
    fn new(by: By, max_series: usize) -> Self {
        Self {
            bench: Bench::with(by, max_series),
            model: Model::new(by, max_series),
            latest: Default::default(),
            open: Vec::new(),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Report(agent, program, metrics) => self.report(agent, program, metrics),
            Step::Again(agent, by) => {
                let Some((program, mut metrics)) = self.latest[agent].clone() else {
                    return;
                };
                for metric in &mut metrics {
                    metric.value += f64::from(by) - 2.0;
                }
                self.report(agent, program, metrics);
            }
            Step::Rebuilt(agent, program) => {
                self.bench
                    .store
                    .rebuilt(Reporter::new(agent as u32, program));
                self.model.rebuilt(agent, program);
            }
            Step::Pass(seconds) => self.bench.now += SECOND * seconds,
            Step::Sweep => {
                let expired = self.bench.sweep();
                assert_eq!(expired, self.model.sweep(self.bench.now));
            }
            Step::Begin if self.open.len() == 2 => {}
            Step::Begin => {
                let lines: BTreeSet<_> = values(&self.model.page()).collect();
                self.open.push(Open {
                    collection: self.bench.store.begin_collection(),
                    page: Vec::new(),
                    throughout: lines.iter().map(|(series, _)| series.clone()).collect(),
                    seen: lines,
                });
            }
            Step::Slice(rows) => self.slice(rows),
        }
    }

    fn report(&mut self, agent: usize, program: &'static str, metrics: Vec<Metric>) {
        let tally = self.bench.report(agent as u32, program, &metrics);
        let told = self.model.report(agent, program, &metrics, self.bench.now);
        assert_eq!(tally, told, "{metrics:?}");
        self.latest[agent] = Some((program, metrics));
    }

    /// The oldest collection goes on.
    fn slice(&mut self, rows: usize) {
        let Some(open) = self.open.first_mut() else {
            return;
        };
        let mut slice = Slice::default();
        self.bench.store.slice(open.collection, rows, &mut slice);
        assert_eq!(slice.write(0, &mut open.page, usize::MAX), None);
        if !slice.last {
            return;
        }
        let open = self.open.remove(0);
        self.bench.store.end_collection(open.collection);
        // No family and no line is twice there, or it is no page.
        let shown: BTreeSet<_> = values(&parse(&open.page)).collect();
        assert!(shown.is_subset(&open.seen), "{shown:?} of {:?}", open.seen);
        let shown: BTreeSet<_> = shown.into_iter().map(|(series, _)| series).collect();
        assert!(
            open.throughout.is_subset(&shown),
            "{:?} in {shown:?}",
            open.throughout
        );
    }

    fn check(&mut self) {
        let page = self.model.page();
        assert_eq!(self.bench.page(), page);
        assert_eq!(self.bench.store.len(), self.model.len());
        assert_eq!(self.bench.store.workspaces(), self.model.workspaces());
        for open in &mut self.open {
            let lines: BTreeSet<_> = values(&page).collect();
            let there: BTreeSet<_> = lines.iter().map(|(series, _)| series.clone()).collect();
            open.throughout.retain(|series| there.contains(series));
            open.seen.extend(lines);
        }
    }
}

fn values(page: &Page) -> impl Iterator<Item = (String, String)> {
    let rows = page.values().flat_map(|(_, rows)| rows);
    rows.map(|(series, value)| (series.clone(), value.clone()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_store_is_as_the_model(
        by in any_by(),
        max_series in prop_oneof![Just(1000_usize), 1..40_usize],
        steps in vec(step(), 1..60),
    ) {
        let mut run = Run::new(by, max_series);
        for step in steps {
            run.take(step);
            run.check();
        }
        // When all has expired nothing is left.
        run.bench.now += EXPIRY + SECOND;
        run.bench.sweep();
        let store = &run.bench.store;
        prop_assert_eq!((store.len(), store.rows.len(), store.labels.len()), (0, 0, 0));
        prop_assert!(store.families.after(None).is_none());
        prop_assert_eq!(store.workspaces(), 0);
    }
}
