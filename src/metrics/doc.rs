//! The catalogue for people: a table, METRICS.md, and a page on which nothing has been counted yet.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use thiserror::Error;

use super::catalog::{Family, Kind, Label, SIDECAR};
use super::control::catalog::CONTROL;
use super::control::coderd::CODERD;
use super::exposition::{self, Format};
use super::{histogram, sample};

/// METRICS.md as it was when this was built.
const DOCUMENT: &str = include_str!("../../METRICS.md");

/// The lines between which a table is generated.
#[derive(Clone, Copy, Debug)]
struct Markers {
    begin: &'static str,
    end: &'static str,
}

const OF_SIDECAR: Markers = Markers {
    begin: "<!-- generated from the catalogue: begin -->\n",
    end: "<!-- generated from the catalogue: end -->\n",
};

const OF_CONTROL: Markers = Markers {
    begin: "<!-- generated from the control plane's catalogue: begin -->\n",
    end: "<!-- generated from the control plane's catalogue: end -->\n",
};

const OF_CODERD: Markers = Markers {
    begin: "<!-- generated from the catalogue of coderd's names: begin -->\n",
    end: "<!-- generated from the catalogue of coderd's names: end -->\n",
};

/// METRICS.md has lost the lines between which a table is generated.
#[derive(Debug, Error)]
#[error("METRICS.md: expected the line {begin:?} and after it the line {end:?}")]
pub struct MarkersMissing {
    begin: &'static str,
    end: &'static str,
}

/// Every family on a line of its own, in columns: name, type, labels, help.
pub fn list() -> String {
    let families = || SIDECAR.iter().chain(CONTROL).chain(CODERD);
    let names = families().map(|family| family.name.len());
    let labels = families().map(|family| label_names(family).len());
    let name_width = names.max().unwrap_or_default();
    let label_width = labels.max().unwrap_or_default();
    let line = |family: &Family| {
        let (name, kind, labels) = (family.name, family.kind.name(), label_names(family));
        let help = family.help;
        format!("{name:name_width$}  {kind:9}  {labels:label_width$}  {help}\n")
    };
    families().map(line).collect()
}

/// METRICS.md with its generated parts made anew: a row for each family that has no hand-written row elsewhere in
/// the document.
///
/// # Errors
/// When the document lacks the lines between which the table belongs.
pub fn markdown() -> Result<String, MarkersMissing> {
    let document = merge(DOCUMENT, SIDECAR, OF_SIDECAR)?;
    let document = merge(&document, CONTROL, OF_CONTROL)?;
    merge(&document, CODERD, OF_CODERD)
}

/// The page of a sidecar that has counted nothing, in the text format 0.0.4. A label whose values are only known
/// at run time is empty.
///
/// # Errors
/// When a row of the catalogue is not a valid metric.
pub fn exposition_with_zeros() -> Result<String, prometheus::Error> {
    let families = SIDECAR.iter().map(zeros).collect::<Result<Vec<_>, _>>()?;
    let page = exposition::encode(&families.concat(), Format::Text)?;
    String::from_utf8(page).map_err(|error| prometheus::Error::Msg(error.to_string()))
}

