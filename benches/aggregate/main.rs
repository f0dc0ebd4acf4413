//! The aggregator of the control plane beside those of coderd's two generations on prometheus/client_golang, each in
//! its own process, with the same reports, in one run on one machine.
//!
//! `cargo bench --bench aggregate`; needs the peers: `(cd tests/interop && go build -o bin/ ./cmd/...)`. Takes some two
//! minutes and 4 GB of memory, most of both for the peers.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a bench prints, and ends at the first surprise"
)]

mod measure;
mod reports;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use measure::Load;

/// Agents, for some 1k, 10k, 100k and 1M series.
const AGENTS: [usize; 4] = [8, 80, 800, 8000];

/// How long updates are measured.
const SECONDS: &str = "1";

/// Reports a second while a scrape is under way.
const RATE: &str = "1000";

/// The argument that makes this program the one that is measured.
const MEASURE: &str = "--measure";

/// Its argument that makes all agents share their series.
const AGGREGATED: &str = "aggregated";

fn main() {
    let args: Vec<_> = std::env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == MEASURE) {
        let [path, agents, aggregated] = &args[at + 1..] else {
            panic!("three arguments after {MEASURE}");
        };
        let load = Load {
            aggregated: aggregated == AGGREGATED,
            seconds: SECONDS.parse().expect("a number"),
            rate: RATE.parse().expect("a number"),
        };
        let agents = agents.parse().expect("a number");
        println!("{}", measure::measure(Path::new(path), agents, &load));
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    for agents in AGENTS {
        let path = directory.path().join(agents.to_string());
        reports::write(&path, agents);
        let weir = weir(&path, agents, "");
        let go = peer("keyed", &path, RATE);
        // A slice is looked through for each sample: beyond this it does not end in the time of a bench.
        let scanned = (agents <= 80).then(|| peer("scanned", &path, "0"));
        table(&weir, &go, scanned.as_ref());
        if agents == AGENTS[3] {
            let aggregated = self::weir(&path, agents, AGGREGATED);
            println!("aggregated over all agents, by weir alone: {aggregated:#}");
        }
    }
}

/// Measures the aggregator in a process of its own.
fn weir(path: &Path, agents: usize, aggregated: &str) -> Value {
    let program = std::env::current_exe().expect("a path");
    let mut command = Command::new(program);
    let args = [agents.to_string(), aggregated.to_owned()];
    measured(command.arg(MEASURE).arg(path).args(args))
}

fn peer(mode: &str, path: &Path, rate: &str) -> Value {
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop/bin/aggregator");
    measured(
        Command::new(program)
            .args([
                "-mode", mode, "-seconds", SECONDS, "-rate", rate, "-reports",
            ])
            .arg(path),
    )
}

fn measured(command: &mut Command) -> Value {
    let output = command.stderr(Stdio::inherit()).output().expect("it runs");
    assert!(output.status.success(), "{command:?}");
    serde_json::from_slice(&output.stdout).expect("it says what it measured")
}

fn table(weir: &Value, go: &Value, scanned: Option<&Value>) {
    assert_eq!(weir["series"], go["series"]);
    println!(
        "\n{:32} {:>12} {:>12} {:>8} {:>12}",
        format!("{} series", weir["series"]),
        "weir",
        "client_golang",
        "ratio",
        "slice scan"
    );
    let row = |what: &str, key: &str, unit: f64, more_is_better: bool| {
        let of = |value: &Value| value[key].as_f64().map(|value| value / unit);
        let ours = of(weir).expect("a number");
        // To a map the order of a report is nothing.
        let theirs = of(go).or_else(|| Some(go["updates_per_second"].as_f64()? / unit));
        let theirs = theirs.expect("a number");
        let ratio = if more_is_better {
            ours / theirs
        } else {
            theirs / ours
        };
        let scanned = scanned.and_then(of).filter(|value| *value > 0.0);
        let scanned = scanned
            .map(|value| format!("{value:12.3}"))
            .unwrap_or_default();
        println!("{what:32} {ours:12.3} {theirs:12.3} {ratio:7.1}x {scanned}");
    };
    row("decoded, million/s", "decodes_per_second", 1e6, true);
    row("updates, million/s", "updates_per_second", 1e6, true);
    row(
        "the same in another order",
        "disordered_per_second",
        1e6,
        true,
    );
    row("memory, bytes a series", "bytes_per_series", 1.0, false);
    row("scrape, ms", "scrape_seconds", 1e-3, false);
    row(
        "scrape under load, ms",
        "loaded_scrape_seconds",
        1e-3,
        false,
    );
    row(
        "p99 of a report's wait, ms",
        "p99_wait_seconds",
        1e-3,
        false,
    );
    row(
        "longest wait of a report, ms",
        "max_wait_seconds",
        1e-3,
        false,
    );
    for (name, measured) in [("weir", weir), ("client_golang", go)] {
        let (dropped, offered) = (&measured["dropped"], &measured["offered"]);
        let bytes = &measured["page_bytes"];
        println!("{name}: {dropped} of {offered} reports dropped during a scrape of {bytes} bytes");
    }
}
