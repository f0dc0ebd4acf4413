use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::*;
use crate::wire::drpc::{MAX_PACKET, PacketId, UNIMPLEMENTED};

const ECHO: &[u8] = b"/test/Echo";
const FAIL: &[u8] = b"/test/Fail";
const HANG: &[u8] = b"/test/Hang";
const GIANT: &[u8] = b"/test/Giant";

#[derive(Default)]
struct Methods {
    called: AtomicUsize,
    dropped: AtomicUsize,
}

#[derive(Clone, Copy)]
enum Method {
    Echo,
    Fail,
    Hang,
    Giant,
}

impl Handler for Methods {
    type Method = Method;

    fn method(&self, path: &[u8]) -> Result<Method, RemoteError> {
        match path {
            ECHO => Ok(Method::Echo),
            FAIL => Ok(Method::Fail),
            HANG => Ok(Method::Hang),
            GIANT => Ok(Method::Giant),
            other => Err(error(0, &format!("unknown {}", other.len()))),
        }
    }

    async fn call(&self, method: Method, request: Bytes) -> Result<Bytes, RemoteError> {
        struct Dropped<'a>(&'a AtomicUsize);
        impl Drop for Dropped<'_> {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.called.fetch_add(1, Ordering::Relaxed);
        let _dropped = Dropped(&self.dropped);
        match method {
            Method::Echo => Ok(request),
            Method::Fail => Err(error(UNIMPLEMENTED, &"x".repeat(2 * MAX_TEXT))),
            Method::Hang => std::future::pending().await,
            Method::Giant => Ok(vec![0; MAX_PACKET + 1].into()),
        }
    }
}

fn error(code: u64, text: &str) -> RemoteError {
    RemoteError {
        code,
        text: text.to_owned(),
    }
}

/// A stream whose other end is a test. Takes `room` bytes of answers.
struct Pipe {
    input: mpsc::Receiver<Vec<u8>>,
    output: Arc<Mutex<Vec<u8>>>,
    room: usize,
}

