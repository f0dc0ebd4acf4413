use std::time::Duration;

use h2::client::{self, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Response};
use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};

use super::*;
use crate::config::control::{AgentSpec, AgentToken};
use crate::control::agents::{Agents, Role};
use crate::control::rpc::IDLE_LIMIT;
use crate::control::service::Service;
use crate::control::tests::spec;
use crate::metrics::control::{ControlMetrics, RpcMethod, RpcOutcome, SessionEnd};
use crate::wire::grpc;

/// Agents that there are: more than have a place on one connection.
const AGENTS: usize = MAX_STREAMS + 1;

fn token(number: usize) -> String {
    format!("{number:08x}-0000-4000-8000-000000000000")
}

fn agents() -> Vec<AgentSpec> {
    let numbered = |number| AgentSpec {
        token: AgentToken::parse(&token(number)).unwrap(),
        ..spec(&number.to_string())
    };
    (0..AGENTS).map(numbered).collect()
}

/// A connection in a task, a client of it in another, and what is needed to steer and judge it.
struct Bench {
    requests: SendRequest<Bytes>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    served: JoinSet<Duration>,
    /// Drives the client's end.
    client: JoinSet<()>,
}

/// The other end of a connection that is served.
fn serve_one(
    shared: &Arc<Shared>,
    stop: &CancellationToken,
    served: &mut JoinSet<Duration>,
) -> DuplexStream {
    let (near, far) = duplex(1 << 20);
    let (shared, stop) = (Arc::clone(shared), stop.clone());
    served.spawn(async move {
        let began = Instant::now();
        serve(near, ([127, 0, 0, 1], 1).into(), &shared, &stop).await;
        began.elapsed()
    });
    far
}

fn shared() -> Arc<Shared> {
    let metrics = ControlMetrics::new().unwrap();
    let service = Service::new(Duration::from_secs(30), None, None, None, metrics.clone());
    Arc::new(Shared {
        agents: Agents::new(&agents()),
        service: Arc::new(service),
        metrics,
    })
}

impl Bench {
    async fn new() -> Self {
        Self::with(&mut client::Builder::new()).await
    }

    async fn with(builder: &mut client::Builder) -> Self {
        let (shared, stop, mut served) = (shared(), CancellationToken::new(), JoinSet::new());
        let far = serve_one(&shared, &stop, &mut served);
        let (requests, connection) = builder.handshake(far).await.unwrap();
        let mut client = JoinSet::new();
        client.spawn(async move { connection.await.unwrap_or_default() });
        Self {
            requests,
            shared,
            stop,
            served,
            client,
        }
    }

    /// Begins a call as the agent of that number.
    async fn begin(&mut self, method: &str, agent: usize) -> (ResponseFuture, SendStream<Bytes>) {
        let request = Request::post(format!("http://weir/coder.agent.v2.Agent/{method}"))
            .header("content-type", "application/grpc")
            .header("coder-session-token", token(agent))
            .body(())
            .unwrap();
        self.requests = self.requests.clone().ready().await.unwrap();
        self.requests.send_request(request, false).unwrap()
    }

    /// The status and the message of a call.
    async fn call(&mut self, method: &str, agent: usize) -> (String, Bytes) {
        let (response, mut body) = self.begin(method, agent).await;
        body.send_data(grpc::body(b"").unwrap(), true).unwrap();
        outcome(response.await.unwrap()).await
    }

    async fn served(&mut self) -> Duration {
        self.served.join_next().await.unwrap().unwrap()
    }

    fn violations(&self, fault: ProtocolFault) -> u64 {
        self.shared.metrics.violations(fault)
    }
}

