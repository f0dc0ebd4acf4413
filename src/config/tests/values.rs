//! One valid and one wrong case per flag, and the edges.

use std::path::Path;
use std::time::Duration;

use super::{TOKEN, ok, resolve, resolve_on};
use crate::buffer::WhenFull;
use crate::buffer::spooler::SpoolSync;
use crate::config::MAX_SOCKET_PATH;
use crate::config::fake::Fake;
use crate::config::refused::REFUSALS;
use crate::config::setting::{ALL, Shape};

/// What a valid value of each flag turns into, as the effective configuration shows it.
const VALID: &[(&str, &str, &str)] = &[
    ("agent-url", "HTTP://h:3000", "\"http://h:3000/\""),
    (
        "agent-url",
        "https://[::1]:8443/",
        "\"https://[::1]:8443/\"",
    ),
    ("agent-token", "any~token", "\"[redacted]\""),
    ("agent-token-file", "/token", "\"/token\""),
    (
        "agent-header",
        "X-A=a=b,\"X-B=c,d\"",
        "[\"x-a=[redacted]\", \"x-b=[redacted]\"]",
    ),
    ("agent-header", "X-A=", "[\"x-a=[redacted]\"]"),
    (
        "boundary-log-proxy-socket-path",
        "./a.sock",
        "\"/cwd/a.sock\"",
    ),
    (
        "scrape",
        "node=http://h:9100,a.b_c-1=unix:/a.sock:/x?y=1",
        "[\"node=http://h:9100/metrics\", \"a.b_c-1=unix:/a.sock:/x?y=1\"]",
    ),
    ("prometheus-address", "", "\"\""),
    ("prometheus-address", ":9100", "\"0.0.0.0:9100\""),
    ("prometheus-address", "localhost:0", "\"localhost:0\""),
    ("prometheus-address", "[::1]:2112", "\"[::1]:2112\""),
    ("prometheus-address", "unix:m.sock", "\"unix:/cwd/m.sock\""),
    ("transport", "grpc", "\"grpc\""),
    ("transport", "websocket", "\"websocket\""),
    ("role", "log.stream_1-a", "\"log.stream_1-a\""),
    ("report-agent-metrics", "always", "\"always\""),
    ("report-agent-metrics", "never", "\"never\""),
    ("socket-mode", "0o666", "\"0666\""),
    ("socket-mode", "0", "\"0000\""),
    ("socket-mode", "777", "\"0777\""),
    ("take-over", "true", "true"),
    ("take-over", "0", "false"),
    ("buffer-max-batches", "1", "1"),
    ("buffer-max-batches", "10000000", "10000000"),
    ("buffer-max-bytes", "65536", "\"64KiB\""),
    ("buffer-max-bytes", "1TiB", "\"1TiB\""),
    ("buffer-max-bytes", "20MB", "\"20000000B\""),
    ("when-full", "drop-oldest", "\"drop-oldest\""),
    ("when-full", "block", "\"block\""),
    ("spool-dir", "spool", "\"/cwd/spool\""),
    ("delivery", "at-most-once", "\"at-most-once\""),
    ("retry-initial", "10s", "\"10s\""),
    ("retry-max", "100ms", "\"100ms\""),
    ("retry-max-age", "1h 30m", "\"1h 30m\""),
    ("coalesce-max-bytes", "0", "\"0B\""),
    ("coalesce-max-bytes", "32KiB", "\"32KiB\""),
    ("coalesce-max-bytes", "3MiB", "\"3MiB\""),
    ("drain-timeout", "0s", "\"0s\""),
    ("drain-timeout", "30days", "\"30days\""),
    ("api-socket", "api", "\"/cwd/api\""),
    (
        "log-level",
        "warn,weir::forward=trace",
        "\"weir::forward=trace,warn\"",
    ),
    ("log-level", "weir=debug", "\"weir=debug,info\""),
    ("log-format", "json", "\"json\""),
];

#[test]
fn a_valid_value_of_each_flag_takes_effect() {
    let host = Fake::default().with_file("/token", TOKEN);
    for (flag, value, shown) in VALID {
        let config = resolve_on(&host, &[(flag, value)]).unwrap();
        let line = format!("{} = {shown}  # command line\n", flag.replace('-', "_"));
        assert!(config.to_string().contains(&line), "{line}{config}");
    }
}

