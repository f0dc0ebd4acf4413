use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::*;
use crate::upstream::websocket::unary;
use crate::upstream::{Outcome, Rpc};
use crate::wire::ws;
use crate::wire::yamux::PIECE;

type Ws = WebSocketStream<DuplexStream>;

/// More than any of these tests writes.
const ROOMY: usize = 1 << 20;

struct Bench {
    session: Session,
    stop: CancellationToken,
    driver: JoinSet<Ended>,
    begun: Instant,
}

/// A session that runs, and the other end of its WebSocket, with `buffer` bytes of socket between them.
async fn bench(buffer: usize) -> (Bench, Ws) {
    let (near, far) = duplex(buffer);
    let near = WebSocketStream::from_raw_socket(near, Role::Client, Some(ws::config())).await;
    let far = WebSocketStream::from_raw_socket(far, Role::Server, Some(ws::config())).await;
    let (session, driver) = Session::new(near);
    let stop = CancellationToken::new();
    let driver = JoinSet::from_iter([run(driver, stop.clone())]);
    (
        Bench {
            session,
            stop,
            driver,
            begun: Instant::now(),
        },
        far,
    )
}

/// Serves, and closes where there is something left to close.
async fn run(mut driver: Driver<DuplexStream>, stop: CancellationToken) -> Ended {
    let ended = driver.serve(&stop).await;
    if ended.leaves_it_open() {
        driver.close().await;
    }
    ended
}

/// Reads on, which answers pings and closes, and counts the pings until the connection ends.
fn attend(mut far: Ws) -> JoinSet<(usize, Option<CloseCode>)> {
    let attendance = async move {
        let (mut pings, mut code) = (0, None);
        while let Some(Ok(message)) = far.next().await {
            match message {
                Message::Ping(_) => pings += 1,
                Message::Close(frame) => code = frame.map(|frame| frame.code),
                _ => {}
            }
        }
        (pings, code)
    };
    JoinSet::from_iter([attendance])
}

/// What the one task of a set came to.
async fn end<T: 'static>(mut task: JoinSet<T>) -> T {
    task.join_next().await.unwrap().unwrap()
}

fn runs<T: 'static>(task: &mut JoinSet<T>) -> bool {
    task.try_join_next().is_none()
}

