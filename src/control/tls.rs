//! TLS for the agents.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::control::TlsFiles;

/// Largest PEM file that is read: a chain has a few KiB, and a path to a device must not be read without end.
const MAX_FILE: u64 = 1 << 20;

/// What a client that wants HTTP/2 names in its handshake.
const HTTP2: &[u8] = b"h2";

/// Whether a connection was agreed to be HTTP/2.
pub(super) fn is_http2<S>(stream: &TlsStream<S>) -> bool {
    let (_, connection) = stream.get_ref();
    connection.alpn_protocol() == Some(HTTP2)
}

/// Reads certificate and key.
///
/// # Errors
/// When a file cannot be read, holds nothing of its kind, or the two do not belong together.
pub(super) fn acceptor(files: &TlsFiles) -> io::Result<TlsAcceptor> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(&files.cert)?)
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(&files.cert, &error))?;
    if chain.is_empty() {
        return Err(invalid(&files.cert, &"no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|error| invalid(&files.key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| invalid(&files.cert, &error))?;
    config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut content = Vec::new();
    let file = BufReader::new(File::open(path).map_err(named)?);
    file.take(MAX_FILE)
        .read_to_end(&mut content)
        .map_err(named)?;
    Ok(content)
}

fn invalid(path: &Path, what: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        format!("{}: {what}", path.display()),
    )
}