/// What is said of a wrong value of each flag.
const INVALID: &[(&str, &str, &str)] = &[
    ("agent-url", "", "got \"\""),
    (
        "agent-url",
        "coder.example.com",
        "expected an http:// or https:// URL with a host",
    ),
    ("agent-url", "ftp://h", "got \"ftp://h\""),
    ("agent-url", "https://", "got \"https://\""),
    ("agent-url", "https:///path", "got \"https:///path\""),
    ("agent-url", " https://h", "got \" https://h\""),
    ("agent-url", "https://h:99999", "got \"https://h:99999\""),
    ("agent-url", "https://hidden@h", "got one with a @"),
    ("agent-url", "https://h/?hidden", "got one with a ? or #"),
    ("agent-url", "https://h/#hidden", "got one with a ? or #"),
    ("agent-token", "", "got nothing"),
    (
        "agent-token",
        "hidden\n",
        "another character at position 7 of 7",
    ),
    (
        "agent-token",
        "h\u{e9}",
        "another character at position 2 of 3",
    ),
    ("agent-token-file", "", "expected a path, got nothing"),
    (
        "agent-token-file",
        "/absent",
        "cannot read /absent: entity not found",
    ),
    ("agent-token-file", "/empty", "got nothing"),
    (
        "agent-token-file",
        "/two-lines",
        "another character at position 7 of 13",
    ),
    ("agent-token-file", "/huge", "file too large"),
    ("agent-header", "hidden", "got no = in header 1"),
    (
        "agent-header",
        "hid den=x",
        "got an invalid name in header 1",
    ),
    (
        "agent-header",
        "a=b,=hidden",
        "got an invalid name in header 2",
    ),
    (
        "agent-header",
        "a=hid\nden",
        "got an invalid value in header 1",
    ),
    ("agent-header", "Host=x", "got host"),
    ("agent-header", "CONNECTION=x", "got connection"),
    ("agent-header", "Upgrade=x", "got upgrade"),
    (
        "agent-header",
        "Sec-WebSocket-Protocol=x",
        "got sec-websocket-protocol",
    ),
    (
        "agent-header",
        "Coder-Session-Token=hidden",
        "got coder-session-token",
    ),
    ("agent-header", "Content-Length=1", "got content-length"),
    ("agent-header", "\"a=b", "got a quote that is not closed"),
    ("agent-header", "\"a=b\"c", "got text after a closing quote"),
    ("agent-header", "a=\"b", "got a quote inside a value"),
    (
        "boundary-log-proxy-socket-path",
        "",
        "expected a path, got nothing",
    ),
    ("boundary-log-proxy-socket-path", "/", "got no file name"),
    (
        "boundary-log-proxy-socket-path",
        "/dir/",
        "got the directory /dir",
    ),
    ("boundary-log-proxy-socket-path", "/a\0b", "or a NUL"),
    (
        "prometheus-address",
        "2112",
        "expected HOST:PORT, unix:PATH or nothing",
    ),
    ("prometheus-address", "h:", "got \"h:\""),
    ("prometheus-address", "h:65536", "got \"h:65536\""),
    ("prometheus-address", "h:+1", "got \"h:+1\""),
    ("prometheus-address", "::1:2112", "got \"::1:2112\""),
    ("prometheus-address", "[h]:1", "got \"[h]:1\""),
    (
        "prometheus-address",
        "unix:",
        "expected a path, got nothing",
    ),
    (
        "transport",
        "quic",
        "expected websocket or grpc, got \"quic\"",
    ),
    ("role", "", "got \"\""),
    ("role", "a b", "expected 1 to 64 of the characters"),
    (
        "role",
        "agent",
        "not available in this version: being the workspace agent",
    ),
    (
        "report-agent-metrics",
        "yes",
        "expected auto or always or never",
    ),
    (
        "socket-mode",
        "0800",
        "expected octal permissions, 0000 to 0777, got \"0800\"",
    ),
    ("socket-mode", "1777", "got \"1777\""),
    ("socket-mode", "+600", "got \"+600\""),
    ("socket-mode", "", "got \"\""),
    (
        "take-over",
        "yes",
        "expected true or false or 1 or 0, got \"yes\"",
    ),
    (
        "buffer-max-batches",
        "0",
        "expected a number from 1 to 10000000, got \"0\"",
    ),
    ("buffer-max-batches", "10000001", "got \"10000001\""),
    (
        "buffer-max-batches",
        "99999999999999999999",
        "got \"99999999999999999999\"",
    ),
    (
        "buffer-max-bytes",
        "65535",
        "expected a size from 64KiB to 1TiB",
    ),
    ("buffer-max-bytes", "2TiB", "got \"2TiB\""),
    (
        "buffer-max-bytes",
        "99999999999EiB",
        "got \"99999999999EiB\"",
    ),
    ("buffer-max-bytes", "-1", "got \"-1\""),
    ("buffer-max-bytes", "1 potato", "got \"1 potato\""),
    (
        "when-full",
        "panic",
        "expected drop-newest or drop-oldest or block",
    ),
    ("block-deadline", "0s", "expected a duration of more than 0"),
    ("spool-dir", "", "expected a path, got nothing"),
    ("spool-max-bytes", "0", "expected a size from 1MiB to 1TiB"),
    ("spool-max-bytes", "1023KiB", "got \"1023KiB\""),
    ("spool-sync", "soon", "expected always or interval or never"),
    (
        "delivery",
        "exactly-once",
        "expected at-least-once or at-most-once",
    ),
    ("retry-initial", "0s", "expected a duration of more than 0"),
    (
        "retry-initial",
        "11s",
        "expected at most --retry-max, 10s, got 11s",
    ),
    (
        "retry-max",
        "31days",
        "at most 30days, such as 100ms, got \"31days\"",
    ),
    ("retry-max", "5", "got \"5\""),
    ("retry-max-age", "0s", "expected a duration of more than 0"),
    (
        "coalesce-max-bytes",
        "1",
        "expected 0, or a size from 32KiB to 3MiB",
    ),
    ("coalesce-max-bytes", "4MiB", "got \"4MiB\""),
    (
        "drain-timeout",
        "soon",
        "expected a duration from 0s to 30days",
    ),
    ("drain-timeout", "-1s", "got \"-1s\""),
    ("scrape", "http://h/?a=b", "expected a name of 1 to 64"),
    ("scrape", "http://h", "expected NAME=URL, got \"http://h\""),
    ("scrape", "=http://h", "got \"\""),
    ("scrape", "a b=http://h", "got \"a b\""),
    ("scrape", "a=h:9100", "expected http://HOST"),
    (
        "scrape",
        "a=http://u:hidden@h",
        "got one with a @ (not shown)",
    ),
    (
        "scrape",
        "a=unix:b.sock",
        "expected an absolute path of a socket",
    ),
    (
        "scrape",
        "a=http://h,a=http://i",
        "expected a name that no other target has",
    ),
    ("api-socket", "/dir", "got the directory /dir"),
    (
        "api-socket",
        "/tmp/boundary-audit.sock",
        "expected another path than that of --boundary",
    ),
    ("log-level", "debgu", "got \"debgu\""),
    ("log-level", "", "got \"\""),
    ("log-level", "info,", "got \"\""),
    ("log-level", "weir=", "got \"weir=\""),
    ("log-level", "=info", "got \"=info\""),
    ("log-level", "3", "got \"3\""),
    ("log-format", "xml", "expected text or json, got \"xml\""),
];