async fn call(session: &Session) -> Outcome {
    unary::call(
        session,
        Rpc::REPORT_BOUNDARY_LOGS,
        &[Bytes::from_static(b"\x12\x01x")],
    )
    .await
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_falls_silent_is_dead_after_20_seconds() {
    let (bench, _far) = bench(ROOMY).await;
    let ended = end(bench.driver).await;
    assert!(matches!(ended, Ended::Silent(_)), "{ended}");
    assert_eq!(bench.begun.elapsed().as_secs(), 20);
}

#[tokio::test(start_paused = true)]
async fn silence_counts_from_the_last_sign_of_life() {
    let (bench, mut far) = bench(ROOMY).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    far.send(Message::Binary(Bytes::new())).await.unwrap();
    let ended = end(bench.driver).await;
    assert!(matches!(ended, Ended::Silent(_)), "{ended}");
    assert_eq!(bench.begun.elapsed().as_secs(), 35);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_dead_all_the_same() {
    let (bench, _far) = bench(64).await;
    let (outcome, ended) = tokio::join!(call(&bench.session), end(bench.driver));
    assert!(matches!(ended, Ended::Silent(_)));
    assert!(matches!(outcome, Outcome::Ambiguous(_)), "{outcome:?}");
    assert_eq!(bench.begun.elapsed().as_secs(), 20);
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_lives_by_a_ping_each_ten_seconds_and_closes_with_1000() {
    let (mut bench, far) = bench(ROOMY).await;
    let far = attend(far);
    tokio::time::sleep(Duration::from_secs(305)).await;
    assert!(runs(&mut bench.driver));
    bench.stop.cancel();
    assert!(matches!(end(bench.driver).await, Ended::Here));
    let (pings, code) = end(far).await;
    assert_eq!((pings, code), (30, Some(CloseCode::Normal)));
}

#[tokio::test(start_paused = true)]
async fn a_session_is_closed_when_nobody_uses_it_any_more() {
    let (mut bench, far) = bench(ROOMY).await;
    let far = attend(far);
    let other = bench.session.clone();
    drop(bench.session);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(runs(&mut bench.driver));
    drop(other);
    assert!(matches!(end(bench.driver).await, Ended::Here));
    assert_eq!(end(far).await.1, Some(CloseCode::Normal));
}

#[tokio::test(start_paused = true)]
async fn a_close_that_is_not_answered_takes_5_seconds() {
    for buffer in [ROOMY, 8] {
        let (bench, _far) = bench(buffer).await;
        bench.stop.cancel();
        assert!(matches!(end(bench.driver).await, Ended::Here));
        assert_eq!(bench.begun.elapsed().as_secs(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_ends_after_30_seconds_and_the_session_goes_on() {
    let (mut bench, far) = bench(ROOMY).await;
    let far = attend(far);
    let outcome = call(&bench.session).await;
    assert_eq!(
        outcome,
        Outcome::Ambiguous("no answer within 30s".to_owned())
    );
    assert_eq!(bench.begun.elapsed().as_secs(), 30);
    assert!(runs(&mut bench.driver));
    bench.stop.cancel();
    end(far).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_finds_no_place_was_certainly_not_sent() {
    let (bench, far) = bench(ROOMY).await;
    let _far = attend(far);
    let mut streams = Vec::new();
    for _ in 0..MAX_CALLS {
        streams.push(bench.session.open().await.unwrap());
    }
    let outcome = call(&bench.session).await;
    assert_eq!(outcome, Outcome::Retry("no answer within 30s".to_owned()));
    streams.pop();
    bench.session.open().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn abandoned_calls_never_add_up_to_more_streams_than_yamux_allows() {
    // The socket takes nothing, so yamux forgets no stream that has been written to.
    let (mut bench, _far) = bench(8).await;
    let mut abandoned = 0;
    loop {
        let attempt = tokio::time::timeout(Duration::from_millis(1), call(&bench.session)).await;
        match attempt {
            Err(_) => abandoned += 1,
            Ok(outcome) => {
                assert_eq!(outcome, Outcome::Retry("the connection is gone".to_owned()));
                break;
            }
        }
    }
    assert_eq!(abandoned, MAX_ABANDONED);
    assert!(runs(&mut bench.driver));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_the_peer_opens_is_reset() {
    let (mut bench, mut far) = bench(ROOMY).await;
    let open = [0, 1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0];
    far.send(Message::Binary(Bytes::copy_from_slice(&open)))
        .await
        .unwrap();
    let mut received = Vec::new();
    while !received.ends_with(&[0, 1, 0, 8, 0, 0, 0, 2, 0, 0, 0, 0])
        && !received.ends_with(&[0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0, 0])
    {
        match far.next().await {
            Some(Ok(Message::Binary(data))) => received.extend_from_slice(&data),
            Some(Ok(_)) => {}
            end => panic!("{end:?} after {received:02x?}"),
        }
    }
    assert!(runs(&mut bench.driver));
}

#[tokio::test(start_paused = true)]
async fn what_the_peer_breaks_is_named() {
    fn raw(bytes: &'static [u8]) -> Message {
        Message::Binary(Bytes::from_static(bytes))
    }
    async fn ending(message: Message) -> String {
        let (bench, mut far) = bench(ROOMY).await;
        far.send(message).await.unwrap();
        let far = attend(far);
        let ended = end(bench.driver).await;
        drop(bench.session);
        end(far).await;
        ended.to_string()
    }
    assert_eq!(
        ending(Message::text("x")).await,
        "text message received, expected binary"
    );
    assert_eq!(
        ending(raw(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])).await,
        "closed by the control plane"
    );
    assert_eq!(
        ending(raw(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])).await,
        "decode error: unknown version: 1"
    );
    assert_eq!(
        ending(Message::Close(None)).await,
        "closed by the peer without a close code"
    );
}

#[tokio::test(start_paused = true)]
async fn a_long_request_fills_the_window_in_whole_pieces() {
    // A small socket has the writer come back to each piece several times.
    let (bench, mut far) = bench(1 << 10).await;
    let body = [Bytes::from(vec![0; 100_000]), Bytes::from(vec![0; 300_000])];
    let call = unary::call(&bench.session, Rpc::REPORT_BOUNDARY_LOGS, &body);
    let peer = async {
        let (mut bytes, mut lengths) = (Vec::new(), Vec::new());
        while lengths.iter().sum::<usize>() < yamux::DEFAULT_CREDIT as usize {
            if let Message::Binary(data) = far.next().await.unwrap().unwrap() {
                bytes.extend_from_slice(&data);
            }
            // The type is Data where the second byte is 0; the last four are the length.
            while let Some((header, body)) = bytes.split_at_checked(12) {
                let length = u32::from_be_bytes(header[8..].try_into().unwrap()) as usize;
                let taken = 12 + if header[1] == 0 { length } else { 0 };
                if body.len() + 12 < taken {
                    break;
                }
                lengths.extend((header[1] == 0).then_some(length));
                bytes.drain(..taken);
            }
        }
        lengths
    };
    tokio::select! {
        outcome = call => panic!("{outcome:?}"),
        lengths = peer => assert_eq!(lengths, [0, PIECE, PIECE, PIECE, PIECE]),
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_dropped_unused_was_opened_and_is_reset() {
    let (mut bench, mut far) = bench(ROOMY).await;
    drop(bench.session.open().await.unwrap());
    let mut bytes = Vec::new();
    while let Ok(message) = tokio::time::timeout(Duration::from_secs(1), far.next()).await {
        if let Message::Binary(data) = message.unwrap().unwrap() {
            bytes.extend_from_slice(&data);
        }
    }
    let (headers, []) = bytes.as_chunks::<12>() else {
        panic!("{bytes:02x?}")
    };
    let of_stream: Vec<_> = headers.iter().filter(|header| header[7] == 1).collect();
    assert_eq!(
        of_stream,
        [
            &[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0],
            &[0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0]
        ]
    );
    assert!(runs(&mut bench.driver));
}
