//! What several tests need.

pub mod agent;
pub mod asked;
pub mod certificates;
pub mod coderd;
pub mod control;
#[macro_use]
pub mod each;
pub mod exporter;
pub mod http;
#[expect(
    dead_code,
    reason = "shared with the unit tests of the decoders, which use the rest of it"
)]
pub mod mutate;
pub mod page;
pub mod plane;
pub mod prometheus;
pub mod proxy;
pub mod sender;
pub mod sidecar;
pub mod target;
pub mod wait;
