//! How often to report: as the control plane says, within bounds.

use std::time::Duration;

use prost::Message as _;

use crate::pb::agent::UpdateStatsResponse;

/// The shortest time between two reports.
pub const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The longest time between two reports, whatever the control plane asks for. coderd lets a series expire two minutes after its
/// latest sample, so that with a report lost on the way it must still be reported within that time.
pub const MAX_INTERVAL: Duration = Duration::from_secs(50);

/// The time between two reports where the control plane does not say: what coderd says by default
/// (`--agent-stats-refresh-interval`).
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);

/// The part of the interval by which a wait is shortened at most. Sidecars that an event has brought into step, such as
/// the end of an outage, fall out of it again.
const JITTER: f64 = 0.1;

/// The interval that a reply asks for.
pub(super) fn interval(reply: &[u8]) -> Duration {
    let reply = UpdateStatsResponse::decode(reply).ok();
    let asked = reply.and_then(|reply| duration(reply.report_interval?));
    asked.map_or(DEFAULT_INTERVAL, |asked| {
        asked.clamp(MIN_INTERVAL, MAX_INTERVAL)
    })
}

/// A protobuf duration, unless it is zero, negative or malformed. The conversion of its own crate overflows on some of
/// the latter.
fn duration(asked: prost_types::Duration) -> Option<Duration> {
    let seconds = u64::try_from(asked.seconds).ok()?;
    let nanos = u32::try_from(asked.nanos).ok()?;
    let asked = Duration::new(seconds, (nanos < 1_000_000_000).then_some(nanos)?);
    (!asked.is_zero()).then_some(asked)
}

/// The time from one report to the next: the interval, or a little less.
pub(super) fn wait(interval: Duration, random: &mut fastrand::Rng) -> Duration {
    interval.mul_f64(1.0 - JITTER * random.f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(seconds: i64, nanos: i32) -> Vec<u8> {
        let report_interval = Some(prost_types::Duration { seconds, nanos });
        UpdateStatsResponse { report_interval }.encode_to_vec()
    }

    #[test]
    fn the_control_plane_decides_within_bounds() {
        let seconds = Duration::from_secs;
        for (asked, interval) in [
            (reply(30, 0), seconds(30)),
            (reply(2, 500_000_000), Duration::from_millis(2_500)),
            (reply(1, 0), MIN_INTERVAL),
            (reply(0, 1), MIN_INTERVAL),
            (reply(300, 0), MAX_INTERVAL),
            (reply(i64::MAX, 999_999_999), MAX_INTERVAL),
        ] {
            assert_eq!(super::interval(&asked), interval, "{asked:?}");
        }
    }

    #[test]
    fn what_is_no_interval_leaves_the_default() {
        for asked in [
            Vec::new(),
            reply(0, 0),
            reply(-5, 0),
            reply(0, -1),
            reply(1, -1),
            reply(i64::MIN, i32::MIN),
            reply(i64::MAX, i32::MAX),
            b"\x0a\xff".to_vec(),
            b"\x08\x01".to_vec(),
        ] {
            assert_eq!(interval(&asked), DEFAULT_INTERVAL, "{asked:?}");
        }
    }

    #[test]
    fn waits_are_spread_and_never_longer_than_the_interval() {
        let mut random = fastrand::Rng::with_seed(7);
        let waits: Vec<_> = (0..1_000)
            .map(|_| wait(MAX_INTERVAL, &mut random))
            .collect();
        let shortest = MAX_INTERVAL.mul_f64(1.0 - JITTER);
        assert!(
            waits
                .iter()
                .all(|wait| (shortest..=MAX_INTERVAL).contains(wait))
        );
        let early = waits
            .iter()
            .filter(|wait| **wait < MAX_INTERVAL.mul_f64(1.0 - JITTER / 2.0));
        assert!((400..600).contains(&early.count()));
    }
}
