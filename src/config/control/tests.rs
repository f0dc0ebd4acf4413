use std::time::SystemTime;

use super::setting::ALL;
use super::*;
use crate::config::fake::Fake;
use crate::config::{Flags, LogFormat};

const TOKEN: &str = "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d";

fn resolve_on(host: &Fake, given: &[(&str, &str)]) -> Result<ControlConfig, String> {
    let mut flags = Flags::default();
    for (flag, value) in given {
        let setting = ALL.iter().find(|setting| setting.flag == *flag).unwrap();
        flags.set(setting, vec![(*value).to_owned()]);
    }
    ControlConfig::resolve(&flags, host).map_err(|faults| faults.to_string())
}

fn resolve(given: &[(&str, &str)]) -> Result<ControlConfig, String> {
    let token = [("agent-token", TOKEN)];
    resolve_on(&Fake::default(), &[&token, given].concat())
}

fn with_agents(content: &str) -> Result<Vec<AgentSpec>, String> {
    let host = Fake::default().with_file("/cwd/agents.toml", content);
    resolve_on(&host, &[("agents", "agents.toml")]).map(|config| config.agents)
}

fn table(token: u8, agent: &str) -> String {
    format!(
        "[[agent]]\ntoken = \"{token:08x}-2a5e-4c9b-9a53-0d6f3b1c2e4d\"\nusername = \"alice\"\n\
         workspace_name = \"dev\"\nagent_name = \"{agent}\"\ntemplate_name = \"docker\"\n"
    )
}

#[test]
fn the_defaults_are_those_of_the_interface() {
    let config = resolve(&[]).unwrap();
    assert_eq!(config.listen, "127.0.0.1:3000");
    assert_eq!(config.prometheus, None);
    assert_eq!(config.refresh_interval, Duration::from_secs(30));
    assert_eq!(config.boundary_log, None);
    assert_eq!(config.tls, None);
    assert_eq!(config.log.format, LogFormat::Text);
    let labels = &config.agents[0].labels;
    assert_eq!(
        [
            &labels.username,
            &labels.workspace_name,
            &labels.agent_name,
            &labels.template_name
        ],
        ["weir", "default", "main", "default"]
    );
    assert!(!format!("{config:?}").contains("6f1f9f3a"));
}

#[test]
fn every_setting_has_its_effect() {
    let config = resolve(&[
        ("listen", ":0"),
        ("prometheus-enable", "true"),
        ("prometheus-address", "[::1]:2113"),
        ("agent-stats-refresh-interval", "1m"),
        ("boundary-log-output", "log/boundary.jsonl"),
        ("tls-cert", "cert.pem"),
        ("tls-key", "/key.pem"),
        ("log-format", "json"),
    ])
    .unwrap();
    assert_eq!(config.listen, "0.0.0.0:0");
    assert_eq!(config.prometheus.as_deref(), Some("[::1]:2113"));
    assert_eq!(config.refresh_interval, Duration::from_secs(60));
    let file = BoundaryLogOutput::File("/cwd/log/boundary.jsonl".into());
    assert_eq!(config.boundary_log, Some(file));
    let tls = config.tls.unwrap();
    assert_eq!(
        (tls.cert, tls.key),
        ("/cwd/cert.pem".into(), "/key.pem".into())
    );
    assert_eq!(config.log.format, LogFormat::Json);
    let stderr = resolve(&[("boundary-log-output", "-")]).unwrap();
    assert_eq!(stderr.boundary_log, Some(BoundaryLogOutput::Stderr));
}

#[test]
fn variables_are_those_of_the_interface() {
    let host = Fake::default()
        .with_variable("CODER_HTTP_ADDRESS", "127.0.0.1:1")
        .with_variable("CODER_PROMETHEUS_ENABLE", "true")
        .with_variable("CODER_PROMETHEUS_ADDRESS", "127.0.0.1:2")
        .with_variable("CODER_AGENT_STATS_REFRESH_INTERVAL", "3s")
        .with_variable("WEIR_BOUNDARY_LOG_OUTPUT", "-")
        .with_variable("WEIR_AGENT_TOKEN", TOKEN)
        // Of a workspace that a control plane is tried out in.
        .with_variable("CODER_AGENT_TOKEN", "something else");
    let config = resolve_on(&host, &[("prometheus-address", "127.0.0.1:4")]).unwrap();
    assert_eq!(config.listen, "127.0.0.1:1");
    assert_eq!(config.prometheus.as_deref(), Some("127.0.0.1:4"));
    assert_eq!(config.refresh_interval, Duration::from_secs(3));
    assert_eq!(config.boundary_log, Some(BoundaryLogOutput::Stderr));
}

