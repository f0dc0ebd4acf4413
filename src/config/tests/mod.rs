//! The whole resolution: defaults, output without secrets, warnings, memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fake::Fake;
use super::setting::ALL;
use super::*;

mod layers;
mod values;

const URL: &str = "https://coder.example.com/";
const TOKEN: &str = "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d";

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
    assert_eq!(config.upstream.transport, Transport::WebSocket);
    assert_eq!(config.upstream.role, "weir");
    assert_eq!(config.report_agent_metrics, AgentMetrics::Auto);
    assert_eq!(
        config.upstream.schedule.initial(),
        Duration::from_millis(100)
    );
    assert_eq!(config.upstream.schedule.max(), Duration::from_secs(10));
    assert_eq!(config.socket.path, Path::new("/tmp/boundary-audit.sock"));
    assert_eq!(config.socket.mode, 0o600);
    assert!(!config.socket.take_over);
    assert_eq!(config.buffer.max_batches, 10_000);
    assert_eq!(config.buffer.max_bytes, 16 << 20);
    assert_eq!(config.buffer.when_full, WhenFull::DropNewest);
    assert_eq!(config.forward.delivery, Delivery::AtLeastOnce);
    assert_eq!(config.forward.max_age, None);
    assert_eq!(config.scrape, []);
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

#[test]
fn the_default_sockets_follow_tmpdir_and_the_audit_socket() {
    let host = Fake::default().with_variable("TMPDIR", "/run/user");
    let config = resolve_on(&host, &[]).unwrap();
    assert_eq!(
        config.socket.path,
        Path::new("/run/user/boundary-audit.sock")
    );
    assert_eq!(config.api_socket, Path::new("/run/user/weir.sock"));

    let config = resolve_on(
        &Fake::default().with_variable("TMPDIR", ""),
        &[("boundary-log-proxy-socket-path", "/run/a.sock")],
    )
    .unwrap();
    assert_eq!(config.api_socket, Path::new("/run/weir.sock"));
}

#[test]
fn asking_a_sidecar_needs_nothing_but_the_socket_paths() {
    let host = Fake::default().with_variable("CODER_AGENT_HEADER", "\"not closed");
    let given = flags(&[("boundary-log-proxy-socket-path", "/run/a.sock")]);
    let path = resolve_api_socket(&given, &host).unwrap();
    assert_eq!(path, Path::new("/run/weir.sock"));

    let faults = resolve_api_socket(&flags(&[("api-socket", "/dir")]), &host).unwrap_err();
    assert!(faults.to_string().starts_with("1 fault"), "{faults}");
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
    let host = Fake::default().with_file("/c.toml", &config.to_string());
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
    let host = Fake::default().with_file("/token", &format!("{secret}\n{secret}"));
    let error = TokenSource::File("/token".into())
        .read_from(&host)
        .unwrap_err();
    assert!(!format!("{error} {error:?}").contains("s3cr3t"));
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
fn memory_is_bounded_by_the_settings_and_compared_with_every_control_group_above() {
    let small = ok(&[("buffer-max-bytes", "64KiB"), ("buffer-max-batches", "1")]);
    let large = ok(&[("buffer-max-bytes", "64MiB"), ("buffer-max-batches", "1")]);
    assert_eq!(
        small.memory_bound().total(),
        (8 << 20) + 2 * (64 << 10) + 256
    );
    assert_eq!(
        large.memory_bound().total(),
        (8 << 20) + (64 << 20) + (10 << 20) + 256
    );

    let limit = |files: &[(&str, &str)]| {
        let host = files.iter().fold(Fake::default(), |host, (path, content)| {
            host.with_file(path, content)
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
