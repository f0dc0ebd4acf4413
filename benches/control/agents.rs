//! A thousand agents that report every second: what they cost the control plane, and what a scrape every second of it
//! all adds.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Server, first_line};

const AGENTS: usize = 1000;

/// Series of each: about what a sidecar has.
const SERIES: usize = 60;

/// How long is looked at.
const SECONDS: u64 = 15;

/// The clock of `/proc`, the same on every architecture that Linux and Rust share.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) fn bench(transport: &str, directory: &Path) {
    let weir = start(directory);
    let idle = weir.resident();
    for scraped in [false, true] {
        let (told, cpu, pages) = swarm(&weir, transport, scraped);
        let how = if scraped { ", scraped" } else { "" };
        let print = |what: &str, value: f64| {
            println!(
                "{:52} {value:12.1}",
                format!("{transport}: {AGENTS} agents{how}: {what}")
            );
        };
        print(
            "reports/s",
            told["reports"].as_f64().expect("a number") / SECONDS as f64,
        );
        print("CPU, % of one core", 100.0 * cpu);
        print("memory at most, MiB", weir.peak() / 1024.0);
        print(
            "added by each agent, KiB",
            (weir.peak() - idle) / AGENTS as f64,
        );
        print("answer, p50 ms", told["p50_ms"].as_f64().expect("a number"));
        print("answer, p99 ms", told["p99_ms"].as_f64().expect("a number"));
        if let Some(Page { bytes, took }) = pages {
            print("page, MiB", bytes as f64 / f64::from(1 << 20));
            print("page, slowest, ms", took.as_secs_f64() * 1000.0);
        }
    }
}

fn start(directory: &Path) -> Server {
    let mut agents = String::new();
    for number in 0..AGENTS {
        write!(
            agents,
            "[[agent]]\ntoken = \"{number:08x}-0000-4000-8000-000000000000\"\nusername = \"user-{:03}\"\n\
             workspace_name = \"workspace-{number:04}\"\nagent_name = \"main\"\ntemplate_name = \"docker\"\n",
            number / 4
        )
        .expect("a string takes it");
    }
    let file = directory.join("agents.toml");
    fs::write(&file, agents).expect("the agents file can be written");
    let args = [
        "control-plane",
        "--listen=127.0.0.1:0",
        "--agents",
        file.to_str().expect("a path that is text"),
        "--prometheus-enable",
        "--prometheus-address=127.0.0.1:0",
        "--prometheus-collect-agent-stats",
        "--log-level=warn",
    ];
    Server::start(env!("CARGO_BIN_EXE_weir").into(), &args)
}

/// The slowest of some pages.
struct Page {
    bytes: usize,
    took: Duration,
}

/// What the agents say, the share of a core that the server took, and pages if there were any.
fn swarm(weir: &Server, transport: &str, scraped: bool) -> (Value, f64, Option<Page>) {
    let mut agents = weir
        .agent(
            transport,
            &["-mode", "swarm", "-seconds", &SECONDS.to_string()],
        )
        .args(["-connections", &AGENTS.to_string()])
        .args(["-series", &SERIES.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the agents run");
    assert_eq!(first_line(&mut agents)["ready"], true);
    let (began, before) = (Instant::now(), cpu(weir));
    let pages = scraped.then(|| scrape(weir));
    let told = agents.wait_with_output().expect("the agents end").stdout;
    let share = (cpu(weir) - before) / began.elapsed().as_secs_f64();
    let told = serde_json::from_slice(&told).expect("the agents say how they fared");
    (
        told,
        share,
        pages.map(|pages| pages.join().expect("pages come")),
    )
}

/// Scrapes every second, as long as the agents report.
fn scrape(weir: &Server) -> JoinHandle<Page> {
    let address = weir.prometheus.clone().expect("a scrape address");
    thread::spawn(move || {
        let mut slowest = Page {
            bytes: 0,
            took: Duration::ZERO,
        };
        for _ in 0..SECONDS {
            let began = Instant::now();
            let mut stream = TcpStream::connect(&address).expect("the scrape address accepts");
            let asked = b"GET /metrics HTTP/1.0\r\n\r\n";
            stream.write_all(asked).expect("a request is taken");
            let mut page = Vec::new();
            stream.read_to_end(&mut page).expect("a page comes");
            let took = began.elapsed();
            slowest.bytes = slowest.bytes.max(page.len());
            slowest.took = slowest.took.max(took);
            thread::park_timeout(Duration::from_secs(1).saturating_sub(took));
        }
        slowest
    })
}

/// Seconds of a core that a server has taken.
fn cpu(server: &Server) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.child.id()));
    let stat = stat.expect("a process that runs");
    let (_, from_field_3) = stat.rsplit_once(')').expect("a command");
    let fields = from_field_3.split_whitespace().skip(11).take(2);
    let ticks: f64 = fields
        .map(|ticks| ticks.parse::<f64>().expect("a number"))
        .sum();
    ticks / TICKS_PER_SECOND
}
