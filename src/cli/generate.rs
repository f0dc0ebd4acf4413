//! Shell completions and manual pages, generated from the command-line types.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;

/// Writes the completion script of a shell.
///
/// # Errors
/// When it cannot be written.
pub fn completions(shell: Shell, out: &mut dyn Write) -> io::Result<()> {
    // The generator panics when a write fails, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "weir", &mut script);
    out.write_all(&script)?;
    out.flush()
}

/// Writes the manual page of `weir`, or of one of its commands.
///
/// # Errors
/// When there is no such command ([`io::ErrorKind::NotFound`]), or it cannot be written.
pub fn man(command: Option<&str>, out: &mut dyn Write) -> io::Result<()> {
    let mut root = Cli::command();
    root.build();
    let page = match command {
        None => root,
        Some(name) => {
            let found = root.find_subcommand(name).ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, format!("no command {name:?}"))
            })?;
            found.clone()
        }
    };
    Man::new(page).render(out)?;
    out.flush()
}
