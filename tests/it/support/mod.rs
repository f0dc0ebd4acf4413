//! What several tests need.

pub mod certificates;
pub mod coderd;
pub mod control;
pub mod exporter;
pub mod http;
pub mod page;
pub mod plane;
pub mod proxy;
pub mod sender;
pub mod sidecar;
pub mod target;
pub mod wait;
