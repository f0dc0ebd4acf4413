//! The line that says that every listener is bound.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

/// The listeners of a sidecar as they were bound, real ports included.
#[derive(Clone, Debug, Serialize)]
pub struct Ready {
    ready: bool,
    socket: Option<String>,
    prometheus: Option<String>,
    api: Option<String>,
}

impl Ready {
    /// Absent listeners print as null.
    pub fn new(socket: Option<&Path>, prometheus: Option<String>, api: Option<&Path>) -> Self {
        let text = |path: &Path| path.display().to_string();
        Self {
            ready: true,
            socket: socket.map(text),
            prometheus,
            api: api.map(text),
        }
    }

    /// Writes the line in one piece and flushes it.
    ///
    /// # Errors
    /// When it cannot be written: whoever waits for it would wait for ever.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        print(self, out)
    }
}

/// The listeners of a control plane as they were bound, real ports included.
#[derive(Clone, Debug, Serialize)]
pub struct ControlReady {
    ready: bool,
    url: String,
    prometheus: Option<String>,
}

impl ControlReady {
    /// Absent listeners print as null.
    pub fn new(url: String, prometheus: Option<String>) -> Self {
        Self {
            ready: true,
            url,
            prometheus,
        }
    }

    /// Writes the line in one piece and flushes it.
    ///
    /// # Errors
    /// When it cannot be written: whoever waits for it would wait for ever.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        print(self, out)
    }
}

fn print(ready: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let mut line = serde_json::to_vec(ready)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::io::BufWriter;

    use super::*;

    #[test]
    fn the_line_is_the_one_that_users_parse() {
        let all = Ready::new(
            Some(Path::new("/tmp/boundary-audit.sock")),
            Some("127.0.0.1:2112".to_owned()),
            Some(Path::new("/tmp/weir.sock")),
        );
        let mut out = Vec::new();
        all.print(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"ready\":true,\"socket\":\"/tmp/boundary-audit.sock\",\
             \"prometheus\":\"127.0.0.1:2112\",\"api\":\"/tmp/weir.sock\"}\n"
        );
    }

    #[test]
    fn absent_listeners_are_null_and_unix_ones_say_so() {
        let unix = "unix:/run/metrics.sock".to_owned();
        let mut out = Vec::new();
        Ready::new(None, Some(unix), None).print(&mut out).unwrap();
        Ready::new(None, None, None).print(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"ready\":true,\"socket\":null,\"prometheus\":\"unix:/run/metrics.sock\",\"api\":null}\n\
             {\"ready\":true,\"socket\":null,\"prometheus\":null,\"api\":null}\n"
        );
    }

    #[test]
    fn a_control_plane_tells_its_url() {
        let mut out = Vec::new();
        let url = "http://127.0.0.1:3000".to_owned();
        let both = ControlReady::new(url.clone(), Some("127.0.0.1:2113".into()));
        both.print(&mut out).unwrap();
        ControlReady::new(url, None).print(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"ready\":true,\"url\":\"http://127.0.0.1:3000\",\"prometheus\":\"127.0.0.1:2113\"}\n\
             {\"ready\":true,\"url\":\"http://127.0.0.1:3000\",\"prometheus\":null}\n"
        );
    }

    #[test]
    fn a_failing_stdout_is_an_error_even_behind_a_buffer() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let error = Ready::new(None, None, None).print(&mut BufWriter::new(Full));
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
