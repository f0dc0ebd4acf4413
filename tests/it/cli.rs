//! The program from outside: exit codes, and what goes to which stream.

use std::io::Write;
use std::process::{Command, Output};

const URL: &str = "--agent-url=https://coder.example.com";

/// Runs the program in an environment with nothing of the caller's.
fn weir(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

#[track_caller]
fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
}

#[test]
fn a_valid_configuration_is_printed_on_stdout_and_redacted() {
    let output = weir(&["check", URL, "--agent-token", "s3cr3t"]);
    assert_exit(&output, 0);
    assert!(stdout(&output).contains("agent_token = \"[redacted]\"  # command line\n"));
    assert!(stdout(&output).contains("# memory at most "));
    assert!(stderr(&output).contains("warning: the agent token is not a UUID"));
    assert!(!format!("{output:?}").contains("s3cr3t"));
}

#[test]
fn run_and_check_list_every_fault_and_exit_with_2() {
    for command in ["run", "check"] {
        let output = weir(&[command, "--agent-header=s3cr3t", "--retry-max", "never"]);
        assert_exit(&output, 2);
        assert_eq!(stdout(&output), "");
        assert!(stderr(&output).starts_with("weir: 4 faults in the configuration:\n"));
        assert_eq!(stderr(&output).lines().count(), 5);
        assert!(!stderr(&output).contains("s3cr3t"));
    }
}

#[test]
fn the_process_environment_and_real_files_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut token = std::fs::File::create(path("token")).unwrap();
    token
        .write_all(b"6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d\n")
        .unwrap();
    std::fs::write(path("weir.toml"), "agent_token_file = \"token\"\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["check", "--config", "weir.toml"])
        .env_clear()
        .env("CODER_AGENT_URL", "https://coder.example.com")
        .env("TMPDIR", "sockets")
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert_exit(&output, 0);
    let real = directory.path().canonicalize().unwrap();
    let socket = real.join("sockets/boundary-audit.sock");
    for line in [
        "agent_url = \"https://coder.example.com/\"  # environment variable CODER_AGENT_URL".into(),
        format!(
            "agent_token_file = \"{}\"  # weir.toml:1",
            real.join("token").display()
        ),
        format!(
            "boundary_log_proxy_socket_path = \"{}\"  # default",
            socket.display()
        ),
    ] {
        assert!(
            stdout(&output).contains(&line),
            "{line}\n{}",
            stdout(&output)
        );
    }
    assert_eq!(stderr(&output), "");
}

#[test]
fn bad_usage_exits_with_2_and_asking_for_help_with_0() {
    for bad in [
        &["dig"][..],
        &[],
        &["run", "--no-such-flag"],
        &["man", "dig"],
    ] {
        assert_exit(&weir(bad), 2);
    }
    for good in [&["--help"][..], &["run", "--help"], &["help", "status"]] {
        let output = weir(good);
        assert_exit(&output, 0);
        assert!(stdout(&output).contains("Usage: weir"), "{output:?}");
    }
    let version = weir(&["--version"]);
    assert_exit(&version, 0);
    assert_eq!(
        stdout(&version),
        concat!("weir ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn help_names_variable_default_and_what_is_absent() {
    let output = weir(&["run", "--help"]);
    for text in [
        "[env: CODER_AGENT_URL] [required]",
        "[env: WEIR_SPOOL_MAX_BYTES] [default: 256MiB]",
        "[in this version being the workspace agent is not built yet]",
    ] {
        assert!(
            stdout(&output).contains(text),
            "{text}\n{}",
            stdout(&output)
        );
    }
}

#[test]
fn a_switch_needs_no_value_and_takes_one() {
    for (switch, shown) in [("--take-over", "true"), ("--take-over=false", "false")] {
        let output = weir(&["check", URL, "--agent-token=t", switch]);
        assert_exit(&output, 0);
        let line = format!("take_over = {shown}  # command line\n");
        assert!(stdout(&output).contains(&line), "{output:?}");
    }
}

#[test]
fn completions_and_manual_pages_are_generated() {
    for shell in ["bash", "zsh", "fish"] {
        let output = weir(&["completions", shell]);
        assert_exit(&output, 0);
        assert!(stdout(&output).contains("boundary-log-proxy-socket-path"));
    }
    let output = weir(&["man"]);
    assert_exit(&output, 0);
    assert!(stdout(&output).contains(".TH weir 1"));
    let output = weir(&["man", "run"]);
    assert_exit(&output, 0);
    assert!(stdout(&output).contains(".TH weir-run 1"));
    assert!(stdout(&output).contains("WEIR_RETRY_MAX_AGE"));
}

#[test]
fn a_full_disk_is_a_failure_and_a_reader_that_left_is_none() {
    let run = |out: std::process::Stdio| {
        Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["completions", "bash"])
            .env_clear()
            .stdout(out)
            .output()
            .unwrap()
    };
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    assert_exit(&run(full.into()), 1);

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_exit(&run(writer.into()), 0);
}
