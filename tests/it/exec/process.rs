//! The script as a process: what it sees, what reaches it, and how it ends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{command, exec, queued};

/// A socket that nobody listens on.
struct Nobody {
    _directory: TempDir,
    api: PathBuf,
}

fn nobody() -> Nobody {
    let directory = tempfile::tempdir().unwrap();
    let api = directory.path().join("weir.sock");
    Nobody {
        _directory: directory,
        api,
    }
}

#[test]
fn outputs_and_exit_code_are_the_scripts_own() {
    let nobody = nobody();
    for (arguments, code) in [
        (&["true"] as &[_], 0),
        (&["--", "bash", "-c", "exit 7"], 7),
        (&["bash", "-c", "kill -9 $$"], 137),
        (&["/weir/no/such"], 127),
        (&["/etc/passwd"], 126),
        (&["/"], 126),
    ] {
        let output = exec(&nobody.api, arguments);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {output:?}"
        );
        assert!(output.stdout.is_empty());
        assert_eq!(
            output.stderr.is_empty(),
            ![126, 127].contains(&code),
            "{output:?}"
        );
    }
    let output = exec(
        &nobody.api,
        &[
            "bash",
            "-c",
            "printf 'a\\xff\\n'; printf 'e\\xfe' >&2; exit 3",
        ],
    );
    assert_eq!(
        (&*output.stdout, &*output.stderr),
        (&b"a\xff\n"[..], &b"e\xfe"[..])
    );
    let queued = queued(&nobody.api);
    let codes: Vec<_> = queued
        .iter()
        .map(|report| report["exit_code"].as_i64().unwrap())
        .collect();
    assert_eq!(codes, [0, 7, 137, 127, 126, 126, 3]);
    assert!(
        queued
            .iter()
            .skip(1)
            .all(|report| report["status"] == "EXIT_FAILURE")
    );
    assert_eq!(
        (&queued[0]["status"], &queued[0]["name"]),
        (&"OK".into(), &"true".into())
    );
}

