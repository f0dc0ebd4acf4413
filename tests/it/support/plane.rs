//! What every control plane can be asked by a test, whichever program it is.

use url::Url;

/// A control plane that accounts for what it receives.
pub trait Plane {
    /// Where agents dial.
    fn url(&self) -> &Url;

    /// What arrived of a session; nothing of it may be older than the latest acknowledgement.
    async fn delivered(&self, session: &str) -> Delivered;

    /// Fails when a client did something that a protocol forbids.
    async fn expect_clean_wire(&self);
}

/// What arrived of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Different logs.
    pub distinct: u64,
    /// Logs that had arrived before.
    pub duplicates: u64,
    /// Logs that arrived for the first time after one with a higher number.
    pub out_of_order: u64,
    /// Of the encoded logs in the order in which they first arrived; in hex, empty when there is none.
    pub sha256: String,
}
