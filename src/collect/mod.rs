//! Metrics of other programs: their exposition pages are fetched and read, for the reports or to be printed.
//!
//! A target costs itself. It has a bounded time to connect and to answer, and its page a bounded size after
//! decompression; it is never followed elsewhere, and asked without a proxy. Everything here runs beside the scrape
//! endpoint, off the data path.

mod body;
mod fetch;
mod held;
mod job;
mod location;
pub mod print;
mod samples;
#[cfg(test)]
mod tests;

use std::fmt::{self, Display, Formatter};

pub use fetch::{FetchError, Fetcher, Page};
pub use held::Held;
pub use job::{Job, serve};
pub use location::{Location, LocationError};
pub use samples::{MAX_HELD_BYTES, MAX_SAMPLES, MAX_SERIES};

/// A program whose metrics are collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What it is called in our own metrics: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// Where its page is.
    pub location: Location,
}

impl Display for Target {
    /// As it is configured.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.location)
    }
}

/// Bytes of a page that is collected for the reports, at most, after decompression.
pub const MAX_PAGE: usize = 4 << 20;
