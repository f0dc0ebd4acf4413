//! Addresses that are taken, stale, or not what they seem.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use tempfile::TempDir;

use super::{Sidecar, exchange, get, request};
use crate::scrape::endpoint::Endpoint;
use crate::scrape::listen::{Address, Listener};

#[tokio::test]
async fn a_taken_port_leaves_the_api_socket_serving() {
    let sidecar = Sidecar::new();
    let dir = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let api = dir.path().join("weir.sock");
    let endpoint = Endpoint {
        scrape: Some(Address::Tcp(taken.local_addr().unwrap().to_string())),
        api: Some(api.clone()),
    };
    let handle = endpoint.start(Arc::clone(&sidecar.view)).await.unwrap();
    assert_eq!(handle.bound(), None);
    assert_eq!(handle.api(), Some(api.clone()));
    let answer = exchange(
        UnixStream::connect(&api).unwrap(),
        &request("GET", "/metrics", ""),
    );
    assert!(answer.text().contains("weir_imbalance_logs 0"));
    handle.stop();
}

#[tokio::test]
async fn a_unix_scrape_address_is_for_its_owner_only() {
    let sidecar = Sidecar::new();
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("metrics.sock");
    let endpoint = Endpoint {
        scrape: Some(Address::Unix(path.clone())),
        api: None,
    };
    let handle = endpoint.start(Arc::clone(&sidecar.view)).await.unwrap();
    assert_eq!(handle.bound(), Some(format!("unix:{}", path.display())));
    assert_eq!(handle.api(), None);
    let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let answer = exchange(
        UnixStream::connect(&path).unwrap(),
        &request("GET", "/", ""),
    );
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("weir.sock");
    let address = Address::Unix(path.clone());
    let live = UnixListener::bind(&path).unwrap();
    let refused = Listener::bind(&address).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
    drop(live);
    assert!(path.exists(), "the file outlives its listener");
    Listener::bind(&address).await.unwrap();
    let served = Listener::bind(&address).await;
    served.expect("the file of a listener that is gone is stale again");
}

#[tokio::test]
async fn nothing_but_a_socket_is_ever_removed() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "kept").unwrap();
    let link = dir.path().join("link");
    symlink(dir.path().join("target.sock"), &link).unwrap();
    drop(UnixListener::bind(dir.path().join("target.sock")).unwrap());
    for path in [file.as_path(), &link, dir.path()] {
        let refused = Listener::bind(&Address::Unix(path.to_owned()))
            .await
            .unwrap_err();
        assert!(refused.to_string().contains("another kind"), "{refused}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    assert!(link.is_symlink() && dir.path().join("target.sock").exists());
    let nowhere = dir.path().join("missing/weir.sock");
    Listener::bind(&Address::Unix(nowhere)).await.unwrap_err();
}

#[tokio::test]
async fn a_name_binds_the_first_of_its_addresses_that_can_be_bound() {
    let sidecar = Sidecar::new();
    let endpoint = Endpoint {
        scrape: Some(Address::Tcp("localhost:0".to_owned())),
        api: None,
    };
    let handle = endpoint.start(Arc::clone(&sidecar.view)).await.unwrap();
    let bound: std::net::SocketAddr = handle.bound().unwrap().parse().unwrap();
    assert!(bound.ip().is_loopback() && bound.port() != 0);
    assert_eq!(get(&handle, "/metrics").status(), 200);
}
