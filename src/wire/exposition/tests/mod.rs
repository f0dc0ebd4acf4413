mod faults;
mod numbers;
mod page;

use super::{Entry, Format, Reader};

/// Every sample as text, and every fault.
fn read(page: impl AsRef<[u8]>, format: Format) -> (Vec<String>, Vec<String>) {
    let mut reader = Reader::new(page.as_ref(), format);
    let (mut samples, mut faults) = (Vec::new(), Vec::new());
    while let Some(line) = reader.next() {
        match line {
            Ok(Entry::Sample(sample)) => {
                let labels = sample.labels.iter();
                let labels: Vec<_> = labels
                    .map(|label| format!("{}={:?}", label.name, label.value))
                    .collect();
                let mut text = format!("{} [{}] {}", sample.name, labels.join(" "), sample.value);
                if let Some(at) = sample.timestamp_ms {
                    text.push_str(&format!(" @{at}"));
                }
                if let Some(exemplar) = sample.exemplar {
                    let name =
                        |label: &super::Label<'_>| format!("{}={:?}", label.name, label.value);
                    let labels: Vec<_> = exemplar.labels.iter().map(name).collect();
                    text.push_str(&format!(" # [{}] {}", labels.join(" "), exemplar.value));
                    if let Some(at) = exemplar.timestamp_ms {
                        text.push_str(&format!(" @{at}"));
                    }
                }
                samples.push(text);
            }
            Ok(_) => {}
            Err(fault) => faults.push(fault.to_string()),
        }
    }
    (samples, faults)
}

/// The samples of a page without a fault.
#[track_caller]
fn sound(page: impl AsRef<[u8]>, format: Format) -> Vec<String> {
    let (samples, faults) = read(page, format);
    assert_eq!(faults, [""; 0]);
    samples
}
