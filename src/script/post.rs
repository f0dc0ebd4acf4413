//! Posting a report to a sidecar: one request by hand, because a script is over by now and nothing is to be waited for.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::Report;

/// Bytes of an answer that are read: its head, and what it says when it is a refusal.
const MAX_ANSWER: usize = 4096;

/// Why a report is not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// Nobody answers there.
    #[error("no sidecar answers there")]
    Absent(#[source] io::Error),
    /// The exchange broke, or was not done in time. The report may be counted.
    #[error("the sidecar did not acknowledge")]
    Broken(#[source] io::Error),
    /// The sidecar cannot take a report now.
    #[error("the sidecar answered {0}")]
    Unable(u16),
    /// It takes no such report, now or later.
    #[error("the sidecar answered {status}: {says}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The body.
        says: String,
    },
}

/// Posts a report to this API socket, within a time.
///
/// # Errors
/// When it is not acknowledged.
pub fn post(api_socket: &Path, report: &Report, within: Duration) -> Result<(), PostError> {
    let deadline = Instant::now() + within;
    let stream = connect(api_socket).map_err(PostError::Absent)?;
    let (status, says) = exchange(stream, report, deadline).map_err(PostError::Broken)?;
    match status {
        200..=299 => Ok(()),
        // Too slow, or too many: another time may do.
        408 | 429 | 500.. => Err(PostError::Unable(status)),
        _ => Err(PostError::Refused { status, says }),
    }
}

/// Without waiting: a sidecar that does not accept is as good as none.
fn connect(api_socket: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(api_socket)?)?;
    socket.set_nonblocking(false)?;
    Ok(socket.into())
}

fn exchange(
    mut stream: UnixStream,
    report: &Report,
    deadline: Instant,
) -> io::Result<(u16, String)> {
    let body = serde_json::to_vec(report)?;
    let mut request = format!(
        "POST /v1/scripts HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(&body);
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(&request)?;

    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let read = match stream.read(&mut piece) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        answer.extend_from_slice(piece.get(..read).unwrap_or_default());
        let status = status(&answer);
        // What an acknowledgement says besides is of no interest.
        let done = status.is_some_and(|status| status < 300);
        if done || read == 0 || answer.len() >= MAX_ANSWER {
            let status = status
                .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "not an answer in HTTP"))?;
            let text = String::from_utf8_lossy(&answer);
            let says = text
                .split_once("\r\n\r\n")
                .map_or("", |(_, body)| body.trim());
            return Ok((status, says.to_owned()));
        }
    }
}

/// The status of an answer whose first line is whole.
fn status(answer: &[u8]) -> Option<u16> {
    let end = answer.iter().position(|byte| *byte == b'\n')?;
    let line = str::from_utf8(answer.get(..end)?).ok()?;
    line.strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .trim()
        .parse()
        .ok()
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// What a post comes to when its connection is answered so.
    fn posted(answer: impl FnOnce(UnixStream) + Send + 'static) -> Result<(), PostError> {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("weir.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = thread::spawn(move || answer(listener.accept().unwrap().0));
        let report = Report::from_json(br#"{"exit_code":0,"started_at":1,"ended_at":2}"#).unwrap();
        let posted = post(&socket, &report, Duration::from_millis(300));
        server.join().unwrap();
        posted
    }

    fn answered(text: &'static str) -> Result<(), PostError> {
        posted(move |mut stream| {
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"POST /v1/scripts HTTP/1.1\r\n"));
            stream.write_all(text.as_bytes()).unwrap();
        })
    }

    #[test]
    fn only_a_success_is_an_acknowledgement() {
        assert!(answered("HTTP/1.1 201 Created\r\n").is_ok());
        assert!(answered("HTTP/1.1 200 OK\r\n\r\n").is_ok());
        assert!(matches!(
            answered("HTTP/1.1 503 \r\n\r\n"),
            Err(PostError::Unable(503))
        ));
        match answered("HTTP/1.1 400 Bad Request\r\nA: b\r\n\r\nwhat is wrong\n") {
            Err(PostError::Refused { status: 400, says }) => assert_eq!(says, "what is wrong"),
            other => panic!("{other:?}"),
        }
        for broken in ["", "HTTP/1.1 2", "SSH-2.0\r\n", "HTTP/1.1 \r\n"] {
            assert!(
                matches!(answered(broken), Err(PostError::Broken(_))),
                "{broken:?}"
            );
        }
    }

    #[test]
    fn nobody_is_waited_for() {
        let absent = Path::new("/nowhere/weir.sock");
        let report = Report::from_json(br#"{"exit_code":0,"started_at":1,"ended_at":2}"#).unwrap();
        assert!(matches!(
            post(absent, &report, Duration::from_secs(9)),
            Err(PostError::Absent(_))
        ));
        // One that accepts and says nothing, and one that trickles.
        let silent = posted(|mut stream| {
            stream.read_to_end(&mut Vec::new()).unwrap();
        });
        assert!(matches!(silent, Err(PostError::Broken(_))), "{silent:?}");
        let trickle = posted(|mut stream| while stream.write_all(b"x").is_ok() {});
        assert!(matches!(trickle, Err(PostError::Broken(_))), "{trickle:?}");
    }
}
