//! The control plane and the token.

use std::time::Duration;

use crate::backoff::Schedule;
use http::HeaderMap;

use super::Resolver;
use crate::config::Upstream;
use crate::config::fault::Wrong;
use crate::config::parse;
use crate::config::secret::Secret;
use crate::config::setting::{
    AGENT_HEADER, AGENT_TOKEN, AGENT_TOKEN_FILE, AGENT_URL, RETRY_INITIAL, RETRY_MAX, ROLE,
    TRANSPORT,
};
use crate::config::token::{self, TokenError, TokenSource};
use crate::upstream::Transport;

impl Resolver<'_> {
    pub(super) fn upstream(&mut self) -> Option<Upstream> {
        if self.raw.get(&AGENT_URL).is_none() {
            let message = format!(
                "required: expected the URL of the control plane (flag or {})",
                AGENT_URL.env
            );
            self.missing(&AGENT_URL, message);
        }
        let url = self.value(&AGENT_URL, parse::agent_url);
        let transport = self.value(&TRANSPORT, |text| {
            let words = [Transport::WebSocket, Transport::Grpc].map(|one| (one.name(), one));
            parse::choice(text, &words)
        });
        let token = self.token();
        let headers = self.headers();
        let role = self.value(&ROLE, parse::role);
        let retry_initial = self.value(&RETRY_INITIAL, parse::positive_duration);
        let retry_max = self.value(&RETRY_MAX, parse::positive_duration);
        let schedule = self.schedule(retry_initial, retry_max);
        if let Some(url) = url.as_ref().filter(|url| url.path() != "/") {
            let message = format!(
                "{}: the path {:?} is not used",
                AGENT_URL.long(),
                url.path()
            );
            self.warnings.push(message);
        }
        Some(Upstream {
            url: url?,
            transport: transport?,
            token: token?,
            headers: headers?,
            role: role?,
            schedule: schedule?,
        })
    }

    fn schedule(&mut self, initial: Option<Duration>, max: Option<Duration>) -> Option<Schedule> {
        let (initial, max) = (initial?, max?);
        let schedule = Schedule::new(initial, max);
        if schedule.is_none() {
            let max = humantime::format_duration(max);
            let initial = humantime::format_duration(initial);
            self.wrong(
                &RETRY_INITIAL,
                &Wrong::new(format!("at most --retry-max, {max}"), initial.to_string()),
            );
        }
        schedule
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
                        AGENT_TOKEN_FILE.long()
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
                    AGENT_TOKEN_FILE.long(),
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

    fn headers(&mut self) -> Option<HeaderMap> {
        let texts = self
            .raw
            .get(&AGENT_HEADER)
            .map_or(&[][..], |given| &given.texts);
        parse::headers(texts)
            .map_err(|wrong| self.wrong(&AGENT_HEADER, &wrong))
            .ok()
    }
}
