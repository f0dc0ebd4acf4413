//! The listening socket: made under a temporary name and renamed to its path, so that the path never disappears
//! and never shows a socket that does not listen yet or has another mode than the one asked for.
//!
//! The file stays where it is when Weir stops. A sender looks for it once, at its own start, and switches
//! auditing off for its whole life when it is absent; a stale file is enough to keep auditing on.

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

/// Connections that may wait to be accepted. A connect beyond it fails at once in the sender, which then drops
/// logs, so it is as long as the usual `net.core.somaxconn`, to which the kernel cuts it.
pub(super) const BACKLOG: i32 = 4096;

/// Longest path that `sockaddr_un` holds besides its final NUL (`unix(7)`).
const MAX_PATH: usize = 107;

/// How the socket is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where senders look for it; at most 102 bytes, because its temporary name is 5 longer.
    pub path: PathBuf,
    /// Permission bits of the socket file, whatever the umask. To connect is to write: a sender needs `w`.
    pub mode: u32,
    /// Take the path by rename even if another program listens there.
    ///
    /// The other program keeps the connections it has, and those that wait in its backlog; only connects made
    /// after the rename come here. An older Weir notices ([`Claim::is_lost`]), reads its connections to their end and
    /// ends itself, upon which their senders come here too. Nothing is lost.
    pub take_over: bool,
}

/// Why there is no listening socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The path is empty or ends in `..` or `/`.
    #[error("socket path {0:?}: expected a path that ends in a file name")]
    NoFileName(PathBuf),
    /// The kernel could not hold the path, or not that of the temporary name beside it.
    #[error("socket path {path:?}: expected at most {max} bytes, got {length}")]
    TooLong {
        /// The path that was asked for.
        path: PathBuf,
        /// The longest that is possible.
        max: usize,
        /// The length of the path.
        length: usize,
    },
    /// The directory is absent, is none, or may not be searched.
    #[error("socket directory {path:?}: expected an existing directory")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// No file can be made in the directory, or a foreign file has the name of the lock.
    #[error("socket lock {path:?}: expected a file that can be created or opened for writing")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// Another instance is running on this path.
    #[error("socket path {0:?}: another instance holds it (take over to replace it)")]
    Held(PathBuf),
    /// A program other than Weir is listening on this path.
    #[error("socket path {0:?}: another program listens on it (take over to replace it)")]
    Answered(PathBuf),
    /// Whether a program is listening on this path cannot be found out.
    #[error("socket path {path:?}: cannot tell whether another program listens on it")]
    Unknown {
        /// The path.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// Something else is at the path; it is left alone.
    #[error("socket path {path:?}: expected a socket or nothing, got a {found}")]
    Occupied {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// A step on the way to the listening socket failed.
    #[error("socket path {path:?}: cannot {step}")]
    Create {
        /// The path.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
    /// A descriptor was passed in that is something else.
    #[error("inherited descriptor: expected a listening Unix stream socket")]
    NotListening,
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: UnixListener,
    /// Others hold the same socket and will go on listening on it when this process has stopped.
    pub(super) shared: bool,
    /// Keeps a second instance out for as long as this one listens.
    pub(super) lock: Option<Lock>,
}

/// The lock file beside the path.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Listener {
    /// Listens on the path of `settings`. Senders can connect from the moment this returns, and wait until they
    /// are accepted.
    ///
    /// # Errors
    /// When something else is at the path or listens on it, or the directory does not allow it. Whatever is at
    /// the path is then untouched.
    pub fn bind(settings: &Settings) -> Result<Self, BindError> {
        let place = Place::of(&settings.path)?;
        let lock = place.lock(settings.take_over)?;
        if place.has_socket()? && !settings.take_over {
            place.expect_stale()?;
        }
        let socket = place.listen(Mode::from_raw_mode(settings.mode as RawMode))?;
        Ok(Self {
            socket: UnixListener::from(socket),
            shared: false,
            lock: Some(Lock {
                file: lock,
                path: place.parent.join(beside(place.name, "lock")),
            }),
        })
    }

    /// This instance's hold on the path; `None` for a socket that was passed in.
    ///
    /// # Errors
    /// When there is no descriptor for it.
    pub fn claim(&self) -> io::Result<Option<Claim>> {
        let claim = |lock: &Lock| {
            Ok(Claim {
                lock: lock.file.try_clone()?,
                path: lock.path.clone(),
            })
        };
        self.lock.as_ref().map(claim).transpose()
    }

    /// Takes a socket that the supervisor of this process listens on (socket activation).
    ///
    /// The supervisor keeps it when this process ends, so it is never shut down: connects made after the stop
    /// wait for the next instance.
    ///
    /// # Errors
    /// When it is not a listening Unix stream socket.
    pub fn from_std(socket: UnixListener) -> Result<Self, BindError> {
        let listening = sockopt::socket_domain(&socket) == Ok(AddressFamily::UNIX)
            && sockopt::socket_type(&socket) == Ok(SocketType::STREAM)
            && sockopt::socket_acceptconn(&socket) == Ok(true);
        if !listening || socket.set_nonblocking(true).is_err() {
            return Err(BindError::NotListening);
        }
        Ok(Self {
            socket,
            shared: true,
            lock: None,
        })
    }
}

/// An instance's hold on its path.
#[derive(Debug)]
pub struct Claim {
    lock: File,
    path: PathBuf,
}

impl Claim {
    /// Whether another instance has taken the path over since: it has put a lock file of its own in the place of
    /// this one's.
    pub fn is_lost(&self) -> bool {
        let held = rustix::fs::fstat(&self.lock);
        let there = rustix::fs::lstat(&self.path);
        match (held, there) {
            (Ok(held), Ok(there)) => (held.st_dev, held.st_ino) != (there.st_dev, there.st_ino),
            // A lock file that somebody removed is nobody's.
            _ => false,
        }
    }
}

/// Where the socket will be. Everything but `bind` and `connect`, which know only paths, goes through the
/// directory's descriptor.
struct Place<'a> {
    path: &'a Path,
    parent: &'a Path,
    name: &'a OsStr,
    dir: OwnedFd,
}

