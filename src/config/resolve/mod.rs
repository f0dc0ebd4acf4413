//! From the values as written to the configuration as used.
//!
//! Every setting is looked at even when an earlier one is wrong; a part is built only from values
//! that are all right.

use std::path::{Path, PathBuf};

use super::fault::{Fault, Faults, Origin, Wrong};
use super::host::Host;
use super::parse;
use super::raw::{Flags, Raw};
use super::refused::{REFUSALS, Refusal};
use super::setting::{
    ALL, API_SOCKET, BLOCK_DEADLINE, BUFFER_MAX_BATCHES, BUFFER_MAX_BYTES, COALESCE_MAX_BYTES,
    DELIVERY, DRAIN_TIMEOUT, LOG_FORMAT, LOG_LEVEL, PROMETHEUS_ADDRESS, REPORT_AGENT_METRICS,
    RETRY_MAX_AGE, SOCKET_MODE, SOCKET_PATH, SPOOL_DIR, Setting, TAKE_OVER, WHEN_FULL,
};
use super::{Buffer, Config, Forward, Log, LogFormat, ScrapeAddress, Socket};
use crate::buffer::WhenFull;
use crate::forward::retry::Delivery;
use crate::report::AgentMetrics;

mod control;
mod path;
mod scrape;
mod spool;
mod upstream;

/// Most batches: each costs a record even when it is tiny, and ten million records are gigabytes.
const MAX_BATCHES: usize = 10_000_000;

/// Smallest buffer: twice the largest frame, so that one can be held while another is in flight.
const MIN_BUFFER_BYTES: u64 = 64 * 1024;

/// Bytes of the buffer without a spool, and with one, which has the room that memory then need not have.
const BUFFER_BYTES: u64 = 16 << 20;
const BUFFER_BYTES_OVER_SPOOL: u64 = 4 << 20;

/// Smallest size to join batches up to: that of the largest frame, which is never split.
const MIN_COALESCE_BYTES: u64 = 32 * 1024;

/// Largest size to join batches up to: a dRPC packet holds 4 MiB, and the frame headers and the
/// servers' own limits near that size need room.
const MAX_COALESCE_BYTES: u64 = 3 * 1024 * 1024;

impl Config {
    /// Checks every value and builds the configuration.
    ///
    /// # Errors
    /// Every fault of the command line, the environment, the configuration file and the token
    /// file at once. None of them repeats a secret.
    pub fn resolve(flags: &Flags, host: &dyn Host) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let raw = Raw::collect(ALL, flags, host, &mut faults);
        let mut resolver = Resolver::new(&raw, host, faults);

        let upstream = resolver.upstream();
        let socket = resolver.socket();
        let buffer = resolver.buffer();
        let spool = resolver.spool();
        let forward = resolver.forward(buffer.as_ref());
        let report_agent_metrics = resolver.report_agent_metrics();
        let prometheus = resolver.prometheus();
        let api_socket = resolver.api_socket(socket.as_ref().map(|socket| socket.path.as_path()));
        let drain_timeout = resolver.value(&DRAIN_TIMEOUT, parse::duration);
        let scrape = resolver.scrape();
        let log = resolver.log(&LOG_LEVEL, &LOG_FORMAT);
        resolver.check_paths_differ(
            socket.as_ref(),
            prometheus.as_ref().and_then(Option::as_ref),
            api_socket.as_deref(),
        );
        resolver.check_refused(REFUSALS);

        let Resolver {
            faults, warnings, ..
        } = resolver;
        match (
            upstream,
            socket,
            buffer,
            spool,
            forward,
            report_agent_metrics,
            prometheus,
            api_socket,
            drain_timeout,
            scrape,
            log,
        ) {
            (
                Some(upstream),
                Some(socket),
                Some(buffer),
                Some(spool),
                Some(forward),
                Some(report_agent_metrics),
                Some(prometheus),
                Some(api_socket),
                Some(drain_timeout),
                Some(scrape),
                Some(log),
            ) if faults.is_empty() => Ok(Self {
                upstream,
                socket,
                buffer,
                spool,
                forward,
                report_agent_metrics,
                prometheus,
                api_socket,
                drain_timeout,
                scrape,
                log,
                origins: raw.into_origins(),
                warnings,
            }),
            _ => Err(Faults(faults)),
        }
    }
}

/// Path of the API socket alone, for commands that ask a running sidecar: nothing else needs to
/// be right, or to be there.
///
/// # Errors
/// Every fault of the configuration file and of the two socket paths.
pub fn resolve_api_socket(flags: &Flags, host: &dyn Host) -> Result<PathBuf, Faults> {
    let mut faults = Vec::new();
    let raw = Raw::collect(&[&SOCKET_PATH, &API_SOCKET], flags, host, &mut faults);
    let mut resolver = Resolver::new(&raw, host, faults);
    let socket = resolver.socket_path();
    match resolver.api_socket(socket.as_deref()) {
        Some(path) if resolver.faults.is_empty() => Ok(path),
        _ => Err(Faults(resolver.faults)),
    }
}

