//! The log against a model that is slow and obviously correct, with crashes in every operation and at every byte.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::spool::memory::{Left, Memory};
use crate::spool::offline;

const SETTINGS: Settings = Settings {
    max_bytes: 4096,
    reserve: 0,
    durable: true,
};

/// A payload that says which batch it is, and is as long as that makes it.
fn payload(id: u64) -> Vec<u8> {
    let mut payload = id.to_le_bytes().to_vec();
    payload.resize(8 + (id % 7) as usize * 20, 0xee);
    payload
}

fn tally(id: u64) -> Tally {
    Tally {
        batches: 1,
        logs: id % 5 + 1,
        bytes: payload(id).len() as u64,
    }
}

fn id_of(stored: &Stored) -> u64 {
    let id = u64::from_le_bytes(stored.payload[..8].try_into().unwrap());
    assert_eq!(stored.payload, payload(id), "not what was appended");
    assert_eq!(stored.tally(), tally(id));
    id
}

#[derive(Clone, Debug)]
enum Action {
    /// Appends so many batches together; the first of them may be placed in memory too.
    Append {
        batches: u64,
        sync: bool,
        placed: bool,
    },
    Read,
    /// One of those in memory is done.
    Done {
        which: usize,
    },
    Checkpoint,
    DropOldest,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        5 => (1..5u64, any::<bool>(), any::<bool>())
            .prop_map(|(batches, sync, placed)| Action::Append { batches, sync, placed }),
        3 => Just(Action::Read),
        4 => any::<usize>().prop_map(|which| Action::Done { which }),
        2 => Just(Action::Checkpoint),
        1 => Just(Action::DropOldest),
    ]
}

/// What is known of every batch that was given to the log, by its id.
#[derive(Clone, Debug, Default)]
struct Model {
    next: u64,
    /// On disk only, in order.
    unread: Vec<u64>,
    /// In memory too, with the numbers of their records.
    placed: BTreeMap<u64, u64>,
    /// Committed, but not synced yet.
    unsynced: BTreeSet<u64>,
    /// Ended, but the position does not say so.
    ending: BTreeSet<u64>,
    /// Ended for good.
    ended: BTreeSet<u64>,
    /// In an operation that failed: there, or not.
    doubtful: BTreeSet<u64>,
}

struct Rig {
    storage: Memory,
    log: Log<Memory>,
    model: Model,
}

impl Rig {
    fn new() -> Self {
        let storage = Memory::default();
        let (log, found) = Log::open(storage.clone(), SETTINGS).unwrap();
        assert_eq!(found.held, Tally::default());
        Self {
            storage,
            log,
            model: Model::default(),
        }
    }

    /// Does it; `false` when the machine has stopped.
    fn act(&mut self, action: &Action) -> bool {
        let model = &mut self.model;
        match *action {
            Action::Append {
                batches,
                sync,
                placed,
            } => {
                let mut group = Vec::new();
                for _ in 0..batches {
                    let id = model.next;
                    model.next += 1;
                    let payload = payload(id);
                    let entry = Entry {
                        order: id,
                        received_ms: 1,
                        connection: 2,
                        logs: tally(id).logs as u32,
                        payload: &payload,
                    };
                    let staged = match self.log.stage(&entry, 1, false) {
                        Err(Refusal::Commit) => {
                            if !commit(&mut self.log, model, &mut group, sync, placed) {
                                return false;
                            }
                            self.log.stage(&entry, 1, false)
                        }
                        other => other,
                    };
                    match staged {
                        Ok(number) => group.push((id, number)),
                        Err(Refusal::Full) => {}
                        Err(_) => {
                            model.doubtful.extend(group.iter().map(|(id, _)| *id));
                            return false;
                        }
                    }
                }
                commit(&mut self.log, model, &mut group, sync, placed)
            }
            Action::Read => {
                let Ok(read) = self.log.read() else {
                    return false;
                };
                assert_eq!(read.as_ref().map(id_of), model.unread.first().copied());
                if let Some(stored) = read {
                    model.placed.insert(model.unread.remove(0), stored.number);
                }
                true
            }
            Action::Done { which } => {
                if !model.placed.is_empty() {
                    let id = *model.placed.keys().nth(which % model.placed.len()).unwrap();
                    self.log.done(model.placed.remove(&id).unwrap());
                    model.ending.insert(id);
                }
                true
            }
            Action::Checkpoint => {
                let whole = self.log.checkpoint(false, &[]).is_ok();
                if whole {
                    model.unsynced.clear();
                    model.ended.append(&mut model.ending);
                }
                whole
            }
            Action::DropOldest => {
                if let Some(dropped) = self.log.drop_oldest() {
                    // A whole file, which may stand behind one of which some is in memory.
                    let unread = &model.unread;
                    let gone = (0..unread.len())
                        .map(|at| unread[at..].iter().take(dropped.batches as usize))
                        .find(|gone| gone.clone().copied().map(tally).sum::<Tally>() == dropped);
                    let gone: Vec<_> = gone.expect("neighbours").copied().collect();
                    model.unread.retain(|id| !gone.contains(id));
                    model.ending.extend(gone);
                }
                true
            }
        }
    }

