//! An HTTP proxy that makes tunnels.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Leads every CONNECT with the right login to one target. It ends with this.
#[derive(Debug)]
pub struct Proxy {
    /// `host:port` of the proxy.
    pub address: String,
    asked: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Proxy {
    /// A proxy for `login`, the value of the header `Proxy-Authorization`.
    pub async fn start(target: String, login: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut tunnels = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (target, notes) = (target.clone(), Arc::clone(&notes));
                // However the two ends close is not the proxy's affair.
                tunnels.spawn(async move { tunnel(client, &target, login, &notes).await.ok() });
            }
        });
        Self {
            address,
            asked,
            _task: task,
        }
    }

    /// The first line of each request so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn tunnel(
    client: TcpStream,
    target: &str,
    login: &str,
    notes: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let mut head = String::new();
    while client.read_line(&mut head).await? > 2 {}
    let mut lines = head.lines();
    notes
        .lock()
        .unwrap()
        .extend(lines.next().map(str::to_owned));
    if !lines.any(|line| line == format!("Proxy-Authorization: {login}")) {
        let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
        return client.write_all(refusal).await;
    }
    let mut server = TcpStream::connect(target).await?;
    client
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