#[test]
fn a_value_that_is_wrong_is_refused_with_what_was_expected() {
    for (flag, value, said) in [
        ("listen", "3000", "expected HOST:PORT, got \"3000\""),
        (
            "prometheus-address",
            "unix:/run/x",
            "expected HOST:PORT, got \"unix:/run/x\"",
        ),
        ("prometheus-enable", "yes", "expected true or false"),
        ("agent-stats-refresh-interval", "0s", "more than 0"),
        ("boundary-log-output", "/dir", "got the directory /dir"),
        (
            "tls-cert",
            "cert.pem",
            "--tls-key: required together with --tls-cert",
        ),
        (
            "tls-key",
            "key.pem",
            "--tls-cert: required together with --tls-key",
        ),
        (
            "prometheus-collect-agent-stats",
            "sometimes",
            "expected true or false",
        ),
        (
            "prometheus-aggregate-agent-stats-by",
            "colour",
            "got \"colour\"",
        ),
        (
            "prometheus-aggregate-agent-stats-by",
            "none,username",
            "expected labels, or none alone",
        ),
        ("metrics-expiry", "0s", "more than 0"),
        ("max-series", "0", "expected a number"),
        ("max-series", "many", "expected a number"),
        ("log-level", "loud", "got \"loud\""),
    ] {
        let faults = resolve(&[(flag, value)]).unwrap_err();
        assert!(faults.contains(said), "{faults}");
        assert!(faults.starts_with("1 fault"), "{faults}");
    }
}

#[test]
fn metrics_are_told_apart_by_the_labels_that_are_given() {
    let by = |value: &str| {
        let flags = [("prometheus-aggregate-agent-stats-by", value)];
        resolve(&flags).unwrap().aggregate_by
    };
    assert_eq!(resolve(&[]).unwrap().aggregate_by, By::ALL);
    assert_eq!(
        by("username,agent_name,workspace_name,template_name"),
        By::ALL
    );
    assert_eq!(by("none"), By::NONE);
    let some = By {
        username: true,
        template_name: true,
        ..By::NONE
    };
    assert_eq!(by("template_name,username,username"), some);
}

#[test]
fn series_have_limits() {
    let config = resolve(&[]).unwrap();
    let (expiry, max) = (config.metrics_expiry, config.max_series);
    assert_eq!((expiry, max), (Duration::from_secs(120), 1_000_000));
    let config = resolve(&[("metrics-expiry", "90s"), ("max-series", "7")]).unwrap();
    let (expiry, max) = (config.metrics_expiry, config.max_series);
    assert_eq!((expiry, max), (Duration::from_secs(90), 7));
}

#[test]
fn exactly_one_of_file_and_token_is_taken() {
    let host = Fake::default().with_file("/agents", &table(1, "one"));
    let faults = resolve_on(&host, &[]).unwrap_err();
    assert!(
        faults.contains("--agents: required: expected it or --agent-token"),
        "{faults}"
    );
    let faults = resolve_on(&host, &[("agents", "/agents"), ("agent-token", TOKEN)]).unwrap_err();
    assert!(
        faults.contains("expected one of it and --agent-token, got both"),
        "{faults}"
    );
    let host = host.with_variable("WEIR_AGENT_TOKEN", TOKEN);
    let config = resolve_on(&host, &[("agents", "/agents")]).unwrap();
    assert_eq!(config.agents[0].labels.username, "alice");
    let host = host.with_variable("WEIR_AGENTS", "/agents");
    let config = resolve_on(&host, &[("agent-token", TOKEN)]).unwrap();
    assert_eq!(config.agents[0].labels.username, "weir");
    let faults = resolve_on(&Fake::default(), &[("agent-token", "s3cr3t")]).unwrap_err();
    assert!(
        faults.contains("expected a UUID") && !faults.contains("s3cr3t"),
        "{faults}"
    );
}