    fn check(&self) {
        let unread = self.model.unread.iter().copied().map(tally);
        assert_eq!(self.log.unread(), unread.sum::<Tally>());
        assert!(
            self.log.usage() <= SETTINGS.max_bytes + 400,
            "over the quota"
        );
        let live = self.model.unread.len() + self.model.placed.len();
        assert_eq!(self.log.live(), live as u64);
    }
}

fn commit(
    log: &mut Log<Memory>,
    model: &mut Model,
    group: &mut Vec<(u64, u64)>,
    sync: bool,
    placed: bool,
) -> bool {
    if log.commit(sync).is_err() {
        model.doubtful.extend(group.iter().map(|(id, _)| *id));
        return false;
    }
    for (at, (id, number)) in group.drain(..).enumerate() {
        // Nothing may be placed while something is unread.
        if placed && at == 0 && model.unread.is_empty() {
            log.placed(number);
            model.placed.insert(id, number);
        } else {
            log.left(number, tally(id));
            model.unread.push(id);
        }
        if sync {
            model.unsynced.clear();
        } else {
            model.unsynced.insert(id);
        }
    }
    true
}

/// What a process finds that is started after a stop is what must be there, and nothing that must not.
fn check_found(storage: Memory, model: &Model, left: Left) {
    let report = offline::verify(&mut storage.clone()).unwrap();
    let (mut log, found) = Log::open(storage.clone(), SETTINGS).unwrap();
    let mut ids = Vec::new();
    while let Some(stored) = log.read().unwrap() {
        ids.push(id_of(&stored));
    }
    let context = || format!("{left:?}: {ids:?} of {model:?}, {report:?}");
    assert!(
        ids.windows(2).all(|pair| pair[0] < pair[1]),
        "{}",
        context()
    );
    assert_eq!(log.take_lost().0, Tally::default(), "{}", context());
    let tallies = ids.iter().copied().map(tally);
    assert_eq!(tallies.sum::<Tally>(), found.held, "{}", context());

    let ids: BTreeSet<_> = ids.iter().copied().collect();
    let held = model.unread.iter().chain(model.placed.keys());
    let must: BTreeSet<_> = held
        .filter(|id| left == Left::All || !model.unsynced.contains(id))
        .copied()
        .collect();
    assert!(ids.is_superset(&must), "lost: {}", context());
    let may: BTreeSet<_> = [&model.ending, &model.doubtful, &must, &model.unsynced]
        .into_iter()
        .flatten()
        .copied()
        .collect();
    assert!(ids.is_subset(&may), "from nowhere: {}", context());
    // Nothing was lost, so nothing is missing.
    assert_eq!(found.damaged, Tally::default(), "{}", context());

    // And it can go on from there.
    let payload = payload(model.next);
    let entry = Entry {
        order: model.next,
        received_ms: 1,
        connection: 2,
        logs: tally(model.next).logs as u32,
        payload: &payload,
    };
    if let Ok(number) = log.stage(&entry, 1, false) {
        log.commit(true).unwrap();
        log.left(number, tally(model.next));
        assert_eq!(log.read().unwrap().as_ref().map(id_of), Some(model.next));
    }
    log.checkpoint(true, &[]).unwrap();
    let (_, found) = Log::open(storage, SETTINGS).unwrap();
    assert!(found.clean);
    assert_eq!(found.damaged, Tally::default(), "{}", context());
}