#[test]
fn a_wrong_value_of_each_flag_is_one_fault_that_says_what_was_expected() {
    let host = Fake::default()
        .with_file("/empty", " \n")
        .with_file("/two-lines", "hidden\nhidden\n")
        .with_file("/huge", &"x".repeat(64 * 1024 + 1));
    for (flag, value, said) in INVALID {
        let faults = resolve_on(&host, &[(flag, value)]).unwrap_err();
        assert!(
            faults.starts_with("1 fault in the configuration:\n"),
            "{flag}: {faults}"
        );
        assert!(faults.contains(&format!("--{flag}: ")), "{flag}: {faults}");
        assert!(faults.contains(said), "{flag} {value:?}: {faults}");
        assert!(faults.ends_with("(command line)"), "{flag}: {faults}");
        assert!(!faults.contains("hidden"), "{faults}");
    }
}

#[test]
fn every_target_that_is_wrong_is_a_fault_of_its_own() {
    let many: Vec<_> = (0..17).map(|n| format!("t{n}=http://h")).collect();
    let faults =
        resolve(&[("scrape", "a=h"), ("scrape", "b c=http://h,d=http://h,d=x")]).unwrap_err();
    assert!(
        faults.starts_with("3 faults in the configuration:\n"),
        "{faults}"
    );
    let faults = resolve(&[("scrape", &many.join(","))]).unwrap_err();
    assert!(
        faults.contains("--scrape: expected at most 16 targets, got 17"),
        "{faults}"
    );
}