#[test]
fn an_agents_file_is_read() {
    let content = [
        table(1, "one"),
        "created_at = 2026-01-01T01:00:00+01:00\n".to_owned(),
        "[[agent.script]]\nscript = \"make\"\nrun_on_start = true\ntimeout = \"90s\"\n".to_owned(),
        "[[agent.script]]\nscript = \"date\"\ncron = \"0 */5 * * * *\"\ndisplay_name = \"Date\"\n"
            .to_owned(),
        "log_path = \"~/date.log\"\nid = \"00010203-0405-0607-0809-0A0b0c0d0e0f\"\n".to_owned(),
        table(2, "two"),
        "created_at = \"2026-01-01T00:00:00Z\"\n".to_owned(),
    ];
    let agents = with_agents(&content.concat()).unwrap();
    let new_year = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    assert_eq!(agents[0].created_at, Some(new_year));
    assert_eq!(agents[1].created_at, Some(new_year));
    assert!(agents[0].token != agents[1].token);
    let [make, date] = agents[0].scripts.as_slice() else {
        panic!("{agents:?}");
    };
    let expected = ScriptSpec {
        script: "make".into(),
        run_on_start: true,
        timeout: Some(Duration::from_secs(90)),
        ..ScriptSpec::default()
    };
    assert_eq!(*make, expected);
    assert_eq!(
        date.id,
        Some([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
    );
    assert_eq!(
        (date.cron.as_str(), date.log_path.as_str()),
        ("0 */5 * * * *", "~/date.log")
    );
}

#[test]
fn every_fault_of_an_agents_file_is_told_with_its_line() {
    let content = "\
[[agent]]
token = \"s3cr3t\"
username = \"\"
workspace_name = 7
agent_name = \"a\\nb\"
colour = \"red\"
created_at = 2026-01-01
[[agent.script]]
run_on_start = \"yes\"
cron = \"* *\"
timeout = \"soon\"
id = \"x\"
size = 1
[[agent]]
[agents]
";
    let faults = with_agents(content).unwrap_err();
    for said in [
        "agents.toml:2: token: expected a UUID, got 6 other bytes (not shown)",
        "agents.toml:3: username: expected 1 to 256 bytes, got 0",
        "agents.toml:4: workspace_name: expected a string, got an integer",
        "agents.toml:5: agent_name: expected no control characters, got \"a\\nb\"",
        "agents.toml:1: template_name: required, but absent",
        "agents.toml:6: unknown key \"colour\"",
        "agents.toml:7: created_at: expected a date and time with an offset",
        "agents.toml:8: script: required, but absent",
        "agents.toml:9: run_on_start: expected true or false, got a string",
        "agents.toml:10: cron: expected 5 or 6 fields, got \"* *\"",
        "agents.toml:11: timeout: expected a duration",
        "agents.toml:12: id: expected a UUID, got \"x\"",
        "agents.toml:13: unknown key \"size\"",
        "agents.toml:14: token: required, but absent",
        "unknown key \"agents\"",
    ] {
        assert!(faults.contains(said), "{said} in {faults}");
    }
    assert!(!faults.contains("s3cr3t"), "{faults}");
}

#[test]
fn agents_must_differ() {
    let same_token = [table(1, "one"), table(1, "two")].concat();
    let faults = with_agents(&same_token).unwrap_err();
    assert!(
        faults.contains(":7: token: the same as that of the agent in line 1"),
        "{faults}"
    );
    let same_names = [table(1, "one"), table(2, "one")].concat();
    let faults = with_agents(&same_names).unwrap_err();
    assert!(
        faults.contains(":7: the same names as the agent in line 1"),
        "{faults}"
    );
}

#[test]
fn a_file_that_is_none_of_agents_is_refused() {
    for (content, said) in [
        ("", "expected at least one [[agent]] table"),
        ("agent = 7", "expected [[agent]] tables, got an integer"),
        ("agent = [7]", "expected [[agent]] tables, got an integer"),
        ("[[agent]\ntoken = \"s3cr3t", "not TOML"),
    ] {
        let faults = with_agents(content).unwrap_err();
        assert!(
            faults.contains(said) && !faults.contains("s3cr3t"),
            "{faults}"
        );
    }
    let faults = resolve_on(&Fake::default(), &[("agents", "/none")]).unwrap_err();
    assert!(faults.contains("cannot read /none"), "{faults}");
}

#[test]
fn a_token_is_a_uuid_and_is_compared_whole() {
    let token = AgentToken::parse(TOKEN).unwrap();
    assert!(token.is(&AgentToken::parse(&TOKEN.to_uppercase()).unwrap()));
    for at in (0..TOKEN.len()).filter(|at| ![8, 13, 18, 23].contains(at)) {
        let mut changed = TOKEN.to_owned().into_bytes();
        changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(
            !token.is(&AgentToken::parse(&changed).unwrap()),
            "{changed}"
        );
    }
    let braced = format!("{{{TOKEN}}}");
    let plain = TOKEN.replace('-', "");
    for text in [
        "",
        "x",
        TOKEN.trim_start_matches('6'),
        &braced,
        &plain,
        &TOKEN.replace('f', "é"),
    ] {
        assert!(AgentToken::parse(text).is_none(), "{text}");
    }
}
