//! Which series may go up. A control plane exposes what its agents report beside what it counts itself, on one page, and
//! one series that does not fit there costs the page: client_golang refuses to serve any of it, and before that may
//! panic on a malformed series. So nothing malformed or foreign leaves here.

use super::sample::{Sample, SampleKind};
use crate::metrics::SampleFault;

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

/// What an agent reports although the name looks like the control plane's.
const AGENTS_OWN: [&str; 2] = [
    "coderd_agentstats_startup_script_seconds",
    "coderd_agentstats_currently_reachable_peers",
];

const CONTROL_PLANES: [&str; 5] = ["coderd_", "go_", "process_", "promhttp_", "weir_control_"];

/// The labels that the control plane adds to every series of an agent.
const ADDED_LABELS: [&str; 4] = ["username", "workspace_name", "agent_name", "template_name"];

fn namespace(name: &str) -> Namespace {
    if AGENTS_OWN.contains(&name) || name.starts_with("agent_") {
        Namespace::Agent
    } else if CONTROL_PLANES.iter().any(|prefix| name.starts_with(prefix)) {
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
    if !is_metric_name(&sample.name) {
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
    let names = || sample.labels.iter().map(|(name, _)| name.as_str());
    let twice = names().zip(names().skip(1)).any(|(one, next)| one == next);
    if twice || !names().all(is_label_name) {
        return Err(SampleFault::InvalidName);
    }
    if names().any(|name| name.starts_with("__") || ADDED_LABELS.contains(&name)) {
        return Err(SampleFault::ReservedLabel);
    }
    if sample.kind == SampleKind::Composite {
        return Err(SampleFault::Histogram);
    }
    Ok(())
}

/// The charset before UTF-8 names came, which every control plane takes: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
fn is_metric_name(name: &str) -> bool {
    is_name(name, |byte| matches!(byte, b'_' | b':'))
}

/// As that of metrics, without the colon.
fn is_label_name(name: &str) -> bool {
    is_name(name, |byte| byte == b'_')
}

fn is_name(name: &str, is_mark: fn(u8) -> bool) -> bool {
    let starts_well = |byte: &u8| byte.is_ascii_alphabetic() || is_mark(*byte);
    name.as_bytes().first().is_some_and(starts_well)
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || is_mark(byte))
}
