//! The configuration of the control plane.

use std::path::Path;

use super::Resolver;
use crate::config::Faults;
use crate::config::control::setting::{
    AGENT_TOKEN, AGENTS, AGGREGATE_BY, ALL, BOUNDARY_LOG_OUTPUT, COLLECT_AGENT_STATS, LISTEN,
    LOG_FORMAT, LOG_LEVEL, MAX_SERIES, MAX_SERIES_LIMIT, METRICS_EXPIRY, PROMETHEUS_ADDRESS,
    PROMETHEUS_ENABLE, REFRESH_INTERVAL, TLS_CERT, TLS_KEY,
};
use crate::config::control::{
    AgentSpec, AgentToken, BoundaryLogOutput, By, ControlConfig, Labels, MAX_FILE_BYTES, TlsFiles,
    parse_file,
};
use crate::config::fault::{Fault, Wrong};
use crate::config::host::Host;
use crate::config::parse;
use crate::config::raw::{Flags, Raw};

impl ControlConfig {
    /// Checks every value and builds the configuration.
    ///
    /// # Errors
    /// Every fault of the command line, the environment and the agents file at once. None of them
    /// repeats a token.
    pub fn resolve(flags: &Flags, host: &dyn Host) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let raw = Raw::collect(ALL, flags, host, &mut faults);
        let mut resolver = Resolver::new(&raw, host, faults);

        let listen = resolver.value(&LISTEN, address);
        let agents = resolver.agents();
        let prometheus = resolver.value(&PROMETHEUS_ADDRESS, address);
        let enabled = resolver.value(&PROMETHEUS_ENABLE, parse::switch);
        let collect_agent_stats = resolver.value(&COLLECT_AGENT_STATS, parse::switch);
        let refresh_interval = resolver.value(&REFRESH_INTERVAL, parse::positive_duration);
        let boundary_log = resolver.boundary_log();
        let tls = resolver.tls();
        let log = resolver.log(&LOG_LEVEL, &LOG_FORMAT);
        let aggregate_by = resolver.aggregate_by();
        let metrics_expiry = resolver.value(&METRICS_EXPIRY, parse::positive_duration);
        let max_series = resolver.value(&MAX_SERIES, |text| parse::count(text, MAX_SERIES_LIMIT));

        match (
            listen,
            agents,
            prometheus,
            enabled,
            collect_agent_stats,
            refresh_interval,
            aggregate_by,
            metrics_expiry,
            max_series,
            boundary_log,
            tls,
            log,
        ) {
            (
                Some(listen),
                Some(agents),
                Some(prometheus),
                Some(enabled),
                Some(collect_agent_stats),
                Some(refresh_interval),
                Some(aggregate_by),
                Some(metrics_expiry),
                Some(max_series),
                Some(boundary_log),
                Some(tls),
                Some(log),
            ) if resolver.faults.is_empty() => Ok(Self {
                listen,
                agents,
                prometheus: enabled.then_some(prometheus),
                collect_agent_stats,
                refresh_interval,
                aggregate_by,
                metrics_expiry,
                max_series,
                boundary_log,
                tls,
                log,
            }),
            _ => Err(Faults(resolver.faults)),
        }
    }
}

fn address(text: &str) -> Result<String, Wrong> {
    parse::host_port(text).map_err(|_| Wrong::value("HOST:PORT", text))
}

