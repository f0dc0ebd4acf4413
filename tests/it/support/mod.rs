//! What several tests need.

pub mod coderd;
pub mod http;
pub mod page;
pub mod plane;
pub mod sender;
pub mod sidecar;
pub mod wait;
