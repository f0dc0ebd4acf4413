//! Waiting for conditions, bounded, with the last status in the message.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How long a condition may take to come true. Nothing in a test needs it; it covers a machine with far more
/// to do than these tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks until there is what is waited for. `look` says what it saw instead.
pub async fn wait_for<T, S: Display>(what: &str, mut look: impl AsyncFnMut() -> Result<T, S>) -> T {
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(
                begun.elapsed() < PATIENCE,
                "not seen within {PATIENCE:?}: {what}; last seen: {seen}"
            ),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
