//! Which series may go up. A control plane exposes what its agents report beside what it counts itself, on one page, and
//! one series that does not fit there costs the page: client_golang refuses to serve any of it, and before that may
//! panic on a malformed series. So nothing malformed or foreign leaves here.

use super::sample::{Sample, SampleKind};
use crate::metrics::SampleFault;
use crate::wire::stats::names;

/// Who counts a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// This process, under the names of its catalogue.
    Own,
    /// Another program, under whatever name.
    Other,
}

/// Whose name it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespace {
    /// What a sidecar counts.
    Weir,
    /// What a workspace agent reports itself, under the same token and so as the same series.
    Agent,
    /// What the control plane counts.
    ControlPlane,
    /// Nobody's in particular.
    Free,
}

fn namespace(name: &str) -> Namespace {
    if names::looks_reserved(name.as_bytes()) || name.starts_with("agent_") {
        Namespace::Agent
    } else if names::is_reserved(name.as_bytes()) {
        Namespace::ControlPlane
    } else if name.starts_with("weir_") {
        Namespace::Weir
    } else {
        Namespace::Free
    }
}

/// Whether a name is one that a workspace agent reports itself.
pub(super) fn is_agents(name: &str) -> bool {
    namespace(name) == Namespace::Agent
}

/// Whether one of our own families is to go up at all. What is left out here was never meant to, so nobody counts it.
pub(super) fn is_chosen(name: &str, agent_metrics: bool) -> bool {
    match namespace(name) {
        Namespace::Weir => true,
        Namespace::Agent => agent_metrics,
        Namespace::ControlPlane | Namespace::Free => false,
    }
}

/// Whether a sample may go up by itself, whatever else does; its labels are in order.
///
/// # Errors
/// Why it may not.
pub(super) fn check(
    sample: &Sample,
    origin: Origin,
    agent_metrics: bool,
) -> Result<(), SampleFault> {
    if !names::is_metric_name(sample.name.as_bytes()) {
        return Err(SampleFault::InvalidName);
    }
    let may_name = match namespace(&sample.name) {
        Namespace::Weir => origin == Origin::Own,
        Namespace::Agent => agent_metrics,
        Namespace::ControlPlane => false,
        Namespace::Free => true,
    };
    if !may_name {
        return Err(SampleFault::ReservedName);
    }
    let labels = || sample.labels.iter().map(|(name, _)| name.as_bytes());
    let twice = labels()
        .zip(labels().skip(1))
        .any(|(one, next)| one == next);
    if twice || !labels().all(names::is_label_name) {
        return Err(SampleFault::InvalidName);
    }
    if labels().any(|name| name.starts_with(b"__") || names::is_added_label(name)) {
        return Err(SampleFault::ReservedLabel);
    }
    if sample.kind == SampleKind::Composite {
        return Err(SampleFault::Histogram);
    }
    Ok(())
}
