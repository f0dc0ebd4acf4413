//! What the world sees of a sidecar: metrics, health and status, on a thread of their own so that they answer
//! while the data path is stuck, and never the other way round: a scrape that fails costs no log. The page of a
//! control plane is served in the same way.

mod books;
mod endpoint;
mod exporter;
pub mod health;
mod listen;
mod pages;
mod scripts;
mod serve;
pub mod status;
mod trend;
mod view;

pub use endpoint::{Endpoint, Handle};
pub use exporter::{Exporter, Pages};
pub use listen::Address;
pub use view::{Senders, Sources, View};

/// The version of this build.
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod tests;
