//! Reading a page of 51 000 samples, label sets built: how fast beside the two parsers of Prometheus on the same page in
//! the same run, and what it allocates. The page is of the text format, some 5 MB, with the shape of what exporters of
//! machines and services show.
//!
//! Allocations must not grow with the samples: those that `read` shows are of the tables of families and series, and of
//! the one label value in five thousand that has an escape.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench without its input has nothing to measure, and prints what it measures"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};
use serde_json::Value;
use weir::wire::exposition::{Entry, Format, Reader};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

const SAMPLES: usize = 51_000;

/// How often each reader has its turn.
const TURNS: usize = 5;

/// How often it reads the page in a turn; the best time counts.
const ROUNDS: usize = 10;

fn main() {
    compare();
    divan::main();
}

#[divan::bench]
fn read(bencher: Bencher<'_, '_>) {
    let page = page();
    bencher
        .counter(ItemsCount::new(SAMPLES))
        .counter(BytesCount::new(page.len()))
        .bench_local(|| count(black_box(page.as_bytes())));
}

/// Reads a page as the collection of other programs' metrics does.
fn count(page: &[u8]) -> usize {
    let mut reader = Reader::new(page, Format::Text);
    let mut samples = 0;
    while let Some(line) = reader.next() {
        if let Entry::Sample(sample) = line.expect("a sound page") {
            black_box(sample);
            samples += 1;
        }
    }
    samples
}

/// Prints the speeds and their ratios. All take turns, so that what else the machine does meets each of them.
fn compare() {
    let page = page();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("page.txt");
    fs::write(&file, &page).expect("a file");
    let mut best = [f64::INFINITY; 3];
    for _ in 0..TURNS {
        let ours = (0..ROUNDS).map(|_| {
            let began = Instant::now();
            assert_eq!(count(black_box(page.as_bytes())), SAMPLES);
            began.elapsed().as_secs_f64()
        });
        let [textparse, expfmt] = theirs(&file);
        let turn = [ours.fold(f64::INFINITY, f64::min), textparse, expfmt];
        best.iter_mut()
            .zip(turn)
            .for_each(|(best, now)| *best = best.min(now));
    }
    let megabytes = page.len() as f64 / 1e6;
    let [ours, textparse, expfmt] = best;
    println!("{megabytes:.2} MB, {SAMPLES} samples, the best of {TURNS} times {ROUNDS}:");
    println!("  weir       {:6.1} MB/s", megabytes / ours);
    for (name, seconds, wanted) in [("textparse", textparse, 1.5), ("expfmt", expfmt, 5.0)] {
        let (speed, ratio) = (megabytes / seconds, seconds / ours);
        println!("  {name:10} {speed:6.1} MB/s: weir is {ratio:.2} times as fast, wanted {wanted}");
    }
}

/// Seconds that the parsers of Prometheus take, textparse and expfmt.
fn theirs(file: &Path) -> [f64; 2] {
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop/bin/expocheck");
    let output = Command::new(program)
        .args(["-rounds", &ROUNDS.to_string(), "-bench"])
        .arg(file)
        .output()
        .expect("the peers are built: (cd tests/interop && go build -o bin/ ./cmd/...)");
    let theirs: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert_eq!(theirs["samples"], SAMPLES);
    ["textparse_seconds", "expfmt_seconds"].map(|key| theirs[key].as_f64().expect("seconds"))
}

/// 51 000 samples: counters of requests and processors, gauges of disks, histograms of durations.
fn page() -> String {
    let mut page = String::new();
    let mut write = |line: std::fmt::Arguments<'_>| {
        page.write_fmt(line).expect("memory can be written to");
    };
    let mut left = SAMPLES;
    for family in 0.. {
        let name = [
            "http_requests",
            "node_cpu_seconds",
            "node_filesystem_avail_bytes",
            "rpc_duration_seconds",
        ][family % 4];
        let name = format!("{name}_{family}");
        let kind = ["counter", "counter", "gauge", "histogram"][family % 4];
        write(format_args!(
            "# HELP {name} What happened, by where and how, in family {family}.\n# TYPE {name} {kind}\n"
        ));
        for series in 0..100 {
            let mut sample = |sample: std::fmt::Arguments<'_>| {
                if left > 0 {
                    left -= 1;
                    write(format_args!("{sample}\n"));
                }
            };
            let value = (series * 7919 + family * 104_729) % 1_000_003;
            match family % 4 {
                0 => sample(format_args!(
                    "{name}{{code=\"{}\",handler=\"/api/v2/workspaces/{series}\",instance=\"10.0.{family}.{series}:9100\",method=\"get\"}} {value}",
                    200 + series % 5
                )),
                1 => sample(format_args!(
                    "{name}_total{{cpu=\"{series}\",instance=\"10.0.0.{family}:9100\",mode=\"iowait\"}} {}.{:02}",
                    value / 100,
                    value % 100
                )),
                2 => {
                    let mount = if series == 99 {
                        "/mnt/\\\"quoted\\\""
                    } else {
                        "/var/lib/data"
                    };
                    sample(format_args!(
                        "{name}{{device=\"/dev/mapper/vg0-lv{series}\",fstype=\"ext4\",mountpoint=\"{mount}\"}} {}e+09",
                        value as f64 / 1000.0
                    ));
                }
                _ => {
                    for bound in ["0.005", "0.05", "0.5", "5", "+Inf"] {
                        sample(format_args!(
                            "{name}_bucket{{method=\"Agent/UpdateStats\",shard=\"{series}\",le=\"{bound}\"}} {value}"
                        ));
                    }
                    sample(format_args!(
                        "{name}_sum{{method=\"Agent/UpdateStats\",shard=\"{series}\"}} {value}.5"
                    ));
                    sample(format_args!(
                        "{name}_count{{method=\"Agent/UpdateStats\",shard=\"{series}\"}} {value}"
                    ));
                }
            }
        }
        if left == 0 {
            break;
        }
    }
    page
}
