//! A scrape target that answers what a test says, changeably.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How a target answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// With a page of the content type and these bytes.
    Page(&'static str, Vec<u8>),
    /// With the beginning of an answer and then nothing.
    Hang,
    /// With a page that never ends.
    Flood,
}

/// A running target. It ends with this.
#[derive(Debug)]
pub struct Target {
    /// `HOST:PORT`.
    pub address: String,
    answer: Arc<Mutex<Answer>>,
    _task: JoinSet<()>,
}

impl Target {
    /// Starts one.
    pub async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answer = Arc::new(Mutex::new(answer));
        let shared = Arc::clone(&answer);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut conversations = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                conversations.spawn(converse(stream, Arc::clone(&shared)));
            }
        });
        Self {
            address,
            answer,
            _task: task,
        }
    }

    /// Answers so from now on.
    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }
}

/// However the client ends it is its affair.
async fn converse(mut stream: TcpStream, answer: Arc<Mutex<Answer>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let answer = answer.lock().unwrap().clone();
    let ok = "HTTP/1.1 200 OK\r\n";
    match answer {
        Answer::Page(kind, body) => {
            let length = body.len();
            let head = format!("{ok}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
            let answer = [head.into_bytes(), body].concat();
            stream.write_all(&answer).await.unwrap_or_default();
        }
        Answer::Hang => {
            stream.write_all(ok.as_bytes()).await.unwrap_or_default();
            std::future::pending().await
        }
        Answer::Flood => {
            let mut sent = stream.write_all(format!("{ok}\r\n").as_bytes()).await;
            while sent.is_ok() {
                sent = stream.write_all(&b"# flood\n".repeat(1024)).await;
            }
        }
    }
}
