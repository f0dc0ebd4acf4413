//! How the series of several agents become one.

use super::check::Kind;

/// What the value of a row is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// What all members have counted since they were first seen.
    Total,
    /// The members' values, added up.
    Sum,
    /// The value that was reported last. It is also the rule of a row that has one member at most.
    Latest,
}

/// The ends of names of gauges that are added up: what they show is a number of things, so that those of several
/// agents are so many things together. Everything else (seconds, timestamps, ratios, temperatures) is not, and the
/// sum of it would mean nothing: there the agent that reported last is shown.
///
/// METRICS.md repeats the list.
pub(super) const ADDITIVE: [&str; 14] = [
    "_batches",
    "_bytes",
    "_connected",
    "_connections",
    "_count",
    "_in_flight",
    "_in_memory",
    "_info",
    "_logs",
    "_on_disk",
    "_peers",
    "_senders",
    "_series",
    "_sessions",
];

impl Rule {
    /// The rule for rows that may have members of several agents.
    pub(super) fn of(name: &[u8], kind: Kind) -> Self {
        let additive = |end: &&str| name.ends_with(end.as_bytes());
        match kind {
            Kind::Counter => Self::Total,
            Kind::Gauge if ADDITIVE.iter().any(additive) => Self::Sum,
            Kind::Gauge => Self::Latest,
        }
    }
}
