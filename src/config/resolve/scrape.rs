//! The programs whose metrics are collected.

use super::Resolver;
use crate::collect::Target;
use crate::config::fault::{Wrong, quoted};
use crate::config::parse::is_plain;
use crate::config::setting::SCRAPE;

/// Most targets: each may hold a page and its samples.
const MAX_TARGETS: usize = 16;

/// Longest name: it is a label of several series.
const MAX_NAME_BYTES: usize = 64;

impl Resolver<'_> {
    /// Every target that is right; what is wrong with each of the others is a fault of its own.
    pub(super) fn scrape(&mut self) -> Option<Vec<Target>> {
        let texts = self.raw.get(&SCRAPE).map_or(&[][..], |given| &given.texts);
        let known = self.faults.len();
        if texts.len() > MAX_TARGETS {
            let expected = format!("at most {MAX_TARGETS} targets");
            self.wrong(&SCRAPE, &Wrong::new(expected, texts.len().to_string()));
        }
        let mut targets: Vec<Target> = Vec::new();
        for text in texts {
            match target(text) {
                Ok(target) if targets.iter().any(|other| other.name == target.name) => {
                    let expected = "a name that no other target has";
                    self.wrong(&SCRAPE, &Wrong::new(expected, quoted(&target.name)));
                }
                Ok(target) => targets.push(target),
                Err(wrong) => self.wrong(&SCRAPE, &wrong),
            }
        }
        (self.faults.len() == known).then_some(targets)
    }
}

fn target(text: &str) -> Result<Target, Wrong> {
    let form = || Wrong::new("NAME=URL", quoted(text));
    let (name, location) = text.split_once('=').ok_or_else(form)?;
    if !is_plain(name, MAX_NAME_BYTES) {
        let expected = format!(
            "a name of 1 to {MAX_NAME_BYTES} of the characters A-Z a-z 0-9 . _ - before the ="
        );
        return Err(Wrong::new(expected, quoted(name)));
    }
    // Credentials are not repeated.
    let got = if location.contains('@') {
        "one with a @ (not shown)".to_owned()
    } else {
        quoted(location)
    };
    let location = location
        .parse()
        .map_err(|error: crate::collect::LocationError| Wrong::new(error.0, got))?;
    Ok(Target {
        name: name.to_owned(),
        location,
    })
}
