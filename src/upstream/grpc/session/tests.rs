use super::*;
use crate::upstream::Outcome;
use crate::upstream::grpc::call::call;
use crate::upstream::grpc::peer::{END_STREAM, Frames, GOAWAY, HEADERS, RESET, bench, end, runs};
use tokio::task::JoinSet;

/// More than any of these tests writes.
const ROOMY: usize = 1 << 20;

const NO_ERROR: u32 = 0;
const ENHANCE_YOUR_CALM: u32 = 11;

async fn report(session: &Session) -> Outcome {
    let body = [Bytes::from_static(b"\x12\x01x")];
    call(session, Rpc::REPORT_BOUNDARY_LOGS, &body).await
}

/// Answers with an empty message: `:status: 200`, `content-type: application/grpc`, `grpc-status: 0`, the last two as
/// literals that nobody remembers (RFC 7541, section 6.2.2).
async fn accept(frames: &mut Frames, stream: u32) {
    let literal = |name: &[u8], value: &[u8]| {
        let length = |text: &[u8]| vec![u8::try_from(text.len()).unwrap()];
        [&[0][..], &length(name), name, &length(value), value].concat()
    };
    let head = [vec![0x88], literal(b"content-type", b"application/grpc")].concat();
    let end_headers = 4;
    frames.send(HEADERS, end_headers, stream, &head).await;
    frames.send(0, 0, stream, &[0; 5]).await;
    let trailers = literal(b"grpc-status", b"0");
    let flags = end_headers | END_STREAM;
    frames.send(HEADERS, flags, stream, &trailers).await;
}