#[test]
fn every_flag_has_a_valid_and_a_wrong_case() {
    for setting in ALL {
        let named = |cases: &[(&str, &str, &str)]| cases.iter().any(|case| case.0 == setting.flag);
        assert!(named(INVALID), "{}", setting.flag);
        let asks_for_nothing = REFUSALS.iter().any(|row| row.setting.flag == setting.flag);
        let shown_with_another =
            ["block-deadline", "spool-max-bytes", "spool-sync"].contains(&setting.flag);
        assert!(
            named(VALID) || asks_for_nothing || shown_with_another,
            "{}",
            setting.flag
        );
    }
}

#[test]
fn the_socket_path_may_fill_the_address_and_no_more() {
    let longest = format!("/{}", "x".repeat(MAX_SOCKET_PATH - 1));
    let config = ok(&[("api-socket", &longest)]);
    assert_eq!(config.api_socket, Path::new(&longest));
    let faults = resolve(&[("api-socket", &format!("{longest}x"))]).unwrap_err();
    assert!(
        faults.contains("at most 107 bytes, got 108 bytes in /xxx"),
        "{faults}"
    );
}

#[test]
fn long_values_are_cut_in_messages() {
    let faults = resolve(&[("role", &"\u{e9}".repeat(5000))]).unwrap_err();
    assert!(faults.contains("\u{e9}\"..."), "{faults}");
    assert!(faults.len() < 500, "{faults}");
}

#[test]
fn the_block_deadline_reaches_the_policy() {
    let deadline = Duration::from_millis(1);
    let config = ok(&[("when-full", "block"), ("block-deadline", "1ms")]);
    assert_eq!(config.buffer.when_full, WhenFull::Block { deadline });
}

#[test]
fn a_spool_needs_less_memory_unless_more_is_asked_for() {
    assert_eq!(ok(&[]).buffer.max_bytes, 16 << 20);
    let config = ok(&[("spool-dir", "/spool")]);
    assert_eq!(config.buffer.max_bytes, 4 << 20);
    let spool = config.spool.unwrap();
    assert_eq!(
        (spool.max_bytes, spool.sync),
        (256 << 20, SpoolSync::Interval)
    );

    let config = ok(&[
        ("spool-dir", "/spool"),
        ("buffer-max-bytes", "9MiB"),
        ("spool-max-bytes", "1MiB"),
        ("spool-sync", "always"),
    ]);
    assert_eq!(config.buffer.max_bytes, 9 << 20);
    let text = config.to_string();
    for line in ["spool_max_bytes = \"1MiB\"", "spool_sync = \"always\""] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn settings_of_a_spool_without_one_are_told() {
    let config = ok(&[("spool-sync", "never")]);
    assert_eq!(
        config.warnings(),
        ["--spool-sync has no effect without --spool-dir"]
    );
}

#[test]
fn too_many_headers_are_refused() {
    let many: Vec<_> = (0..65).map(|_| ("agent-header", "a=b")).collect();
    assert_eq!(ok(&many[..64]).upstream.headers.len(), 64);
    assert!(
        resolve(&many)
            .unwrap_err()
            .contains("expected at most 64 headers, got 65")
    );
}

#[test]
fn keys_and_variables_are_unique() {
    for (index, setting) in ALL.iter().enumerate() {
        let later = &ALL[index + 1..];
        assert!(
            later
                .iter()
                .all(|other| other.flag != setting.flag && other.env != setting.env)
        );
        assert!(setting.shape != Shape::TextOrEmpty || setting.flag == "prometheus-address");
    }
}
