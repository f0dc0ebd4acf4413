//! Signals to a sidecar that goes on.

use rustix::process::Signal;

use super::nobody;
use crate::support::coderd::{Coderd, TOKEN};
use crate::support::plane::{Plane, WeirPlane};
use crate::support::sender::{Sender, Session};
use crate::support::sidecar::Sidecar;
use weir::upstream::Transport;

on_each_plane![sighup_without_a_change_keeps_the_connection,];

#[tokio::test]
async fn sigusr1_logs_the_balance() {
    let sidecar = Sidecar::builder(&nobody())
        .flag("--drain-timeout", "0s")
        .start()
        .await;
    Sender::connect(&sidecar.socket)
        .await
        .send(&Session::new("s").batch())
        .await;
    sidecar
        .wait_for("the batch", |page| page.count("weir_logs_in_memory") == 10)
        .await;
    sidecar.signal(Signal::USR1);
    let line = sidecar.logged("balance in logs").await;
    for number in [
        "received=10",
        "forwarded=0",
        "in_memory=10",
        "dropped=0",
        "imbalance=0",
    ] {
        assert!(line.contains(number), "{number}: {line}");
    }
    assert_eq!(sidecar.stop().await.code(), Some(3));
}

#[tokio::test]
async fn sighup_moves_to_another_control_plane() {
    let grpc = || Coderd::over(Transport::Grpc, &[]);
    for (old, new) in [
        (Coderd::start(&[]), Coderd::start(&[])),
        (grpc(), grpc()),
        // The transport may change with the control plane.
        (Coderd::start(&[]), grpc()),
        (grpc(), Coderd::start(&[])),
    ] {
        if let (Some(old), Some(new)) = (old, new) {
            sighup_moves(old, new).await;
        }
    }
    sighup_moves(WeirPlane::start(), WeirPlane::start()).await;
    sighup_moves(WeirPlane::start(), WeirPlane::over(Transport::Grpc)).await;
}

async fn sighup_moves(old: impl Plane, new: impl Plane) {
    let builder = Sidecar::of(&old)
        .without("--agent-url")
        .without("--transport")
        .without("--agent-token");
    let file = builder.path("weir.toml");
    let token = builder.path("token");
    std::fs::write(&token, TOKEN).unwrap();
    let configure = |url: &str, transport: Transport| {
        let (token, transport) = (token.display(), transport.name());
        let text = format!(
            "agent_url = \"{url}\"\ntransport = \"{transport}\"\nagent_token_file = \"{token}\"\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    configure(old.url().as_str(), old.transport());
    let sidecar = builder.flag("--config", file.display()).start().await;
    let mut sender = Sender::connect(&sidecar.socket).await;
    let mut session = Session::new("first");
    sender.send(&session.batch()).await;
    sidecar.forwarded(10).await;
    assert_eq!(old.delivered("first").await, session.whole());

    configure("not a URL", old.transport());
    sidecar.signal(Signal::HUP);
    sidecar
        .logged("not reloaded, the configuration is at fault")
        .await;
    let mut session = Session::new("second");
    sender.send(&session.batch()).await;
    sidecar.forwarded(20).await;
    assert_eq!(old.delivered("second").await, session.whole());

    configure(new.url().as_str(), new.transport());
    sidecar.signal(Signal::HUP);
    sidecar.logged("dialling anew").await;
    let mut session = Session::new("third");
    sender.send(&session.batch()).await;
    let page = sidecar.forwarded(30).await;
    assert_eq!(page.attempts("ambiguous"), 0);
    assert_eq!(new.delivered("third").await, session.whole());
    sidecar.stop_clean().await;
    old.expect_clean_wire().await;
    new.expect_clean_wire().await;
}

async fn sighup_without_a_change_keeps_the_connection(plane: impl Plane) {
    let sidecar = Sidecar::of(&plane).start().await;
    sidecar.connected().await;
    sidecar.signal(Signal::HUP);
    sidecar
        .logged("token and certificates are read again at the next dial")
        .await;
    Sender::connect(&sidecar.socket)
        .await
        .send(&Session::new("s").batch())
        .await;
    assert_eq!(sidecar.forwarded(10).await.dials("connected"), 1);
    sidecar.stop_clean().await;
}
