//! From the values as written to the configuration as used.
//!
//! Every setting is looked at even when an earlier one is wrong; a part is built only from values
//! that are all right.

use std::path::{Path, PathBuf};

use super::fault::{Fault, Faults, Origin, Wrong};
use super::host::Host;
use super::parse;
use super::raw::{Flags, Raw};
use super::refused::REFUSALS;
mod path;

use super::setting::{
    AGENT_HEADER, AGENT_TOKEN, AGENT_TOKEN_FILE, AGENT_URL, BLOCK_DEADLINE, BUFFER_MAX_BATCHES,
    BUFFER_MAX_BYTES, COALESCE_MAX_BYTES, DELIVERY, DRAIN_TIMEOUT, LOG_FORMAT, LOG_LEVEL,
    PROMETHEUS_ADDRESS, RETRY_INITIAL, RETRY_MAX, RETRY_MAX_AGE, ROLE, SOCKET_MODE, Setting,
    TAKE_OVER, WHEN_FULL,
};
use super::token::{self, TokenError, TokenSource};
use super::{
    Buffer, Config, Delivery, Forward, Log, LogFormat, ScrapeAddress, Secret, Socket, Upstream,
    WhenFull,
};

/// Most batches: each costs a record even when it is tiny, and ten million records are gigabytes.
const MAX_BATCHES: usize = 10_000_000;

