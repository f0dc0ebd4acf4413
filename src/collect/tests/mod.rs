//! Against servers that answer byte by byte what a test says.

mod fetches;
mod jobs;

use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use super::Location;

/// What a server does after it has read the head of a request.
#[derive(Clone, Debug)]
enum Deed {
    /// Writes this and closes.
    Answer(Vec<u8>),
    /// Writes this and then nothing, with the connection open.
    Hang(Vec<u8>),
    /// Writes the first and then the second again and again, as fast as it is read.
    Flood(Vec<u8>, Vec<u8>),
}

impl Deed {
    /// A whole answer with these headers and this body.
    fn page(headers: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        Self::Answer([head.as_bytes(), body].concat())
    }
}

/// A server that does one deed after the other, the last of them for ever. It ends with this.
#[derive(Debug)]
struct Server {
    location: Location,
    /// Of the requests so far.
    heads: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Server {
    async fn start(deeds: &[Deed]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let location = format!("http://{}", listener.local_addr().unwrap());
        let (deeds, heads) = (deeds.to_vec(), Arc::<Mutex<Vec<String>>>::default());
        let (mut task, noted) = (JoinSet::new(), Arc::clone(&heads));
        task.spawn(async move {
            let mut conversations = JoinSet::new();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let deed = deeds[number.min(deeds.len() - 1)].clone();
                conversations.spawn(converse(stream, deed, Arc::clone(&noted)));
            }
        });
        Self {
            location: location.parse().unwrap(),
            heads,
            _task: task,
        }
    }

    fn start_unix(deed: Deed, path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let location = format!("unix:{}:/x?y=1", path.display());
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let (mut task, noted) = (JoinSet::new(), Arc::clone(&heads));
        task.spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            converse(stream, deed, noted).await;
        });
        Self {
            location: location.parse().unwrap(),
            heads,
            _task: task,
        }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// However the client ends it is its affair.
async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    deed: Deed,
    heads: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    heads.lock().unwrap().push(String::from_utf8(head).unwrap());
    match deed {
        Deed::Answer(answer) => drop(stream.write_all(&answer).await),
        Deed::Hang(answer) => {
            stream.write_all(&answer).await.unwrap();
            std::future::pending::<()>().await;
        }
        Deed::Flood(first, again) => {
            let mut sent = stream.write_all(&first).await;
            while sent.is_ok() {
                sent = stream.write_all(&again).await;
            }
        }
    }
}
