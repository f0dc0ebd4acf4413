//! Where Weir does not read a page as both parsers of Prometheus do, and why. Each row must be met.

use weir::wire::exposition::{Fault, Format};

use super::judge::Verdict;
use super::sampled::Reading;

/// A line that Weir refuses although a parser takes it.
#[derive(Debug)]
#[expect(
    dead_code,
    reason = "a reason is for the reader, here and in a failure"
)]
pub struct Refused {
    /// What Weir says was expected, the beginning of it.
    pub expected: &'static str,
    /// Who takes the page: textparse, expfmt.
    pub takers: &'static [[bool; 2]],
    pub reason: &'static str,
}

const TEXTPARSE: [bool; 2] = [true, false];
const EXPFMT: [bool; 2] = [false, true];
const BOTH: [bool; 2] = [true, true];

pub const REFUSED: &[Refused] = &[
    Refused {
        expected: "a series that the page has not had",
        takers: &[BOTH, TEXTPARSE],
        reason: "which of two values holds is not said; the storage of Prometheus refuses the second, coderd fails",
    },
    Refused {
        expected: "a label name that this sample has not had",
        takers: &[TEXTPARSE],
        reason: "a label with two values has none",
    },
    Refused {
        expected: "a label name that is not reserved",
        takers: &[TEXTPARSE],
        reason: "__name__ as a label is a second name of the metric",
    },
    Refused {
        expected: "the escape",
        takers: &[TEXTPARSE],
        reason: "the text format has three escapes: \\new of an unescaped Windows path would silently be a line feed",
    },
    Refused {
        expected: ", or }",
        takers: &[TEXTPARSE],
        reason: "textparse takes labels without a comma between them, by its own comment perhaps by accident",
    },
    Refused {
        expected: "UTF-8",
        takers: &[TEXTPARSE, EXPFMT, BOTH],
        reason: "textparse does not look at quoted names, expfmt not at help",
    },
    Refused {
        expected: "a blank behind the metric name",
        takers: &[TEXTPARSE, EXPFMT],
        reason: "textparse takes what follows a name at once for the text, expfmt lets quotes begin within a name",
    },
    Refused {
        expected: "a closing quote",
        takers: &[TEXTPARSE],
        reason: "metadata whose name has no end is a comment to textparse",
    },
    Refused {
        expected: "a decimal number",
        takers: &[EXPFMT],
        reason: "expfmt lets quotes begin within a name, and so the name go on with anything",
    },
    Refused {
        expected: "a metric name",
        takers: &[TEXTPARSE],
        reason: "textparse ends a page silently at a NUL at the beginning of a line",
    },
    Refused {
        expected: "the type before the samples of a family",
        takers: &[TEXTPARSE],
        reason: "the samples were read without it",
    },
    Refused {
        expected: "one type for a family",
        takers: &[TEXTPARSE],
        reason: "which of two types holds is not said",
    },
    Refused {
        expected: "one help for a family",
        takers: &[TEXTPARSE],
        reason: "which of two texts holds is not said",
    },
    Refused {
        expected: "counter, gauge, histogram, summary or untyped",
        takers: &[TEXTPARSE, EXPFMT, BOTH],
        reason: "expfmt takes a line without a type, and types in any case and of other formats; to textparse #TYPE without a blank is a comment, though the first word behind # decides, says the format",
    },
    Refused {
        expected: "the end of the line",
        takers: &[TEXTPARSE],
        reason: "as above: to textparse #TYPE is a comment whatever follows",
    },
    Refused {
        expected: "HELP, TYPE, UNIT or EOF",
        takers: &[TEXTPARSE],
        reason: "textparse overlooks a NUL within a word: T\\0YPE is TYPE",
    },
    Refused {
        expected: "a timestamp in seconds that is finite",
        takers: &[BOTH, TEXTPARSE],
        reason: "what does not fit becomes an arbitrary time in Go",
    },
];

/// Whether a row allows to refuse this line.
pub fn may_refuse(fault: &Fault, verdict: &Verdict) -> Option<usize> {
    let takers = verdict.takers();
    REFUSED
        .iter()
        .position(|row| row.takers.contains(&takers) && fault.expected.starts_with(row.expected))
}

