use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::*;
use crate::script::place::Place;

impl Place {
    fn file(&self) -> PathBuf {
        self.directory.path().join("weir.sock.queue")
    }

    async fn append(&self, report: &Report) -> u64 {
        append(&self.socket, report).await.unwrap()
    }

    /// What is read: the names, the count of those that went, and how many lines are none.
    fn read(&self) -> (Vec<String>, u64, usize) {
        let (mut names, mut dropped, mut bad) = (Vec::new(), 0, 0);
        let waiting = Waiting::open(&self.socket).unwrap();
        for line in waiting.iter().flat_map(Waiting::lines) {
            match line {
                Ok(Line::Ran(report)) => names.push(name(&report)),
                Ok(Line::Dropped(count)) => dropped += count,
                Err(_) => bad += 1,
            }
        }
        (names, dropped, bad)
    }
}

fn report(name: &str) -> Report {
    let text = format!(r#"{{"name":"{name}","exit_code":0,"started_at":1,"ended_at":2}}"#);
    Report::from_json(text.as_bytes()).unwrap()
}

fn name(report: &Report) -> String {
    serde_json::to_value(report).unwrap()["name"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn what_is_queued_is_read_and_cleared() {
    let place = Place::new();
    assert!(Waiting::open(&place.socket).unwrap().is_none());
    for name in ["a", "b"] {
        assert_eq!(place.append(&report(name)).await, 0);
    }
    assert_eq!(place.read(), (vec!["a".to_owned(), "b".to_owned()], 0, 0));
    Waiting::open(&place.socket)
        .unwrap()
        .unwrap()
        .clear()
        .unwrap();
    assert!(Waiting::open(&place.socket).unwrap().is_none());
    place.append(&report("c")).await;
    assert_eq!(place.read().0, ["c"]);
}

#[tokio::test]
async fn the_oldest_go_and_are_counted() {
    let place = Place::new();
    let line = |name: &str| serde_json::to_string(&Line::Ran(report(name))).unwrap() + "\n";
    let full: String = (0..MAX_REPORTS).map(|n| line(&n.to_string())).collect();
    fs::write(place.file(), full).unwrap();
    assert_eq!(place.append(&report("new")).await, 1);
    assert_eq!(place.append(&report("newer")).await, 1);
    let (names, dropped, bad) = place.read();
    assert_eq!((names.len(), dropped, bad), (MAX_REPORTS, 2, 0));
    assert_eq!(
        (names[0].as_str(), names[MAX_REPORTS - 1].as_str()),
        ("2", "newer")
    );
}

#[tokio::test]
async fn the_file_never_exceeds_its_bytes() {
    let place = Place::new();
    // Lines that are large and none, as from another program.
    fs::write(
        place.file(),
        format!("{}\n", "x".repeat(10_000)).repeat(104),
    )
    .unwrap();
    let mut dropped = 0;
    for _ in 0..100 {
        dropped += place.append(&report(&"n".repeat(128))).await;
        assert!(fs::metadata(place.file()).unwrap().len() <= MAX_BYTES);
    }
    let (names, told, bad) = place.read();
    assert_eq!((names.len(), told), (100, dropped));
    assert!(dropped >= 1 && bad as u64 + dropped == 104);
}

#[tokio::test]
async fn a_torn_line_costs_itself() {
    let place = Place::new();
    place.append(&report("a")).await;
    let whole = fs::read(place.file()).unwrap();
    fs::write(place.file(), &whole[..whole.len() - 5]).unwrap();
    place.append(&report("b")).await;
    fs::write(
        place.file(),
        [fs::read(place.file()).unwrap(), b"\0\0\xff\n".to_vec()].concat(),
    )
    .unwrap();
    assert_eq!(place.read(), (vec!["b".to_owned()], 0, 2));
}

#[tokio::test]
async fn writers_side_by_side_lose_nothing() {
    let place = Arc::new(Place::new());
    let mut writers = JoinSet::new();
    for number in 0..200 {
        let place = Arc::clone(&place);
        writers.spawn(async move { place.append(&report(&number.to_string())).await });
    }
    writers.join_all().await;
    let (names, dropped, bad) = place.read();
    assert_eq!((names.len(), dropped, bad), (200, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_never_given_back_is_an_error() {
    let place = Place::new();
    place.append(&report("a")).await;
    let holder = Waiting::open(&place.socket).unwrap().unwrap();
    let error = append(&place.socket, &report("b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    drop(holder);
    assert_eq!(place.read().0, ["a"]);
}

#[tokio::test]
async fn a_file_that_is_removed_under_the_lock_is_made_anew() {
    let place = Place::new();
    place.append(&report("a")).await;
    let holder = Waiting::open(&place.socket).unwrap().unwrap();
    fs::remove_file(place.file()).unwrap();
    place.append(&report("b")).await;
    drop(holder);
    assert_eq!(place.read().0, ["b"]);
}

#[tokio::test]
async fn where_no_file_can_be_there_is_an_error() {
    let place = Place::new();
    let absent = place.directory.path().join("absent/weir.sock");
    let error = append(&absent, &report("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
