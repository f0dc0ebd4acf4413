//! Weir takes boundary audit-log batches from a Unix socket and forwards them to the control
//! plane; every drop is counted by its reason.

pub mod cli;
pub mod config;
pub mod logging;
