//! Getting the path, and keeping it.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::*;
use crate::ingest::BindError;

fn error(settings: &Settings) -> BindError {
    Listener::bind(settings).expect_err("the path cannot be had")
}

#[test]
fn the_mode_is_as_asked_whatever_the_umask() {
    for mode in [0o600, 0o660, 0o666, 0o777, 0o200] {
        let dir = tempfile::tempdir().unwrap();
        let _listener = Listener::bind(&Settings {
            mode,
            ..settings(&dir)
        })
        .unwrap();
        let file = fs::symlink_metadata(settings(&dir).path).unwrap();
        assert!(file.file_type().is_socket());
        assert_eq!(
            file.permissions().mode() & 0o7777,
            mode,
            "asked for {mode:o}"
        );
    }
}

#[test]
fn nothing_is_left_beside_the_socket_but_its_lock() {
    let dir = tempfile::tempdir().unwrap();
    // What a start that was killed leaves.
    drop(UnixListener::bind(dir.path().join(".audit.sock.new")).unwrap());
    let _listener = Listener::bind(&settings(&dir)).unwrap();
    let names = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, [".audit.sock.lock", "audit.sock"]);
    let lock = fs::metadata(dir.path().join(".audit.sock.lock")).unwrap();
    assert_eq!(lock.permissions().mode() & 0o7777, 0o600);
}

#[test]
fn a_second_instance_is_kept_out_and_the_first_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let first = Listener::bind(&settings(&dir)).unwrap();
    let error = error(&settings(&dir));
    assert!(matches!(error, BindError::Held(_)), "{error}");
    let _sender = UnixStream::connect(settings(&dir).path).unwrap();
    assert!(first.socket.accept().is_ok());
}

#[test]
fn the_path_outlives_the_instance_and_the_next_one_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    drop(Listener::bind(&settings(&dir)).unwrap());
    assert!(settings(&dir).path.exists());
    let next = Listener::bind(&settings(&dir)).unwrap();
    let _sender = UnixStream::connect(settings(&dir).path).unwrap();
    assert!(next.socket.accept().is_ok());
}

#[test]
fn another_program_is_refused_and_not_disturbed() {
    let dir = tempfile::tempdir().unwrap();
    let other = UnixListener::bind(settings(&dir).path).unwrap();
    assert!(matches!(error(&settings(&dir)), BindError::Answered(_)));
    let _probe = other.accept().unwrap();
    let _sender = UnixStream::connect(settings(&dir).path).unwrap();
    assert!(other.accept().is_ok());

    let dir = tempfile::tempdir().unwrap();
    let _other = UnixDatagram::bind(settings(&dir).path).unwrap();
    assert!(matches!(error(&settings(&dir)), BindError::Answered(_)));
}

#[test]
fn a_full_backlog_is_somebody_listening() {
    let dir = tempfile::tempdir().unwrap();
    let other = UnixListener::bind(settings(&dir).path).unwrap();
    rustix::net::listen(&other, 0).unwrap();
    let _waiting = UnixStream::connect(settings(&dir).path).unwrap();
    assert!(matches!(error(&settings(&dir)), BindError::Answered(_)));
}

#[test]
fn taking_over_leaves_the_other_its_connections() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        take_over: true,
        ..settings(&dir)
    };
    let path = &settings.path;
    let first = Listener::bind(&settings).unwrap();
    let _open = UnixStream::connect(path).unwrap();
    assert!(first.socket.accept().is_ok());
    let _queued = UnixStream::connect(path).unwrap();

    let second = Listener::bind(&settings).unwrap();
    let _later = UnixStream::connect(path).unwrap();
    assert!(
        first.socket.accept().is_ok(),
        "what was queued is still the first one's"
    );
    assert!(first.socket.accept().is_err(), "and nothing else is");
    assert!(second.socket.accept().is_ok());
    drop(first);
    let third = Settings {
        take_over: false,
        ..settings.clone()
    };
    assert!(
        matches!(error(&third), BindError::Held(_)),
        "the lock is the second one's now"
    );
}

