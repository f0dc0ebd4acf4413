//! The embedded control plane.
mod rpc;
