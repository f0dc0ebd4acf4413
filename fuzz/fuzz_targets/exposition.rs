//! Every line of a page is a sample, metadata, a comment, blank or a fault. Without the lines at fault the page reads as
//! before, and samples that are written out read as themselves.
//!
//! The first byte chooses the format, the rest is the page.
#![no_main]

use std::fmt::Write as _;

use libfuzzer_sys::fuzz_target;
use weir::wire::exposition::{Entry, Fault, Format, Reader};

fuzz_target!(|data: &[u8]| {
    let Some((&format, page)) = data.split_first() else {
        return;
    };
    let format = match format & 1 {
        0 => Format::Text,
        _ => Format::OpenMetrics,
    };
    let lines: Vec<_> = page.split(|byte| *byte == b'\n').collect();
    let (samples, times, entries, faults) = read(page, format);
    let missing_eof = faults.last().is_some_and(|fault| fault.expected == "# EOF");
    let blank = |line: &&&[u8]| line.iter().all(|byte| b" \t\r".contains(byte));
    assert!(entries + faults.len() - usize::from(missing_eof) <= lines.len());
    assert!(
        entries + faults.len()
            >= lines
                .iter()
                .filter(|line| !blank(line))
                .count()
                .saturating_sub(1)
    );
    for fault in &faults {
        assert!(
            (1..=lines.len() + 1).contains(&fault.line) && fault.column >= 1,
            "{fault}"
        );
        assert!(!fault.got.contains('\n'), "{fault}");
    }

    let kept = lines.iter().enumerate();
    let kept = kept.filter(|(index, _)| !faults.iter().any(|fault| fault.line == index + 1));
    let mut clean: Vec<_> = kept.map(|(_, line)| *line).collect();
    // The fault of a page that is cut has no line of its own.
    if missing_eof {
        clean.push(b"# EOF");
    }
    let (again, ..) = read(&clean.join(&b'\n'), format);
    assert_eq!(again, samples);

    // Beyond, not every millisecond is a number of seconds that is read as it.
    let exact = |at: i64| format == Format::Text || at.unsigned_abs() < 1 << 50;
    if !times.into_iter().all(exact) {
        return;
    }
    let written = samples.concat() + "# EOF\n";
    let (again, _, _, faults) = read(written.as_bytes(), format);
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(again, samples);
});

/// The samples of a page, each written out on a line, and their times; the number of lines that say something; and the
/// faults.
fn read(page: &[u8], format: Format) -> (Vec<String>, Vec<i64>, usize, Vec<Fault>) {
    let mut reader = Reader::new(page, format);
    let (mut samples, mut times) = (Vec::new(), Vec::new());
    let (mut entries, mut faults) = (0, Vec::new());
    while let Some(line) = reader.next() {
        let sample = match line {
            Ok(Entry::Sample(sample)) => sample,
            Ok(_) => {
                entries += 1;
                continue;
            }
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        entries += 1;
        assert!(sample.labels.is_sorted_by(|one, next| one.name < next.name));
        let mut text = format!("{{{}", quoted(sample.name));
        for label in sample.labels {
            write!(text, ",{}={}", quoted(&label.name), quoted(&label.value)).expect("memory");
        }
        write!(text, "}} {}", sample.value).expect("memory");
        times.extend(sample.timestamp_ms);
        match (sample.timestamp_ms, format) {
            (None, _) => {}
            (Some(at), Format::Text) => write!(text, " {at}").expect("memory"),
            (Some(at), Format::OpenMetrics) => {
                write!(text, " {}", at as f64 / 1_000.0).expect("memory");
            }
        }
        samples.push(text + "\n");
    }
    assert!(reader.next().is_none());
    (samples, times, entries, faults)
}

fn quoted(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("\"{escaped}\"")
}