impl<'a> Place<'a> {
    fn of(path: &'a Path) -> Result<Self, BindError> {
        let ends_in_name = !path.as_os_str().as_bytes().ends_with(b"/");
        let (Some(name), true) = (path.file_name(), ends_in_name) else {
            return Err(BindError::NoFileName(path.to_owned()));
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let length = path.as_os_str().len();
        let max = MAX_PATH - (beside(name, "new").len() - name.len());
        if length > max {
            let path = path.to_owned();
            return Err(BindError::TooLong { path, max, length });
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(parent, flags, Mode::empty()).map_err(|errno| {
            BindError::Directory {
                path: parent.to_owned(),
                source: errno.into(),
            }
        })?;
        Ok(Self {
            path,
            parent,
            name,
            dir,
        })
    }

    /// Locks the file beside the path. It is never removed, because a lock on a removed file excludes nobody.
    ///
    /// Taking over replaces the file of the instance that holds it, so that the path's latest owner is always the
    /// one that others are kept out by.
    fn lock(&self, take_over: bool) -> Result<File, BindError> {
        let name = beside(self.name, "lock");
        let failed = |source| BindError::Lock {
            path: self.parent.join(&name),
            source,
        };
        let open = || -> Result<File, BindError> {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&self.dir, &name, flags, Mode::RUSR | Mode::WUSR)
                .map(File::from)
                .map_err(|errno| failed(errno.into()))
        };
        let mut file = open()?;
        let mut tried = file.try_lock();
        if take_over && matches!(tried, Err(TryLockError::WouldBlock)) {
            rustix::fs::unlinkat(&self.dir, &name, AtFlags::empty())
                .map_err(|errno| failed(errno.into()))?;
            file = open()?;
            tried = file.try_lock();
        }
        match tried {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(BindError::Held(self.path.to_owned())),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Whether there is a socket at the path. Anything else there is an error.
    fn has_socket(&self) -> Result<bool, BindError> {
        let stat = match rustix::fs::statat(&self.dir, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(self.failed("examine it")(errno)),
        };
        let found = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Socket => return Ok(true),
            FileType::Symlink => "symbolic link",
            FileType::Directory => "directory",
            FileType::RegularFile => "regular file",
            FileType::Fifo => "pipe",
            _ => "device",
        };
        Err(BindError::Occupied {
            path: self.path.to_owned(),
            found,
        })
    }

    /// Makes sure that nobody listens on the socket that is at the path.
    fn expect_stale(&self) -> Result<(), BindError> {
        let socket = self.socket()?;
        let address = SocketAddrUnix::new(self.path).map_err(self.failed("address it"))?;
        match rustix::net::connect(&socket, &address) {
            Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
            // A full backlog and a socket of another type are somebody's, too.
            Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => {
                Err(BindError::Answered(self.path.to_owned()))
            }
            Err(errno) => Err(BindError::Unknown {
                path: self.path.to_owned(),
                source: errno.into(),
            }),
        }
    }

    /// Makes a listening socket and puts it at the path in one step.
    fn listen(&self, mode: Mode) -> Result<OwnedFd, BindError> {
        let temporary = beside(self.name, "new");
        let address = SocketAddrUnix::new(self.parent.join(&temporary))
            .map_err(self.failed("address its temporary name"))?;
        let socket = self.socket()?;
        // The kernel gives the file the bits of the descriptor that the umask allows: never more than asked.
        rustix::fs::fchmod(&socket, mode).map_err(self.failed("set its mode"))?;
        self.remove_socket(&temporary)?;
        rustix::net::bind(&socket, &address).map_err(self.failed("create it"))?;
        let made = self
            .widen(&temporary, mode)
            .and_then(|()| rustix::net::listen(&socket, BACKLOG))
            .and_then(|()| rustix::fs::renameat(&self.dir, &temporary, &self.dir, self.name));
        if let Err(errno) = made {
            self.remove_socket(&temporary)?;
            return Err(self.failed("put it in place")(errno));
        }
        Ok(socket)
    }

    /// Gives the new socket the bits of `mode` that the umask took.
    ///
    /// The file is held by a descriptor meanwhile, because a path could be made to lead elsewhere.
    fn widen(&self, name: &OsStr, mode: Mode) -> rustix::io::Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
            return Err(Errno::NOTSOCK);
        }
        if Mode::from_raw_mode(stat.st_mode) == mode {
            return Ok(());
        }
        let held = format!("/proc/self/fd/{}", file.as_raw_fd());
        rustix::fs::chmod(held, mode)
    }

    /// Removes a socket that a start that failed left under the temporary name.
    fn remove_socket(&self, name: &OsStr) -> Result<(), BindError> {
        let stat = rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW);
        if stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket) {
            rustix::fs::unlinkat(&self.dir, name, AtFlags::empty())
                .map_err(self.failed("remove its temporary name"))?;
        }
        Ok(())
    }

    fn socket(&self) -> Result<OwnedFd, BindError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(self.failed("make a socket"))
    }

    fn failed(&self, step: &'static str) -> impl Fn(Errno) -> BindError {
        let path = self.path.to_owned();
        move |errno| BindError::Create {
            path: path.clone(),
            step,
            source: errno.into(),
        }
    }
}

/// The hidden name of a file that belongs to the one called `name`.
fn beside(name: &OsStr, suffix: &str) -> OsString {
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".");
    hidden.push(suffix);
    hidden
}
