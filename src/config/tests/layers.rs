//! Precedence, the file, and several faults at once.

use std::ffi::OsString;

use super::{URL, flags, resolve_on};
use crate::config::fake::Fake;
use crate::config::setting::ALL;
use crate::config::{Config, TokenSource};

#[test]
fn flags_go_before_environment_before_file_before_default() {
    let host = Fake::default()
        .with_file(
            "/c.toml",
            "# settings\ndrain_timeout = \"2s\"\nretry_max = \"2s\"\nrole = \"file\"",
        )
        .with_variable("WEIR_DRAIN_TIMEOUT", "3s")
        .with_variable("WEIR_RETRY_MAX", "3s")
        .with_variable("WEIR_ROLE", "");
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
        host = host.with_variable(setting.env, "");
    }
    let config = resolve_on(&host, &[]).unwrap();
    assert_eq!(config.prometheus, None);
    assert_eq!(config.to_string().matches("# environment").count(), 1);
}

#[test]
fn the_token_and_its_file_count_as_one_setting() {
    let host = Fake::default()
        .with_file("/token", "from-file\n")
        .with_file("/c.toml", "agent_token_file = \"/token\"");
    let from = |host: &Fake, given: &[(&str, &str)]| {
        let mut all = vec![("agent-url", URL)];
        all.extend(given);
        let config = Config::resolve(&flags(&all), host).map_err(|faults| faults.to_string())?;
        Ok::<_, String>(matches!(config.upstream.token, TokenSource::File(_)))
    };
    assert_eq!(from(&host, &[("agent-token-file", "/token")]), Ok(true));
    assert_eq!(from(&host, &[("config", "/c.toml")]), Ok(true));

    let host = host.with_variable("CODER_AGENT_TOKEN", "from-variable");
    assert_eq!(from(&host, &[("config", "/c.toml")]), Ok(false));
    assert_eq!(from(&host, &[("agent-token-file", "/token")]), Ok(true));

    let host = host.with_variable("CODER_AGENT_TOKEN_FILE", "/token");
    let faults = from(&host, &[]).unwrap_err();
    assert!(faults.contains("--agent-token: expected one of it and --agent-token-file, got both"));
}

#[test]
fn every_fault_is_listed_at_once() {
    let host = Fake::default()
        .with_file(
            "/c.toml",
            "\nretries = 3\nagent-url = \"x\"\nsocket_mode = 0o600\nrole = []\nscrape = [1]\n",
        )
        .with_variable("WEIR_DELIVERY", "twice")
        .with_variable("CODER_AGENT_HEADER", "hidden");
    let given = flags(&[
        ("config", "/c.toml"),
        ("drain-timeout", "soon"),
        ("spool-sync", "soon"),
        ("api-socket", "/dir"),
    ]);
    let faults = Config::resolve(&given, &host).unwrap_err();
    let faults = faults.to_string();
    let mut lines: Vec<&str> = faults.lines().map(str::trim_start).collect();
    assert_eq!(lines.remove(0), "12 faults in the configuration:");
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
            "--spool-sync: expected always or interval or never, got \"soon\" (command line)",
            "/c.toml:2: unknown key \"retries\"",
            "/c.toml:3: unknown key \"agent-url\", write agent_url",
            "/c.toml:4: socket_mode: expected a string, got an integer",
            "/c.toml:5: role: expected a string, got an array",
            "/c.toml:6: scrape: expected an array of strings, got an array of other values",
        ]
    );
}

#[test]
fn the_file_takes_every_setting_in_its_shape() {
    let mut content = String::from("agent_url = \"http://h\"\nagent_token = \"t\"\n");
    content.push_str("buffer_max_batches = 5\nbuffer_max_bytes = 65_536\ntake_over = true\n");
    content.push_str("agent_header = [\"a=b,c\", \"d=e\"]\nprometheus_address = \"\"\n");
    let host = Fake::default().with_file("/c.toml", &content);
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
        let host = Fake::default().with_file("/c.toml", content);
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
fn a_required_setting_of_the_wrong_type_is_wrong_and_not_missing() {
    let host = Fake::default().with_file("/c.toml", "agent_url = 1\nagent_token = [\"hidden\"]\n");
    let faults = Config::resolve(&flags(&[("config", "/c.toml")]), &host).unwrap_err();
    assert_eq!(
        faults.to_string(),
        "2 faults in the configuration:\n  \
         /c.toml:1: agent_url: expected a string, got an integer\n  \
         /c.toml:2: agent_token: expected a string, got an array"
    );
}
