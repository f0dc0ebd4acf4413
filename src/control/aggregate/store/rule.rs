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
const ADDITIVE: [&str; 14] = [
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
        match kind {
            Kind::Counter => Self::Total,
            Kind::Gauge if ADDITIVE.iter().any(|end| name.ends_with(end.as_bytes())) => Self::Sum,
            Kind::Gauge => Self::Latest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_of_a_name_is_documented() {
        let document = include_str!("../../../../METRICS.md");
        let (_, list) = document.split_once("**Gauges** are added up").unwrap();
        let (list, _) = list.split_once("Of all others").unwrap();
        let documented: Vec<_> = list.split('`').skip(1).step_by(2).collect();
        assert_eq!(documented, ADDITIVE);
    }

    #[test]
    fn the_rule_follows_from_type_and_name() {
        let rule = |name: &str, kind| Rule::of(name.as_bytes(), kind);
        assert_eq!(rule("weir_logs_in_memory", Kind::Gauge), Rule::Sum);
        assert_eq!(
            rule("weir_oldest_log_age_seconds", Kind::Gauge),
            Rule::Latest
        );
        assert_eq!(rule("bytes", Kind::Gauge), Rule::Latest);
        assert_eq!(rule("held_bytes", Kind::Counter), Rule::Total);
    }
}