/// Path of the audit socket and what is logged, for a producer: nothing else needs to be right, or
/// to be there.
///
/// # Errors
/// Every fault of the configuration file, the socket path and the log settings.
pub fn resolve_producer(flags: &Flags, host: &dyn Host) -> Result<(PathBuf, Log), Faults> {
    let mut faults = Vec::new();
    let settings = &[&SOCKET_PATH, &LOG_LEVEL, &LOG_FORMAT];
    let raw = Raw::collect(settings, flags, host, &mut faults);
    let mut resolver = Resolver::new(&raw, host, faults);
    match (
        resolver.socket_path(),
        resolver.log(&LOG_LEVEL, &LOG_FORMAT),
    ) {
        (Some(path), Some(log)) if resolver.faults.is_empty() => Ok((path, log)),
        _ => Err(Faults(resolver.faults)),
    }
}

/// Path of the API socket, unless it is known, and what is logged, for one who reports to it: from the environment alone.
///
/// # Errors
/// Every fault of the two socket paths and the log settings.
pub fn resolve_reporter(
    api_socket: Option<&Path>,
    host: &dyn Host,
) -> Result<(PathBuf, Log), Faults> {
    let mut faults = Vec::new();
    let settings = &[&SOCKET_PATH, &API_SOCKET, &LOG_LEVEL, &LOG_FORMAT];
    let raw = Raw::collect(settings, &Flags::default(), host, &mut faults);
    let mut resolver = Resolver::new(&raw, host, faults);
    let path = match api_socket {
        Some(path) => Some(path.to_owned()),
        None => {
            let socket = resolver.socket_path();
            resolver.api_socket(socket.as_deref())
        }
    };
    match (path, resolver.log(&LOG_LEVEL, &LOG_FORMAT)) {
        (Some(path), Some(log)) if resolver.faults.is_empty() => Ok((path, log)),
        _ => Err(Faults(resolver.faults)),
    }
}

struct Resolver<'a> {
    raw: &'a Raw,
    host: &'a dyn Host,
    faults: Vec<Fault>,
    warnings: Vec<String>,
}

impl<'a> Resolver<'a> {
    fn new(raw: &'a Raw, host: &'a dyn Host, faults: Vec<Fault>) -> Self {
        Self {
            raw,
            host,
            faults,
            warnings: Vec::new(),
        }
    }

    /// The checked value of a setting, if it is given and right.
    fn value<T>(
        &mut self,
        setting: &Setting,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let given = self.raw.get(setting)?;
        let text = given.texts.first()?;
        parse(text)
            .map_err(|wrong| self.wrong(setting, &wrong))
            .ok()
    }

    fn wrong(&mut self, setting: &Setting, wrong: &Wrong) {
        let origin = self.origin(setting);
        self.faults
            .push(Fault::wrong(setting.long(), wrong, origin));
    }

    fn fault(&mut self, setting: &Setting, message: impl Into<String>) {
        let origin = self.origin(setting);
        self.faults
            .push(Fault::new(setting.long(), message, origin));
    }

    fn missing(&mut self, setting: &Setting, message: impl Into<String>) {
        if !self.raw.file_missing {
            self.fault(setting, message);
        }
    }

    fn origin(&self, setting: &Setting) -> Option<Origin> {
        self.raw.get(setting).map(|given| given.origin.clone())
    }

    fn socket(&mut self) -> Option<Socket> {
        let path = self.socket_path();
        let mode = self.value(&SOCKET_MODE, parse::mode);
        let take_over = self.value(&TAKE_OVER, parse::switch);
        Some(Socket {
            path: path?,
            mode: mode?,
            take_over: take_over?,
        })
    }

    fn buffer(&mut self) -> Option<Buffer> {
        let max_batches = self.value(&BUFFER_MAX_BATCHES, |text| parse::count(text, MAX_BATCHES));
        let max_bytes = match self.raw.get(&BUFFER_MAX_BYTES) {
            Some(_) => self.value(&BUFFER_MAX_BYTES, |text| {
                parse::size(text, MIN_BUFFER_BYTES, parse::MAX_SIZE)
            }),
            None if self.raw.get(&SPOOL_DIR).is_some() => Some(BUFFER_BYTES_OVER_SPOOL),
            None => Some(BUFFER_BYTES),
        };
        let when_full = self.when_full();
        Some(Buffer {
            max_batches: max_batches?,
            max_bytes: max_bytes?,
            when_full: when_full?,
        })
    }

