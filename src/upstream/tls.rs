//! TLS to the control plane and to proxies.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

use super::error::DialError;
use super::http1::Io;
use super::settings::RootFiles;

/// What is spoken over a connection. It alone is offered (ALPN): a server that knows more must not choose another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Servers that know nothing of ALPN are taken to speak it.
    Http1,
    /// To be chosen by the server, or there is no connection (RFC 9113, section 3.2).
    Http2,
}

impl Protocol {
    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// A TLS client whose trusted authorities are read when they are first needed.
#[derive(Debug)]
pub(super) struct Tls {
    roots: RootFiles,
    config: OnceCell<Arc<ClientConfig>>,
}

impl Tls {
    pub(super) fn new(roots: RootFiles) -> Self {
        Self {
            roots,
            config: OnceCell::new(),
        }
    }

    /// Makes `io` a connection to `host`, whose name or address the certificate must bear, for `protocol`.
    pub(super) async fn connect(
        &self,
        host: &str,
        io: Io,
        protocol: Protocol,
    ) -> Result<Io, DialError> {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|error| DialError::Tls(io::Error::other(error)))?;
        let config = self.config.get_or_try_init(|| self.load()).await?;
        let connector = TlsConnector::from(Arc::clone(config));
        let alpn = vec![protocol.alpn().to_vec()];
        let connected = connector.with_alpn(alpn).connect(name, io).await;
        let stream = connected.map_err(DialError::Tls)?;
        let chosen = stream.get_ref().1.alpn_protocol();
        if protocol == Protocol::Http2 && chosen != Some(protocol.alpn()) {
            return Err(DialError::NoHttp2);
        }
        Ok(Box::new(stream))
    }

    async fn load(&self) -> Result<Arc<ClientConfig>, DialError> {
        let roots = self.roots.clone();
        let loaded = tokio::task::spawn_blocking(move || client_config(&roots)).await;
        loaded.unwrap_or_else(|error| Err(DialError::Tls(io::Error::other(error))))
    }
}

/// Reads the trusted authorities and makes a client of them. Blocks on files.
fn client_config(roots: &RootFiles) -> Result<Arc<ClientConfig>, DialError> {
    let found = if *roots == RootFiles::default() {
        rustls_native_certs::load_native_certs()
    } else {
        rustls_native_certs::load_certs_from_paths(roots.file.as_deref(), roots.dir.as_deref())
    };
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(found.certs);
    if added == 0 {
        let cause = found
            .errors
            .first()
            .map_or_else(String::new, |error| format!(": {error}"));
        return Err(DialError::Tls(io::Error::other(format!(
            "no certificate authority found{cause}"
        ))));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| DialError::Tls(io::Error::other(error)))?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