fn accepted() -> Outcome {
    Outcome::Accepted(Bytes::new())
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_falls_silent_is_dead_after_20_seconds() {
    let (bench, _far) = bench(ROOMY).await;
    assert_eq!(
        end(bench.driver).await,
        Ended::Silent(Duration::from_secs(20))
    );
    assert_eq!(bench.begun.elapsed().as_secs(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_dead_all_the_same() {
    let (bench, _far) = bench(64).await;
    let (outcome, ended) = tokio::join!(report(&bench.session), end(bench.driver));
    assert!(matches!(ended, Ended::Silent(_)), "{ended}");
    // Nothing is known of how much of it was read.
    assert!(matches!(outcome, Outcome::Ambiguous(_)), "{outcome:?}");
    assert_eq!(bench.begun.elapsed().as_secs(), 20);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_lives_by_a_ping_each_ten_seconds_and_closes_with_goaway() {
    let (mut bench, far) = bench(ROOMY).await;
    let far = JoinSet::from_iter([Frames::accept(far).await.attend()]);
    sleep(Duration::from_secs(305)).await;
    assert!(runs(&mut bench.driver));
    bench.stop.cancel();
    drop(bench.session);
    assert_eq!(end(bench.driver).await, Ended::Here);
    assert_eq!(end(far).await, (30, Some(NO_ERROR)));
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_closed_when_nobody_uses_it_any_more() {
    let (mut bench, far) = bench(ROOMY).await;
    let far = JoinSet::from_iter([Frames::accept(far).await.attend()]);
    let other = bench.session.clone();
    drop(bench.session);
    sleep(Duration::from_secs(60)).await;
    assert!(runs(&mut bench.driver));
    drop(other);
    assert_eq!(end(bench.driver).await, Ended::Here);
    assert_eq!(end(far).await.1, Some(NO_ERROR));
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_5_seconds_for_a_call() {
    let (bench, far) = bench(ROOMY).await;
    let far = JoinSet::from_iter([Frames::accept(far).await.attend()]);
    let call = JoinSet::from_iter([{
        let session = bench.session.clone();
        async move { report(&session).await }
    }]);
    drop(bench.session);
    tokio::task::yield_now().await;
    bench.stop.cancel();
    assert_eq!(end(bench.driver).await, Ended::Here);
    assert_eq!(bench.begun.elapsed().as_secs(), 5);
    assert!(matches!(end(call).await, Outcome::Ambiguous(_)));
    end(far).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_ends_after_30_seconds_and_the_connection_goes_on() {
    let (mut bench, far) = bench(ROOMY).await;
    let far = JoinSet::from_iter([Frames::accept(far).await.attend()]);
    let outcome = report(&bench.session).await;
    assert_eq!(
        outcome,
        Outcome::Ambiguous("no answer within 30s".to_owned())
    );
    assert_eq!(bench.begun.elapsed().as_secs(), 30);
    assert!(runs(&mut bench.driver));
    drop(bench);
    end(far).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_finds_no_place_was_certainly_not_sent() {
    let (bench, far) = bench(ROOMY).await;
    let _far = JoinSet::from_iter([Frames::accept(far).await.attend()]);
    let mut streams = Vec::new();
    for _ in 0..MAX_CALLS {
        let stream = bench.session.open(Rpc::UPDATE_STATS, CALL_LIMIT).await;
        streams.push(stream.unwrap_or_else(|error| panic!("{error}")));
    }
    let outcome = report(&bench.session).await;
    assert_eq!(outcome, Outcome::Retry("no answer within 30s".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_call_is_reset() {
    let (mut bench, far) = bench(ROOMY).await;
    let mut far = Frames::accept(far).await;
    tokio::select! {
        outcome = report(&bench.session) => panic!("{outcome:?}"),
        stream = far.request() => assert_eq!(stream, 1),
    }
    let reset = far.until(RESET).await;
    assert_eq!((reset.stream, reset.payload), (1, vec![0, 0, 0, 8]));
    assert!(runs(&mut bench.driver));
}

#[tokio::test(start_paused = true)]
async fn a_refused_stream_was_certainly_not_handled_and_any_other_reset_leaves_doubt() {
    for (reason, certain) in [(7, true), (2, false), (8, false), (0, false)] {
        let (mut bench, far) = bench(ROOMY).await;
        let mut far = Frames::accept(far).await;
        let (outcome, ()) = tokio::join!(report(&bench.session), async {
            let stream = far.request().await;
            far.send(RESET, 0, stream, &u32::to_be_bytes(reason)).await;
        });
        match certain {
            true => assert!(matches!(outcome, Outcome::Retry(_)), "{outcome:?}"),
            false => assert!(matches!(outcome, Outcome::Ambiguous(_)), "{outcome:?}"),
        }
        assert!(runs(&mut bench.driver));
    }
}

#[tokio::test(start_paused = true)]
async fn a_goaway_ends_those_calls_that_it_leaves_out_and_no_others() {
    let (bench, far) = bench(ROOMY).await;
    let mut far = Frames::accept(far).await;
    let (first, second, ()) = tokio::join!(report(&bench.session), report(&bench.session), async {
        // In either order.
        assert_eq!(far.request().await + far.request().await, 1 + 3);
        far.go_away(1, NO_ERROR).await;
        accept(&mut far, 1).await;
    });
    assert_eq!(first, accepted());
    assert!(matches!(second, Outcome::Retry(_)), "{second:?}");
    // It is not said to new calls that the connection is gone, but they are not sent on it.
    let third = report(&bench.session).await;
    assert!(matches!(third, Outcome::Retry(_)), "{third:?}");
    assert_eq!(end(bench.driver).await, Ended::Leaving(None));
}

#[tokio::test(start_paused = true)]
async fn a_goaway_is_known_before_the_calls_under_way_are_answered() {
    let (mut bench, far) = bench(ROOMY).await;
    let mut far = Frames::accept(far).await;
    let call = report(&bench.session);
    let peer = async {
        let stream = far.request().await;
        far.go_away(i32::MAX as u32, NO_ERROR).await;
        bench.left.wait_for(|left| *left).await.unwrap();
        // The driver has nothing to wait for but the last call.
        sleep(Duration::from_secs(25)).await;
        accept(&mut far, stream).await;
    };
    let (outcome, ()) = tokio::join!(call, peer);
    assert_eq!(outcome, accepted());
    assert_eq!(
        end(std::mem::take(&mut bench.driver)).await,
        Ended::Leaving(None)
    );
    assert_eq!(far.until(GOAWAY).await.payload[4..], NO_ERROR.to_be_bytes());
    assert!(far.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_with_a_goaway_as_routine() {
    let (bench, far) = bench(ROOMY).await;
    let mut far = Frames::accept(far).await;
    far.go_away(0, NO_ERROR).await;
    assert_eq!(end(bench.driver).await, Ended::Leaving(None));
}

#[tokio::test(start_paused = true)]
async fn pings_that_the_peer_takes_for_an_abuse_become_rarer() {
    let (bench, far) = bench(ROOMY).await;
    let mut far = Frames::accept(far).await;
    assert_eq!(bench.known.pace.ping_after(), PING_AFTER);
    far.go_away(0, ENHANCE_YOUR_CALM).await;
    let ended = end(bench.driver).await;
    assert!(
        matches!(&ended, Ended::Failed(fault) if fault.contains("excessive load")),
        "{ended}"
    );
    assert_eq!(bench.known.pace.ping_after(), 2 * PING_AFTER);
    for _ in 0..100 {
        bench.known.pace.slow_down();
    }
    assert!(bench.known.pace.ping_after() > Duration::from_secs(86_400));
}

#[tokio::test(start_paused = true)]
async fn what_the_peer_breaks_is_named() {
    async fn ending(bytes: &'static [u8]) -> Ended {
        let (bench, far) = bench(ROOMY).await;
        let mut far = Frames::accept(far).await;
        tokio::io::AsyncWriteExt::write_all(&mut far.0, bytes)
            .await
            .unwrap();
        let ended = end(bench.driver);
        let (ended, _) = tokio::join!(ended, async {
            if bytes.is_empty() {
                tokio::io::AsyncWriteExt::shutdown(&mut far.0)
                    .await
                    .unwrap();
            }
            while far.next().await.is_some() {}
        });
        ended
    }
    for (bytes, expected) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "frame"),
        // DATA on no stream, and a frame larger than was allowed.
        (&[0, 0, 0, 0, 0, 0, 0, 0, 0], "protocol"),
        (&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1], "frame"),
    ] {
        let ended = ending(bytes).await;
        assert!(
            matches!(&ended, Ended::Failed(text) if text.contains(expected)),
            "{expected}: {ended}"
        );
    }
    assert_eq!(ending(b"").await, Ended::ByPeer);
}
