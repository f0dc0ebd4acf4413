//! What several tests need.

pub mod agent;
pub mod certificates;
pub mod coderd;
pub mod control;
pub mod http;
pub mod page;
pub mod plane;
pub mod prometheus;
pub mod proxy;
pub mod sender;
pub mod sidecar;
pub mod wait;
