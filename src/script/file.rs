//! Files beside the API socket, often in a directory where everybody may create some: private, locked by who writes them,
//! and never reached through a link that somebody else has laid.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{
    FileType, FlockOperation, Mode, OFlags, Uid, fchmod, fchown, flock, fstat, lstat, open,
};
use rustix::process::geteuid;

/// Only the owner may read and write.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// The path with something added to its last name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(suffix);
    beside.into()
}

/// Whose files stand beside this socket: its owner's, when root asks, so that both can use them; else one's own.
pub(super) fn owner_of(socket: &Path) -> Uid {
    let own = geteuid();
    match lstat(socket) {
        Ok(found)
            if own.is_root() && FileType::from_raw_mode(found.st_mode) == FileType::Socket =>
        {
            Uid::from_raw(found.st_uid)
        }
        _ => own,
    }
}

/// Opens a private file of `owner` to read, and to write at its end; with `create` it is made when it is absent.
///
/// # Errors
/// When it cannot be opened; when it is no regular file, another user's, or has a second name.
pub(super) fn open_private(path: &Path, owner: Uid, create: bool) -> io::Result<File> {
    // Without O_NONBLOCK the open of a pipe would wait for its other end.
    let mut flags =
        OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    flags.set(OFlags::CREATE, create);
    let file = open(path, flags, PRIVATE)?;
    let found = fstat(&file)?;
    let refuse = |why| Err(io::Error::new(ErrorKind::InvalidInput, why));
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return refuse("expected a regular file or nothing");
    }
    // Zero names: somebody removed it just now, which the holder of the lock finds out.
    if found.st_nlink > 1 {
        return refuse("expected a file with one name only");
    }
    let own = geteuid();
    let uid = Uid::from_raw(found.st_uid);
    if uid != own && uid != owner {
        return refuse("the file is another user's");
    }
    if uid != owner {
        fchown(&file, Some(owner), None)?;
    }
    if found.st_mode & 0o777 != PRIVATE.bits() {
        fchmod(&file, PRIVATE)?;
    }
    Ok(file.into())
}

/// Takes the lock of the file unless somebody has it. It is given back when the file is closed, by a kill too.
pub(super) fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the file still has a name; what is written to one without is written to nobody.
pub(super) fn has_name(file: &File) -> io::Result<bool> {
    Ok(fstat(file)?.st_nlink > 0)
}

/// Replaces the file by one with this content, at once or not at all, and returns it with its lock: nobody else ever holds
/// a file of that name meanwhile. Whoever waits for the lock of the old one finds it without a name.
pub(super) fn replace(path: &Path, owner: Uid, content: &[u8]) -> io::Result<File> {
    let aside = beside(path, ".new");
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = open_private(&aside, owner, true)?;
    if !try_lock(&file)? {
        return Err(ErrorKind::ResourceBusy.into());
    }
    file.write_all(content)?;
    fs::rename(&aside, path)?;
    Ok(file)
}

/// Adds to the end of a file that is `length` long: all, or nothing.
pub(super) fn append(mut file: &File, length: u64, content: &[u8]) -> io::Result<()> {
    file.write_all(content).or_else(|error| {
        file.set_len(length)?;
        Err(error)
    })
}

/// The whole of a file that is no larger than `limit`.
pub(super) fn read_all(mut file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    io::Seek::rewind(&mut file)?;
    let read = file.take(limit + 1).read_to_end(&mut content)?;
    if read as u64 > limit {
        return Err(io::Error::new(
            ErrorKind::FileTooLarge,
            format!("more than {limit} bytes"),
        ));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn refused(path: &Path) -> String {
        open_private(path, geteuid(), true).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_private_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("precious"), "precious").unwrap();
        symlink(at("precious"), at("link")).unwrap();
        fs::hard_link(at("precious"), at("second")).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(at("pipe"))
            .status()
            .unwrap();
        assert!(made.success());
        assert!(refused(&at("link")).contains("symbolic links"));
        assert_eq!(refused(&at("second")), "expected a file with one name only");
        assert_eq!(refused(&at("pipe")), "expected a regular file or nothing");
        assert!(refused(directory.path()).contains("directory"));
        assert_eq!(fs::read(at("precious")).unwrap(), b"precious");
        assert_eq!(
            open_private(&at("absent"), geteuid(), false)
                .unwrap_err()
                .kind(),
            ErrorKind::NotFound
        );
    }

    #[test]
    fn the_file_is_private_whatever_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        drop(open_private(&path, geteuid(), true).unwrap());
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        drop(open_private(&path, geteuid(), false).unwrap());
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn a_lock_is_held_until_the_file_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let open = || open_private(&path, geteuid(), true).unwrap();
        let (first, second) = (open(), open());
        assert!(try_lock(&first).unwrap());
        assert!(!try_lock(&second).unwrap());
        drop(first);
        assert!(try_lock(&second).unwrap());
        assert!(has_name(&second).unwrap());
        fs::remove_file(&path).unwrap();
        assert!(!has_name(&second).unwrap());
    }

    #[test]
    fn root_shares_the_files_of_the_sockets_owner() {
        if !geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("weir.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::os::unix::fs::chown(&socket, Some(65534), None).unwrap();
        let owner = owner_of(&socket);
        assert_eq!(owner.as_raw(), 65534);
        let file = open_private(&beside(&socket, ".queue"), owner, true).unwrap();
        assert_eq!(fstat(&file).unwrap().st_uid, 65534);
    }
}
