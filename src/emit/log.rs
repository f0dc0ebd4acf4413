//! A decision to be reported, and made-up ones.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::wire::boundary::encode::LogEntry;

/// Fewest bytes of a made-up URL: room for its host and any sequence number.
pub const MIN_URL_BYTES: usize = 32;

/// One request of a confined process, and what was decided about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Whether the request was let through.
    pub allowed: bool,
    /// When it was decided.
    pub time: SystemTime,
    /// The HTTP method.
    pub method: String,
    /// The URL asked for.
    pub url: String,
    /// The rule that let the request through; empty when none did.
    pub matched_rule: String,
}

impl Log {
    /// The `index`th made-up log: allowed and denied in turn, for a URL of `url_bytes` bytes, but
    /// at least [`MIN_URL_BYTES`].
    pub fn made_up(index: u64, time: SystemTime, url_bytes: usize) -> Self {
        let allowed = index.is_multiple_of(2);
        Self {
            allowed,
            time,
            method: "GET".to_owned(),
            url: made_up_url(index, url_bytes),
            matched_rule: if allowed { MADE_UP_RULE } else { "" }.to_owned(),
        }
    }

    /// Appends the log with number `sequence`, encoded as it stands in a request.
    pub(super) fn put(&self, sequence: i32, out: &mut Vec<u8>) {
        let (seconds, nanos) = timestamp(self.time);
        LogEntry {
            allowed: self.allowed,
            seconds,
            nanos,
            sequence,
            method: &self.method,
            url: &self.url,
            matched_rule: &self.matched_rule,
        }
        .put(out);
    }
}

/// The rule that made-up logs match.
pub(super) const MADE_UP_RULE: &str = "domain=weir.test";

/// A URL of `bytes` bytes, but at least [`MIN_URL_BYTES`], that is the `index`th of its kind.
pub(super) fn made_up_url(index: u64, bytes: usize) -> String {
    let mut url = format!("https://weir.test/{index:010}/");
    let padding = bytes.max(MIN_URL_BYTES).saturating_sub(url.len());
    url.extend(std::iter::repeat_n('x', padding));
    url
}

/// Seconds since 1970 and the nanoseconds after them, as protobuf's `Timestamp` has them: the
/// nanoseconds count forward before 1970 too.
fn timestamp(time: SystemTime) -> (i64, i32) {
    const SECOND: i32 = 1_000_000_000;
    let parts = |span: Duration| {
        let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        (seconds, span.subsec_nanos().cast_signed())
    };
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => parts(after),
        Err(before) => match parts(before.duration()) {
            (seconds, 0) => (-seconds, 0),
            (seconds, nanos) => (-seconds - 1, SECOND - nanos),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_count_forward_on_both_sides_of_1970() {
        let at = |nanos: i64| {
            let span = Duration::from_nanos(nanos.unsigned_abs());
            timestamp(if nanos < 0 {
                UNIX_EPOCH - span
            } else {
                UNIX_EPOCH + span
            })
        };
        assert_eq!(at(0), (0, 0));
        assert_eq!(at(1_500_000_000), (1, 500_000_000));
        assert_eq!(at(-1_000_000_000), (-1, 0));
        assert_eq!(at(-1), (-1, 999_999_999));
        assert_eq!(at(-1_500_000_000), (-2, 500_000_000));
    }

    #[test]
    fn made_up_urls_have_the_size_asked_for() {
        for (asked, given) in [
            (0, MIN_URL_BYTES),
            (MIN_URL_BYTES, MIN_URL_BYTES),
            (200, 200),
        ] {
            assert_eq!(made_up_url(0, asked).len(), given);
            assert_eq!(made_up_url((1 << 31) - 1, asked).len(), given);
        }
        assert_ne!(made_up_url(1, 100), made_up_url(2, 100));
    }
}
