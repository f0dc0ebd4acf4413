//! Weir forwards metrics and audit logs out of developer workspaces and counts every loss.

pub mod wire;
