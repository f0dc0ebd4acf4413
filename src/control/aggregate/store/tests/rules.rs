//! One test for each rule.

use super::*;

const NAMES: &str =
    r#"username="alice",workspace_name="dev",agent_name="main",template_name="docker""#;

fn counter(name: &str, value: f64) -> Metric {
    metric(name, COUNTER, &[], value)
}

fn gauge(name: &str, value: f64) -> Metric {
    metric(name, GAUGE, &[], value)
}

#[test]
fn values_pass_through_with_the_names_of_their_agent() {
    let mut bench = Bench::new(By::ALL);
    bench.take(
        0,
        &[
            metric(
                "a_total",
                COUNTER,
                &[("b", "2"), ("a", "1"), ("empty", "")],
                3.0,
            ),
            gauge("z", -1.5),
        ],
    );
    bench.take(3, &[gauge("z", f64::NEG_INFINITY)]);
    assert_eq!(
        bench.lines(),
        [
            format!(r#"a_total{{{NAMES},a="1",b="2"}} 3"#),
            format!("z{{{NAMES}}} -1.5"),
            r#"z{username="eve \"\\\n",workspace_name="dev",agent_name="main",template_name="vm"} -Inf"#
                .to_owned(),
        ]
    );
    // A counter that restarts is shown as it is: Prometheus knows what that means.
    bench.take(
        0,
        &[metric("a_total", COUNTER, &[("a", "1"), ("b", "2")], 1.0)],
    );
    assert_eq!(
        bench.lines()[0],
        format!(r#"a_total{{{NAMES},a="1",b="2"}} 1"#)
    );
}

#[test]
fn the_order_of_a_report_does_not_matter() {
    let mut bench = Bench::new(By::ALL);
    let names: Vec<_> = (0..50).map(|index| format!("m{index}_total")).collect();
    let mut rng = fastrand::Rng::with_seed(3);
    for round in 1..20 {
        let mut metrics: Vec<_> = names
            .iter()
            .map(|name| counter(name, f64::from(round)))
            .collect();
        rng.shuffle(&mut metrics);
        metrics.truncate(rng.usize(1..=50));
        bench.take(0, &metrics);
        let page = bench.page();
        for metric in metrics {
            let value = &page[&metric.name].1[&format!("{}{{{NAMES}}}", metric.name)];
            assert_eq!(*value, round.to_string());
        }
    }
}

#[test]
fn a_sample_that_is_refused_costs_only_itself() {
    let mut bench = Bench::new(By::ALL);
    let odd = |labels: &[(&str, &str)]| metric("a", GAUGE, labels, 1.0);
    let many: Vec<_> = (0..65).map(|index| (format!("l{index}"), "x")).collect();
    let many: Vec<_> = many
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    let (long, too_long) = ("x".repeat(4095), "x".repeat(4096));
    use SampleRefusal::*;
    for (metric, reason) in [
        (gauge("bad-name", 1.0), InvalidName),
        (gauge("", 1.0), InvalidName),
        (gauge("1a", 1.0), InvalidName),
        (gauge("é", 1.0), InvalidName),
        (gauge(&"a".repeat(257), 1.0), InvalidName),
        (gauge("go_goroutines", 1.0), ReservedName),
        (gauge("process_open_fds", 1.0), ReservedName),
        (
            counter("promhttp_metric_handler_requests_total", 1.0),
            ReservedName,
        ),
        (gauge("coderd_agents_up", 1.0), ReservedName),
        (
            gauge("coderd_agentstats_startup_script_seconds_x", 1.0),
            ReservedName,
        ),
        (gauge("weir_control_sessions", 1.0), ReservedName),
        (odd(&[("__name__", "x")]), InvalidLabel),
        (odd(&[("a:b", "x")]), InvalidLabel),
        (odd(&[("", "x")]), InvalidLabel),
        (odd(&[("a", "1"), ("b", "2"), ("a", "3")]), InvalidLabel),
        (odd(&[("a", &too_long)]), InvalidLabel),
        (odd(&[("a", &"x".repeat(1 << 20))]), InvalidLabel),
        (odd(&many), InvalidLabel),
        (odd(&[("username", "x")]), ReservedLabel),
        (odd(&[("template_name", "x")]), ReservedLabel),
        (metric("a", 0, &[], 1.0), Type),
        (metric("a", 3, &[], 1.0), Type),
        (metric("a", -1, &[], 1.0), Type),
        (counter("a", -1.0), InvalidValue),
        (counter("a", f64::NAN), InvalidValue),
        (counter("a", f64::INFINITY), InvalidValue),
    ] {
        bench.refuse(metric, reason);
    }
    for fine in [
        odd(&[("a", &long)]),
        odd(&many[..64]),
        odd(&[("__name__", ""), ("username", "")]),
        gauge(&"a".repeat(256), f64::NAN),
        gauge("a:b_bucket", f64::INFINITY),
        gauge("coderd_agentstats_startup_script_seconds", 1.0),
        gauge("coderd_agentstats_currently_reachable_peers", 1.0),
        gauge("weir_controller", 1.0),
        counter("a_total", -0.0),
        counter("b_total", f64::MAX),
    ] {
        bench.take(0, &[fine]);
    }

    let tally = bench.report(
        0,
        AGENT,
        &[gauge("go_x", 1.0), gauge("x", 7.0), gauge("go_x", 2.0)],
    );
    assert_eq!(tally.refused().collect::<Vec<_>>(), [(ReservedName, 2)]);
    assert!(bench.lines().contains(&format!("x{{{NAMES}}} 7")));
}

#[test]
fn a_value_that_no_counter_has_leaves_the_series_as_it_is() {
    let mut bench = Bench::new(By::ALL);
    let metrics = [counter("a_total", 1.0), counter("b_total", 1.0)];
    bench.take(0, &metrics);
    bench.refuse(counter("a_total", -1.0), SampleRefusal::InvalidValue);
    // Also where the series is expected.
    let tally = bench.report(
        0,
        AGENT,
        &[counter("a_total", f64::NAN), counter("b_total", 2.0)],
    );
    assert_eq!(
        tally.refused().collect::<Vec<_>>(),
        [(SampleRefusal::InvalidValue, 1)]
    );
    let lines = [
        format!("a_total{{{NAMES}}} 1"),
        format!("b_total{{{NAMES}}} 2"),
    ];
    assert_eq!(bench.lines(), lines);
}

#[test]
fn labels_without_end_are_not_kept() {
    let mut bench = Bench::new(By::ALL);
    let metric = |value: &str| {
        let labels: Vec<_> = (0..1_000_000).map(|_| ("a", value)).collect();
        metric("a", GAUGE, &labels, 1.0)
    };
    bench.refuse(metric("1"), SampleRefusal::InvalidLabel);
    // They say nothing at all.
    bench.take(0, &[metric("")]);
    assert_eq!(bench.lines(), [format!("a{{{NAMES}}} 1")]);
}

#[test]
fn a_name_has_one_type_until_its_last_series_is_gone() {
    let mut bench = Bench::new(By::ALL);
    bench.take(0, &[gauge("a", 1.0)]);
    bench.refuse(counter("a", 1.0), SampleRefusal::Type);
    let tally = bench.report(1, AGENT, &[counter("a", 1.0)]);
    assert_eq!(
        tally.refused().collect::<Vec<_>>(),
        [(SampleRefusal::Type, 1)]
    );
    bench.now += EXPIRY + SECOND;
    assert_eq!(bench.sweep(), 1);
    bench.take(1, &[counter("a", 1.0)]);
    assert_eq!(bench.page()["a"].0, "counter");
}

#[test]
fn a_series_stays_for_as_long_as_it_is_reported_and_the_expiry_after() {
    let mut bench = Bench::new(By::ALL);
    bench.take(0, &[gauge("a", 1.0), gauge("b", 1.0)]);
    bench.now += EXPIRY / 2;
    bench.take(0, &[gauge("b", 1.0)]);
    bench.now += EXPIRY / 2;
    assert_eq!(bench.sweep(), 0);
    bench.now += TICK;
    assert_eq!(bench.sweep(), 1);
    assert_eq!(bench.lines(), [format!("b{{{NAMES}}} 1")]);
    // Time that goes back, and then leaps, does no harm but what is due.
    bench.now = Duration::ZERO;
    assert_eq!(bench.sweep(), 0);
    bench.take(0, &[gauge("c", 1.0)]);
    bench.now = Duration::from_secs(u64::MAX);
    assert_eq!(bench.sweep(), 2);
    assert!(bench.lines().is_empty());
    bench.take(0, &[gauge("c", 2.0)]);
    assert_eq!((bench.sweep(), bench.store.len()), (0, 1));
}

#[test]
fn another_build_takes_the_series_that_its_program_reported_last() {
    let mut bench = Bench::new(By::ALL);
    bench.report(0, AGENT, &[gauge("a", 1.0), gauge("b", 1.0)]);
    bench.report(0, SIDECAR, &[gauge("b", 2.0), gauge("c", 2.0)]);
    bench.report(1, AGENT, &[gauge("a", 3.0)]);
    bench.store.rebuilt(Reporter::new(0, AGENT));
    let names: Vec<_> = bench.page().into_keys().collect();
    assert_eq!(
        (names, bench.store.len()),
        (vec!["a".into(), "b".into(), "c".into()], 3)
    );
    assert!(!bench.lines().contains(&format!("a{{{NAMES}}} 1")));
    bench.store.rebuilt(Reporter::new(0, SIDECAR));
    assert_eq!(bench.lines().len(), 1);
}

#[test]
fn counters_of_agents_are_added_up_and_never_fall() {
    let mut bench = Bench::new(By::NONE);
    let count = |value: f64| metric("a_total", COUNTER, &[("x", "1")], value);
    let shown = |bench: &mut Bench| bench.lines().join("\n");
    bench.take(0, &[count(10.0)]);
    bench.take(
        1,
        &[count(5.0), metric("a_total", COUNTER, &[("x", "2")], 1.0)],
    );
    assert_eq!(shown(&mut bench), "a_total{x=\"1\"} 15\na_total{x=\"2\"} 1");
    // One counts on, one from zero again.
    bench.take(0, &[count(12.0)]);
    bench.take(1, &[count(2.0)]);
    assert!(shown(&mut bench).starts_with("a_total{x=\"1\"} 19\n"));
    // What one has counted stays when it is gone; when it is back it counts as new.
    bench.now += EXPIRY;
    bench.take(0, &[count(12.0)]);
    bench.now += SECOND;
    assert_eq!(bench.sweep(), 2);
    assert_eq!(shown(&mut bench), "a_total{x=\"1\"} 19");
    bench.take(1, &[count(3.0)]);
    assert_eq!(shown(&mut bench), "a_total{x=\"1\"} 22");
    // With the last one all is forgotten.
    bench.now += EXPIRY + SECOND;
    bench.sweep();
    bench.take(1, &[count(3.0)]);
    assert_eq!(shown(&mut bench), "a_total{x=\"1\"} 3");
}

#[test]
fn gauges_are_added_up_where_the_name_says_a_number_of_things() {
    let mut bench = Bench::new(By::NONE);
    for (agent, value) in [(0, 1.0), (1, 2.0), (2, 4.0)] {
        bench.take(
            agent,
            &[gauge("held_bytes", value), gauge("age_seconds", value)],
        );
    }
    assert_eq!(bench.lines(), ["age_seconds 4", "held_bytes 7"]);
    bench.take(0, &[gauge("held_bytes", 0.5), gauge("age_seconds", 3.0)]);
    assert_eq!(bench.lines(), ["age_seconds 3", "held_bytes 6.5"]);
    // Whoever is gone counts no more: of the others the latest.
    bench.store.rebuilt(Reporter::new(0, AGENT));
    assert_eq!(bench.lines(), ["age_seconds 4", "held_bytes 6"]);
    // An infinity leaves with whom it came.
    bench.take(1, &[gauge("held_bytes", f64::INFINITY)]);
    assert_eq!(bench.lines()[1], "held_bytes +Inf");
    bench.take(1, &[gauge("held_bytes", 2.0)]);
    assert_eq!(bench.lines()[1], "held_bytes 6");
}

#[test]
fn agents_share_rows_by_the_labels_that_are_left() {
    let by = By {
        username: true,
        ..By::NONE
    };
    let mut bench = Bench::new(by);
    for agent in 0..4 {
        bench.take(agent, &[counter("a_total", 1.0)]);
    }
    assert_eq!(
        bench.lines(),
        [
            r#"a_total{username="alice"} 2"#,
            r#"a_total{username="bob"} 1"#,
            r#"a_total{username="eve \"\\\n"} 1"#
        ]
    );
}

#[test]
fn series_are_limited_in_all_and_for_each_agent() {
    let names: Vec<_> = (0..40).map(|index| format!("m{index}")).collect();
    let many: Vec<_> = names.iter().map(|name| gauge(name, 1.0)).collect();
    let refused = |tally: Tally| tally.refused().collect::<Vec<_>>();
    // Four agents have a quarter each.
    let mut bench = Bench::with(By::ALL, 40);
    for agent in 0..4 {
        let tally = bench.report(agent, AGENT, &many);
        assert_eq!(refused(tally), [(SampleRefusal::MaxSeries, 30)]);
    }
    assert_eq!(bench.store.len(), 40);
    // What is there is reported as before, and what goes makes room.
    bench.take(0, &many[..10]);
    bench.store.rebuilt(Reporter::new(1, AGENT));
    assert_eq!(
        refused(bench.report(0, AGENT, &many)),
        [(SampleRefusal::MaxSeries, 30)]
    );
    assert_eq!(
        refused(bench.report(1, AGENT, &many[5..])),
        [(SampleRefusal::MaxSeries, 25)]
    );

    // Many agents have a tenth each, as long as there is room.
    let settings = Settings {
        by: By::ALL,
        expiry: EXPIRY,
        max_series: 40,
    };
    let crowd: Vec<_> = (0..100)
        .map(|index| Labels {
            agent_name: index.to_string(),
            ..labels()[0].clone()
        })
        .collect();
    let mut bench = Bench {
        store: Store::new(&settings, &crowd),
        now: Duration::ZERO,
    };
    for agent in 0..10 {
        bench.report(agent, AGENT, &many);
        assert_eq!(bench.store.len(), 40.min(4 * (agent as usize + 1)));
    }
    assert_eq!(
        refused(bench.report(99, AGENT, &many)),
        [(SampleRefusal::MaxSeries, 40)]
    );
}

#[test]
fn an_agent_that_reports_without_end_gets_its_share() {
    let mut bench = Bench::with(By::ALL, 4000);
    let mut refused = 0;
    for round in 0..100 {
        let names: Vec<_> = (0..1000).map(|index| format!("m{round}_{index}")).collect();
        let metrics: Vec<_> = names.iter().map(|name| gauge(name, 1.0)).collect();
        let tally = bench.report(0, AGENT, &metrics);
        refused += tally.refused().map(|(_, count)| count).sum::<u64>();
    }
    assert_eq!((refused, bench.store.len()), (99_000, 1000));
    bench.take(1, &[gauge("of_another", 1.0)]);
}

#[test]
fn a_sweep_is_done_in_parts() {
    let mut bench = Bench::with(By::ALL, 100_000);
    let many: Vec<_> = (0..20_000).map(|index| index.to_string()).collect();
    let metrics: Vec<_> = many
        .iter()
        .map(|index| metric("a", GAUGE, &[("i", index)], 1.0))
        .collect();
    bench.take(0, &metrics);
    bench.now += EXPIRY + SECOND;
    let swept = bench.store.sweep(bench.now);
    assert!(
        !swept.done && swept.expired < 2 * SWEEP_REMOVALS + 1024,
        "{swept:?}"
    );
    assert_eq!(bench.store.to_sweep(), 20_000 - swept.expired);
    // What is reported meanwhile stays, wherever the sweep is.
    bench.take(0, &metrics[..1000]);
    bench.take(0, &metrics[19_000..]);
    assert!(bench.sweep() <= 18_000);
    assert_eq!((bench.store.len(), bench.store.to_sweep()), (2000, 0));
}
