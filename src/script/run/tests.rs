//! Real scripts. Outputs that a test looks at are pipes, as those of an agent's scripts.

use std::fs;
use std::process::Stdio;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use super::*;

/// Far longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(60);

const LIMITS: Limits = Limits {
    timeout: None,
    grace: PATIENCE,
    hold: PATIENCE,
};

/// The end of a pipe, which comes when nobody holds the other.
struct Piped(pipe::Receiver);

impl Outputs for Piped {
    async fn released(mut self, _group: Pid) {
        self.0.read_to_end(&mut Vec::new()).await.unwrap();
    }
}

fn bash(script: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", script]).stdin(Stdio::null());
    command
}

/// Starts a script whose outputs are one pipe.
fn start(script: &str) -> (Running, Piped) {
    let (sender, receiver) = pipe::pipe().unwrap();
    let sender = Stdio::from(sender.into_blocking_fd().unwrap());
    let mut command = bash(&format!("exec 2>&1; {script}"));
    let running = Running::start(command.stdout(sender)).unwrap();
    (running, Piped(receiver))
}

async fn run(script: &str, limits: Limits) -> Ended {
    let (running, piped) = start(script);
    running.end(limits, piped).await.unwrap()
}

/// Reads the pipe up to this word.
async fn said(piped: &mut Piped, word: &str) {
    let mut read = String::new();
    while !read.contains(word) {
        let byte = piped.0.read_u8().await.expect("more is said");
        read.push(char::from(byte));
    }
}

/// Whether that process runs.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            sleep(PAUSE).await;
        }
    };
    timeout(PATIENCE, met).await.expect(what);
}

#[tokio::test]
async fn the_exit_code_is_the_scripts() {
    for (script, exit_code, status) in [
        ("exit 0", 0, Status::Ok),
        ("exit 7", 7, Status::ExitFailure),
        ("exit 255", 255, Status::ExitFailure),
        ("kill -9 $$", 137, Status::ExitFailure),
        ("kill -SEGV $$", 139, Status::ExitFailure),
        ("trap 'exit 3' EXIT; false", 3, Status::ExitFailure),
    ] {
        let ended = run(script, LIMITS).await;
        assert_eq!(
            (ended.exit_code, ended.status),
            (exit_code, status),
            "{script}"
        );
    }
}

#[tokio::test]
async fn what_cannot_run_has_the_exit_code_of_a_shell() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "echo").unwrap();
    let start = |program: &std::path::Path| Running::start(&mut Command::new(program)).unwrap_err();
    let absent = start(&directory.path().join("absent"));
    assert_eq!(absent.exit_code(), 127);
    assert!(absent.to_string().starts_with("cannot run /"), "{absent}");
    assert_eq!(start(&file).exit_code(), 126);
    assert_eq!(start(directory.path()).exit_code(), 126);
    assert_eq!(
        Running::start(&mut Command::new("weir-no-such-program"))
            .unwrap_err()
            .exit_code(),
        127
    );
}

#[tokio::test]
async fn the_script_is_the_leader_of_its_group() {
    let (running, mut piped) = start("echo \"$$ $(cut -d' ' -f5 /proc/$$/stat).\"");
    let group = running.group().as_raw_nonzero();
    said(&mut piped, &format!("{group} {group}.")).await;
    assert_eq!(running.end(LIMITS, piped).await.unwrap().status, Status::Ok);
}

#[tokio::test]
async fn at_the_timeout_the_whole_group_is_ended() {
    let limits = Limits {
        timeout: Some(Duration::from_millis(300)),
        ..LIMITS
    };
    // Traps, children and grandchildren; one is stopped and hears of nothing until it goes on.
    let script = "trap 'echo trapped; exit 5' TERM; (sleep 1000 & sleep 1000) & sleep 1000 & kill -STOP $!; wait";
    let (running, piped) = start(script);
    let group = running.group();
    let ended = running.end(limits, piped).await.unwrap();
    assert_eq!(
        (ended.exit_code, ended.status),
        (TIMED_OUT, Status::TimedOut)
    );
    assert!(
        test_kill_process_group(group).is_err(),
        "something of the group is left"
    );
    let took = ended.times.1.duration_since(ended.times.0).unwrap();
    assert!(
        took >= Duration::from_millis(300) && took < PATIENCE,
        "{took:?}"
    );
}

