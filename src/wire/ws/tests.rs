use futures_util::{AsyncReadExt, AsyncWriteExt, SinkExt, StreamExt};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::*;

type Ws = WebSocketStream<DuplexStream>;

/// A client stream and the messages at its other end, with `buffer` bytes of socket between them.
async fn pair(buffer: usize) -> (ByteStream<Ws>, Ws) {
    let (near, far) = duplex(buffer);
    let near = WebSocketStream::from_raw_socket(near, Role::Client, Some(config())).await;
    let far = WebSocketStream::from_raw_socket(far, Role::Server, Some(config())).await;
    (ByteStream::new(near), far)
}

async fn run<F: Future>(test: F) -> F::Output {
    tokio::time::timeout(std::time::Duration::from_secs(10), test)
        .await
        .expect("the test hangs")
}

fn binary(bytes: &'static [u8]) -> Message {
    Message::Binary(Bytes::from_static(bytes))
}

#[tokio::test]
async fn header_and_body_travel_in_one_message_when_the_reader_has_nothing_to_do() {
    run(async {
        let (mut near, mut far) = pair(1 << 20).await;
        // As yamux does: write, flush once without waiting, write, flush, and then read.
        std::future::poll_fn(|cx| {
            for part in [b"header".as_slice(), b"body"] {
                assert!(matches!(
                    Pin::new(&mut near).poll_write(cx, part),
                    Poll::Ready(Ok(_))
                ));
                assert!(Pin::new(&mut near).poll_flush(cx).is_pending());
            }
            assert!(Pin::new(&mut near).poll_read(cx, &mut [0; 9]).is_pending());
            Poll::Ready(())
        })
        .await;
        assert_eq!(far.next().await.unwrap().unwrap(), binary(b"headerbody"));
    })
    .await;
}

#[tokio::test]
async fn a_flush_that_is_waited_for_reaches_the_peer_without_a_read() {
    run(async {
        let (mut near, mut far) = pair(1 << 20).await;
        near.write_all(b"alone").await.unwrap();
        near.flush().await.unwrap();
        assert_eq!(far.next().await.unwrap().unwrap(), binary(b"alone"));
    })
    .await;
}

#[tokio::test]
async fn the_client_masks_and_closes_with_1000() {
    let (near, mut far) = duplex(1 << 10);
    let near = WebSocketStream::from_raw_socket(near, Role::Client, Some(config())).await;
    let mut near = ByteStream::new(near);
    near.write_all(&[0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0])
        .await
        .unwrap();
    let peer = async move {
        let mut sent = [0; 18 + 8];
        far.read_exact(&mut sent).await.unwrap();
        drop(far);
        sent
    };
    let (closed, sent) = run(async { tokio::join!(near.close(), peer) }).await;
    closed.unwrap();
    let unmask = |frame: &[u8]| -> Vec<u8> {
        let (mask, payload) = frame.split_at(4);
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask)
            .collect()
    };
    assert_eq!(sent[..2], [0x82, 0x8c]);
    assert_eq!(unmask(&sent[2..18]), [0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(sent[18..20], [0x88, 0x82]);
    assert_eq!(unmask(&sent[20..]), 1000u16.to_be_bytes());
}

#[tokio::test]
async fn empty_fragmented_and_control_messages_are_read_through() {
    run(async {
        let (mut near, mut far) = pair(1 << 20).await;
        let pulse = near.pulse();
        let part = |data: &'static [u8], opcode, last| {
            Message::Frame(Frame::message(data, OpCode::Data(opcode), last))
        };
        for message in [
            binary(b""),
            binary(b"ab"),
            part(b"c", Data::Binary, false),
            Message::Ping(Bytes::from_static(b"?")),
            part(b"", Data::Continue, false),
            part(b"d", Data::Continue, true),
            binary(b"e"),
        ] {
            far.send(message).await.unwrap();
        }
        let mut read = [0; 5];
        near.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"abcde");
        assert_eq!(pulse.received(), 5);
        assert_eq!(
            far.next().await.unwrap().unwrap(),
            Message::Pong(Bytes::from_static(b"?"))
        );
    })
    .await;
}