    fn when_full(&mut self) -> Option<WhenFull> {
        let deadline = self.value(&BLOCK_DEADLINE, parse::positive_duration);
        let when_full = self.value(&WHEN_FULL, |text| {
            let words = [
                ("drop-newest", Some(WhenFull::DropNewest)),
                ("drop-oldest", Some(WhenFull::DropOldest)),
                (
                    "block",
                    deadline.map(|deadline| WhenFull::Block { deadline }),
                ),
            ];
            parse::choice(text, &words)
        })??;
        let blocks = matches!(when_full, WhenFull::Block { .. });
        if !blocks && self.origin(&BLOCK_DEADLINE) != Some(Origin::Default) {
            let message = format!(
                "{} has no effect without {} block",
                BLOCK_DEADLINE.long(),
                WHEN_FULL.long()
            );
            self.warnings.push(message);
        }
        Some(when_full)
    }

    fn forward(&mut self, buffer: Option<&Buffer>) -> Option<Forward> {
        let delivery = self.value(&DELIVERY, |text| {
            let words = [
                ("at-least-once", Delivery::AtLeastOnce),
                ("at-most-once", Delivery::AtMostOnce),
            ];
            parse::choice(text, &words)
        });
        let max_age = match self.raw.get(&RETRY_MAX_AGE) {
            None => Some(None),
            Some(_) => self
                .value(&RETRY_MAX_AGE, parse::positive_duration)
                .map(Some),
        };
        let coalesce = self.value(&COALESCE_MAX_BYTES, coalesce_max_bytes);
        Some(Forward {
            delivery: delivery?,
            max_age: max_age?,
            coalesce_max_bytes: self.within_buffer(coalesce?, buffer?),
        })
    }

    /// A buffer that holds less than a joined request never fills one, so the smaller bound is
    /// the true one, and a small buffer needs no second flag. It stays in its own range: the
    /// smallest buffer is larger than the smallest request.
    fn within_buffer(&mut self, coalesce: u64, buffer: &Buffer) -> usize {
        let bounded = coalesce.min(buffer.max_bytes);
        if bounded < coalesce && self.origin(&COALESCE_MAX_BYTES) != Some(Origin::Default) {
            let message = format!(
                "{} is lowered to {}, {}",
                COALESCE_MAX_BYTES.long(),
                BUFFER_MAX_BYTES.long(),
                parse::exact_size(bounded)
            );
            self.warnings.push(message);
        }
        usize::try_from(bounded).unwrap_or(usize::MAX)
    }

    fn report_agent_metrics(&mut self) -> Option<AgentMetrics> {
        self.value(&REPORT_AGENT_METRICS, |text| {
            let words = [
                ("auto", AgentMetrics::Auto),
                ("always", AgentMetrics::Always),
                ("never", AgentMetrics::Never),
            ];
            parse::choice(text, &words)
        })
    }

    /// The outer `None` is a fault, the inner one is off.
    fn prometheus(&mut self) -> Option<Option<ScrapeAddress>> {
        let given = self.raw.get(&PROMETHEUS_ADDRESS)?;
        let text = given.texts.first()?;
        if text.is_empty() {
            return Some(None);
        }
        let address = match text.strip_prefix("unix:") {
            Some(path) => {
                ScrapeAddress::Unix(self.socket_at(&PROMETHEUS_ADDRESS, Path::new(path))?)
            }
            None => ScrapeAddress::Tcp(self.value(&PROMETHEUS_ADDRESS, parse::host_port)?),
        };
        Some(Some(address))
    }

    fn log(&mut self, level: &Setting, format: &Setting) -> Option<Log> {
        let filter = self.value(level, parse::log_filter);
        let format = self.value(format, |text| {
            parse::choice(
                text,
                &[("text", LogFormat::Text), ("json", LogFormat::Json)],
            )
        });
        Some(Log {
            filter: filter?,
            format: format?,
        })
    }

    /// Values whose feature is absent: they must have the right form, and ask for nothing.
    fn check_refused(&mut self, refusals: &[Refusal]) {
        for refusal in refusals {
            let Some(given) = self.raw.get(refusal.setting) else {
                continue;
            };
            let unavailable = given
                .texts
                .iter()
                .find_map(|text| match (refusal.available)(text) {
                    Ok(true) => None,
                    Ok(false) => Some(format!("not available in this version: {}", refusal.reason)),
                    Err(wrong) => Some(wrong.to_string()),
                });
            if let Some(message) = unavailable {
                self.fault(refusal.setting, message);
            }
        }
    }
}

fn coalesce_max_bytes(text: &str) -> Result<u64, Wrong> {
    match parse::size(text, 0, MAX_COALESCE_BYTES) {
        Ok(bytes) if bytes == 0 || bytes >= MIN_COALESCE_BYTES => Ok(bytes),
        _ => Err(Wrong::value(
            "0, or a size from 32KiB to 3MiB, such as 1MiB",
            text,
        )),
    }
}
