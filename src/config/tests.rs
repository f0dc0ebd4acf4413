//! The whole resolution: one case per flag, precedence, several faults at once, and no secret in
//! any output.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::setting::{ALL, Shape};
use super::*;

const URL: &str = "https://coder.example.com/";
const TOKEN: &str = "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d";

/// A machine made of maps, with `/work` as its current directory and `/dir` as its only other one.
#[derive(Default)]
struct Fake {
    variables: BTreeMap<String, OsString>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Host for Fake {
    fn variable(&self, name: &str) -> Option<OsString> {
        self.variables.get(name).cloned()
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        match self.files.get(path) {
            Some(content) if content.len() as u64 > limit => {
                Err(io::ErrorKind::FileTooLarge.into())
            }
            Some(content) => Ok(content.clone()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn is_directory(&self, path: &Path) -> bool {
        [Path::new("/work"), Path::new("/dir"), Path::new("/")].contains(&path)
    }

    fn current_directory(&self) -> io::Result<PathBuf> {
        Ok("/work".into())
    }
}

impl Fake {
    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    fn file(mut self, path: &str, content: &str) -> Self {
        self.files.insert(path.into(), content.into());
        self
    }
}

fn flags(given: &[(&str, &str)]) -> Flags {
    let mut values: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (flag, value) in given {
        values.entry(flag).or_default().push((*value).to_owned());
    }
    let mut flags = Flags::default();
    flags.set_config(
        values
            .remove("config")
            .map(|paths| PathBuf::from(&paths[0])),
    );
    for (flag, value) in values {
        let setting = ALL.iter().find(|setting| setting.flag == flag).unwrap();
        flags.set(setting, value);
    }
    flags
}

/// The configuration of these flags together with a valid URL and token.
fn resolve(given: &[(&str, &str)]) -> Result<Config, String> {
    resolve_on(&Fake::default(), given)
}

fn resolve_on(host: &Fake, given: &[(&str, &str)]) -> Result<Config, String> {
    let mut flags = flags(given);
    for (flag, value) in [("agent-url", URL), ("agent-token", TOKEN)] {
        let given_token =
            flag == "agent-token" && given.iter().any(|(f, _)| *f == "agent-token-file");
        if !given.iter().any(|(f, _)| *f == flag) && !given_token {
            flags.set(
                ALL.iter().find(|s| s.flag == flag).unwrap(),
                vec![value.into()],
            );
        }
    }
    Config::resolve(&flags, host).map_err(|faults| faults.to_string())
}

fn ok(given: &[(&str, &str)]) -> Config {
    resolve(given).unwrap()
}

#[test]
fn the_defaults_are_those_of_the_interface() {
    let config = ok(&[]);
    assert_eq!(config.upstream.url.as_str(), URL);
    assert_eq!(config.upstream.token.read().unwrap().expose(), TOKEN);
    assert!(config.upstream.headers.is_empty());
    assert_eq!(config.upstream.role, "weir");
    assert_eq!(config.upstream.retry_initial, Duration::from_millis(100));
    assert_eq!(config.upstream.retry_max, Duration::from_secs(10));
    assert_eq!(config.socket.path, Path::new("/tmp/boundary-audit.sock"));
    assert_eq!(config.socket.mode, 0o600);
    assert!(!config.socket.take_over);
    assert_eq!(config.buffer.max_batches, 10_000);
    assert_eq!(config.buffer.max_bytes, 16 << 20);
    assert_eq!(config.buffer.when_full, WhenFull::DropNewest);
    assert_eq!(config.forward.delivery, Delivery::AtLeastOnce);
    assert_eq!(config.forward.max_age, None);
    assert_eq!(config.forward.coalesce_max_bytes, 1 << 20);
    assert_eq!(
        config.prometheus,
        Some(ScrapeAddress::Tcp("127.0.0.1:2112".into()))
    );
    assert_eq!(config.api_socket, Path::new("/tmp/weir.sock"));
    assert_eq!(config.drain_timeout, Duration::from_secs(5));
    assert_eq!(config.log.filter.to_string(), "info");
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(config.warnings(), [""; 0]);
}

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
        "\"/work/a.sock\"",
    ),
    ("prometheus-address", "", "\"\""),
    ("prometheus-address", ":9100", "\"0.0.0.0:9100\""),
    ("prometheus-address", "localhost:0", "\"localhost:0\""),
    ("prometheus-address", "[::1]:2112", "\"[::1]:2112\""),
    ("prometheus-address", "unix:m.sock", "\"unix:/work/m.sock\""),
    ("role", "log.stream_1-a", "\"log.stream_1-a\""),
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
    ("delivery", "at-most-once", "\"at-most-once\""),
    ("retry-initial", "10s", "\"10s\""),
    ("retry-max", "100ms", "\"100ms\""),
    ("retry-max-age", "1h 30m", "\"1h 30m\""),
    ("coalesce-max-bytes", "0", "\"0B\""),
    ("coalesce-max-bytes", "32KiB", "\"32KiB\""),
    ("coalesce-max-bytes", "3MiB", "\"3MiB\""),
    ("drain-timeout", "0s", "\"0s\""),
    ("drain-timeout", "30days", "\"30days\""),
    ("api-socket", "api", "\"/work/api\""),
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
    let host = Fake::default().file("/token", TOKEN);
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
    (
        "transport",
        "grpc",
        "not available in this version: the gRPC transport",
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
        "report-agent-metrics",
        "always",
        "not available in this version: reporting metrics",
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
    (
        "spool-dir",
        "/spool",
        "not available in this version: the disk spool",
    ),
    (
        "spool-max-bytes",
        "1GiB",
        "not available in this version: the disk spool",
    ),
    ("spool-max-bytes", "0", "expected a size from 1B to 1TiB"),
    (
        "spool-sync",
        "always",
        "not available in this version: the disk spool",
    ),
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
    (
        "scrape",
        "a=http://h/metrics",
        "not available in this version: scraping",
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
        .file("/empty", " \n")
        .file("/two-lines", "hidden\nhidden\n")
        .file("/huge", &"x".repeat(64 * 1024 + 1));
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
fn every_flag_has_a_valid_and_a_wrong_case() {
    for setting in ALL {
        let named = |cases: &[(&str, &str, &str)]| cases.iter().any(|case| case.0 == setting.flag);
        assert!(named(INVALID), "{}", setting.flag);
        let asks_for_nothing = super::refused::REFUSALS
            .iter()
            .any(|row| row.setting.flag == setting.flag);
        let shown_with_another = setting.flag == "block-deadline";
        assert!(
            named(VALID) || asks_for_nothing || shown_with_another,
            "{}",
            setting.flag
        );
    }
}

#[test]
fn the_defaults_of_absent_features_may_be_written_out() {
    ok(&[
        ("transport", "websocket"),
        ("report-agent-metrics", "auto"),
        ("spool-max-bytes", "268435456"),
        ("spool-sync", "interval"),
    ]);
    ok(&[("report-agent-metrics", "never")]);
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
fn the_default_sockets_follow_tmpdir_and_the_audit_socket() {
    let host = Fake::default().variable("TMPDIR", "/run/user");
    let config = resolve_on(&host, &[]).unwrap();
    assert_eq!(
        config.socket.path,
        Path::new("/run/user/boundary-audit.sock")
    );
    assert_eq!(config.api_socket, Path::new("/run/user/weir.sock"));

    let config = resolve_on(
        &Fake::default().variable("TMPDIR", ""),
        &[("boundary-log-proxy-socket-path", "/run/a.sock")],
    )
    .unwrap();
    assert_eq!(config.api_socket, Path::new("/run/weir.sock"));
    assert_eq!(
        resolve_api_socket(
            &flags(&[("boundary-log-proxy-socket-path", "/run/a.sock")]),
            &Fake::default()
        )
        .unwrap(),
        Path::new("/run/weir.sock"),
        "asking a sidecar needs neither URL nor token"
    );
}

#[test]
fn flags_go_before_environment_before_file_before_default() {
    let host = Fake::default()
        .file(
            "/c.toml",
            "# settings\ndrain_timeout = \"2s\"\nretry_max = \"2s\"\nrole = \"file\"",
        )
        .variable("WEIR_DRAIN_TIMEOUT", "3s")
        .variable("WEIR_RETRY_MAX", "3s")
        .variable("WEIR_ROLE", "");
    let config = resolve_on(&host, &[("config", "/c.toml"), ("drain-timeout", "4s")]).unwrap();
    let text = config.to_string();
    for line in [
        "drain_timeout = \"4s\"  # command line",
        "retry_max = \"3s\"  # environment variable WEIR_RETRY_MAX",
        "role = \"file\"  # /c.toml:4",
        "delivery = \"at-least-once\"  # default",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn an_empty_variable_is_unset_unless_empty_is_a_value() {
    let mut host = Fake::default();
    for setting in ALL {
        host = host.variable(setting.env, "");
    }
    let config = resolve_on(&host, &[]).unwrap();
    assert_eq!(config.prometheus, None);
    assert_eq!(config.to_string().matches("# environment").count(), 1);
}

#[test]
fn the_token_and_its_file_count_as_one_setting() {
    let host = Fake::default()
        .file("/token", "from-file\n")
        .file("/c.toml", "agent_token_file = \"/token\"");
    let from = |host: &Fake, given: &[(&str, &str)]| {
        let mut all = vec![("agent-url", URL)];
        all.extend(given);
        let config = Config::resolve(&flags(&all), host).map_err(|faults| faults.to_string())?;
        Ok::<_, String>(matches!(config.upstream.token, TokenSource::File(_)))
    };
    assert_eq!(from(&host, &[("agent-token-file", "/token")]), Ok(true));
    assert_eq!(from(&host, &[("config", "/c.toml")]), Ok(true));

    let host = host.variable("CODER_AGENT_TOKEN", "from-variable");
    assert_eq!(from(&host, &[("config", "/c.toml")]), Ok(false));
    assert_eq!(from(&host, &[("agent-token-file", "/token")]), Ok(true));

    let host = host.variable("CODER_AGENT_TOKEN_FILE", "/token");
    let faults = from(&host, &[]).unwrap_err();
    assert!(faults.contains("--agent-token: expected one of it and --agent-token-file, got both"));
}

#[test]
fn every_fault_is_listed_at_once() {
    let host = Fake::default()
        .file(
            "/c.toml",
            "\nretries = 3\nagent-url = \"x\"\nsocket_mode = 0o600\nrole = []\nscrape = [1]\n",
        )
        .variable("WEIR_DELIVERY", "twice")
        .variable("CODER_AGENT_HEADER", "hidden");
    let given = flags(&[
        ("config", "/c.toml"),
        ("drain-timeout", "soon"),
        ("spool-dir", "/spool"),
        ("api-socket", "/dir"),
    ]);
    let faults = Config::resolve(&given, &host).unwrap_err();
    let mut lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        faults.to_string().lines().next(),
        Some("12 faults in the configuration:")
    );
    lines.sort();
    assert_eq!(
        lines,
        [
            "--agent-header: expected NAME=VALUE with a valid header name and a value of visible \
             ASCII, got no = in header 1 (environment variable CODER_AGENT_HEADER)",
            "--agent-token: required: expected it or --agent-token-file (flag, CODER_AGENT_TOKEN \
             or CODER_AGENT_TOKEN_FILE)",
            "--agent-url: required: expected the URL of the control plane (flag or \
             CODER_AGENT_URL)",
            "--api-socket: expected the path of a socket, at most 107 bytes, got the directory \
             /dir (command line)",
            "--delivery: expected at-least-once or at-most-once, got \"twice\" (environment \
             variable WEIR_DELIVERY)",
            "--drain-timeout: expected a duration from 0s to 30days, such as 5s, got \"soon\" \
             (command line)",
            "--spool-dir: not available in this version: the disk spool is not built yet (command \
             line)",
            "/c.toml:2: unknown key \"retries\"",
            "/c.toml:3: unknown key \"agent-url\", write agent_url",
            "/c.toml:4: socket_mode: expected a string, got an integer",
            "/c.toml:5: role: expected a string, got an array of something else",
            "/c.toml:6: scrape: expected an array of strings, got an array of something else",
        ]
    );
}

#[test]
fn the_file_takes_every_setting_in_its_shape() {
    let mut content = String::from("agent_url = \"http://h\"\nagent_token = \"t\"\n");
    content.push_str("buffer_max_batches = 5\nbuffer_max_bytes = 65_536\ntake_over = true\n");
    content.push_str("agent_header = [\"a=b,c\", \"d=e\"]\nprometheus_address = \"\"\n");
    let host = Fake::default().file("/c.toml", &content);
    let config = Config::resolve(&flags(&[("config", "/c.toml")]), &host).unwrap();
    assert_eq!(config.buffer.max_batches, 5);
    assert_eq!(config.buffer.max_bytes, 65_536);
    assert!(config.socket.take_over);
    assert_eq!(config.upstream.headers["a"], "b,c");
    assert_eq!(config.upstream.headers["d"], "e");
    assert_eq!(config.prometheus, None);
}

#[test]
fn a_broken_file_is_named_with_its_line_and_not_repeated() {
    for (content, line) in [
        ("role = \"a\"\nagent_token = hidden\n", 2),
        ("agent_token = \"hidden\n", 1),
        ("role = \"a\"\nrole = \"hidden\"\n", 2),
        ("\n\n[hidden", 3),
    ] {
        let host = Fake::default().file("/c.toml", content);
        let faults = resolve_on(&host, &[("config", "/c.toml")]).unwrap_err();
        let start = format!("/c.toml:{line}: not TOML: ");
        assert!(faults.contains(&start), "{content:?}: {faults}");
        assert!(!faults.contains("hidden"), "{content:?}: {faults}");
    }
}

#[test]
fn what_a_file_that_cannot_be_read_may_hold_is_not_reported_as_missing() {
    let faults = Config::resolve(&flags(&[("config", "/absent")]), &Fake::default());
    let faults = faults.unwrap_err().to_string();
    assert_eq!(
        faults,
        "1 fault in the configuration:\n  --config: cannot read /absent: entity not found (command line)"
    );
}

#[test]
fn the_effective_configuration_is_a_configuration_file() {
    let config = ok(&[
        ("retry-max-age", "90s"),
        ("when-full", "block"),
        ("block-deadline", "1500ms"),
        ("buffer-max-bytes", "100000"),
        ("log-level", "warn,a=off"),
        ("boundary-log-proxy-socket-path", "/a \"quoted\" path"),
    ]);
    let host = Fake::default().file("/c.toml", &config.to_string());
    let again = Config::resolve(&flags(&[("config", "/c.toml")]), &host).unwrap();
    let values = |config: &Config| -> Vec<String> {
        let text = config.to_string();
        text.lines()
            .map(|line| line.split("  # ").next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(values(&again), values(&config));
}

#[test]
fn secrets_are_in_no_output() {
    let secret = "s3cr3t-value";
    let headers = format!("X-Key={secret}");
    let given = [("agent-token", secret), ("agent-header", headers.as_str())];
    let config = ok(&given);
    assert_eq!(config.upstream.token.read().unwrap().expose(), secret);
    assert_eq!(config.upstream.headers["x-key"], secret);
    let outputs = [
        config.to_string(),
        format!("{config:?}"),
        format!("{:#?}", flags(&given)),
        format!("{:?}", config.warnings()),
        format!("{0} {0:?}", config.upstream.token.read().unwrap()),
    ];
    for output in outputs {
        assert!(!output.contains("s3cr3t"), "{output}");
    }
    let host = Fake::default().file("/token", &format!("{secret}\n{secret}"));
    let error = TokenSource::File("/token".into())
        .read_from(&host)
        .unwrap_err();
    assert!(!format!("{error} {error:?}").contains("s3cr3t"));
}

#[test]
fn long_values_are_cut_in_messages() {
    let faults = resolve(&[("role", &"\u{e9}".repeat(5000))]).unwrap_err();
    assert!(faults.contains("\u{e9}\"..."), "{faults}");
    assert!(faults.len() < 500, "{faults}");
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let warnings = |given: &[(&str, &str)]| ok(given).warnings().join("; ");
    assert!(warnings(&[("agent-token", "abc")]).contains("not a UUID"));
    assert!(warnings(&[("agent-url", "https://h/path")]).contains("\"/path\" is not used"));
    assert!(warnings(&[("block-deadline", "1s")]).contains("no effect without --when-full block"));
    assert_eq!(
        warnings(&[("block-deadline", "1s"), ("when-full", "block")]),
        ""
    );

    let small = [
        ("buffer-max-bytes", "64KiB"),
        ("coalesce-max-bytes", "2MiB"),
    ];
    assert!(warnings(&small).contains("--coalesce-max-bytes is lowered"));
    assert_eq!(ok(&small).forward.coalesce_max_bytes, 64 << 10);
    assert_eq!(warnings(&small[..1]), "");
}

#[test]
fn the_block_deadline_reaches_the_policy() {
    let deadline = Duration::from_millis(1);
    let config = ok(&[("when-full", "block"), ("block-deadline", "1ms")]);
    assert_eq!(config.buffer.when_full, WhenFull::Block { deadline });
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
fn a_variable_that_is_not_text_is_a_fault_without_its_bytes() {
    use std::os::unix::ffi::OsStringExt;
    let mut host = Fake::default();
    let bytes = OsString::from_vec(b"\xffhidden".to_vec());
    host.variables.insert("WEIR_ROLE".into(), bytes);
    let faults = resolve_on(&host, &[]).unwrap_err();
    assert!(
        faults.contains("--role: expected UTF-8, got other bytes (environment variable WEIR_ROLE)")
    );
    assert!(!faults.contains("hidden"));
}

#[test]
fn memory_is_bounded_by_the_settings_and_compared_with_every_control_group_above() {
    let small = ok(&[("buffer-max-bytes", "64KiB"), ("buffer-max-batches", "1")]);
    let large = ok(&[("buffer-max-bytes", "64MiB"), ("buffer-max-batches", "1")]);
    assert_eq!(
        small.memory_bound().total(),
        (8 << 20) + 2 * (64 << 10) + 256
    );
    assert_eq!(
        large.memory_bound().total(),
        (8 << 20) + (64 << 20) + (16 << 20) + 256
    );

    let limit = |files: &[(&str, &str)]| {
        let host = files.iter().fold(Fake::default(), |host, (path, content)| {
            host.file(path, content)
        });
        memory_limit(&host)
    };
    let own = ("/proc/self/cgroup", "0::/a/b\n");
    assert_eq!(limit(&[]), None);
    assert_eq!(
        limit(&[own, ("/sys/fs/cgroup/a/b/memory.max", "max\n")]),
        None
    );
    assert_eq!(
        limit(&[
            own,
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/memory.max", "1000\n"),
            ("/sys/fs/cgroup/memory.max", "2000\n"),
        ]),
        Some(1000)
    );
    let old = ("/proc/self/cgroup", "5:cpu:/x\n4:memory,hugetlb:/a\n0::/\n");
    let file = ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "4096\n");
    assert_eq!(limit(&[old, file]), Some(4096));
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
