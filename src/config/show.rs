//! The effective configuration as text: lines of TOML with the origin of each value, secrets
//! redacted.

use std::fmt;
use std::path::Path;

use humantime::format_duration;
use toml::Value;

use super::fault::Origin;
use super::parse::exact_size;
use super::secret::REDACTED;
use super::setting::{
    AGENT_HEADER, AGENT_TOKEN, AGENT_TOKEN_FILE, AGENT_URL, API_SOCKET, BLOCK_DEADLINE,
    BUFFER_MAX_BATCHES, BUFFER_MAX_BYTES, COALESCE_MAX_BYTES, DELIVERY, DRAIN_TIMEOUT, LOG_FORMAT,
    LOG_LEVEL, PROMETHEUS_ADDRESS, REPORT_AGENT_METRICS, RETRY_INITIAL, RETRY_MAX, RETRY_MAX_AGE,
    ROLE, SCRAPE, SOCKET_MODE, SOCKET_PATH, SPOOL_DIR, SPOOL_MAX_BYTES, SPOOL_SYNC, Setting,
    TAKE_OVER, TRANSPORT, WHEN_FULL,
};
use super::{Config, LogFormat, ScrapeAddress, TokenSource};
use crate::buffer::WhenFull;
use crate::buffer::spooler::SpoolSync;
use crate::forward::retry::Delivery;
use crate::report::AgentMetrics;

/// One line for each value in effect; a file made of them gives the same configuration, once the
/// redacted values are put back.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (setting, value) in self.values() {
            let origin = self.origins.get(setting.flag).unwrap_or(&Origin::Default);
            writeln!(f, "{} = {value}  # {origin}", setting.key())?;
        }
        Ok(())
    }
}

impl Config {
    /// The values in effect, in the order of the settings.
    fn values(&self) -> Vec<(&'static Setting, Value)> {
        let mut values = vec![(&AGENT_URL, text(self.upstream.url.as_str()))];
        values.push(match &self.upstream.token {
            TokenSource::Inline(_) => (&AGENT_TOKEN, text(REDACTED)),
            TokenSource::File(file) => (&AGENT_TOKEN_FILE, path(file)),
        });
        if !self.upstream.headers.is_empty() {
            let headers = self.upstream.headers.keys();
            let headers = headers.map(|name| text(format!("{name}={REDACTED}")));
            values.push((&AGENT_HEADER, Value::Array(headers.collect())));
        }
        // MAX_BATCHES is far below i64::MAX.
        let batches = i64::try_from(self.buffer.max_batches).unwrap_or(i64::MAX);
        let prometheus = self.prometheus.as_ref();
        let prometheus = prometheus.map(ToString::to_string).unwrap_or_default();
        values.extend([
            (&SOCKET_PATH, path(&self.socket.path)),
            (&PROMETHEUS_ADDRESS, text(prometheus)),
            (&TRANSPORT, text(self.upstream.transport.name())),
            (&ROLE, text(&self.upstream.role)),
            (
                &REPORT_AGENT_METRICS,
                text(agent_metrics(self.report_agent_metrics)),
            ),
            (&SOCKET_MODE, text(format!("{:04o}", self.socket.mode))),
            (&TAKE_OVER, Value::Boolean(self.socket.take_over)),
            (&BUFFER_MAX_BATCHES, Value::Integer(batches)),
            (&BUFFER_MAX_BYTES, text(exact_size(self.buffer.max_bytes))),
            (&WHEN_FULL, text(policy(self.buffer.when_full))),
        ]);
        if let WhenFull::Block { deadline } = self.buffer.when_full {
            values.push((&BLOCK_DEADLINE, text(format_duration(deadline).to_string())));
        }
        if let Some(spool) = &self.spool {
            values.extend([
                (&SPOOL_DIR, path(&spool.dir)),
                (&SPOOL_MAX_BYTES, text(exact_size(spool.max_bytes))),
                (&SPOOL_SYNC, text(spool_sync(spool.sync))),
            ]);
        }
        values.extend([
            (&DELIVERY, text(delivery(self.forward.delivery))),
            (
                &RETRY_INITIAL,
                text(format_duration(self.upstream.schedule.initial()).to_string()),
            ),
            (
                &RETRY_MAX,
                text(format_duration(self.upstream.schedule.max()).to_string()),
            ),
        ]);
        if let Some(age) = self.forward.max_age {
            values.push((&RETRY_MAX_AGE, text(format_duration(age).to_string())));
        }
        let coalesce = self.forward.coalesce_max_bytes as u64;
        values.extend([
            (&COALESCE_MAX_BYTES, text(exact_size(coalesce))),
            (
                &DRAIN_TIMEOUT,
                text(format_duration(self.drain_timeout).to_string()),
            ),
        ]);
        if !self.scrape.is_empty() {
            let targets = self.scrape.iter().map(|target| text(target.to_string()));
            values.push((&SCRAPE, Value::Array(targets.collect())));
        }
        values.extend([
            (&API_SOCKET, path(&self.api_socket)),
            (&LOG_LEVEL, text(self.log.filter.to_string())),
            (&LOG_FORMAT, text(log_format(self.log.format))),
        ]);
        values
    }
}

fn text(value: impl Into<String>) -> Value {
    Value::String(value.into())
}

fn path(value: &Path) -> Value {
    text(value.display().to_string())
}

impl fmt::Display for ScrapeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn policy(when_full: WhenFull) -> &'static str {
    match when_full {
        WhenFull::DropNewest => "drop-newest",
        WhenFull::DropOldest => "drop-oldest",
        WhenFull::Block { .. } => "block",
    }
}

fn spool_sync(sync: SpoolSync) -> &'static str {
    match sync {
        SpoolSync::Always => "always",
        SpoolSync::Interval => "interval",
        SpoolSync::Never => "never",
    }
}

fn delivery(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::AtLeastOnce => "at-least-once",
        Delivery::AtMostOnce => "at-most-once",
    }
}

fn agent_metrics(reported: AgentMetrics) -> &'static str {
    match reported {
        AgentMetrics::Auto => "auto",
        AgentMetrics::Always => "always",
        AgentMetrics::Never => "never",
    }
}

fn log_format(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    }
}
