//! Logging and the panic hook belong to a whole process, so each case runs in one of its own:
//! this test program again, running only the ignored test below.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing_subscriber::filter::{LevelFilter, Targets};
use weir::config::{Log, LogFormat};
use weir::logging;

const FORMAT: &str = "WEIR_TEST_LOG_FORMAT";

#[test]
#[ignore = "takes over the logging of its process: the tests below run it in one of its own"]
fn child() {
    let format = match std::env::var(FORMAT).as_deref() {
        Ok("json") => Some(LogFormat::Json),
        Ok("text") => Some(LogFormat::Text),
        _ => None,
    };
    let panics = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&panics);
    logging::install_panic_hook(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    if let Some(format) = format {
        let filter = Targets::new()
            .with_default(LevelFilter::INFO)
            .with_target("loud", LevelFilter::DEBUG);
        let log = Log { filter, format };
        logging::init(&log).unwrap();
        assert!(
            logging::init(&log).is_err(),
            "a second subscriber was installed"
        );
    }
    tracing::info!(answer = 42, "shown");
    tracing::debug!("hidden by its level");
    tracing::debug!(target: "loud", "shown by its target");
    let victim = std::thread::Builder::new().name("victim".into());
    let outcome = victim.spawn(|| panic!("something broke")).unwrap().join();
    assert!(outcome.is_err());
    assert_eq!(panics.load(Ordering::Relaxed), 1);
}

fn run_child(format: &str) -> Output {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "logging::child", "--ignored", "--nocapture"])
        .env(FORMAT, format)
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

#[test]
fn json_lines_go_to_stderr_and_carry_the_panic() {
    let output = run_child("json");
    let stderr = str::from_utf8(&output.stderr).unwrap();
    let lines: Vec<serde_json::Value> = stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [shown, loud, panic] = lines.as_slice() else {
        panic!("{stderr}");
    };
    assert_eq!(
        (&shown["message"], &shown["answer"]),
        (&"shown".into(), &42.into())
    );
    assert_eq!(loud["message"], "shown by its target");
    assert_eq!(panic["level"], "ERROR");
    assert_eq!(panic["message"], "panic: something broke");
    assert_eq!(panic["thread"], "victim");
    let location = panic["location"].as_str().unwrap();
    assert!(location.starts_with("tests/it/logging.rs:"), "{location}");
    assert!(!str::from_utf8(&output.stdout).unwrap().contains("shown"));
}

#[test]
fn text_lines_have_no_colour_away_from_a_terminal() {
    let output = run_child("text");
    let stderr = str::from_utf8(&output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 3, "{stderr}");
    assert!(stderr.contains("INFO"));
    assert!(stderr.contains("answer=42"));
    assert!(!stderr.contains('\u{1b}'), "{stderr:?}");
}

#[test]
fn a_panic_before_logging_begins_is_still_reported() {
    let output = run_child("none");
    let stderr = str::from_utf8(&output.stderr).unwrap();
    assert!(stderr.contains("panicked at"), "{stderr}");
    assert!(stderr.contains("something broke"), "{stderr}");
}

/// A log that cannot be written, here for want of space, is no reason to lose what is held.
#[test]
fn a_full_log_does_not_end_the_sidecar() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("audit.sock");
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut sidecar = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["run", "--agent-url=http://127.0.0.1:9", "--agent-token=t"])
        .args(["--prometheus-address=", "--log-level=trace"])
        .arg("--boundary-log-proxy-socket-path")
        .arg(&socket)
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(full)
        .spawn()
        .unwrap();
    let mut ready = String::new();
    let stdout = sidecar.stdout.as_mut().unwrap();
    BufReader::new(stdout).read_line(&mut ready).unwrap();
    assert!(ready.contains("\"ready\":true"), "{ready}");
    // Whoever is read has been logged before, at this level.
    drop(UnixStream::connect(&socket).unwrap());
    kill_process(Pid::from_child(&sidecar), Signal::TERM).unwrap();
    assert_eq!(sidecar.wait().unwrap().code(), Some(0));
}