#[tokio::test]
async fn a_ping_goes_out_when_asked_for_and_its_answer_is_a_sign_of_life() {
    run(async {
        let (mut near, mut far) = pair(1 << 20).await;
        let pulse = near.pulse();
        pulse.ping();
        let peer = async {
            assert_eq!(
                far.next().await.unwrap().unwrap(),
                Message::Ping(Bytes::new())
            );
            // Reading on is what sends the answer.
            far.next().await.unwrap().unwrap_err();
        };
        let alive = async {
            std::future::poll_fn(|cx| {
                assert!(Pin::new(&mut near).poll_read(cx, &mut [0]).is_pending());
                if pulse.received() == 1 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            drop(near);
        };
        tokio::join!(peer, alive);
    })
    .await;
}

#[tokio::test]
async fn a_text_message_is_refused_with_1003() {
    run(async {
        let (mut near, mut far) = pair(1 << 20).await;
        far.send(Message::text("hello")).await.unwrap();
        let error = near.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.to_string(), "text message received, expected binary");
        assert_eq!(
            far.next().await.unwrap().unwrap(),
            close(CloseCode::Unsupported)
        );
        near.read(&mut [0]).await.unwrap_err();
    })
    .await;
}

#[tokio::test]
async fn only_1000_and_1001_are_a_clean_end() {
    run(async {
        for (code, expected) in [
            (Some(CloseCode::Normal), Ok(0)),
            (Some(CloseCode::Away), Ok(0)),
            (
                Some(CloseCode::Error),
                Err("closed by the peer with 1011 \"\""),
            ),
            (None, Err("closed by the peer without a close code")),
        ] {
            let (mut near, mut far) = pair(1 << 20).await;
            let frame = code.map(|code| CloseFrame {
                code,
                reason: "".into(),
            });
            far.send(Message::Close(frame.clone())).await.unwrap();
            for _ in 0..2 {
                let read = near.read(&mut [0]).await.map_err(|error| error.to_string());
                assert_eq!(read, expected.map_err(str::to_owned), "{code:?}");
            }
            assert_eq!(
                far.next().await.unwrap().unwrap(),
                Message::Close(frame),
                "no echo"
            );
            near.close().await.unwrap();
        }
        let (mut near, far) = pair(1 << 20).await;
        drop(far);
        assert_eq!(
            near.read(&mut [0]).await.unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    })
    .await;
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    run(async {
        let (near, far) = duplex(16 << 20);
        let near = WebSocketStream::from_raw_socket(near, Role::Client, Some(config())).await;
        let mut near = ByteStream::new(near);
        let mut far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        far.send(Message::Binary(vec![0; MAX_RECEIVED].into()))
            .await
            .unwrap();
        near.read_exact(&mut vec![0; MAX_RECEIVED]).await.unwrap();
        far.send(Message::Binary(vec![0; MAX_RECEIVED + 1].into()))
            .await
            .unwrap();
        assert_eq!(
            near.read(&mut [0]).await.unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_stops_the_writer() {
    let (mut near, _far) = pair(1 << 10).await;
    std::future::poll_fn(|cx| {
        let mut taken = 0;
        while let Poll::Ready(written) = Pin::new(&mut near).poll_write(cx, &[0; 5_000]) {
            taken += written.unwrap();
            assert!(taken <= 3 * MAX_MESSAGE, "unbounded");
        }
        assert!(taken >= MAX_MESSAGE);
        Poll::Ready(())
    })
    .await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn bytes_arrive_as_they_were_written(
        writes in prop::collection::vec(0usize..200_000, 1..6),
        socket in 64usize..100_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(run(async {
            let (near, far) = duplex(socket);
            let near = WebSocketStream::from_raw_socket(near, Role::Client, Some(config())).await;
            let far = WebSocketStream::from_raw_socket(far, Role::Server, Some(config())).await;
            let (mut near, mut far) = (ByteStream::new(near), ByteStream::new(far));
            let sent: Vec<Vec<u8>> =
                writes.iter().enumerate().map(|(i, n)| vec![i as u8; *n]).collect();
            let write = async {
                for part in &sent {
                    near.write_all(part).await.unwrap();
                }
                near.close().await.unwrap();
            };
            let read = async {
                // Not by read_to_end: at each wait it clears all that its buffer has left, which takes seconds through
                // a socket of some bytes.
                let (mut received, mut piece) = (Vec::new(), vec![0; 1 << 16]);
                loop {
                    match far.read(&mut piece).await.unwrap() {
                        0 => break,
                        read => received.extend_from_slice(&piece[..read]),
                    }
                }
                // The echo of the close goes out as the connection is dropped.
                far.close().await.unwrap();
                received
            };
            let ((), received) = tokio::join!(write, read);
            assert!(received == sent.concat());
        }));
    }
}