#[test]
fn bad_usage_runs_nothing() {
    let nobody = nobody();
    for arguments in [
        &[] as &[_],
        &["--name", "", "true"],
        &["--id", "7", "--stage", "cron", "true"],
        &["--id", "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d", "true"],
        &["--stage", "boot", "true"],
        &["--timeout", "0s", "true"],
        &["--bogus", "true"],
    ] {
        let output = exec(&nobody.api, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    }
    assert!(queued(&nobody.api).is_empty());
}

#[test]
fn input_and_two_hundred_megabytes_of_output_pass_untouched() {
    let nobody = nobody();
    let mut child = command(
        &nobody.api,
        &["bash", "-c", "cat; head -c 200000000 /dev/zero"],
    )
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    child.stdin.take().unwrap().write_all(b"input\xff").unwrap();
    let (mut stdout, mut total) = (child.stdout.take().unwrap(), 0);
    let mut buffer = vec![0; 1 << 16];
    while let read @ 1.. = stdout.read(&mut buffer).unwrap() {
        if total == 0 {
            assert!(buffer.starts_with(b"input\xff"));
        }
        total += read;
    }
    assert_eq!(
        (total, child.wait().unwrap().code()),
        (200_000_006, Some(0))
    );
}

/// Starts a script and reads its first line.
fn started(mut command: Command) -> (Child, BufReader<ChildStdout>, String) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    (child, stdout, line.trim_end().to_owned())
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn signals_reach_the_whole_group() {
    let nobody = nobody();
    // Short sleeps: a shell that is just about to wait for a child would hear of a signal only at that child's end.
    let script = "for name in USR1 USR2 HUP QUIT INT WINCH; do trap \"echo $name\" $name; done
        trap 'echo TERM; exit 9' TERM
        (trap 'echo child USR1' USR1; trap '' USR2 HUP; echo up; while :; do sleep 0.05; done) &
        while :; do sleep 0.05; done";
    // Whoever runs the tests may ignore a signal, and then a shell cannot trap it.
    let exec = command(&nobody.api, &["bash", "-c", script]);
    let mut heard = Command::new("env");
    heard
        .args(["-i", "--default-signal", "PATH=/usr/bin:/bin"])
        .arg(exec.get_program())
        .args(exec.get_args())
        .stdin(Stdio::null());
    let (mut child, mut stdout, up) = started(heard);
    assert_eq!(up, "up");
    let mut line = || {
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    signal(&child, Signal::USR1);
    let mut both = [line(), line()];
    both.sort();
    assert_eq!(both, ["USR1", "child USR1"]);
    for (name, number) in [
        ("USR2", Signal::USR2),
        ("HUP", Signal::HUP),
        ("QUIT", Signal::QUIT),
        ("INT", Signal::INT),
        ("WINCH", Signal::WINCH),
        ("TERM", Signal::TERM),
    ] {
        signal(&child, number);
        assert_eq!(line(), name);
    }
    assert_eq!(child.wait().unwrap().code(), Some(9));
    assert_eq!(queued(&nobody.api)[0]["exit_code"], 9);
}

#[test]
fn a_signal_that_is_ignored_stays_so() {
    let nobody = nobody();
    let weir = env!("CARGO_BIN_EXE_weir");
    let api = nobody.api.to_str().unwrap();
    let script = format!(
        "exec nohup {weir} exec --report-to {api} -- bash -c 'echo ready; read line; echo $line'"
    );
    let mut shell = Command::new("bash");
    shell
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stderr(Stdio::null());
    let (mut child, mut stdout, ready) = started(shell);
    assert_eq!(ready, "ready");
    signal(&child, Signal::HUP);
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"still here\n")
        .unwrap();
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "still here\n");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn at_the_timeout_the_exit_code_is_124() {
    let nobody = nobody();
    let script = "trap 'echo ended' TERM; sleep 1000 & wait; wait";
    let output = exec(
        &nobody.api,
        &[
            "--timeout",
            "300ms",
            "--stage",
            "cron",
            "--",
            "bash",
            "-c",
            script,
        ],
    );
    assert_eq!(output.status.code(), Some(124), "{output:?}");
    assert_eq!(output.stdout, b"ended\n");
    let report = &queued(&nobody.api)[0];
    assert_eq!(
        (&report["status"], &report["exit_code"], &report["stage"]),
        (&"TIMED_OUT".into(), &124.into(), &"cron".into())
    );
}

/// Takes 10 s: the agent's time for it is no setting.
#[test]
fn a_child_that_keeps_the_outputs_is_reported_and_one_that_does_not_is_not() {
    let nobody = nobody();
    let pid = nobody.api.with_file_name("pid");
    let leave =
        |redirection: &str| format!("sleep 1000 {redirection} & echo $! >{}", pid.display());
    let end = || {
        let number = std::fs::read_to_string(&pid)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        kill_process(Pid::from_raw(number).unwrap(), Signal::KILL).unwrap();
    };
    // A reader of a pipe waits for its end, so these outputs are a file.
    let run = |redirection: &str| {
        let out = std::fs::File::create(nobody.api.with_file_name("out")).unwrap();
        let script = leave(redirection);
        let status = command(&nobody.api, &["bash", "-c", &script])
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .status();
        assert_eq!(status.unwrap().code(), Some(0));
        end();
    };
    run("");
    run(">/dev/null 2>&1");
    run(&format!(
        ">{} 2>&1",
        nobody.api.with_file_name("log").display()
    ));
    let statuses: Vec<_> = queued(&nobody.api)
        .into_iter()
        .map(|report| report["status"].clone())
        .collect();
    assert_eq!(statuses, ["PIPES_LEFT_OPEN", "OK", "OK"]);
}

#[test]
fn the_socket_is_found_from_the_environment() {
    let nobody = nobody();
    let directory = nobody.api.parent().unwrap();
    for (variable, value) in [
        ("WEIR_API_SOCKET", nobody.api.clone()),
        (
            "CODER_AGENT_BOUNDARY_LOG_PROXY_SOCKET_PATH",
            directory.join("audit.sock"),
        ),
        ("TMPDIR", directory.to_owned()),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        let output = command
            .args(["exec", "/bin/true"])
            .env_clear()
            .env(variable, value)
            .output()
            .unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{variable}: {output:?}"
        );
    }
    assert_eq!(queued(&nobody.api).len(), 3);
    // What is wrong with it is said, and is no reason not to run.
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    let output = command
        .args(["exec", "echo", "ran"])
        .env("WEIR_API_SOCKET", directory)
        .output()
        .unwrap();
    assert_eq!(
        (output.status.code(), &*output.stdout),
        (Some(0), &b"ran\n"[..])
    );
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("the script will not be reported"),
        "{output:?}"
    );
}
