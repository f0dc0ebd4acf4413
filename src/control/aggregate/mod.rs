//! Metrics that agents report, kept until they are scraped or grow too old.
//!
//! [`Aggregator`] is the handle of a thread that owns a `store`; it knows the time and the channels, the store
//! neither.

mod collection;
mod queue;
mod reporter;
mod store;
#[cfg(test)]
mod tests;
mod thread;
mod worker;

use std::time::Duration;

pub use collection::{CollectError, Collection, Stopped};
pub use reporter::Reporter;
pub use thread::{Aggregator, Running};

use crate::config::control::By;

/// What an aggregator does.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The names of an agent that the series of its metrics have; agents that share them share their series.
    pub by: By,
    /// How long a series stays that is not reported any more: at least so long, and about a sixteenth
    /// longer at most.
    pub expiry: Duration,
    /// Series of all agents together, at most.
    pub max_series: usize,
}