/// Smallest buffer: twice the largest frame, so that one can be held while another is in flight.
const MIN_BUFFER_BYTES: u64 = 64 * 1024;

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
        let raw = Raw::collect(flags, host, &mut faults);
        let mut resolver = Resolver::new(&raw, host, faults);

        let upstream = resolver.upstream();
        let socket = resolver.socket();
        let buffer = resolver.buffer();
        let forward = resolver.forward(buffer.as_ref());
        let prometheus = resolver.prometheus();
        let api_socket = resolver.api_socket(socket.as_ref().map(|socket| socket.path.as_path()));
        let drain_timeout = resolver.value(&DRAIN_TIMEOUT, parse::duration);
        let log = resolver.log();
        resolver.check_paths_differ(
            socket.as_ref(),
            prometheus.as_ref().and_then(Option::as_ref),
            api_socket.as_deref(),
        );
        resolver.check_refused();

        let Resolver {
            faults, warnings, ..
        } = resolver;
        match (
            upstream,
            socket,
            buffer,
            forward,
            prometheus,
            api_socket,
            drain_timeout,
            log,
        ) {
            (
                Some(upstream),
                Some(socket),
                Some(buffer),
                Some(forward),
                Some(prometheus),
                Some(api_socket),
                Some(drain_timeout),
                Some(log),
            ) if faults.is_empty() => Ok(Self {
                upstream,
                socket,
                buffer,
                forward,
                prometheus,
                api_socket,
                drain_timeout,
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
    let raw = Raw::collect(flags, host, &mut faults);
    let mut resolver = Resolver::new(&raw, host, faults);
    let socket = resolver.socket_path();
    match resolver.api_socket(socket.as_deref()) {
        Some(path) if resolver.faults.is_empty() => Ok(path),
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
        self.faults.push(Fault::wrong(flag(setting), wrong, origin));
    }

    fn fault(&mut self, setting: &Setting, message: impl Into<String>) {
        let origin = self.origin(setting);
        self.faults.push(Fault::new(flag(setting), message, origin));
    }

    fn missing(&mut self, setting: &Setting, message: impl Into<String>) {
        if !self.raw.file_missing {
            self.fault(setting, message);
        }
    }

    fn origin(&self, setting: &Setting) -> Option<Origin> {
        self.raw.get(setting).map(|given| given.origin.clone())
    }

    fn upstream(&mut self) -> Option<Upstream> {
        if self.raw.get(&AGENT_URL).is_none() {
            let message = format!(
                "required: expected the URL of the control plane (flag or {})",
                AGENT_URL.env
            );
            self.missing(&AGENT_URL, message);
        }
        let url = self.value(&AGENT_URL, parse::agent_url);
        let token = self.token();
        let headers = self.headers();
        let role = self.value(&ROLE, parse::role);
        let retry_initial = self.value(&RETRY_INITIAL, parse::positive_duration);
        let retry_max = self.value(&RETRY_MAX, parse::positive_duration);
        if let (Some(initial), Some(max)) = (retry_initial, retry_max)
            && initial > max
        {
            let max = humantime::format_duration(max);
            let initial = humantime::format_duration(initial);
            self.wrong(
                &RETRY_INITIAL,
                &Wrong::new(format!("at most --retry-max, {max}"), initial.to_string()),
            );
        }
        if let Some(url) = url.as_ref().filter(|url| url.path() != "/") {
            let message = format!(
                "{}: the path {:?} is not used",
                flag(&AGENT_URL),
                url.path()
            );
            self.warnings.push(message);
        }
        Some(Upstream {
            url: url?,
            token: token?,
            headers: headers?,
            role: role?,
            retry_initial: retry_initial?,
            retry_max: retry_max?,
        })
    }

    /// Exactly one of token and token file. The stronger layer wins, as for a single setting: a
    /// workspace that sets `CODER_AGENT_TOKEN` must not forbid `--agent-token-file`.
    fn token(&mut self) -> Option<TokenSource> {
        let inline = self.raw.get(&AGENT_TOKEN);
        let file = self.raw.get(&AGENT_TOKEN_FILE);
        let file_wins = match (inline, file) {
            (Some(inline), Some(file)) => {
                if inline.origin.layer() == file.origin.layer() {
                    let message = format!(
                        "expected one of it and {}, got both",
                        flag(&AGENT_TOKEN_FILE)
                    );
                    self.fault(&AGENT_TOKEN, message);
                    return None;
                }
                file.origin.layer() > inline.origin.layer()
            }
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (None, None) => {
                let message = format!(
                    "required: expected it or {} (flag, {} or {})",
                    flag(&AGENT_TOKEN_FILE),
                    AGENT_TOKEN.env,
                    AGENT_TOKEN_FILE.env
                );
                self.missing(&AGENT_TOKEN, message);
                return None;
            }
        };
        let (source, secret) = if file_wins {
            self.token_from_file()?
        } else {
            let secret = self.value(&AGENT_TOKEN, |text| token::token(text.as_bytes()))?;
            (TokenSource::Inline(secret.clone()), secret)
        };
        if !token::is_uuid(&secret) {
            let message = "the agent token is not a UUID: coderd answers 401 to such a token";
            self.warnings.push(message.to_owned());
        }
        Some(source)
    }

    fn token_from_file(&mut self) -> Option<(TokenSource, Secret)> {
        let path = self.path(&AGENT_TOKEN_FILE)?;
        let source = TokenSource::File(path);
        match source.read_from(self.host) {
            Ok(secret) => Some((source, secret)),
            Err(TokenError::Unreadable { path, source }) => {
                let message = format!("cannot read {}: {source}", path.display());
                self.fault(&AGENT_TOKEN_FILE, message);
                None
            }
            Err(TokenError::Invalid { expected, got, .. }) => {
                self.wrong(&AGENT_TOKEN_FILE, &Wrong::new(expected, got));
                None
            }
        }
    }

    fn headers(&mut self) -> Option<http::HeaderMap> {
        let texts = self
            .raw
            .get(&AGENT_HEADER)
            .map_or(&[][..], |given| &given.texts);
        parse::headers(texts)
            .map_err(|wrong| self.wrong(&AGENT_HEADER, &wrong))
            .ok()
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
        let max_bytes = self.value(&BUFFER_MAX_BYTES, |text| {
            parse::size(text, MIN_BUFFER_BYTES, parse::MAX_SIZE)
        });
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
                flag(&BLOCK_DEADLINE),
                flag(&WHEN_FULL)
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
                flag(&COALESCE_MAX_BYTES),
                flag(&BUFFER_MAX_BYTES),
                parse::exact_size(bounded)
            );
            self.warnings.push(message);
        }
        usize::try_from(bounded).unwrap_or(usize::MAX)
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

    fn log(&mut self) -> Option<Log> {
        let filter = self.value(&LOG_LEVEL, parse::log_filter);
        let format = self.value(&LOG_FORMAT, |text| {
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
    fn check_refused(&mut self) {
        for refusal in REFUSALS {
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

/// The flag as the user writes it.
fn flag(setting: &Setting) -> String {
    format!("--{}", setting.flag)
}
