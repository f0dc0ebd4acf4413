use super::*;

const EXPIRY: Duration = Duration::from_secs(120);

pub(in crate::control) fn report(rx_bytes: i64, ssh: i64) -> Stats {
    Stats {
        rx_bytes,
        tx_bytes: rx_bytes.saturating_mul(10),
        connection_count: 3,
        connection_median_latency_ms: 12.5,
        session_count_ssh: ssh,
        session_count_vscode: 4,
        ..Stats::default()
    }
}

#[test]
fn bytes_add_up_and_counts_are_the_latest() {
    let (cell, now) = (Statistics::default(), Instant::now());
    assert_eq!(cell.shown(now, EXPIRY), None);
    cell.record(&report(5, 1), true, now, EXPIRY);
    cell.record(&report(7, 2), true, now, EXPIRY);
    let shown = cell.shown(now, EXPIRY).unwrap();
    assert_eq!((shown.rx_bytes, shown.tx_bytes), (12, 120));
    assert_eq!((shown.counts.ssh, shown.counts.vscode), (2, 4));
    assert_eq!(shown.counts.connections, 3);
    assert_eq!(shown.counts.latency, Some(0.0125));

    // Nothing that is told can make them less, or wrap.
    cell.record(&report(i64::MIN, -2), true, now, EXPIRY);
    let shown = cell.shown(now, EXPIRY).unwrap();
    assert_eq!((shown.rx_bytes, shown.counts.ssh), (12, 0));
    for _ in 0..3 {
        let most = Stats {
            rx_bytes: i64::MAX,
            ..Stats::default()
        };
        cell.record(&most, true, now, EXPIRY);
    }
    assert_eq!(cell.shown(now, EXPIRY).unwrap().rx_bytes, u64::MAX);
}

#[test]
fn what_is_not_reported_any_more_is_not_shown_and_begins_anew() {
    let (cell, now) = (Statistics::default(), Instant::now());
    cell.record(&report(5, 1), true, now, EXPIRY);
    assert!(cell.shown(now + EXPIRY, EXPIRY).is_some());
    let late = now + EXPIRY + Duration::from_nanos(1);
    assert_eq!(cell.shown(late, EXPIRY), None);
    cell.record(&report(7, 1), true, late, EXPIRY);
    assert_eq!(cell.shown(late, EXPIRY).unwrap().rx_bytes, 7);
    cell.clear();
    assert_eq!(cell.shown(late, EXPIRY), None);
}

#[test]
fn a_sidecars_counts_stand_only_while_there_are_none_of_the_agent() {
    let (cell, start) = (Statistics::default(), Instant::now());
    let ssh = |at| cell.shown(at, EXPIRY).unwrap().counts.ssh;
    cell.record(&report(1, 8), false, start, EXPIRY);
    assert_eq!(ssh(start), 8);
    cell.record(&report(1, 2), true, start, EXPIRY);
    cell.record(&report(1, 0), false, start + EXPIRY, EXPIRY);
    assert_eq!(ssh(start + EXPIRY), 2);
    assert_eq!(cell.shown(start + EXPIRY, EXPIRY).unwrap().rx_bytes, 3);
    // The agent has said nothing for too long.
    let late = start + EXPIRY + Duration::from_secs(1);
    cell.record(&report(1, 0), false, late, EXPIRY);
    assert_eq!(ssh(late), 0);
}

#[test]
fn sessions_by_program_take_the_place_of_the_four_fields() {
    let sessions = |pairs: &[(&str, i64)]| {
        let pairs = pairs
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count));
        Counts::of(&Stats {
            session_counts: pairs.collect(),
            session_count_vscode: 100,
            ..Stats::default()
        })
    };
    let counts = sessions(&[
        ("VSCode", 1),
        ("vscode", 2),
        (" cursor", 4),
        ("jetbrains", 8),
        ("zed", 16),
        ("ssh", 32),
        ("Reconnecting-PTY", 64),
        ("my-future-ide", 128),
    ]);
    let expected = Counts {
        vscode: 7,
        jetbrains: 8,
        ssh: 48,
        reconnecting_pty: 64,
        ..Counts::default()
    };
    assert_eq!(counts, expected);
    assert_eq!(sessions(&[("ssh", -3)]), Counts::default());
    let most = sessions(&[("ssh", i64::MAX), ("zed", i64::MAX)]);
    assert_eq!(most.ssh, i64::MAX);
}

#[test]
fn a_report_is_read_past_its_metrics() {
    use crate::pb::agent::stats::Metric;
    use crate::pb::agent::{Stats as Whole, UpdateStatsRequest};

    let whole = UpdateStatsRequest {
        stats: Some(Whole {
            connections_by_proto: [("TCP".to_owned(), 1)].into(),
            connection_count: 2,
            connection_median_latency_ms: 3.5,
            rx_packets: 4,
            rx_bytes: 5,
            tx_packets: 6,
            tx_bytes: 7,
            session_count_vscode: 8,
            session_count_jetbrains: 9,
            session_count_reconnecting_pty: 10,
            session_count_ssh: 11,
            metrics: vec![Metric::default(); 100],
            session_counts: [("ssh".to_owned(), 13)].into(),
        }),
    };
    let report = Report::decode(&whole.encode_to_vec()[..]).unwrap();
    let expected = Stats {
        connection_count: 2,
        connection_median_latency_ms: 3.5,
        rx_bytes: 5,
        tx_bytes: 7,
        session_count_vscode: 8,
        session_count_jetbrains: 9,
        session_count_reconnecting_pty: 10,
        session_count_ssh: 11,
        session_counts: [("ssh".to_owned(), 13)].into(),
    };
    assert_eq!(report.stats, Some(expected));
    assert_eq!(Report::decode(&b""[..]).unwrap().stats, None);
}

#[test]
fn a_latency_that_is_none_is_not_shown() {
    for latency in [0.0, -0.001, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let counts = Counts::of(&Stats {
            connection_median_latency_ms: latency,
            ..Stats::default()
        });
        assert_eq!(counts.latency, None, "{latency}");
    }
}