#[tokio::test]
async fn who_ignores_the_timeout_is_killed_after_the_grace() {
    let limits = Limits {
        timeout: Some(Duration::from_millis(200)),
        grace: Duration::from_millis(200),
        ..LIMITS
    };
    // The script itself, then a child whose script obeys.
    for script in [
        "trap '' TERM; while :; do sleep 1; done",
        "(trap '' TERM; while :; do sleep 1; done) & wait",
    ] {
        let (running, piped) = start(script);
        let group = running.group();
        let ended = running.end(limits, piped).await.unwrap();
        assert_eq!(ended.status, Status::TimedOut, "{script}");
        until("the group to be gone", || {
            test_kill_process_group(group).is_err()
        })
        .await;
    }
}

#[tokio::test]
async fn who_has_left_the_group_goes_on() {
    let limits = Limits {
        timeout: Some(Duration::from_millis(300)),
        ..LIMITS
    };
    let (running, mut piped) = start("setsid bash -c 'echo pid $$.; exec sleep 1000' & wait");
    let mut text = String::new();
    while !text.ends_with('.') {
        text.push(char::from(piped.0.read_u8().await.unwrap()));
    }
    let pid: u32 = text
        .trim_start_matches("pid ")
        .trim_end_matches('.')
        .parse()
        .unwrap();
    assert_eq!(
        running.end(limits, piped).await.unwrap().status,
        Status::TimedOut
    );
    assert!(is_alive(pid));
    rustix::process::kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_child_that_holds_the_outputs_is_reported() {
    let limits = Limits {
        hold: Duration::from_millis(300),
        ..LIMITS
    };
    let (running, piped) = start("sleep 1000 & exit 0");
    let group = running.group();
    let ended = running.end(limits, piped).await.unwrap();
    assert_eq!((ended.exit_code, ended.status), (0, Status::PipesLeftOpen));
    let took = ended.times.1.duration_since(ended.times.0).unwrap();
    assert!(
        took < Duration::from_millis(300),
        "the hold counts as a part of the script: {took:?}"
    );
    send(group, Signal::KILL);
    // A failure is one whatever is left behind, and is not waited with.
    let (running, piped) = start("sleep 1000 & exit 4");
    let group = running.group();
    assert_eq!(
        running.end(LIMITS, piped).await.unwrap().status,
        Status::ExitFailure
    );
    send(group, Signal::KILL);
    // One that lets go in time is none.
    assert_eq!(run("sleep 0.2 & exit 0", LIMITS).await.status, Status::Ok);
    // One that writes elsewhere, like a service, holds nothing.
    let (running, piped) = start("sleep 1000 >/dev/null 2>&1 & exit 0");
    let group = running.group();
    assert_eq!(running.end(LIMITS, piped).await.unwrap().status, Status::Ok);
    send(group, Signal::KILL);
}

#[tokio::test]
async fn two_hundred_megabytes_and_bytes_that_are_no_text_pass() {
    let (running, mut piped) = start("head -c 200000000 /dev/zero; printf '\\xff\\xfe\\x00'");
    let reading = async {
        let (mut buffer, mut total, mut last) = (vec![0; 1 << 16], 0, 0);
        while let Ok(read @ 1..) = piped.0.read(&mut buffer).await {
            total += read;
            last = read;
        }
        assert_eq!(buffer[last - 3..last], [0xff, 0xfe, 0]);
        total
    };
    let ended = running.end(LIMITS, Inherited::find());
    let (total, ended) = tokio::join!(reading, ended);
    assert_eq!((total, ended.unwrap().status), (200_000_003, Status::Ok));
}

#[tokio::test]
async fn many_scripts_run_side_by_side() {
    let mut runs = tokio::task::JoinSet::new();
    for number in 0..50 {
        runs.spawn(async move {
            let ended = run(&format!("sleep 0.0{}; exit {number}", number % 10), LIMITS).await;
            assert_eq!(ended.exit_code, number);
        });
    }
    runs.join_all().await;
}
