use super::recent::MAX_KEYS;
use super::*;

fn report(fields: &str) -> Report {
    let text = format!(r#"{{"exit_code":0,"started_at":10,"ended_at":12.5{fields}}}"#);
    Report::from_json(text.as_bytes()).unwrap()
}

fn numbered(number: usize) -> Report {
    let id = format!("00000000-0000-4000-8000-{number:012}");
    report(&format!(r#","stage":"cron","id":"{id}""#))
}

const COUNTED: Entry = Entry::Counted { overflow: false };

#[test]
fn a_run_is_counted_once_by_its_script_and_start() {
    let mut books = Books::default();
    assert_eq!(books.enter(&report(r#","name":"a""#)), COUNTED);
    assert_eq!(
        books.enter(&report(r#","name":"a","status":"PIPES_LEFT_OPEN""#)),
        Entry::Repeated
    );
    assert_eq!(
        books.enter(&report(r#","name":"b","status":"PIPES_LEFT_OPEN""#)),
        COUNTED
    );
    assert_eq!(
        (books.totals().success.runs, books.totals().failure.runs),
        (1, 1)
    );
    // Nothing tells these apart.
    assert_eq!(books.enter(&report("")), COUNTED);
    assert_eq!(books.enter(&report("")), COUNTED);
    assert_eq!(books.totals().success.runs, 3);
}

#[test]
fn start_scripts_set_the_startup_time_of_their_outcome() {
    let mut books = Books::default();
    books.enter(&report(r#","name":"a","stage":"start""#));
    books.enter(&report(r#","name":"b","stage":"stop""#));
    assert_eq!(books.totals().success.startup_seconds, 2.5);
    assert_eq!(books.totals().failure.startup_seconds, 0.0);
}

#[test]
fn as_many_runs_are_remembered_as_is_said() {
    let mut books = Books::default();
    for number in 0..=MAX_KEYS {
        books.enter(&numbered(number));
    }
    assert_eq!(books.recent().count(), MAX_KEYS);
    assert!(!books.has(&numbered(0)) && books.has(&numbered(1)));
}

#[test]
fn runs_wait_for_the_control_plane_in_order_and_in_bounds() {
    let mut books = Books::default();
    for number in 0..MAX_PENDING {
        assert_eq!(books.enter(&numbered(number)), COUNTED);
    }
    assert_eq!(
        books.enter(&numbered(MAX_PENDING)),
        Entry::Counted { overflow: true }
    );
    assert_eq!(books.enter(&report(r#","name":"has no id""#)), COUNTED);
    for number in 0..MAX_PENDING {
        assert_eq!(books.first_pending(), Some(&numbered(number)));
        books.settle();
    }
    assert_eq!(books.pending(), 0);
}

#[test]
fn books_that_count_take_over_what_another_life_knew() {
    let (mut own, mut other) = (Books::default(), Books::default());
    for number in 0..3 {
        other.enter(&numbered(number));
    }
    own.enter(&numbered(2));
    own.enter(&numbered(3));
    own.adopt(other);
    assert_eq!(own.totals().success.runs, 2);
    assert!((0..4).all(|number| own.has(&numbered(number))));
    assert_eq!(own.pending(), 4);
}
