use h2::server::SendResponse;
use http::{HeaderName, HeaderValue, Response};
use tokio::io::DuplexStream;
use tokio::task::JoinSet;

use super::*;
use crate::upstream::grpc::peer::bench;

fn seen(code: Code) -> Result<Answer, Fault> {
    let text = "why".to_owned();
    Ok(Answer::Status(Status { code, text }))
}

/// The class of an outcome alone.
fn class(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Accepted(_) => "accepted",
        Outcome::Rejected(_) => "rejected",
        Outcome::Refused(_) => "refused",
        Outcome::Retry(_) => "retry",
        Outcome::Ambiguous(_) => "ambiguous",
    }
}

#[test]
fn each_code_means_what_the_table_says() {
    for (code, unwritten, written) in [
        (Code::Cancelled, "retry", "ambiguous"),
        (Code::Unknown, "refused", "refused"),
        (Code::InvalidArgument, "refused", "refused"),
        (Code::DeadlineExceeded, "retry", "ambiguous"),
        (Code::NotFound, "refused", "refused"),
        (Code::AlreadyExists, "refused", "refused"),
        (Code::PermissionDenied, "retry", "retry"),
        (Code::ResourceExhausted, "refused", "refused"),
        (Code::FailedPrecondition, "refused", "refused"),
        (Code::Aborted, "retry", "ambiguous"),
        (Code::OutOfRange, "refused", "refused"),
        (Code::Unimplemented, "rejected", "rejected"),
        (Code::Internal, "refused", "refused"),
        (Code::Unavailable, "retry", "ambiguous"),
        (Code::DataLoss, "refused", "refused"),
        (Code::Unauthenticated, "retry", "retry"),
    ] {
        assert_eq!(class(&outcome(seen(code), false)), unwritten, "{code:?}");
        assert_eq!(class(&outcome(seen(code), true)), written, "{code:?}");
        let token = matches!(code, Code::PermissionDenied | Code::Unauthenticated);
        assert_eq!(is_turned_away(&seen(code)), token, "{code:?}");
    }
}

#[test]
fn faults_are_in_doubt_once_something_was_written() {
    let faults: [fn() -> Fault; 6] = [
        || Fault::TimedOut(CALL_LIMIT),
        || Fault::NoStatus,
        || Fault::Reply(grpc::Fault::TooLarge(u32::MAX)),
        || Fault::Http(StatusCode::BAD_GATEWAY),
        || Fault::Http(StatusCode::NOT_FOUND),
        || Fault::Broken(Reason::INTERNAL_ERROR.into()),
    ];
    for fault in faults {
        assert_eq!(class(&outcome(Err(fault()), false)), "retry");
        assert_eq!(class(&outcome(Err(fault()), true)), "ambiguous");
    }
    let too_large = Fault::RequestTooLarge(RequestTooLarge(5 << 20));
    assert_eq!(class(&outcome(Err(too_large), false)), "rejected");
    for status in [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN] {
        assert_eq!(class(&outcome(Err(Fault::Http(status)), true)), "retry");
    }
}

/// An answer that a server gives to whatever it is asked.
#[derive(Clone, Copy)]
struct Canned {
    status: u16,
    head: &'static [(&'static str, &'static str)],
    body: &'static [&'static [u8]],
    /// `None` ends the stream without trailers.
    trailers: Option<&'static [(&'static str, &'static str)]>,
}

const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc")];

const OK: Option<&[(&str, &str)]> = Some(&[("grpc-status", "0")]);

fn fields(pairs: &'static [(&'static str, &'static str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    };
    pairs.iter().map(field).collect()
}

async fn serve(io: DuplexStream, canned: Canned) {
    let mut connection = h2::server::handshake(io).await.unwrap();
    let mut answers = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        answers.spawn(answer_with(canned, request.into_body(), respond));
    }
}

