//! No kill of the sidecar loses a count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};

use super::{command, exec};
use crate::run::nobody;
use crate::support::page::Page;
use crate::support::sidecar::Sidecar;

const SCRIPTS: u64 = 1000;
const KILLS: u64 = 50;

/// Scripts at a time: each is two processes.
const SIDE_BY_SIDE: usize = 4;

fn runs(page: &Page) -> (u64, u64) {
    let count = |success| {
        page.count(&format!(
            "weir_scripts_executed_total{{success=\"{success}\"}}"
        ))
    };
    (count(true), count(false))
}

/// The sidecar is killed each time that a fiftieth of the scripts has run, at whatever it is doing then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_lose_no_count_of_a_thousand_scripts() {
    let url = nobody();
    let mut sidecar = Sidecar::builder(&url).start().await;
    let api = sidecar.api.clone().unwrap();
    let (ended, places) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(Semaphore::new(SIDE_BY_SIDE)),
    );
    let mut scripts = JoinSet::new();
    for number in 0..SCRIPTS {
        let (api, ended, places) = (api.clone(), Arc::clone(&ended), Arc::clone(&places));
        scripts.spawn(async move {
            let _place = places.acquire().await.unwrap();
            // Every fifth fails.
            let script = if number % 5 == 0 { "false" } else { "true" };
            let output = spawn_blocking(move || exec(&api, &[script])).await.unwrap();
            assert_eq!(output.status.code(), Some(i32::from(number % 5 == 0)));
            assert!(output.stderr.is_empty(), "{output:?}");
            ended.fetch_add(1, Ordering::Relaxed);
        });
    }
    let mut before = (0, 0);
    for kill in 1..=KILLS {
        while ended.load(Ordering::Relaxed) < kill * SCRIPTS / (KILLS + 1) {
            tokio::task::yield_now().await;
        }
        // A page that was seen binds the lives after it.
        let seen = runs(&sidecar.page().await);
        assert!(
            seen.0 >= before.0 && seen.1 >= before.1,
            "{seen:?} after {before:?}"
        );
        before = seen;
        let again = sidecar.beside_at(&url);
        drop(sidecar);
        sidecar = again.start().await;
    }
    while let Some(script) = scripts.join_next().await {
        script.unwrap();
    }
    let page = sidecar
        .wait_for("every script to be counted", |page| {
            runs(page).0 + runs(page).1 >= SCRIPTS
        })
        .await;
    assert_eq!(runs(&page), (SCRIPTS * 4 / 5, SCRIPTS / 5));
    // Nor is any counted twice that still waits to be.
    assert!(super::queued(&api).is_empty());
    sidecar.stop_clean().await;
}

#[tokio::test]
async fn a_kill_of_weir_exec_leaves_the_script_and_the_queue_alone() {
    let directory = tempfile::tempdir().unwrap();
    let api = directory.path().join("weir.sock");
    let done = directory.path().join("done");
    let script = format!("echo; sleep 0.3; touch {}", done.display());
    let mut child = command(&api, &["bash", "-c", &script])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    crate::support::wait::wait_for("the script's end", async || match done.exists() {
        true => Ok(()),
        false => Err("it is not done".to_owned()),
    })
    .await;
    assert!(super::queued(&api).is_empty());
}