fn merge(
    document: &str,
    families: &[Family],
    Markers { begin, end }: Markers,
) -> Result<String, MarkersMissing> {
    let missing = || MarkersMissing { begin, end };
    let (before, rest) = document.split_once(begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(end).ok_or_else(missing)?;
    let by_hand = |family: &&Family| {
        let row = format!("| `{}` |", family.name);
        before.contains(&row) || after.contains(&row)
    };
    let rows: String = families
        .iter()
        .filter(|family| !by_hand(family))
        .map(row)
        .collect();
    Ok(format!(
        "{before}{begin}| Name | Type | Labels | Meaning |\n|---|---|---|---|\n{rows}{end}{after}"
    ))
}

fn row(family: &Family) -> String {
    let labels: Vec<_> = family.labels.iter().map(label).collect();
    let (name, kind) = (family.name, family.kind.name());
    let (labels, help) = (labels.join("; "), family.help.replace('|', "\\|"));
    format!("| `{name}` | {kind} | {labels} | {help} |\n")
}

fn label(label: &Label) -> String {
    let values: Vec<_> = label
        .values
        .iter()
        .map(|value| format!("`{value}`"))
        .collect();
    match values.as_slice() {
        [] => format!("`{}`", label.name),
        values => format!("`{}`: {}", label.name, values.join(", ")),
    }
}

fn label_names(family: &Family) -> String {
    let names: Vec<_> = family.labels.iter().map(|label| label.name).collect();
    names.join(",")
}

fn zeros(family: &Family) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let values = family.labels.iter().flat_map(|label| match label.values {
        [] => &[""],
        values => values,
    });
    Ok(match (family.kind, family.labels) {
        (Kind::Histogram(_), _) => histogram(family)?.collect(),
        (_, []) => vec![sample::single(family, 0.0)],
        _ => vec![sample::split(family, values.map(|value| (*value, 0.0)))],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::catalog;

    #[test]
    fn metrics_md_is_current() {
        let current = markdown().unwrap();
        assert!(
            current == DOCUMENT,
            "METRICS.md is not what `weir metrics docs` prints; it should be:\n{current}"
        );
    }

    #[test]
    fn a_row_written_by_hand_wins() {
        let Markers { begin, end } = OF_SIDECAR;
        let document = format!("A\n| `weir_connections` | by hand |\n{begin}stale\n{end}B\n");
        let families = [catalog::CONNECTIONS, catalog::FRAMES_REJECTED];
        let merged = merge(&document, &families, OF_SIDECAR).unwrap();
        assert_eq!(merged.matches("| `weir_connections` |").count(), 1);
        assert!(merged.contains("| `weir_connections` | by hand |"));
        assert!(merged.contains(
            "| `weir_frames_rejected_total` | counter | `reason`: `tag`, `too_large`, `truncated`, \
             `undecodable`, `empty` | Frames on"
        ));
        assert!(!merged.contains("stale"));
        assert!(merged.starts_with("A\n") && merged.ends_with("B\n"));
        assert_eq!(merge(&merged, &families, OF_SIDECAR).unwrap(), merged);
    }

    #[test]
    fn a_document_without_its_markers_is_refused() {
        let Markers { begin, end } = OF_SIDECAR;
        for document in [String::new(), begin.to_owned(), format!("{end}{begin}")] {
            assert!(
                merge(&document, SIDECAR, OF_SIDECAR).is_err(),
                "{document:?}"
            );
        }
    }

    #[test]
    fn the_list_names_every_family_in_columns() {
        let list = list();
        assert_eq!(
            list.lines().count(),
            SIDECAR.len() + CONTROL.len() + CODERD.len()
        );
        let column = |line: &str| line.find(" counter ").or(line.find(" gauge "));
        let columns: Vec<_> = list.lines().filter_map(column).collect();
        assert!(columns.len() > 10);
        assert!(columns.iter().all(|start| *start == columns[0]));
    }

    #[test]
    fn the_page_of_zeros_has_every_series_at_zero() {
        let page = exposition_with_zeros().unwrap();
        for family in SIDECAR {
            assert!(page.contains(&format!("# HELP {} {}\n", family.name, family.help)));
            for value in family.labels.iter().flat_map(|label| label.values) {
                let label = family.labels[0].name;
                let series = format!("{}{{{label}=\"{value}\"}} 0\n", family.name);
                assert!(page.contains(&series), "{series}");
            }
        }
        assert!(page.contains("weir_build_info{version=\"\"} 0\n"));
        assert!(page.contains("weir_forward_latency_seconds_bucket{le=\"+Inf\"} 0\n"));
        let values = page.lines().filter(|line| !line.starts_with('#'));
        assert!(values.clone().count() > SIDECAR.len());
        for line in values {
            assert!(line.ends_with(" 0"), "{line}");
        }
    }
}