fn check_after_stop(rig: &Rig) {
    for left in [Left::All, Left::Bytes(0), Left::Bytes(50), Left::Nothing] {
        check_found(rig.storage.after(left), &rig.model, left);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn it_keeps_what_it_was_given(actions in prop::collection::vec(action(), 1..60)) {
        let mut rig = Rig::new();
        for action in &actions {
            assert!(rig.act(action));
            rig.check();
        }
        check_after_stop(&rig);
    }

    #[test]
    fn whenever_it_stops_it_is_found_whole(
        actions in prop::collection::vec(action(), 1..40), operations in 1..120u64, bytes in 0..300usize,
    ) {
        let mut rig = Rig::new();
        rig.storage.stop_in(operations, bytes);
        for action in &actions {
            if !rig.act(action) {
                break;
            }
        }
        check_after_stop(&rig);
    }
}

/// Appends with and without sync, over several files, reads, ends, and frees.
fn scenario() -> Vec<Action> {
    let append = |batches, sync, placed| Action::Append {
        batches,
        sync,
        placed,
    };
    let mut actions = vec![
        append(2, true, true),
        append(3, false, false),
        Action::Checkpoint,
    ];
    for which in 0..4 {
        actions.extend([
            append(3, which % 2 == 0, true),
            Action::Read,
            Action::Read,
            Action::Done { which },
            Action::Done { which: 0 },
            Action::Checkpoint,
        ]);
    }
    actions
}

#[test]
fn a_stop_in_any_operation_and_at_any_byte_of_it_costs_nothing_that_was_synced() {
    let mut rig = Rig::new();
    for action in scenario() {
        assert!(rig.act(&action));
    }
    let operations = rig.storage.operations();
    assert!(operations > 40, "{operations}");
    for operation in 1..=operations {
        // Beyond the longest write it is written whole, and the machine stops behind it.
        for bytes in (0..700).step_by(if operation < 12 { 1 } else { 23 }) {
            let mut rig = Rig::new();
            rig.storage.stop_in(operation, bytes);
            for action in scenario() {
                if !rig.act(&action) {
                    break;
                }
            }
            check_after_stop(&rig);
        }
    }
}

fn filled(records: u64) -> Rig {
    let mut rig = Rig::new();
    let append = Action::Append {
        batches: 1,
        sync: true,
        placed: false,
    };
    for _ in 0..records {
        assert!(rig.act(&append));
    }
    assert!(rig.act(&Action::Checkpoint));
    rig
}

#[test]
fn one_damaged_byte_anywhere_costs_at_most_one_record_which_is_counted_and_named() {
    let files = filled(12).storage.files();
    let all: Tally = (0..12).map(tally).sum();
    for (name, bytes) in &files {
        for at in 0..bytes.len() {
            let mut damaged = files.clone();
            damaged.get_mut(name).unwrap()[at] ^= 0x40;
            let storage = Memory::of(damaged);
            let report = offline::verify(&mut storage.clone()).unwrap();
            assert!(!report.whole, "{name} at {at}");
            assert!(
                report.findings.iter().any(|found| found.segment == *name),
                "{name} at {at}: {report:?}"
            );
            let (mut log, found) = Log::open(storage, SETTINGS).unwrap();
            let lost = all.batches - found.held.batches;
            assert!(lost <= 1, "{name} at {at}: {found:?}");
            assert_eq!(found.damaged.batches, lost, "{name} at {at}");
            let mut read = 0;
            while let Some(stored) = log.read().unwrap() {
                id_of(&stored);
                read += 1;
            }
            assert_eq!(read, found.held.batches);
        }
    }
}

#[test]
fn damage_that_comes_later_is_counted_when_it_is_read() {
    let rig = filled(12);
    let files = rig.storage.files();
    let (name, bytes) = files.iter().next().unwrap();
    for at in (HEAD..bytes.len()).step_by(7) {
        let mut rig = filled(12);
        let damaged = [bytes[at] ^ 0x40];
        rig.storage.clone().patch(name, at, &damaged);
        let mut read: Tally = Tally::default();
        while let Some(stored) = rig.log.read().unwrap() {
            id_of(&stored);
            read.add(stored.tally());
        }
        let (lost, damages) = rig.log.take_lost();
        assert_eq!(lost.batches, 1, "at {at}");
        assert_eq!(damages[0].segment, *name);
        read.add(lost);
        assert_eq!(read, (0..12).map(tally).sum());
        assert_eq!(rig.log.unread(), Tally::default());
    }
}

#[test]
fn files_cut_out_or_exchanged_are_named() {
    let rig = filled(12);
    let files = rig.storage.files();
    let names: Vec<_> = files
        .keys()
        .filter(|name| segment::number(name).is_some())
        .cloned()
        .collect();
    assert!(names.len() >= 3, "{names:?}");
    for name in &names {
        let mut cut = files.clone();
        let bytes = cut.remove(name).unwrap();
        let report = offline::verify(&mut Memory::of(cut.clone())).unwrap();
        let missing = report.findings.iter().any(|found| {
            matches!(found.fault, offline::Fault::Missing { .. })
                && found.record == segment::number(name).unwrap()
        });
        assert!(missing, "{name}: {report:?}");
        let (_, found) = Log::open(Memory::of(cut.clone()), SETTINGS).unwrap();
        assert_eq!(found.held.batches + found.damaged.batches, 12);

        let other = names.iter().find(|other| *other != name).unwrap();
        let bytes_of_other = cut.insert(other.clone(), bytes).unwrap();
        cut.insert(name.clone(), bytes_of_other);
        let report = offline::verify(&mut Memory::of(cut.clone())).unwrap();
        assert!(!report.whole, "{name} for {other}");
        Log::open(Memory::of(cut), SETTINGS).unwrap();
    }
}

#[test]
fn a_record_that_was_written_anew_does_not_follow() {
    let rig = filled(3);
    let mut files = rig.storage.files();
    let (name, bytes) = files.iter_mut().next().unwrap();
    // As somebody would who knows the format: the record is whole in itself.
    let mut forged = Vec::new();
    let forged_payload = vec![0xaa; payload(0).len()];
    let entry = Entry {
        order: 0,
        received_ms: 1,
        connection: 2,
        logs: 1,
        payload: &forged_payload,
    };
    record::put(&mut forged, 1, &entry, &mut record::GENESIS.clone());
    bytes[HEAD..HEAD + forged.len()].copy_from_slice(&forged);
    let name = name.clone();
    let report = offline::verify(&mut Memory::of(files)).unwrap();
    let altered = &report.findings[0];
    assert_eq!(
        (altered.segment.as_str(), altered.record),
        (name.as_str(), 2)
    );
    assert_eq!(altered.fault, offline::Fault::Altered);
}

#[test]
fn a_file_of_a_later_version_is_left_alone_and_the_rest_goes_on() {
    let rig = filled(12);
    let mut files = rig.storage.files();
    let (name, bytes) = files.iter_mut().next().unwrap();
    let head: [u8; HEAD] = bytes[..HEAD].try_into().unwrap();
    bytes[..HEAD].copy_from_slice(&segment::of_version(9, &head));
    let (name, future) = (name.clone(), bytes.clone());
    let storage = Memory::of(files);
    let (mut log, found) = Log::open(storage.clone(), SETTINGS).unwrap();
    assert_eq!(found.refused, [(name.clone(), 9)]);
    while let Some(stored) = log.read().unwrap() {
        log.done(stored.number);
    }
    log.checkpoint(true, &[]).unwrap();
    assert_eq!(storage.files()[&name], future);
    let (_, found) = Log::open(storage, SETTINGS).unwrap();
    assert_eq!(found.damaged, Tally::default(), "what it holds is not lost");
}

#[test]
fn what_came_first_is_read_first_although_it_was_written_late() {
    let mut rig = Rig::new();
    let orders = [5, 6, 2, 7, 3, 9];
    for order in orders {
        let payload = payload(order);
        let entry = Entry {
            order,
            received_ms: 1,
            connection: 2,
            logs: tally(order).logs as u32,
            payload: &payload,
        };
        let number = rig.log.stage(&entry, 1, false).unwrap();
        rig.log.commit(true).unwrap();
        rig.log.placed(number);
    }
    let (mut log, _) = Log::open(rig.storage.after(Left::All), SETTINGS).unwrap();
    let mut read = Vec::new();
    while let Some(stored) = log.read().unwrap() {
        read.push(id_of(&stored));
    }
    assert_eq!(read, [2, 3, 5, 6, 7, 9]);
}

#[test]
fn a_full_disk_refuses_and_takes_again() {
    let mut rig = Rig::new();
    let append = Action::Append {
        batches: 1,
        sync: true,
        placed: false,
    };
    rig.storage.set_capacity(Some(rig.storage.used() + 600));
    for _ in 0..20 {
        assert!(rig.act(&append));
        rig.check();
    }
    let held = rig.model.unread.len();
    assert!((1..20).contains(&held));
    rig.storage.set_capacity(None);
    assert!(rig.act(&append));
    assert_eq!(rig.model.unread.len(), held + 1);
    check_after_stop(&rig);
}

#[test]
fn a_file_that_cannot_be_read_is_tried_again_and_then_given_up() {
    let mut rig = filled(12);
    rig.storage.set_unreadable(true);
    rig.log.read().unwrap_err();
    rig.storage.set_unreadable(false);
    assert!(rig.act(&Action::Read));
    rig.log.window.forget();
    rig.storage.set_unreadable(true);
    rig.log.read().unwrap_err();
    rig.log.give_up();
    rig.storage.set_unreadable(false);
    let (lost, _) = rig.log.take_lost();
    let mut read = 1;
    while rig.log.read().unwrap().is_some() {
        read += 1;
    }
    assert!(lost.batches > 0 && read > 1);
    assert_eq!(lost.batches + read, 12);
}

#[test]
fn the_reserve_is_for_what_is_urgent() {
    let settings = Settings {
        reserve: 2048,
        ..SETTINGS
    };
    let (mut log, _) = Log::open(Memory::default(), settings).unwrap();
    let mut fill = |urgent| {
        let entry = Entry {
            order: 1,
            received_ms: 1,
            connection: 2,
            logs: 1,
            payload: b"payload",
        };
        loop {
            match log.stage(&entry, 1, urgent) {
                Ok(_) => {}
                Err(Refusal::Full) => break,
                Err(Refusal::Commit) => {
                    log.commit(true).unwrap();
                }
                Err(Refusal::Failed(error)) => panic!("{error}"),
            }
        }
        log.commit(true).unwrap();
        log.usage()
    };
    assert!((1800..=2048).contains(&fill(false)));
    assert!((3800..=4096).contains(&fill(true)));
}

#[test]
fn a_write_that_fails_leaves_no_trace() {
    let mut rig = filled(3);
    rig.storage.set_broken(true);
    let append = Action::Append {
        batches: 2,
        sync: true,
        placed: false,
    };
    assert!(!rig.act(&append));
    rig.storage.set_broken(false);
    rig.model.doubtful.clear();
    assert!(rig.act(&append));
    rig.check();
    check_after_stop(&rig);
}