/// A page without a fault that a parser refuses or reads otherwise.
#[derive(Debug)]
#[expect(
    dead_code,
    reason = "a reason is for the reader, here and in a failure"
)]
pub struct Accepted {
    /// Whose word is not taken.
    pub reader: Reader,
    pub what: What,
    pub reason: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    Textparse,
    Expfmt,
}

/// What shows that a row is met.
#[derive(Debug)]
pub enum What {
    /// It refuses the page, in these words.
    Says(&'static [&'static str]),
    /// It takes the page and reads other samples, of this format, with one of these in it.
    ReadsOtherwise(Format, &'static [&'static str]),
    /// It takes the page and reads other samples of histograms and summaries, and of nothing else.
    ReadsCompositesOtherwise,
}

pub const ACCEPTED: &[Accepted] = &[
    Accepted {
        reader: Reader::Textparse,
        what: What::Says(&[
            "expected timestamp or new record, got \"-\"",
            "expected timestamp or new record, got \"+\"",
        ]),
        reason: "a timestamp is a whole number as strconv.ParseInt takes it, says the format",
    },
    Accepted {
        reader: Reader::Textparse,
        what: What::ReadsOtherwise(Format::Text, &["\n ", "\n\t"]),
        reason: "textparse takes blanks at the beginning of a line into the name",
    },
    Accepted {
        reader: Reader::Textparse,
        what: What::ReadsOtherwise(Format::Text, &["\0"]),
        reason: "textparse ends a page silently at a NUL in a comment",
    },
    Accepted {
        reader: Reader::Textparse,
        what: What::Says(&[
            "invalid metric type",
            "expected metric name after",
            "linebreak expected after metadata",
        ]),
        reason: "textparse overlooks a NUL within a word: T\\0YPE is TYPE",
    },
    Accepted {
        reader: Reader::Expfmt,
        what: What::Says(&["second HELP line", "second TYPE line", "second UNIT line"]),
        reason: "metadata may say the same again, as in pages put together from others",
    },
    Accepted {
        reader: Reader::Expfmt,
        what: What::Says(&["interleaved metric family", "after samples"]),
        reason: "a family may be split",
    },
    Accepted {
        reader: Reader::Expfmt,
        what: What::Says(&["found \"}\""]),
        reason: "textparse allows a comma behind the last label in OpenMetrics as in the text format",
    },
    Accepted {
        reader: Reader::Expfmt,
        what: What::Says(&["parse error"]),
        reason: "expfmt holds to one layout in OpenMetrics",
    },
    Accepted {
        reader: Reader::Expfmt,
        what: What::Says(&[
            "missing required suffix",
            "missing _total value",
            "exemplar not allowed",
            "invalid exemplar value",
            "must not be negative",
            "negative",
            "invalid sum",
            "invalid count",
            "invalid quantile",
            "invalid bucket bound",
            "missing le label",
            "missing quantile label",
            "expected float as value for",
            "unsupported metric type",
            "invalid created timestamp",
            "unexpected carriage return",
        ]),
        reason: "what an exporter means by a family is not judged; expfmt makes metrics of samples",
    },
    Accepted {
        reader: Reader::Expfmt,
        what: What::ReadsCompositesOtherwise,
        reason: "expfmt has one time for all samples of a metric, whole counts, and no place for a sample without its bound",
    },
];

/// Whether a row allows not to take a parser's word for a page without a fault.
pub fn may_accept(
    reader: Reader,
    ours: &Reading,
    theirs: &Reading,
    page: &[u8],
    format: Format,
) -> Option<usize> {
    let page = format!("\n{}", String::from_utf8_lossy(page));
    ACCEPTED.iter().position(|row| {
        row.reader == reader
            && match (&row.what, theirs.fault.as_deref()) {
                (What::Says(words), Some(said)) => words.iter().any(|word| said.contains(word)),
                (What::ReadsOtherwise(of, signs), None) => {
                    *of == format && signs.iter().any(|sign| page.contains(sign))
                }
                (What::ReadsCompositesOtherwise, None) => {
                    ours.without_composites(ours) == theirs.without_composites(ours)
                }
                _ => false,
            }
    })
}
