//! Exit codes.

use std::process::ExitCode;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, nothing lost.
    Done,
    /// 1: failed while running.
    Failed,
    /// 2: bad usage or configuration.
    Usage,
    /// 3: stopped, but logs were lost at shutdown; they are counted.
    Lost,
    /// That of a script that was run.
    Script(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Lost => 3,
            Exit::Script(code) => code,
        })
    }
}
