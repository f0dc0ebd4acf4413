//! Weir forwards audit logs out of developer workspaces and counts every loss by reason.

#![forbid(unsafe_code)]

pub mod app;
mod audit_line;
pub mod backoff;
pub mod buffer;
pub mod cli;
pub mod collect;
pub mod config;
pub mod control;
pub mod demo;
pub mod emit;
pub mod forward;
pub mod ingest;
pub mod logging;
pub mod metrics;
pub mod pb;
pub mod report;
pub mod scrape;
pub mod script;
pub mod shutdown;
pub mod spool;
pub mod systemd;
pub mod tally;
pub mod upstream;
mod uuid;
mod warnings;
pub mod wire;
