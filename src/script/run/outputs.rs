//! Whether what a script has left behind holds its outputs.

use std::fs::{self, Metadata};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use rustix::fs::{fstat, stat};
use rustix::process::{Pid, test_kill_process_group};
use tokio::time::sleep;

/// Between the first two looks; each pause after that is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The outputs of a script, as who runs it knows them.
pub trait Outputs {
    /// Waits until nothing that the script of this group has left behind holds them. Called when the script has ended.
    fn released(self, group: Pid) -> impl Future<Output = ()> + Send;
}

/// Outputs that are this process's own. There is no end to read of them; instead they are looked for among the open files
/// of the group, which is what is left of the script but for processes that left it.
#[derive(Debug)]
pub struct Inherited {
    files: Vec<(u64, u64)>,
}

impl Inherited {
    /// The outputs of this process now. `/dev/null` is none: who holds it holds up nobody.
    pub fn find() -> Self {
        let null = stat("/dev/null").ok().map(|null| null.st_rdev);
        let (out, err) = (std::io::stdout(), std::io::stderr());
        let found = [fstat(out.as_fd()), fstat(err.as_fd())];
        let files = found.into_iter().flatten();
        let files = files.filter(|file| Some(file.st_rdev) != null);
        Self {
            files: files.map(|file| (file.st_dev, file.st_ino)).collect(),
        }
    }

    fn held_by(&self, group: Pid) -> bool {
        // Nearly always nothing is left, which costs one call to know.
        if self.files.is_empty() || test_kill_process_group(group).is_err() {
            return false;
        }
        let Ok(processes) = fs::read_dir("/proc") else {
            return false;
        };
        let mut pids = processes.flatten().filter_map(|process| {
            let name = process.file_name();
            name.to_str()?.parse::<u32>().ok()
        });
        pids.any(|pid| is_alive_in(pid, group) && self.is_open_in(pid))
    }

    fn is_open_in(&self, pid: u32) -> bool {
        let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            return false;
        };
        let known = |file: Metadata| self.files.contains(&(file.dev(), file.ino()));
        open.flatten()
            .any(|link| fs::metadata(link.path()).is_ok_and(known))
    }
}

impl Outputs for Inherited {
    async fn released(self, group: Pid) {
        let mut pause = FIRST_PAUSE;
        while self.held_by(group) {
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }
}

/// Whether a process is of the group and has not ended (proc_pid_stat(5)).
fn is_alive_in(pid: u32, group: Pid) -> bool {
    let Ok(stat) = fs::read(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The name, in parentheses, may hold anything.
    let Some(end) = stat.iter().rposition(|byte| *byte == b')') else {
        return false;
    };
    let mut fields = stat[end + 1..].split(|byte| *byte == b' ').skip(1);
    let state = fields.next();
    let of_group = fields
        .nth(1)
        .and_then(|field| str::from_utf8(field).ok()?.parse().ok());
    of_group == Some(group.as_raw_nonzero().get()) && !matches!(state, Some(b"Z" | b"X"))
}
