//! Thousands of pages with one odd line each, line by line: what is refused costs itself, what is accepted is what
//! both parsers of Prometheus read. Where they differ between themselves, or Weir from both, a row says why.

use std::collections::BTreeSet;

use fastrand::Rng;
use weir::wire::exposition::Format;

use super::damage::{Pages, RARE, joined};
use super::departures::{ACCEPTED, REFUSED, Reader, may_accept, may_refuse};
use super::judge::{Judge, Verdict};
use super::layout::{dressed, tidy};
use super::sampled::{Reading, ours};

/// Pages of each format that are compared. The rows were found on 70 000 others of each.
const PAGES: usize = 2_500;

#[test]
fn a_hostile_page_is_read_as_the_parsers_of_prometheus_read_it() {
    let Some(mut judge) = Judge::start() else {
        return;
    };
    let mut pages = Pages::new(11);
    let (mut refused, mut accepted) = (BTreeSet::new(), BTreeSet::new());
    let (mut faulty, mut unexplained) = (0, Vec::new());
    for format in [Format::Text, Format::OpenMetrics] {
        for number in 0..PAGES {
            let page = match RARE.get(number) {
                Some(line) => pages.page_with(line, format),
                None => pages.page(format),
            };
            let whole = page.whole();
            let verdict = judge.read(&whole, format);
            let (reading, faults) = ours(&whole, format);
            faulty += usize::from(!faults.is_empty());
            let mut unexplained = |what: String, verdict: &Verdict| {
                let [textparse, expfmt] =
                    [&verdict.textparse, &verdict.expfmt].map(|reading| &reading.fault);
                unexplained.push(format!(
                    "{what}: {format:?} {}\n  weir {faults:?}\n  textparse {textparse:?}\n  expfmt {expfmt:?}\n",
                    page.line()
                ));
            };
            for fault in faults.iter().filter(|_| verdict.takers() != [false; 2]) {
                match may_refuse(fault, &verdict) {
                    Some(row) => drop(refused.insert(row)),
                    None => unexplained(format!("refused {}", fault.expected), &verdict),
                }
            }

            // What was refused left no trace: without it the page is read as they read it.
            let lines: Vec<_> = faults.iter().map(|fault| fault.line).collect();
            let mut clean = page.without(&lines);
            let mut verdict = judge.read(&joined(&clean), format);
            if verdict.takers() != [true; 2] {
                // They may object to the layout alone.
                let tidied = clean.iter().map(|line| tidy(line));
                clean = tidied.filter(|line| !line.is_empty()).collect();
                verdict = judge.read(&joined(&clean), format);
            }
            if verdict.takers() == [false; 2] {
                unexplained("both refuse what is accepted".to_owned(), &verdict);
            }
            let clean = joined(&clean);
            for (reader, theirs) in [
                (Reader::Textparse, &verdict.textparse),
                (Reader::Expfmt, &verdict.expfmt),
            ] {
                if agree(&reading, theirs, reader, format) {
                    continue;
                }
                match may_accept(reader, &reading, theirs, &clean, format) {
                    Some(row) => drop(accepted.insert(row)),
                    None => unexplained(format!("accepted, unlike {reader:?}"), &verdict),
                }
            }
        }
    }
    assert!(
        unexplained.is_empty(),
        "{}:\n{}",
        unexplained.len(),
        unexplained.concat()
    );
    // Neither side of the comparison is trivial, and no row is there for nothing.
    assert!((PAGES / 2..PAGES * 3 / 2).contains(&faulty), "{faulty}");
    for (index, row) in REFUSED.iter().enumerate() {
        assert!(refused.contains(&index), "not met: {row:?}");
    }
    for (index, row) in ACCEPTED.iter().enumerate() {
        assert!(accepted.contains(&index), "not met: {row:?}");
    }
}

/// Whether a parser has read what we have. expfmt keeps no time of creation as a sample; textparse cuts off what is less
/// than a millisecond, where expfmt and Weir round: it makes 1.000 s of 1.001.
fn agree(ours: &Reading, theirs: &Reading, reader: Reader, format: Format) -> bool {
    let cuts = reader == Reader::Textparse && format == Format::OpenMetrics;
    let kept = |reading: &Reading| -> Vec<_> {
        let samples = reading.samples.iter().cloned();
        samples
            .filter(|sample| reader == Reader::Textparse || !sample.name.ends_with("_created"))
            .collect()
    };
    let (ours, theirs_read) = (kept(ours), kept(theirs));
    theirs.fault.is_none()
        && ours.len() == theirs_read.len()
        && ours.iter().zip(&theirs_read).all(|(ours, theirs)| {
            let cut = |at: i64| ours.timestamp_ms.is_some_and(|ours| ours.abs_diff(at) == 1);
            let cut = cuts && theirs.timestamp_ms.is_some_and(cut);
            ours == theirs
                || cut
                    && (&ours.name, &ours.labels, ours.value)
                        == (&theirs.name, &theirs.labels, theirs.value)
        })
}

#[test]
fn the_layout_of_a_page_changes_nothing() {
    let (mut pages, mut random) = (Pages::new(12), Rng::with_seed(13));
    for format in [Format::Text, Format::OpenMetrics] {
        for _ in 0..2_000 {
            let lines = pages.sound(format);
            let (plain, faults) = ours(&joined(&lines), format);
            assert_eq!(faults, []);
            assert!(!plain.samples.is_empty());
            let dressed = dressed(&lines, &mut random);
            let (read, faults) = ours(&dressed, format);
            let page = dressed.escape_ascii();
            assert_eq!(faults, [], "{page}");
            assert_eq!(read.samples, plain.samples, "{page}");
            assert_eq!(read.families, plain.families, "{page}");
        }
    }
}
