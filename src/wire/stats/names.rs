//! What a series of an agent may be called. A control plane shows it beside its own on one page, with labels of its own
//! added (coder/coder coderd/prometheusmetrics/aggregator.go).

/// Names that begin so are the control plane's own.
const RESERVED: [&[u8]; 5] = [
    b"coderd_",
    b"go_",
    b"process_",
    b"promhttp_",
    b"weir_control_",
];

/// Names that are the agents' although they begin so.
const AGENTS: [&[u8]; 2] = [
    b"coderd_agentstats_currently_reachable_peers",
    b"coderd_agentstats_startup_script_seconds",
];

/// The labels that the control plane adds to every series.
const ADDED_LABELS: [&[u8]; 4] = [
    b"agent_name",
    b"template_name",
    b"username",
    b"workspace_name",
];

/// Whether a name is one that the control plane has for itself.
pub fn is_reserved(name: &[u8]) -> bool {
    RESERVED.iter().any(|prefix| name.starts_with(prefix)) && !looks_reserved(name)
}

/// Whether a name is an agent's although it looks like the control plane's.
pub fn looks_reserved(name: &[u8]) -> bool {
    AGENTS.contains(&name)
}

/// Whether a label is one that the control plane adds.
pub fn is_added_label(name: &[u8]) -> bool {
    ADDED_LABELS.contains(&name)
}

/// The charset before UTF-8 names came, which every control plane takes and the text format 0.0.4 has:
/// `[a-zA-Z_:][a-zA-Z0-9_:]*`.
pub fn is_metric_name(name: &[u8]) -> bool {
    is_name(name, b":")
}

/// As that of metrics, without the colon.
pub fn is_label_name(name: &[u8]) -> bool {
    is_name(name, b"")
}

/// Whether a name has nothing but letters, digits, underscores and `more`, and does not begin with a digit.
fn is_name(name: &[u8], more: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || more.contains(byte);
    name.first().is_some_and(|first| !first.is_ascii_digit()) && name.iter().all(fits)
}
