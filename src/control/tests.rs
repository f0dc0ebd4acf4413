use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::config::Flags;
use crate::config::control::{AgentSpec, AgentToken, Labels, setting};
use crate::config::fake::Fake;
use crate::metrics::control::DialRefusal;
use agents::{Agent, Role};

const TOKEN: &str = "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d";

/// An agent of no particular name.
pub(super) fn agent() -> Arc<Agent> {
    let spec = spec("name");
    let agents = Agents::new(std::slice::from_ref(&spec));
    Arc::clone(agents.find(&spec.token).unwrap())
}

/// An agent whose names are all this one.
pub(super) fn spec(name: &str) -> AgentSpec {
    AgentSpec {
        token: AgentToken::parse(TOKEN).unwrap(),
        labels: Labels {
            username: name.to_owned(),
            workspace_name: name.to_owned(),
            agent_name: name.to_owned(),
            template_name: name.to_owned(),
        },
        created_at: None,
        scripts: Vec::new(),
    }
}

fn config(listen: &str) -> ControlConfig {
    let mut flags = Flags::default();
    flags.set(&setting::LISTEN, vec![listen.to_owned()]);
    flags.set(&setting::AGENT_TOKEN, vec![TOKEN.to_owned()]);
    ControlConfig::resolve(&flags, &Fake::default()).unwrap()
}

/// A control plane that serves until it is dropped.
struct Running {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    served: JoinSet<()>,
}

impl Running {
    async fn start() -> Self {
        let metrics = ControlMetrics::new().unwrap();
        let control_plane = ControlPlane::bind(&config("127.0.0.1:0"), metrics)
            .await
            .unwrap();
        let address = control_plane.listener.local_addr().unwrap();
        assert_eq!(control_plane.url().unwrap(), format!("http://{address}"));
        let shared = Arc::clone(&control_plane.shared);
        let stop = CancellationToken::new();
        let mut served = JoinSet::new();
        served.spawn(control_plane.run(stop.clone()));
        Self {
            address,
            shared,
            stop,
            served,
        }
    }

    /// All that is answered until the connection ends.
    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    fn refused(&self, refusal: DialRefusal) -> u64 {
        self.shared.metrics.dials_refused(refusal)
    }
}

#[tokio::test]
async fn pages_are_answered_and_the_connection_ends() {
    let running = Running::start().await;
    for (request, status, said) in [
        ("GET /healthz", "200 OK", "OK"),
        (
            "GET /api/v2/buildinfo",
            "200 OK",
            "\"agent_api_version\":\"2.13\"",
        ),
        ("GET /", "200 OK", "<title>Weir control plane</title>"),
        ("HEAD /healthz", "200 OK", "content-length: 2"),
        (
            "GET /metrics",
            "404 Not Found",
            "{\"message\":\"Route not found.\"}",
        ),
        (
            "POST /healthz",
            "405 Method Not Allowed",
            "allow: GET, HEAD",
        ),
        (
            "GET /api/v2/workspaceagents/me/rpc",
            "401 Unauthorized",
            "{\"message\":\"Cookie \\\"coder_session_token\\\" must be provided.\"}",
        ),
    ] {
        let answer = running
            .ask(&format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{answer}"
        );
        assert!(answer.contains(said), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    assert_eq!(running.refused(DialRefusal::NoToken), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_is_answered_or_given_up_and_counted() {
    let running = Running::start().await;
    let giant = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(80 << 10));
    for (count, (request, status)) in [
        ("nonsense\r\n\r\n", "400"),
        (giant.as_str(), "431"),
        // Slow heads and half-open connections, whose time passes while everybody waits.
        ("GET / HTTP/1.1\r\nHost:", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = running.ask(request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")) || status.is_empty(),
            "{answer}"
        );
        let counted = running.refused(DialRefusal::Malformed);
        assert_eq!(counted, count as u64 + 1, "{answer}");
    }
    // Of a connection without a word there is nothing to count; it is closed all the same.
    running.ask("").await;
}

#[tokio::test]
async fn an_agent_may_not_have_too_many_sessions() {
    let running = Running::start().await;
    let token = AgentToken::parse(TOKEN).unwrap();
    let agent = running.shared.agents.find(&token).unwrap();
    let metrics = &running.shared.metrics;
    let seats: Vec<_> = std::iter::from_fn(|| agent.enter(Role::Agent, metrics)).collect();
    let dial = format!(
        "GET /api/v2/workspaceagents/me/rpc?version=2.7 HTTP/1.1\r\nHost: x\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCoder-Session-Token: {TOKEN}\r\n\r\n"
    );
    let answer = running.ask(&dial).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(running.refused(DialRefusal::TooMany), 1);
    drop(seats);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(dial.as_bytes()).await.unwrap();
    let mut front = [0; 12];
    stream.read_exact(&mut front).await.unwrap();
    assert_eq!(&front, b"HTTP/1.1 101");
}

#[tokio::test]
async fn a_stop_ends_connections_that_have_not_become_sessions() {
    let mut running = Running::start().await;
    let mut half_open = TcpStream::connect(running.address).await.unwrap();
    // Accepted once this is answered.
    running.ask("GET /healthz HTTP/1.1\r\n\r\n").await;
    running.stop.cancel();
    running.served.join_next().await.unwrap().unwrap();
    assert_eq!(half_open.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn what_cannot_be_bound_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let metrics = || ControlMetrics::new().unwrap();
    let error = ControlPlane::bind(&config(&address), metrics())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {address}"));

    let mut unwritable = config("127.0.0.1:0");
    unwritable.boundary_log = Some(crate::config::control::BoundaryLogOutput::File(
        "/no/file".into(),
    ));
    let error = ControlPlane::bind(&unwritable, metrics())
        .await
        .unwrap_err();
    assert!(matches!(error, BindError::BoundaryLog(_)), "{error:?}");

    let mut keyless = config("127.0.0.1:0");
    keyless.tls = Some(crate::config::control::TlsFiles {
        cert: "/dev/null".into(),
        key: "/dev/null".into(),
    });
    let error = ControlPlane::bind(&keyless, metrics()).await.unwrap_err();
    assert!(matches!(error, BindError::Tls(_)), "{error:?}");
}
