//! A script at a terminal, which script(1) of util-linux makes.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A shell at a terminal, with job control.
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: ChildStdout,
    seen: String,
}

impl Terminal {
    fn open(directory: &Path) -> Self {
        let mut child = Command::new("script")
            .args(["-qfec", "bash --norc --noprofile -i", "/dev/null"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("PS1", "prompt> ")
            .env("TMPDIR", directory)
            .env("weir", env!("CARGO_BIN_EXE_weir"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script(1) is there");
        let (keyboard, screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut terminal = Self {
            child,
            keyboard,
            screen,
            seen: String::new(),
        };
        terminal.shows("prompt> ");
        terminal
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// Waits until the screen shows a text after what was waited for before.
    fn shows(&mut self, text: &str) {
        let mut piece = [0; 1024];
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let read = self.screen.read(&mut piece).unwrap();
            assert_ne!(read, 0, "the terminal closed: {}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
    }

    fn close(mut self) {
        self.types("exit\n");
        drop(self.keyboard);
        let mut rest = Vec::new();
        self.screen.read_to_end(&mut rest).unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn keys_reach_a_script_before_and_after_it_has_asked_for_the_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::open(directory.path());
    // Never asks.
    terminal.types("$weir exec bash -c 'echo run\"\"ning; sleep 1000'\n");
    terminal.shows("running");
    terminal.types("\x03");
    terminal.shows("prompt> ");
    terminal.types("echo code \"\"$?\n");
    terminal.shows("code 130");
    // Reads, and is stopped for it until it has the terminal; then the key is its own.
    terminal.types("$weir exec bash -c 'trap \"echo inter\"\"rupted; exit 4\" INT; read line; echo read \"\"$line; sleep 1000'\n");
    terminal.types("something\n");
    terminal.shows("read something");
    terminal.types("\x03");
    terminal.shows("interrupted");
    terminal.shows("prompt> ");
    // The shell and what it runs have the terminal back.
    terminal.types("echo code \"\"$?; read line; echo got \"\"$line\n");
    terminal.shows("code 4");
    terminal.types("back\n");
    terminal.shows("got back");
    terminal.close();
}

#[test]
fn a_script_is_stopped_and_goes_on_as_a_job_of_the_shell() {
    let directory = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::open(directory.path());
    for asks in ["", "read line; "] {
        terminal.types(&format!(
            "$weir exec bash -c '{asks}echo be\"\"gun; sleep 1; echo do\"\"ne; exit 6'\n"
        ));
        if !asks.is_empty() {
            terminal.types("\n");
        }
        terminal.shows("begun");
        terminal.types("\x1a");
        terminal.shows("Stopped");
        terminal.shows("prompt> ");
        terminal.types("fg\n");
        terminal.shows("done");
        terminal.shows("prompt> ");
        terminal.types("echo code \"\"$?\n");
        terminal.shows("code 6");
    }
    terminal.close();
}

#[test]
fn another_of_the_pipeline_keeps_the_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::open(directory.path());
    terminal
        .types("$weir exec echo from\"\"script | (cat; read key </dev/tty; echo key \"\"$key)\n");
    terminal.shows("fromscript");
    terminal.types("k\n");
    terminal.shows("key k");
    // A script that is not the shell's own job gives the terminal back to who ran it.
    terminal.types("bash -c '$weir exec bash -c \"read a; echo a \\$a\"; read b; echo b $b'\n");
    terminal.types("1\n");
    terminal.shows("a 1");
    terminal.types("2\n");
    terminal.shows("b 2");
    terminal.close();
}
