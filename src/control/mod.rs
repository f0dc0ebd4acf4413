//! The embedded control plane.
mod agents;
mod boundary_log;
mod rpc;
mod service;