impl Resolver<'_> {
    /// Exactly one of the file and the token; the stronger layer wins, as for a single setting.
    fn agents(&mut self) -> Option<Vec<AgentSpec>> {
        let layer = |setting| self.raw.get(setting).map(|given| given.origin.layer());
        match (layer(&AGENTS), layer(&AGENT_TOKEN)) {
            (None, None) => {
                let message = format!(
                    "required: expected it or {} (flag, {} or {})",
                    AGENT_TOKEN.long(),
                    AGENTS.env,
                    AGENT_TOKEN.env
                );
                self.fault(&AGENTS, message);
                None
            }
            (Some(file), Some(token)) if file == token => {
                let message = format!("expected one of it and {}, got both", AGENT_TOKEN.long());
                self.fault(&AGENTS, message);
                None
            }
            (file, token) if file > token => self.agents_of_file(),
            _ => self.single_agent(),
        }
    }

    fn agents_of_file(&mut self) -> Option<Vec<AgentSpec>> {
        let path = self.path(&AGENTS)?;
        match self.read_agents(&path) {
            Ok(agents) => Some(agents),
            Err(faults) => {
                self.faults.extend(faults);
                None
            }
        }
    }

    fn read_agents(&self, path: &Path) -> Result<Vec<AgentSpec>, Vec<Fault>> {
        let origin = || self.origin(&AGENTS);
        let fault = |message: String| vec![Fault::new(AGENTS.long(), message, origin())];
        let content = self
            .host
            .read(path, MAX_FILE_BYTES)
            .map_err(|error| fault(format!("cannot read {}: {error}", path.display())))?;
        let content = String::from_utf8(content).map_err(|_| {
            fault(format!(
                "expected TOML, got bytes that are not UTF-8 in {}",
                path.display()
            ))
        })?;
        parse_file(&content).map_err(|faults| {
            let place = |line| format!("{}:{line}", path.display());
            faults
                .into_iter()
                .map(|fault| Fault::new(place(fault.line), fault.message, None))
                .collect()
        })
    }

    fn single_agent(&mut self) -> Option<Vec<AgentSpec>> {
        let token = self.value(&AGENT_TOKEN, |text| {
            let got = || format!("{} other bytes (not shown)", text.len());
            AgentToken::parse(text).ok_or_else(|| Wrong::new("a UUID", got()))
        })?;
        Some(vec![AgentSpec {
            token,
            labels: Labels {
                username: "weir".to_owned(),
                workspace_name: "default".to_owned(),
                agent_name: "main".to_owned(),
                template_name: "default".to_owned(),
            },
            created_at: None,
            scripts: Vec::new(),
        }])
    }

    /// An empty list is all labels, as for the reference.
    fn aggregate_by(&mut self) -> Option<By> {
        let texts = &self.raw.get(&AGGREGATE_BY)?.texts;
        let mut by = By::NONE;
        let mut none = false;
        for text in texts {
            let label = match text.as_str() {
                "agent_name" => &mut by.agent_name,
                "template_name" => &mut by.template_name,
                "username" => &mut by.username,
                "workspace_name" => &mut by.workspace_name,
                "none" => &mut none,
                other => {
                    let expected = "agent_name, template_name, username or workspace_name, or none";
                    self.wrong(&AGGREGATE_BY, &Wrong::value(expected, other));
                    return None;
                }
            };
            *label = true;
        }
        match (none, by) {
            (false, By::NONE) => Some(By::ALL),
            (true, By::NONE) | (false, _) => Some(by),
            (true, _) => {
                self.fault(&AGGREGATE_BY, "expected labels, or none alone, got both");
                None
            }
        }
    }

    /// The outer `None` is a fault, the inner one is off.
    fn boundary_log(&mut self) -> Option<Option<BoundaryLogOutput>> {
        let Some(given) = self.raw.get(&BOUNDARY_LOG_OUTPUT) else {
            return Some(None);
        };
        if given.texts.first()? == "-" {
            return Some(Some(BoundaryLogOutput::Stderr));
        }
        let path = self.path(&BOUNDARY_LOG_OUTPUT)?;
        if self.host.is_directory(&path) {
            let got = format!("the directory {}", path.display());
            self.wrong(
                &BOUNDARY_LOG_OUTPUT,
                &Wrong::new("the path of a file, or -", got),
            );
            return None;
        }
        Some(Some(BoundaryLogOutput::File(path)))
    }

    /// The outer `None` is a fault, the inner one is off.
    fn tls(&mut self) -> Option<Option<TlsFiles>> {
        let given = |setting| self.raw.get(setting).is_some();
        match (given(&TLS_CERT), given(&TLS_KEY)) {
            (false, false) => Some(None),
            (true, true) => {
                let (cert, key) = (self.path(&TLS_CERT), self.path(&TLS_KEY));
                Some(Some(TlsFiles {
                    cert: cert?,
                    key: key?,
                }))
            }
            (cert, _) => {
                let (there, absent) = if cert {
                    (&TLS_CERT, &TLS_KEY)
                } else {
                    (&TLS_KEY, &TLS_CERT)
                };
                let message = format!("required together with {}", there.long());
                self.fault(absent, message);
                None
            }
        }
    }
}