/// Reads a request to its end and gives the answer.
async fn answer_with(canned: Canned, mut body: RecvStream, mut respond: SendResponse<Bytes>) {
    while let Some(chunk) = body.data().await {
        let length = chunk.unwrap().len();
        body.flow_control().release_capacity(length).unwrap();
    }
    let mut response = Response::builder().status(canned.status).body(()).unwrap();
    *response.headers_mut() = fields(canned.head);
    let all_head = canned.body.is_empty() && canned.trailers.is_none();
    let mut stream = respond.send_response(response, all_head).unwrap();
    for chunk in canned.body {
        stream.send_data(Bytes::from_static(chunk), false).unwrap();
    }
    match canned.trailers {
        Some(trailers) => stream.send_trailers(fields(trailers)).unwrap(),
        None if all_head => {}
        None => stream.send_data(Bytes::new(), true).unwrap(),
    }
}

#[tokio::test]
async fn each_answer_is_taken_for_what_it_is() {
    let row = |status, head, body, trailers, expected, text| {
        let canned = Canned {
            status,
            head,
            body,
            trailers,
        };
        (canned, expected, text)
    };
    let refused: &[(&str, &str)] = &[("grpc-status", "9"), ("grpc-message", "not%20now")];
    let mixed: &[(&str, &str)] = &[
        ("grpc-status", "13"),
        ("grpc-status-details-bin", "not base64!"),
    ];
    let html: &[(&str, &str)] = &[("content-type", "text/html")];
    for (canned, expected, text) in [
        row(200, GRPC, &[b"\0\0\0\0\0"], OK, "accepted", ""),
        row(
            200,
            GRPC,
            &[b"\0\0", b"\0\0\x02\x08", b"\x01"],
            OK,
            "accepted",
            "",
        ),
        // All head.
        row(
            200,
            refused,
            &[],
            None,
            "refused",
            "FailedPrecondition: not now",
        ),
        row(200, GRPC, &[], Some(refused), "refused", "not now"),
        // The status counts, whatever came before it, and whatever is beside it.
        row(
            200,
            GRPC,
            &[b"\0\0\0\0\0"],
            Some(refused),
            "refused",
            "not now",
        ),
        row(200, GRPC, &[], Some(mixed), "refused", "Internal"),
        row(503, refused, &[], None, "refused", "not now"),
        // No answers, or none of gRPC.
        row(200, GRPC, &[], OK, "ambiguous", "there is none"),
        row(
            200,
            GRPC,
            &[b"\0\0\0\0\x02a"],
            OK,
            "ambiguous",
            "inside the message",
        ),
        row(
            200,
            GRPC,
            &[b"\0\0\0\0\0\0"],
            OK,
            "ambiguous",
            "there is more",
        ),
        row(200, GRPC, &[b"\x01\0\0\0\0"], OK, "ambiguous", "compressed"),
        row(
            200,
            GRPC,
            &[b"\0\0\0\0\x02\x0a\xff"],
            OK,
            "ambiguous",
            "decode",
        ),
        row(
            200,
            GRPC,
            &[b"\0\0\0\0\0"],
            None,
            "ambiguous",
            "without a status",
        ),
        row(200, html, &[b"<html>"], OK, "ambiguous", "200 OK instead"),
        row(404, html, &[b"<html>"], None, "ambiguous", "404"),
        row(401, html, &[], None, "retry", "401"),
    ] {
        let (bench, far) = bench(1 << 16).await;
        let _server = JoinSet::from_iter([serve(far, canned)]);
        let body = [Bytes::from_static(b"\x12\x01x")];
        let outcome = call(&bench.session, Rpc::REPORT_BOUNDARY_LOGS, &body).await;
        assert_eq!(class(&outcome), expected, "{text}: {outcome:?}");
        assert!(format!("{outcome:?}").contains(text), "{outcome:?}");
        assert_eq!(bench.session.was_turned_away(), expected == "retry");
    }
}