#[test]
fn whatever_else_is_at_the_path_stays_there() {
    type Make = fn(&PathBuf);
    let cases: [(&str, Make); 4] = [
        ("regular file", |path| fs::write(path, "kept").unwrap()),
        ("directory", |path| fs::create_dir(path).unwrap()),
        ("pipe", |path| {
            let mode = rustix::fs::Mode::RUSR;
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)
                .unwrap();
        }),
        ("symbolic link", |path| {
            let target = path.with_extension("target");
            drop(UnixListener::bind(&target).unwrap());
            symlink(target, path).unwrap();
        }),
    ];
    for (what, make) in cases {
        for take_over in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let settings = Settings {
                take_over,
                ..settings(&dir)
            };
            make(&settings.path);
            let before = fs::symlink_metadata(&settings.path).unwrap();
            match error(&settings) {
                BindError::Occupied { found, .. } => assert_eq!(found, what),
                other => panic!("{what}: {other}"),
            }
            let after = fs::symlink_metadata(&settings.path).unwrap();
            assert_eq!(
                (before.ino(), before.file_type()),
                (after.ino(), after.file_type())
            );
        }
    }
}

#[test]
fn a_link_in_the_place_of_the_lock_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    symlink(&target, dir.path().join(".audit.sock.lock")).unwrap();
    assert!(matches!(error(&settings(&dir)), BindError::Lock { .. }));
    assert!(!target.exists());
}

#[test]
fn a_path_that_cannot_be_is_refused_in_plain_words() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let long = dir.path().join("n".repeat(100));
    let cases = [
        (
            dir.path().join("none/a.sock"),
            "expected an existing directory",
        ),
        (
            dir.path().join("file/a.sock"),
            "expected an existing directory",
        ),
        // Nobody can make a file there, root included.
        (
            PathBuf::from("/proc/self/a.sock"),
            "expected a file that can be created",
        ),
        (PathBuf::new(), "ends in a file name"),
        (PathBuf::from("/tmp/.."), "ends in a file name"),
        (PathBuf::from("/tmp/a.sock/"), "ends in a file name"),
        (long, "expected at most 102 bytes, got "),
    ];
    for (path, expected) in cases {
        let shown = path.display().to_string();
        let error = error(&Settings {
            path,
            mode: 0o600,
            take_over: false,
        });
        assert!(error.to_string().contains(expected), "{shown}: {error}");
    }
}

#[test]
fn the_longest_path_works() {
    let dir = tempfile::tempdir().unwrap();
    let name = "n".repeat(102 - dir.path().as_os_str().len() - 1);
    let path = dir.path().join(name);
    let _listener = Listener::bind(&Settings {
        path: path.clone(),
        ..settings(&dir)
    })
    .unwrap();
    assert!(UnixStream::connect(path).is_ok());
}

#[test]
fn a_replacement_is_never_seen_half_done() {
    const REPLACEMENTS: usize = 200;
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        take_over: true,
        ..settings(&dir)
    };
    let mut listeners = vec![Listener::bind(&settings).unwrap()];
    let (looks, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut inodes = HashSet::new();
            while !done.load(Ordering::Relaxed) {
                let file = fs::symlink_metadata(&settings.path).expect("the path is never absent");
                assert_eq!(file.mode() & 0o7777, 0o600);
                assert!(answers(&settings.path), "and always answers");
                inodes.insert(file.ino());
                looks.fetch_add(1, Ordering::Relaxed);
            }
            inodes.len()
        });
        let replaced = (0..REPLACEMENTS).try_for_each(|_| {
            listeners.push(Listener::bind(&settings)?);
            // The second look from now began after the replacement. A watcher that failed looks no more.
            let seen = looks.load(Ordering::Relaxed) + 2;
            while looks.load(Ordering::Relaxed) < seen && !watcher.is_finished() {
                std::thread::yield_now();
            }
            Ok::<_, BindError>(())
        });
        done.store(true, Ordering::Relaxed);
        replaced.unwrap();
        assert!(watcher.join().unwrap() >= REPLACEMENTS);
    });
}

/// Whether somebody listens; a backlog that is full is somebody's.
fn answers(path: &Path) -> bool {
    let flags = SocketFlags::NONBLOCK;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
    let address = SocketAddrUnix::new(path).unwrap();
    matches!(
        rustix::net::connect(&socket, &address),
        Ok(()) | Err(Errno::AGAIN)
    )
}

#[test]
fn only_a_listening_stream_socket_can_be_inherited() {
    let dir = tempfile::tempdir().unwrap();
    let path = settings(&dir).path;
    assert!(Listener::from_std(UnixListener::bind(&path).unwrap()).is_ok());

    let (stream, _peer) = UnixStream::pair().unwrap();
    let error = Listener::from_std(std::os::fd::OwnedFd::from(stream).into());
    assert!(matches!(error, Err(BindError::NotListening)));
    let datagram = UnixDatagram::unbound().unwrap();
    let error = Listener::from_std(std::os::fd::OwnedFd::from(datagram).into());
    assert!(matches!(error, Err(BindError::NotListening)));
}
