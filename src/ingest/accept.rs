//! The accept loop, and the order of the stop.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::Shutdown;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::socket::{BACKLOG, Listener};
use super::{Stage, conn};

/// Connections open at a time; more wait in the backlog. Four times the backlog, and far beyond what one workspace
/// runs. Idle they take 32 MiB, and about 1 GiB when every one holds an incomplete frame of the largest size.
const MAX_CONNECTIONS: usize = 16_384;

/// The wait before the next try when there is no descriptor or memory for a connection. Nothing tells when there
/// is; the sender waits in the backlog meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn serve(
    listener: Listener,
    stage: &Arc<Stage>,
    stop: &CancellationToken,
) -> io::Result<()> {
    // The lock lives as long as this function: until the last connection has ended.
    let Listener {
        socket,
        shared,
        lock: _lock,
    } = listener;
    let socket = UnixListener::from_std(socket)?;
    let mut connections = Connections {
        stage,
        closing: CancellationToken::new(),
        tasks: JoinSet::new(),
    };
    accept_until(stop, &socket, &mut connections).await;

    let socket = socket.into_std()?;
    if !shared {
        rustix::net::shutdown(&socket, Shutdown::Read)?;
    }
    connections.closing.cancel();
    accept_backlog(&socket, &mut connections).await;
    while connections.one_ended().await {}
    Ok(())
}

/// The tasks that read the connections, one each.
struct Connections<'a> {
    stage: &'a Arc<Stage>,
    /// Tells them to take nothing more from their senders.
    closing: CancellationToken,
    tasks: JoinSet<()>,
}

impl Connections<'_> {
    fn add(&mut self, stream: UnixStream) {
        let seat = self.stage.senders.enter(&stream, Instant::now());
        let stage = Arc::clone(self.stage);
        let closing = self.closing.clone();
        self.tasks.spawn(conn::serve(stream, seat, stage, closing));
    }

    fn are_full(&self) -> bool {
        self.tasks.len() >= MAX_CONNECTIONS
    }

    /// Waits until one has ended; `false` when there is none.
    async fn one_ended(&mut self) -> bool {
        let ended = self.tasks.join_next().await;
        if let Some(ended) = &ended {
            note(ended);
        }
        ended.is_some()
    }
}

/// A task that failed has lost what it had read: its books show it, the log says it.
fn note(ended: &Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "the task of a connection failed");
    }
}

async fn accept_until(
    stop: &CancellationToken,
    listener: &UnixListener,
    connections: &mut Connections<'_>,
) {
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(ended) = connections.tasks.join_next() => {
                note(&ended);
                continue;
            }
            accepted = listener.accept(), if !connections.are_full() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("connections are accepted again");
                }
                connections.add(stream);
                if connections.are_full()
                    && let Some(withheld) = connections.stage.may_warn()
                {
                    tracing::warn!(
                        withheld,
                        "{MAX_CONNECTIONS} connections are open; further ones wait until one ends"
                    );
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "cannot accept a connection; it waits, and is tried again");
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(PAUSE) => {}
                }
            }
        }
    }
}

/// Accepts what is queued. At most a backlog of it, because a socket that others share takes new connects all
/// the time.
async fn accept_backlog(listener: &StdListener, connections: &mut Connections<'_>) {
    let mut left = BACKLOG + 1;
    while left > 0 {
        while connections.are_full() && connections.one_ended().await {}
        let accepted = listener.accept().and_then(|(stream, _)| {
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        });
        match accepted {
            Ok(stream) => {
                left -= 1;
                connections.add(stream);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                // Empty: the first says so of a socket that is open, the second of one that was shut down.
                io::ErrorKind::WouldBlock | io::ErrorKind::InvalidInput => return,
                // Short of descriptors or memory: a connection that ends frees some.
                _ if connections.one_ended().await => {}
                _ => {
                    tracing::warn!(%error, "cannot accept the connections that are queued");
                    return;
                }
            },
        }
    }
}
