use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{DuplexStream, duplex};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::Role as End;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::*;
use crate::control::service::Service;
use crate::control::tests::agent;
use crate::wire::ws;

type Ws = WebSocketStream<DuplexStream>;

/// A session in a task, its peer, and what is needed to steer and judge it.
struct Bench {
    peer: Ws,
    metrics: ControlMetrics,
    stop: CancellationToken,
    ended: JoinSet<(Ended, Duration)>,
}

impl Bench {
    async fn new(role: Role) -> Self {
        let (near, far) = duplex(1 << 20);
        let near = WebSocketStream::from_raw_socket(near, End::Server, Some(ws::config())).await;
        let peer = WebSocketStream::from_raw_socket(far, End::Client, Some(ws::config())).await;
        let metrics = ControlMetrics::new().unwrap();
        let service = Service::new(Duration::from_secs(30), None, None, None, metrics.clone());
        let caller = Caller {
            service: Arc::new(service),
            agent: agent(),
            role,
        };
        let stop = CancellationToken::new();
        let mut ended = JoinSet::new();
        let (counted, stopped) = (metrics.clone(), stop.clone());
        ended.spawn(async move {
            let began = Instant::now();
            let ended = run(near, caller, &counted, &stopped).await;
            (ended, began.elapsed())
        });
        Self {
            peer,
            metrics,
            stop,
            ended,
        }
    }

    async fn ended(&mut self) -> (Ended, Duration) {
        self.ended.join_next().await.unwrap().unwrap()
    }

    async fn send(&mut self, bytes: &[u8]) {
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        self.peer.send(message).await.unwrap();
    }

    /// The close that the session sends, after whatever comes before it.
    async fn close_code(&mut self) -> Option<u16> {
        while let Some(Ok(message)) = self.peer.next().await {
            if let Message::Close(frame) = message {
                return frame.map(|frame| frame.code.into());
            }
        }
        None
    }
}

