//! Connections to other servers than the control plane.

use std::error::Error;

use url::Url;

use super::dial::{encrypted, open};
use super::http1::Io;
use super::settings::RootFiles;
use super::tls::{Protocol, Tls};

/// Connects without a proxy.
#[derive(Debug)]
pub(crate) struct Direct {
    tls: Tls,
}

impl Direct {
    /// Nothing is read before it is needed.
    pub(crate) fn new(roots: RootFiles) -> Self {
        Self {
            tls: Tls::new(roots),
        }
    }

    /// A connection to the host of `url`, encrypted for HTTP/1.1 if its scheme says so. Unbounded in time.
    ///
    /// # Errors
    /// When the name cannot be looked up, nobody answers, or the handshake fails.
    pub(crate) async fn connect(&self, url: &Url) -> Result<Io, Box<dyn Error + Send + Sync>> {
        Ok(encrypted(open(url).await?, url, &self.tls, Protocol::Http1).await?)
    }
}
