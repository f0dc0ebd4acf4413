//! The order of the stop.

use std::io::Write;
use std::os::unix::net::UnixListener as StdListener;
use std::os::unix::net::UnixStream as StdStream;

use super::*;

/// Frames that no sender gets to write before the stop.
const FAR_TOO_MANY: u64 = 200_000;

#[tokio::test]
async fn all_that_a_sender_could_write_is_received() {
    let rig = Rig::start();
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let mut sender = StdStream::connect(rig.path()).unwrap();
            std::thread::spawn(move || {
                let frame = batch("s", 10);
                for written in 0..FAR_TOO_MANY {
                    if let Err(error) = sender.write_all(&frame) {
                        return (written, Some(error.kind()));
                    }
                }
                (FAR_TOO_MANY, None)
            })
        })
        .collect();
    until("traffic flows", || rig.books().received.batches > 1000).await;
    let books = rig.stopped().await;
    let mut written = 0;
    for sender in senders {
        let (count, error) = sender.join().unwrap();
        assert_eq!(error, Some(io::ErrorKind::BrokenPipe));
        written += count;
    }
    assert_eq!(books.received.batches, written);
}

#[tokio::test]
async fn what_is_queued_is_served_and_then_connects_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let listener = Listener::bind(&settings(&dir)).unwrap();
    let path = settings(&dir).path;
    let queued: Vec<_> = (0..300)
        .map(|_| {
            let mut sender = StdStream::connect(&path).unwrap();
            sender.write_all(&batch("s", 1)).unwrap();
            sender
        })
        .collect();
    let stop = CancellationToken::new();
    stop.cancel();
    let rig = Rig::on(dir, listener, ROOMY, WhenFull::DropNewest, stop);
    until("the stage has ended", || rig.running.is_finished()).await;
    for mut sender in queued {
        let error = sender.write_all(b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
    let refused = StdStream::connect(&path).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert!(path.exists(), "the file is what keeps auditing on");
    assert_eq!(rig.stopped().await.received.batches, 300);
}

#[tokio::test]
async fn idle_connections_are_kept_until_the_stop() {
    let rig = Rig::start();
    let mut idle = StdStream::connect(rig.path()).unwrap();
    until("it is accepted", || rig.sample("weir_connections", "") == 1).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(7 * 24 * 3600)).await;
    for _ in 0..100 {
        yield_now().await;
    }
    idle.write_all(&batch("s", 1)).unwrap();
    until("it is read", || rig.books().received.batches == 1).await;
    tokio::time::resume();
    rig.stopped().await;
    assert_eq!(
        idle.write_all(b"x").unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
}

#[tokio::test]
async fn a_socket_that_is_shared_goes_on_listening() {
    let dir = tempfile::tempdir().unwrap();
    let path = settings(&dir).path;
    let supervisor = StdListener::bind(&path).unwrap();
    let inherited = Listener::from_std(supervisor.try_clone().unwrap()).unwrap();
    let rig = Rig::on(
        dir,
        inherited,
        ROOMY,
        WhenFull::DropNewest,
        CancellationToken::new(),
    );
    let mut first = StdStream::connect(&path).unwrap();
    first.write_all(&batch("s", 1)).unwrap();
    until("it is read", || rig.books().received.batches == 1).await;
    rig.stop.cancel();
    until("the stage has ended", || rig.running.is_finished()).await;
    assert_eq!(
        first.write_all(b"x").unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );

    let mut next = StdStream::connect(&path).unwrap();
    next.write_all(b"kept for the next instance").unwrap();
    assert!(supervisor.accept().is_ok());
}