fn frame(kind: u8, flags: u16, stream: u32, length: u32) -> Vec<u8> {
    let mut bytes = vec![0, kind];
    bytes.extend(flags.to_be_bytes());
    bytes.extend(stream.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

const SYN: u16 = 1;
const FIN: u16 = 4;

fn open(stream: u32) -> Vec<u8> {
    frame(1, SYN, stream, 0)
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_answers_no_ping_is_given_up_by_its_role() {
    for (role, limit) in [(Role::Agent, 30), (Role::Other("weir".into()), 40)] {
        let mut bench = Bench::new(role).await;
        let (ended, after) = bench.ended().await;
        assert!(matches!(ended, Ended::Silent(_)), "{ended:?}");
        assert_eq!(after, Duration::from_secs(limit));
    }
}

#[tokio::test(start_paused = true)]
async fn other_messages_do_not_stand_for_a_pong() {
    let mut bench = Bench::new(Role::Agent).await;
    let chatter = async {
        loop {
            // A yamux ping; what is answered is not read.
            bench
                .peer
                .send(Message::Binary(frame(2, SYN, 0, 1).into()))
                .await
                .unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let ended = tokio::select! {
        () = chatter => unreachable!("it goes on for ever"),
        ended = bench.ended.join_next() => ended.unwrap().unwrap(),
    };
    assert!(matches!(ended.0, Ended::Silent(_)), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn pings_come_at_the_pace_of_the_role_and_pongs_keep_the_session() {
    for (role, pings) in [(Role::Agent, 40), (Role::Other("weir".into()), 20)] {
        let mut bench = Bench::new(role).await;
        let mut seen = 0;
        let deadline = Instant::now() + Duration::from_secs(605);
        while let Ok(message) = tokio::time::timeout_at(deadline, bench.peer.next()).await {
            // The peer's library answers.
            seen += u32::from(message.unwrap().unwrap().is_ping());
        }
        assert_eq!(seen, pings);
        assert!(bench.ended.try_join_next().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_closes_in_order() {
    let mut bench = Bench::new(Role::Agent).await;
    bench.send(&frame(2, SYN, 0, 7)).await;
    // The answer to the ping: the session runs.
    assert!(bench.peer.next().await.unwrap().is_ok());
    bench.stop.cancel();
    assert_eq!(bench.close_code().await, Some(1000));
    let (ended, _) = bench.ended().await;
    assert!(matches!(ended, Ended::Stopped), "{ended:?}");

    // A peer that does not answer holds it up for a limited time, open streams included.
    let mut bench = Bench::new(Role::Agent).await;
    bench.send(&open(1)).await;
    bench.stop.cancel();
    let (ended, after) = bench.ended().await;
    assert!(matches!(ended, Ended::Stopped), "{ended:?}");
    assert!(after <= DRAIN_LIMIT + CLOSE_LIMIT, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn however_the_agent_leaves_it_is_no_error() {
    for code in [CloseCode::Normal, CloseCode::Away, CloseCode::Error] {
        let mut bench = Bench::new(Role::Agent).await;
        let reason = "".into();
        bench
            .peer
            .close(Some(CloseFrame { code, reason }))
            .await
            .unwrap();
        let (ended, _) = bench.ended().await;
        assert!(matches!(ended, Ended::ByAgent), "{code:?}: {ended:?}");
    }
    for front in [frame(2, SYN, 0, 7), open(1)[..5].to_vec()] {
        let mut bench = Bench::new(Role::Agent).await;
        bench.send(&front).await;
        let (_, far) = duplex(1);
        bench.peer = WebSocketStream::from_raw_socket(far, End::Client, None).await;
        let (ended, _) = bench.ended().await;
        assert!(matches!(ended, Ended::ByAgent), "{front:?}: {ended:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_violation_ends_the_session_and_is_named() {
    let too_much = [open(1), frame(0, 0, 1, u32::MAX)].concat();
    let fin = frame(1, FIN, 1, 0);
    for (bytes, fault) in [
        (vec![1; 12], ProtocolFault::YamuxFrame),
        (frame(9, 0, 1, 0), ProtocolFault::YamuxFrame),
        (open(2), ProtocolFault::YamuxStreamId),
        ([open(1), open(1)].concat(), ProtocolFault::YamuxStreamInUse),
        (too_much, ProtocolFault::YamuxWindow),
        (
            [open(1), fin.clone(), fin].concat(),
            ProtocolFault::YamuxSecondFin,
        ),
    ] {
        let mut bench = Bench::new(Role::Agent).await;
        bench.send(&bytes).await;
        assert_eq!(bench.close_code().await, Some(1011), "{fault:?}");
        let (ended, _) = bench.ended().await;
        assert_eq!(ended.label(), SessionEnd::Protocol, "{ended}");
        assert_eq!(bench.metrics.violations(fault), 1, "{fault:?}");
    }
    let mut bench = Bench::new(Role::Agent).await;
    bench.peer.send(Message::text("x")).await.unwrap();
    assert_eq!(bench.close_code().await, Some(1003));
    bench.ended().await;
    assert_eq!(bench.metrics.violations(ProtocolFault::WebSocket), 1);
}

#[tokio::test(start_paused = true)]
async fn one_stream_too_many_is_reset_and_the_others_are_served() {
    let mut bench = Bench::new(Role::Agent).await;
    let count = MAX_STREAMS as u32 + 1;
    let opens: Vec<_> = (0..count).flat_map(|n| open(2 * n + 1)).collect();
    bench.send(&opens).await;
    bench.send(&frame(2, SYN, 0, 99)).await;
    // The answer to the ping comes after what happened to the streams before it.
    let mut received = Vec::new();
    while !received
        .windows(12)
        .any(|bytes| bytes == frame(2, 2, 0, 99))
    {
        let message = bench.peer.next().await.unwrap().unwrap();
        received.extend_from_slice(&message.into_data());
    }
    let fault = ProtocolFault::YamuxTooManyStreams;
    assert_eq!(bench.metrics.violations(fault), 1);
    assert!(bench.ended.try_join_next().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_go_away_in_order_changes_nothing() {
    let mut bench = Bench::new(Role::Agent).await;
    bench.send(&frame(3, 0, 0, 0)).await;
    // GetManifest, byte for byte as the Go client sends it, and the ping that shows that the session lives.
    let invoke =
        b"\x03\x01\x01\x21/coder.agent.v2.Agent/GetManifest\x05\x01\x02\x00\x0d\x01\x03\x00";
    let call = [
        open(1),
        frame(0, 0, 1, invoke.len() as u32),
        invoke.to_vec(),
    ];
    bench.send(&call.concat()).await;
    let mut received = Vec::new();
    while !received.windows(3).any(|bytes| bytes == b"\x0d\x01\x02") {
        let message = bench.peer.next().await.unwrap().unwrap();
        received.extend_from_slice(&message.into_data());
    }
    bench.send(&frame(3, 0, 0, 1)).await;
    let (ended, _) = bench.ended().await;
    assert!(matches!(ended, Ended::ByAgent), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_drpc_is_closed_and_forgotten() {
    let mut bench = Bench::new(Role::Agent).await;
    // A message of dRPC stream 0.
    let bad = [open(1), frame(0, 0, 1, 4), b"\x05\x00\x01\x00".to_vec()];
    bench.send(&bad.concat()).await;
    let mut received = Vec::new();
    let closes = |bytes: &[u8]| matches!(bytes, [0, _, flags, low, 0, 0, 0, 1, ..] if u16::from_be_bytes([*flags, *low]) & FIN != 0);
    while !received.windows(12).any(closes) {
        let message = bench.peer.next().await.unwrap().unwrap();
        received.extend_from_slice(&message.into_data());
    }
    assert_eq!(bench.metrics.violations(ProtocolFault::Drpc), 1);
    // The session goes on.
    bench
        .send(&[frame(1, FIN, 1, 0), open(3), frame(2, SYN, 0, 5)].concat())
        .await;
    let mut received = Vec::new();
    while !received.windows(12).any(|bytes| bytes == frame(2, 2, 0, 5)) {
        let message = bench.peer.next().await.unwrap().unwrap();
        received.extend_from_slice(&message.into_data());
    }
}
