//! What several tests need.

pub mod certificates;
pub mod coderd;
pub mod control;
#[macro_use]
pub mod each;
pub mod http;
pub mod page;
pub mod plane;
pub mod proxy;
pub mod sender;
pub mod sidecar;
pub mod wait;