async fn outcome(response: Response<RecvStream>) -> (String, Bytes) {
    let (head, mut body) = response.into_parts();
    let mut data = Vec::new();
    while let Some(piece) = body.data().await {
        data.extend_from_slice(&piece.unwrap());
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    (
        status(&head.headers).or(status(&trailers)).unwrap(),
        data.into(),
    )
}

fn status(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("grpc-status")?.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_session_begins_with_its_first_call_and_ends_with_the_connection() {
    let mut bench = Bench::new().await;
    assert_eq!(bench.call("UpdateStats", AGENTS).await.0, "16");
    assert_eq!(
        bench
            .shared
            .metrics
            .dials_refused(DialRefusal::UnknownToken),
        1
    );
    for _ in 0..2 {
        let (status, message) = bench.call("UpdateStats", 0).await;
        assert_eq!(
            (status.as_str(), &message[..5]),
            ("0", &[0, 0, 0, 0, 4][..])
        );
        assert_eq!(bench.call("GetServiceBanner", 1).await.1, &[0; 5][..]);
    }
    bench.client.shutdown().await;
    bench.served().await;
    let metrics = &bench.shared.metrics;
    assert_eq!(metrics.sessions_that_ended(SessionEnd::Agent), 2);
    assert_eq!(metrics.calls(RpcMethod::UpdateStats, RpcOutcome::Ok), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_an_admitted_call_is_closed() {
    let mut bench = Bench::new().await;
    assert_eq!(bench.served().await, ANSWER_WITHIN);
    // In order: the client was told to go.
    bench.client.join_next().await.unwrap().unwrap();
    assert_eq!(
        bench.shared.metrics.dials_refused(DialRefusal::Malformed),
        1
    );

    let mut refused = Bench::new().await;
    for _ in 0..3 {
        assert_eq!(refused.call("UpdateStats", AGENTS).await.0, "16");
        sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(refused.served().await, ANSWER_WITHIN);
    assert_eq!(
        refused.shared.metrics.dials_refused(DialRefusal::Malformed),
        0
    );

    let mut admitted = Bench::new().await;
    admitted.call("UpdateStats", 0).await;
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(admitted.call("UpdateStats", 0).await.0, "0");
}

#[tokio::test(start_paused = true)]
async fn what_never_becomes_http2_is_given_up() {
    let (shared, stop, mut served) = (shared(), CancellationToken::new(), JoinSet::new());
    let mut silent = serve_one(&shared, &stop, &mut served);
    silent.write_all(b"PRI * HTTP").await.unwrap();
    let took = served.join_next().await.unwrap().unwrap();
    assert_eq!(took, REQUEST_WITHIN);
    assert_eq!(shared.metrics.dials_refused(DialRefusal::Malformed), 1);
    let mut other = serve_one(&shared, &stop, &mut served);
    other
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    served.join_next().await.unwrap().unwrap();
    assert_eq!(shared.metrics.dials_refused(DialRefusal::Malformed), 2);
    drop(serve_one(&shared, &stop, &mut served));
    served.join_next().await.unwrap().unwrap();
    assert_eq!(shared.metrics.dials_refused(DialRefusal::Malformed), 2);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_answers_no_ping_is_given_up() {
    let (shared, stop, mut served) = (shared(), CancellationToken::new(), JoinSet::new());
    let far = serve_one(&shared, &stop, &mut served);
    let (requests, mut connection) = client::handshake(far).await.unwrap();
    let mut bench = Bench {
        requests,
        shared,
        stop,
        served,
        client: JoinSet::new(),
    };
    // Driven until the call is answered, and not any more.
    let status = tokio::select! {
        (status, _) = bench.call("UpdateStats", 0) => status,
        _ = &mut connection => unreachable!("the call comes first"),
    };
    assert_eq!(status, "0");
    let took = bench.served().await;
    assert_eq!(took, MONITOR.dead_after);
    let ended = bench.shared.metrics.sessions_that_ended(SessionEnd::Silent);
    assert_eq!(ended, 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_dribbles_in_is_given_up() {
    let mut bench = Bench::new().await;
    let (response, mut body) = bench.begin("ReportBoundaryLogs", 0).await;
    let began = Instant::now();
    let mut response = std::pin::pin!(response);
    body.send_data(Bytes::from_static(&[0, 0, 1, 0, 0]), false)
        .unwrap();
    let response = loop {
        tokio::select! {
            response = &mut response => break response.unwrap(),
            () = sleep(Duration::from_secs(60)) => {
                body.send_data(Bytes::from_static(&[0]), false).unwrap();
            }
        }
    };
    assert_eq!(outcome(response).await.0, "4");
    assert_eq!(began.elapsed(), IDLE_LIMIT);
    assert_eq!(bench.violations(ProtocolFault::IdleStream), 1);
    let metrics = &bench.shared.metrics;
    let failed = metrics.calls(RpcMethod::ReportBoundaryLogs, RpcOutcome::Error);
    assert_eq!(failed, 1);
    assert_eq!(bench.call("UpdateStats", 0).await.0, "0");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_taken_is_given_up() {
    let mut bench = Bench::with(client::Builder::new().initial_window_size(0)).await;
    let (response, mut body) = bench.begin("GetManifest", 0).await;
    body.send_data(grpc::body(b"").unwrap(), true).unwrap();
    let mut answer = response.await.unwrap().into_body();
    let began = Instant::now();
    let error = answer.data().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::CANCEL));
    assert_eq!(began.elapsed(), IDLE_LIMIT);
    assert_eq!(bench.violations(ProtocolFault::IdleStream), 1);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_call_is_kept_and_its_end_is_counted() {
    let mut bench = Bench::new().await;
    let (response, _body) = {
        let request = Request::post("http://weir/coder.agent.v2.Agent/UpdateStats")
            .header("content-type", "application/grpc")
            .header("coder-session-token", token(0))
            .header("grpc-timeout", "1500m")
            .body(())
            .unwrap();
        bench.requests.send_request(request, false).unwrap()
    };
    let began = Instant::now();
    assert_eq!(outcome(response.await.unwrap()).await.0, "4");
    assert_eq!(began.elapsed(), Duration::from_millis(1500));
    let cancelled = |bench: &Bench| {
        let metrics = &bench.shared.metrics;
        metrics.calls(RpcMethod::UpdateStats, RpcOutcome::Cancelled)
    };
    assert_eq!(cancelled(&bench), 1);
    // So is that of a call that the agent gives up, and of one whose connection goes.
    let (_response, mut body) = bench.begin("UpdateStats", 0).await;
    bench.call("UpdateStats", 0).await;
    body.send_reset(Reason::CANCEL);
    bench.call("UpdateStats", 0).await;
    let _open = bench.begin("UpdateStats", 0).await;
    bench.call("UpdateStats", 0).await;
    bench.client.shutdown().await;
    bench.served().await;
    assert_eq!(cancelled(&bench), 3);
    assert_eq!(bench.violations(ProtocolFault::Http2Frame), 0);
}

#[tokio::test]
async fn a_rule_broken_on_a_stream_costs_that_alone_and_is_counted() {
    let mut bench = Bench::new().await;
    let request = Request::post("http://weir/coder.agent.v2.Agent/UpdateStats")
        .header("content-type", "application/grpc")
        .header("coder-session-token", token(0))
        .header("content-length", "4")
        .body(())
        .unwrap();
    let (response, mut body) = bench.requests.send_request(request, false).unwrap();
    body.send_data(grpc::body(b"").unwrap(), false).unwrap();
    let error = response.await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::PROTOCOL_ERROR));
    assert_eq!(bench.call("UpdateStats", 0).await.0, "0");
    bench.client.shutdown().await;
    bench.served().await;
    assert_eq!(bench.violations(ProtocolFault::Http2Frame), 1);
}

/// Sends of a body what the window lets through.
async fn send(stream: &mut SendStream<Bytes>, mut bytes: usize) {
    while bytes > 0 {
        stream.reserve_capacity(bytes);
        let capacity = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let piece = capacity.unwrap().unwrap().min(bytes);
        stream.send_data(vec![0; piece].into(), false).unwrap();
        bytes -= piece;
    }
}

#[tokio::test(start_paused = true)]
async fn large_requests_wait_for_their_turn_and_keep_nobody_else_from_being_served() {
    let mut bench = Bench::new().await;
    let mut begun = Vec::new();
    let length = Bytes::from_static(&[0, 0, 0x40, 0, 0]);
    for _ in 0..MAX_LARGE {
        let (response, mut body) = bench.begin("ReportBoundaryLogs", 0).await;
        body.send_data(length.clone(), false).unwrap();
        send(&mut body, 1 << 20).await;
        begun.push((response, body));
    }
    let (waiting, mut late) = bench.begin("ReportBoundaryLogs", 0).await;
    late.send_data(length, false).unwrap();
    // Its window, and what is taken before it counts as large; then nothing.
    send(&mut late, STREAM_WINDOW as usize).await;
    let more = timeout(Duration::from_secs(10), send(&mut late, 1 << 20));
    assert!(more.await.is_err(), "a ninth large request was taken");
    assert_eq!(bench.call("UpdateStats", 0).await.0, "0");
    // One gives up its place.
    drop(begun.pop());
    let more = timeout(Duration::from_secs(10), send(&mut late, 1 << 20));
    assert!(more.await.is_ok(), "the place was not given to who waited");
    drop(waiting);
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_calls_be_answered_and_then_closes() {
    let mut bench = Bench::new().await;
    bench.call("UpdateStats", 0).await;
    let (response, mut body) = bench.begin("UpdateStats", 0).await;
    // Served after it, so that the server knows of both.
    bench.call("UpdateStats", 0).await;
    bench.stop.cancel();
    sleep(Duration::from_secs(1)).await;
    body.send_data(grpc::body(b"").unwrap(), true).unwrap();
    assert_eq!(outcome(response.await.unwrap()).await.0, "0");
    assert_eq!(bench.served().await, Duration::from_secs(1));
    bench.client.join_next().await.unwrap().unwrap();
    let ended = bench
        .shared
        .metrics
        .sessions_that_ended(SessionEnd::Stopped);
    assert_eq!(ended, 1);

    // A call that is not finished holds it up for a limited time.
    let mut stuck = Bench::new().await;
    let _open = stuck.begin("UpdateStats", 0).await;
    stuck.call("UpdateStats", 0).await;
    stuck.stop.cancel();
    assert_eq!(stuck.served().await, DRAIN_LIMIT);
    let cancelled = RpcOutcome::Cancelled;
    let metrics = &stuck.shared.metrics;
    assert_eq!(metrics.calls(RpcMethod::UpdateStats, cancelled), 1);
}

#[tokio::test]
async fn agents_that_share_a_connection_give_way_to_each_other() {
    let mut bench = Bench::new().await;
    for agent in 0..AGENTS - 1 {
        assert_eq!(bench.call("UpdateStats", agent).await.0, "0");
    }
    let displaced = |bench: &Bench| {
        let metrics = &bench.shared.metrics;
        metrics.sessions_that_ended(SessionEnd::Displaced)
    };
    // Called again, so that it is not the one that goes.
    bench.call("UpdateStats", 0).await;
    assert_eq!(displaced(&bench), 0);
    bench.call("UpdateStats", AGENTS - 1).await;
    assert_eq!(displaced(&bench), 1);
    bench.call("UpdateStats", 0).await;
    assert_eq!(displaced(&bench), 1);
    bench.call("UpdateStats", 1).await;
    assert_eq!(displaced(&bench), 2);
}

#[tokio::test]
async fn an_agent_with_too_many_sessions_is_told_to_come_later() {
    let mut bench = Bench::new().await;
    let token = AgentToken::parse(&token(0)).unwrap();
    let agent = bench.shared.agents.find(&token).unwrap();
    let metrics = &bench.shared.metrics;
    let seats: Vec<_> = std::iter::from_fn(|| agent.enter(Role::Agent, metrics)).collect();
    assert_eq!(bench.call("UpdateStats", 0).await.0, "14");
    assert_eq!(bench.shared.metrics.dials_refused(DialRefusal::TooMany), 1);
    drop(seats);
    assert_eq!(bench.call("UpdateStats", 0).await.0, "0");
}

#[test]
fn failures_have_the_codes_by_which_agents_decide() {
    use crate::control::service::{Failure, FailureKind};
    use tonic::Code;
    for (kind, code) in [
        (FailureKind::UnknownMethod, Code::Unimplemented),
        (FailureKind::Unimplemented, Code::Unimplemented),
        (FailureKind::Invalid, Code::InvalidArgument),
        (FailureKind::Failed, Code::Unknown),
    ] {
        let text = "é".repeat(10_000);
        let status = answer::failed(Failure { kind, text });
        assert_eq!(status.code(), code);
        assert!(status.message().len() <= 4 << 10);
    }
}
