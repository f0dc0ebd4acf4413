use http::Request;
use serde_json::{Value, json};

use super::*;
use crate::control::tests::spec;

const TOKEN: &str = "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d";
const OTHER: &str = "00000000-0000-4000-8000-000000000000";

fn agents() -> Agents {
    Agents::new(&[spec("name")])
}

/// A request as an agent makes it, with the query and changed by headers, of which an empty value removes one.
fn judge(query: &str, headers: &[(&str, &str)]) -> Result<Admitted, Refusal> {
    let agent = [
        ("host", "coder.example.com"),
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("coder-session-token", TOKEN),
    ];
    let mut request = Request::builder()
        .uri(format!("{PATH}{query}"))
        .body(())
        .unwrap();
    for (name, value) in agent.iter().chain(headers) {
        let name: HeaderName = name.parse().unwrap();
        if value.is_empty() {
            request.headers_mut().remove(name);
        } else {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
    }
    admit(&request.into_parts().0, &agents())
}

#[track_caller]
fn assert_refused(judged: Result<Admitted, Refusal>, status: u16, reason: DialRefusal) -> Value {
    let refusal = judged.unwrap_err();
    assert_eq!((refusal.status.as_u16(), refusal.reason), (status, reason));
    serde_json::to_value(&refusal.body).unwrap()
}

#[test]
fn an_agent_is_admitted() {
    let admitted = judge("?role=agent&version=2.11", &[]).unwrap();
    assert_eq!(admitted.version, (2, 11));
    assert_eq!(admitted.role, Role::Agent);
    assert_eq!(admitted.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    for version in ["", "?version=", "?version=2.0", "?version=2.13"] {
        let admitted = judge(version, &[]).unwrap();
        assert_eq!(admitted.role, Role::Agent);
    }
    let other = judge("?version=2.7&role=we%69r", &[]).unwrap();
    assert_eq!(other.role, Role::Other("weir".into()));
}

#[test]
fn the_token_is_looked_for_in_cookie_query_and_header() {
    let cookie = format!("a=b; {TOKEN_NAME}={TOKEN}; c=d");
    let query = format!("?{TOKEN_NAME}={TOKEN}");
    let none = ("coder-session-token", "");
    let wrong = ("coder-session-token", OTHER);
    judge("", &[("cookie", &cookie), none]).unwrap();
    judge(&query, &[none]).unwrap();
    // The first place that has one counts.
    judge("", &[("cookie", &cookie), wrong]).unwrap();
    judge(&query, &[wrong]).unwrap();
    let refused = judge(&format!("?{TOKEN_NAME}={OTHER}"), &[]);
    assert_refused(refused, 401, DialRefusal::UnknownToken);
    // An empty one is none.
    judge(
        &format!("?{TOKEN_NAME}="),
        &[("cookie", "coder_session_token=")],
    )
    .unwrap();
}

#[test]
fn the_token_is_judged_before_the_version_and_the_version_before_the_upgrade() {
    let without = ("coder-session-token", "");
    let plain = ("upgrade", "");
    let body = assert_refused(
        judge("?version=x", &[without, plain]),
        401,
        DialRefusal::NoToken,
    );
    assert_eq!(
        body,
        json!({"message": "Cookie \"coder_session_token\" must be provided."})
    );
    let nonsense = ("coder-session-token", "nonsense");
    let body = assert_refused(
        judge("?version=x", &[nonsense]),
        401,
        DialRefusal::MalformedToken,
    );
    assert_eq!(body["message"], "Workspace agent token invalid.");
    let body = assert_refused(
        judge("?version=x", &[("coder-session-token", OTHER)]),
        401,
        DialRefusal::UnknownToken,
    );
    assert_eq!(body["message"], "Workspace agent not authorized.");
    assert!(!body.to_string().contains(OTHER), "{body}");
    let body = assert_refused(judge("?version=x", &[plain]), 400, DialRefusal::Version);
    assert_eq!(body["message"], "Unknown or unsupported API version");
}

#[test]
fn versions_that_are_not_spoken_are_told_why() {
    for (version, why) in [
        (
            "2.14",
            "server is at version 2.13, behind requested minor version 2.14",
        ),
        (
            "3.0",
            "server is at version 2.13, behind requested major version 3.0",
        ),
        (
            "1.9",
            "server is at version 2.13, version 1.9 is no longer supported",
        ),
        ("2", "invalid version \"2\", expected MAJOR.MINOR"),
        ("2.", "invalid version \"2.\", expected MAJOR.MINOR"),
        ("-2.0", "invalid version \"-2.0\", expected MAJOR.MINOR"),
        ("%2B2.0", "invalid version \"+2.0\", expected MAJOR.MINOR"),
        ("2.0.1", "invalid version \"2.0.1\", expected MAJOR.MINOR"),
        (
            "2.99999999999",
            "invalid version \"2.99999999999\", expected MAJOR.MINOR",
        ),
    ] {
        let refused = judge(&format!("?version={version}"), &[]);
        let body = assert_refused(refused, 400, DialRefusal::Version);
        assert_eq!(
            body["validations"],
            json!([{"field": "version", "detail": why}])
        );
    }
}

#[test]
fn what_is_no_upgrade_is_told_so() {
    for (change, status) in [
        (("connection", "keep-alive"), 426),
        (("upgrade", ""), 426),
        (("upgrade", "h2c"), 426),
        (("sec-websocket-version", "8"), 400),
        (("sec-websocket-version", ""), 400),
        (("sec-websocket-key", ""), 400),
        (("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ"), 400),
        (("sec-websocket-key", "dGhlIHNhbXBsZSBub25j\u{e9}=="), 400),
    ] {
        assert_refused(judge("", &[change]), status, DialRefusal::Upgrade);
    }
    let mut request = Request::post(PATH)
        .header("coder-session-token", TOKEN)
        .body(())
        .unwrap();
    *request.version_mut() = Version::HTTP_11;
    let refused = admit(&request.into_parts().0, &agents());
    assert_refused(refused, 405, DialRefusal::Upgrade);
}

#[test]
fn an_origin_must_be_the_host() {
    judge("", &[("origin", "https://CODER.example.com")]).unwrap();
    for origin in [
        "https://evil.example",
        "null",
        "https://coder.example.com.evil.example",
    ] {
        assert_refused(judge("", &[("origin", origin)]), 403, DialRefusal::Origin);
    }
}
