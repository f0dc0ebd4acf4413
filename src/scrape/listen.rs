//! Listening on a TCP or a Unix socket.

use std::fmt::{self, Display, Formatter};
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::timeout;

/// Looking up the name of an interface may wait for a name server; the ready line must not wait with it.
const BIND_WITHIN: Duration = Duration::from_secs(5);
/// Connections that the kernel completes before they are accepted: more than are ever served at a time.
const BACKLOG: i32 = 128;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `HOST:PORT`. A name is looked up when it is bound; the first of its addresses that can be bound is.
    Tcp(String),
    /// A Unix socket, which only its owner may open (mode 0600).
    Unix(PathBuf),
}

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

pub(super) enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Binds the address; returns it as it is bound, with the real port for port 0.
    ///
    /// A Unix socket that nobody answers on is replaced; nothing else is ever removed. The socket's file stays
    /// when the listener goes, for the next start to replace.
    pub(super) async fn bind(address: &Address) -> io::Result<(Self, Address)> {
        match address {
            Address::Tcp(name) => {
                let listener = timeout(BIND_WITHIN, TcpListener::bind(name)).await??;
                let bound = Address::Tcp(listener.local_addr()?.to_string());
                Ok((Self::Tcp(listener), bound))
            }
            Address::Unix(path) => Ok((Self::Unix(bind_unix(path)?), address.clone())),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Connection> {
        Ok(match self {
            Self::Tcp(listener) => Connection::Tcp(listener.accept().await?.0),
            Self::Unix(listener) => Connection::Unix(listener.accept().await?.0),
        })
    }
}

impl Connection {
    /// Whether the kernel says that the peer is this user, or root.
    pub(super) fn is_from_own_user(&self) -> bool {
        match self {
            Self::Tcp(_) => false,
            Self::Unix(stream) => stream
                .peer_cred()
                .is_ok_and(|peer| may_ask(peer.uid(), geteuid().as_raw())),
        }
    }
}

fn may_ask(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody can connect before the socket listens, so nobody ever meets another mode.
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket.into())
}

/// Removes a socket that nobody answers on.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            ErrorKind::AlreadyExists,
            "expected a socket or nothing, got a file of another kind, which is left alone",
        ));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A listener whose backlog is full would make a blocking connect wait.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        Ok(()) | Err(_) => Err(io::Error::new(
            ErrorKind::AddrInUse,
            "another program answers there",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::may_ask;

    #[test]
    fn only_the_own_user_and_root_may_ask() {
        assert!(may_ask(1000, 1000) && may_ask(0, 1000) && may_ask(0, 0));
        assert!(!may_ask(1001, 1000) && !may_ask(1000, 0));
    }
}
