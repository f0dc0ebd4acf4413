//! The whole sidecar beside the Go agent's log proxy, each as its own process, in one run on one machine: the same
//! load on the same kind of socket, the same server on the real Go libraries at the other end. What counts is what
//! that server received. The proxy knows the WebSocket alone; Weir is measured over gRPC as well.
//!
//! `cargo bench --bench pipeline`; needs the peers: `(cd tests/interop && go build -o bin/ ./cmd/...)`.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench prints, ends at the first surprise, and paces its load by the clock"
)]

mod peer;

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use peer::{Coderd, Forwarder};
use weir::emit::load::Load;
use weir::upstream::Transport;

/// As in the figures that the Go proxy is known by: 10 logs a batch, 200 bytes a URL.
const URL_BYTES: usize = 200;

/// A server that takes longer than this for a load of the benches is stuck.
const PATIENCE: Duration = Duration::from_secs(120);

const TRANSPORTS: [(Transport, &str); 2] =
    [(Transport::WebSocket, ""), (Transport::Grpc, "gRPC: ")];

const WAIT_FOR_ROOM: &[&str] = &["--when-full", "block", "--block-deadline", "10m"];

fn main() {
    println!("{:52} {:>12} {:>12} {:>8}", "", "weir", "go proxy", "ratio");
    saturated(
        "1 session, RTT 0, logs/s",
        "0ms",
        1,
        3_000_000,
        &[5_000, 10_000, 20_000, 30_000, 40_000],
    );
    saturated(
        "1 session, RTT 50 ms, logs/s",
        "50ms",
        1,
        100_000,
        &[150, 300],
    );
    saturated(
        "16 sessions, RTT 50 ms, logs/s",
        "50ms",
        16,
        100_000,
        &[150, 300],
    );
    flooded();
    cpu();
    idle();
}

fn row(what: &str, weir: f64, go: f64, better: impl Fn(f64, f64) -> f64) {
    println!("{what:52} {weir:12.1} {go:12.1} {:7.1}x", better(weir, go));
}

fn higher(weir: f64, go: f64) -> f64 {
    weir / go
}

fn lower(weir: f64, go: f64) -> f64 {
    go / weir
}

/// The most that is acknowledged: Weir with senders that wait for room, the proxy at the best of several rates,
/// since it drops what it has no room for.
fn saturated(what: &str, rtt: &str, sessions: u32, logs_each: u64, rates: &[u64]) {
    let coderd = Coderd::start(rtt);
    let weir_rate = |over| {
        coderd.reset();
        let weir = Forwarder::weir(&coderd, over, WAIT_FOR_ROOM);
        let begun = Instant::now();
        send_from_all(&weir, sessions, logs_each);
        let total = logs_each * u64::from(sessions);
        coderd.wait_for_logs(total, PATIENCE);
        total as f64 / begun.elapsed().as_secs_f64()
    };
    let weir_rates = TRANSPORTS.map(|(over, name)| (name, weir_rate(over)));

    let best = rates.iter().map(|rate| {
        coderd.reset();
        let proxy = Forwarder::go_proxy(&coderd);
        acknowledged_at(&coderd, &proxy, *rate)
    });
    let best = best.fold(0.0, f64::max);
    for (name, rate) in weir_rates {
        row(&format!("{name}{what}"), rate, best, higher);
    }
}

/// Every session from a thread of its own, as fast as the socket takes it.
fn send_from_all(to: &Forwarder, sessions: u32, logs_each: u64) {
    thread::scope(|scope| {
        for session in 0..sessions {
            let mut stream = UnixStream::connect(&to.socket).expect("the socket is there");
            scope.spawn(move || Load::new(session, URL_BYTES).write_to(&mut stream, logs_each));
        }
    });
}

/// Logs a second that reach the server when `rate` logs a second are offered.
fn acknowledged_at(coderd: &Coderd, to: &Forwarder, rate: u64) -> f64 {
    const OFFERED_FOR: Duration = Duration::from_secs(3);
    let begun = Instant::now();
    offer(to, rate, OFFERED_FOR);
    coderd.received_logs() as f64 / begun.elapsed().as_secs_f64()
}

/// Writes batch after batch at this rate.
fn offer(to: &Forwarder, rate: u64, time: Duration) {
    const BATCH: u64 = 10;
    let mut stream = UnixStream::connect(&to.socket).expect("the socket is there");
    let mut load = Load::new(0, URL_BYTES);
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < time {
        let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
        if sent + BATCH <= due {
            load.write_to(&mut stream, BATCH)
                .expect("the socket takes a batch");
            sent += BATCH;
        } else {
            thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// What still arrives while far more is offered than either can carry, each under its own default policy.
fn flooded() {
    const FLOOD: Duration = Duration::from_secs(5);
    let coderd = Coderd::start("0ms");
    let under_flood = |to: Forwarder| {
        coderd.reset();
        let begun = Instant::now();
        let mut stream = UnixStream::connect(&to.socket).expect("the socket is there");
        let mut load = Load::new(0, URL_BYTES);
        while begun.elapsed() < FLOOD {
            load.write_to(&mut stream, 3_200)
                .expect("the socket takes a chunk");
        }
        coderd.received_logs() as f64 / begun.elapsed().as_secs_f64()
    };
    let go = under_flood(Forwarder::go_proxy(&coderd));
    for (over, name) in TRANSPORTS {
        let weir = under_flood(Forwarder::weir(&coderd, over, &[]));
        let what = format!("{name}flooded, RTT 0, default policies, logs/s");
        row(&what, weir, go, higher);
    }
}

/// What a rate costs that both carry.
fn cpu() {
    const RATE: u64 = 10_000;
    const TIME: Duration = Duration::from_secs(10);
    let coderd = Coderd::start("0ms");
    let cost = |to: Forwarder| {
        coderd.reset();
        let before = to.cpu_seconds();
        offer(&to, RATE, TIME);
        let logs = coderd.received_logs() as f64;
        (to.cpu_seconds() - before) / logs * 1e6
    };
    let go = cost(Forwarder::go_proxy(&coderd));
    for (over, name) in TRANSPORTS {
        let weir = cost(Forwarder::weir(&coderd, over, &[]));
        let what = format!("{name}10 000 logs/s: CPU seconds per million logs");
        row(&what, weir, go, lower);
    }
}

/// What it costs to be there.
fn idle() {
    /// Longer than a blocking thread of the runtime lives, and than two beats of anything periodic.
    const TIME: Duration = Duration::from_secs(25);
    let coderd = Coderd::start("0ms");
    let go = Forwarder::go_proxy(&coderd);
    let weirs = TRANSPORTS.map(|(over, name)| (name, Forwarder::weir(&coderd, over, &[])));
    thread::sleep(TIME / 2);
    let before = (
        go.wakeups(),
        weirs.each_ref().map(|(_, weir)| weir.wakeups()),
    );
    thread::sleep(TIME / 2);
    let per_second =
        |of: &Forwarder, before: u64| (of.wakeups() - before) as f64 / (TIME / 2).as_secs_f64();
    for ((name, weir), woken) in weirs.iter().zip(before.1) {
        let row = |what, weir, go| row(&format!("{name}idle: {what}"), weir, go, lower);
        row("RSS, MiB", weir.rss_mib(), go.rss_mib());
        row("threads", weir.threads(), go.threads());
        let (weir, go) = (per_second(weir, woken), per_second(&go, before.0));
        row("wakeups a second", weir, go);
    }
}