impl Stream for Pipe {
    type Item = io::Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.input.poll_recv(cx).map(|piece| piece.map(Ok))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut output = self.output.lock().unwrap();
        let length = buf.len().min(self.room - output.len());
        if length == 0 {
            return Poll::Pending;
        }
        output.extend_from_slice(&buf[..length]);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Played {
    ended: Ended,
    answers: Vec<Packet>,
    methods: Methods,
}

/// How the peer goes on after its last piece.
#[derive(Clone, Copy)]
enum Then {
    Waits,
    ClosesWithIt,
    ClosesLater,
}

/// Plays the pieces, each when the one before has had its effect. Takes `room` bytes of answers.
async fn play_to(pieces: Vec<Vec<u8>>, then: Then, room: usize) -> Played {
    let (send, input) = mpsc::channel(1);
    let output = Arc::new(Mutex::new(Vec::new()));
    let mut pipe = Pipe {
        input,
        output: Arc::clone(&output),
        room,
    };
    let methods = Methods::default();
    let served = serve(&mut pipe, &methods, Arc::new(Semaphore::new(1)));
    let peer = async {
        let last = pieces.len() - 1;
        for (index, piece) in pieces.into_iter().enumerate() {
            if send.send(piece).await.is_err() {
                return None;
            }
            if index < last || !matches!(then, Then::ClosesWithIt) {
                // The clock stands still until everything else waits.
                sleep(Duration::from_millis(1)).await;
            }
        }
        matches!(then, Then::Waits).then_some(send)
    };
    let (ended, _open) = tokio::join!(served, peer);
    let output = output.lock().unwrap();
    let mut bytes = output.as_slice();
    let mut assembler = Assembler::default();
    let mut answers = Vec::new();
    while let Some(packet) = assembler.next(&mut bytes).unwrap() {
        answers.push(packet);
    }
    Played {
        ended,
        answers,
        methods,
    }
}

/// Plays the pieces to a peer that then waits, and whose patience ends the stream.
async fn play(pieces: Vec<Vec<u8>>) -> Played {
    play_to(pieces, Then::Waits, usize::MAX).await
}

fn packets(stream: u64, packets: &[(Kind, &[u8])]) -> Vec<u8> {
    let mut out = BytesMut::new();
    let mut writer = Writer::new(stream);
    for (kind, data) in packets {
        writer.packet(*kind, data, &mut out).unwrap();
    }
    out.to_vec()
}

fn call(stream: u64, method: &[u8], request: &[u8]) -> Vec<u8> {
    let request = [
        (Kind::Invoke, method),
        (Kind::Message, request),
        (Kind::CloseSend, b"".as_slice()),
    ];
    packets(stream, &request)
}

fn answer(stream: u64, message: u64, kind: Kind, data: &[u8]) -> Packet {
    Packet {
        kind,
        id: PacketId { stream, message },
        data: Bytes::copy_from_slice(data),
    }
}

fn failure(stream: u64, error: &RemoteError) -> Packet {
    let mut data = Vec::new();
    error.encode(&mut data);
    answer(stream, 1, Kind::Error, &data)
}

fn success(stream: u64, message: &[u8]) -> Vec<Packet> {
    vec![
        answer(stream, 1, Kind::Message, message),
        answer(stream, 2, Kind::CloseSend, b""),
    ]
}

#[tokio::test(start_paused = true)]
async fn calls_are_answered_one_after_the_other() {
    let played = play(vec![call(1, ECHO, b"one"), call(2, ECHO, b"")]).await;
    assert_eq!(
        played.answers,
        [success(1, b"one"), success(2, b"")].concat()
    );
    assert!(matches!(played.ended, Ended::Idle));

    // In one piece, byte by byte, and with metadata before the Invoke.
    let both = [
        call(1, ECHO, b"a"),
        packets(
            7,
            &[
                (Kind::InvokeMetadata, b"\x0a\x00"),
                (Kind::Invoke, ECHO),
                (Kind::Message, b"b"),
                (Kind::Close, b""),
            ],
        ),
        call(8, ECHO, b"c"),
    ]
    .concat();
    // What comes with a request is looked at before the answer: a next call, a Close.
    let played = play(vec![both.clone()]).await;
    assert_eq!(played.answers, success(8, b"c"));
    let played = play(both.iter().map(|byte| vec![*byte]).collect()).await;
    let all = [success(1, b"a"), success(7, b"b"), success(8, b"c")];
    assert_eq!(played.answers, all.concat());
}

#[tokio::test(start_paused = true)]
async fn errors_are_answered_and_the_stream_goes_on() {
    let bytes = [
        call(1, b"/x", b""),
        call(2, FAIL, b""),
        packets(3, &[(Kind::Invoke, ECHO), (Kind::CloseSend, b"")]),
        call(4, GIANT, b""),
        call(5, ECHO, b"!"),
    ];
    let played = play(bytes.to_vec()).await;
    let giant = RemoteError::decode(&played.answers[3].data).unwrap();
    assert!(giant.text.contains("too large"), "{giant:?}");
    let expected = [
        vec![
            failure(1, &error(0, "unknown 2")),
            failure(2, &error(UNIMPLEMENTED, &"x".repeat(MAX_TEXT))),
            failure(3, &error(0, "EOF")),
            failure(4, &giant),
        ],
        success(5, b"!"),
    ];
    assert_eq!(played.answers, expected.concat());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_stream_cancels_the_call() {
    let whole = call(1, HANG, b"x");
    for (bytes, then, called) in [
        (whole.clone(), Then::ClosesLater, 1),
        (whole.clone(), Then::ClosesWithIt, 0),
        (call(1, ECHO, b"x"), Then::ClosesWithIt, 0),
        (packets(1, &[(Kind::Invoke, ECHO)]), Then::ClosesLater, 0),
        (whole[..8].to_vec(), Then::ClosesLater, 0),
    ] {
        let played = play_to(vec![bytes], then, usize::MAX).await;
        assert!(matches!(played.ended, Ended::Closed));
        assert_eq!(played.answers, []);
        assert_eq!(played.methods.called.load(Ordering::Relaxed), called);
        assert_eq!(played.methods.dropped.load(Ordering::Relaxed), called);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_makes_room_for_the_next() {
    for kind in [Kind::Cancel, Kind::Close, Kind::Error] {
        let given_up = packets(
            1,
            &[(Kind::Invoke, HANG), (Kind::Message, b""), (kind, b"")],
        );
        let played = play(vec![given_up, call(2, ECHO, b"x")]).await;
        assert_eq!(played.answers, success(2, b"x"), "{kind:?}");
    }
    let played = play(vec![call(1, HANG, b""), call(2, ECHO, b"x")]).await;
    assert_eq!(played.answers, success(2, b"x"));
}

#[tokio::test(start_paused = true)]
async fn what_comes_too_late_or_too_early_means_nothing() {
    let early = packets(1, &[(Kind::Message, b"x"), (Kind::CloseSend, b"")]);
    assert_eq!(play(vec![early.clone()]).await.answers, []);
    let played = play(vec![early, call(2, ECHO, b"x")]).await;
    assert_eq!(played.answers, success(2, b"x"));

    let mut late = BytesMut::from(call(1, ECHO, b"x").as_slice());
    late.extend_from_slice(b"\x05\x01\x04\x00\x0b\x01\x05\x00\x03\x01\x06\x00");
    let played = play(late.iter().map(|byte| vec![*byte]).collect()).await;
    assert_eq!(played.answers, success(1, b"x"));
    assert!(matches!(played.ended, Ended::Idle));
}

#[tokio::test(start_paused = true)]
async fn a_violation_ends_the_stream_without_an_answer() {
    let hang = call(1, HANG, b"");
    let cases: [(&str, Vec<u8>); 6] = [
        ("Invoke inside", b"\x03\x01\x04\x00".to_vec()),
        ("InvokeMetadata inside", b"\x0f\x01\x04\x00".to_vec()),
        ("malformed metadata", b"\x0f\x02\x01\x02\x0a\xff".to_vec()),
        ("at least 1/4", b"\x05\x01\x03\x00".to_vec()),
        ("unknown kind", b"\x11\x01\x04\x00".to_vec()),
        ("limit is 4194304", b"\x05\x01\x04\x81\x80\x80\x02".to_vec()),
    ];
    for (said, bytes) in cases {
        let played = play(vec![hang.clone(), bytes]).await;
        assert_eq!(played.answers, [], "{said}");
        let Ended::Violation(violation) = played.ended else {
            panic!("{said}: {:?}", played.ended);
        };
        assert!(violation.to_string().contains(said), "{violation}");
        assert_eq!(played.methods.dropped.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stalls_is_given_up_in_the_end() {
    let began = Instant::now();
    let played = play(vec![call(1, ECHO, b"x")]).await;
    assert!(matches!(played.ended, Ended::Idle));
    assert_eq!(began.elapsed(), IDLE_LIMIT);

    // Bytes that make no packet are no progress, nor is an answer that is not taken.
    let played = play_to(vec![call(1, ECHO, b"x")], Then::Waits, 3).await;
    assert!(matches!(played.ended, Ended::Idle));
}

#[tokio::test(start_paused = true)]
async fn large_requests_wait_for_a_place_and_small_ones_do_not() {
    let large = Arc::new(Semaphore::new(1));
    let taken = Arc::clone(&large).acquire_owned().await.unwrap();
    let request = vec![7; 2 * SMALL_PACKET];
    let (send, input) = mpsc::channel(8);
    let output = Arc::new(Mutex::new(Vec::new()));
    let mut pipe = Pipe {
        input,
        output: Arc::clone(&output),
        room: usize::MAX,
    };
    let methods = Methods::default();
    let served = serve(&mut pipe, &methods, Arc::clone(&large));
    let test = async {
        send.send(call(1, ECHO, b"small")).await.unwrap();
        sleep(Duration::from_millis(1)).await;
        for piece in call(2, ECHO, &request).chunks(SMALL_PACKET / 2) {
            send.send(piece.to_vec()).await.unwrap();
        }
        sleep(IDLE_LIMIT / 2).await;
        assert_eq!(methods.called.load(Ordering::Relaxed), 1);
        drop(taken);
        while methods.called.load(Ordering::Relaxed) < 2 {
            sleep(IDLE_LIMIT / 100).await;
        }
        drop(send);
    };
    let (ended, ()) = tokio::join!(served, test);
    assert!(matches!(ended, Ended::Closed));
    assert!(output.lock().unwrap().len() > request.len());
    assert_eq!(large.available_permits(), 1);
}
