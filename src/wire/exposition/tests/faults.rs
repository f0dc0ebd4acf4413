use super::super::Format::{self, OpenMetrics, Text};
use super::read;

/// A line in the middle of a sound page: it must cost itself alone, and be reported so.
#[track_caller]
fn costs_itself(line: &str, format: Format, expected: &str) {
    let eof = match format {
        Text => "",
        OpenMetrics => "# EOF\n",
    };
    let page = format!("first 1\n{line}\nlast 2\n{eof}");
    let (samples, faults) = read(page, format);
    assert_eq!(samples, ["first [] 1", "last [] 2"], "{line}");
    assert_eq!(faults, [format!("line 2, {expected}")], "{line}");
}

#[test]
fn a_bad_line_costs_itself_and_is_reported_with_its_place() {
    for (line, expected) in [
        (
            "1a 2",
            r#"column 1: expected a metric name, # or a blank line, got "1a""#,
        ),
        (
            "a",
            "column 2: expected a decimal number, NaN, +Inf or -Inf, got the end of the line",
        ),
        (
            "a b",
            r#"column 3: expected a decimal number, NaN, +Inf or -Inf, got "b""#,
        ),
        (
            "é 1",
            r#"column 1: expected a metric name, # or a blank line, got "é""#,
        ),
        (
            "a{é=\"\"} 1",
            "column 3: expected a label name or }, got \"é=\\\"\\\"}\"",
        ),
        (
            "a{\"é\"=\"\",1=\"\"} 1",
            "column 10: expected a label name or }, got \"1=\\\"\\\"}\"",
        ),
        ("a{b} 1", "column 4: expected =, got \"}\""),
        (
            "a{b=c} 1",
            "column 5: expected a label value in quotes, got \"c}\"",
        ),
        (
            "a{b=\"c} 1",
            "column 10: expected a closing quote, got the end of the line",
        ),
        (
            "a{b=\"c\" d=\"e\"} 1",
            "column 9: expected , or }, got \"d=\\\"e\\\"}\"",
        ),
        (
            "a{b=\"c\",,} 1",
            "column 9: expected a label name or }, got \",}\"",
        ),
        ("a{,} 1", "column 3: expected a label name or }, got \",}\""),
        (
            "a{b=\"c\",d=\"\",b=\"e\"} 1",
            "column 14: expected a label name that this sample has not had, got \"b=\\\"e\\\"}\"",
        ),
        (
            "a{__name__=\"b\"} 1",
            "column 3: expected a label name that is not reserved, got \"__name__=\\\"b\\\"}\"",
        ),
        (
            "{b=\"c\"} 1",
            "column 7: expected a metric name in quotes, got \"}\"",
        ),
        (
            "{\"\"} 1",
            "column 2: expected a name of at least one character, got \"\\\"\\\"}\"",
        ),
        (
            "a{\"b\"} 1",
            "column 2: expected one metric name, got \"{\\\"b\\\"}\"",
        ),
        ("{\"a\",\"b\"} 1", "column 9: expected =, got \"}\""),
        (
            "a 1 2 3",
            "column 7: expected the end of the line, got \"3\"",
        ),
        (
            "a 1 1.5",
            "column 5: expected a timestamp in whole milliseconds, got \"1.5\"",
        ),
        (
            "a 1 # {b=\"c\"} 1",
            "column 5: expected a timestamp in whole milliseconds, got \"#\"",
        ),
        (
            "a 1e999",
            "column 3: expected a number that a double can hold, got \"1e999\"",
        ),
        (
            "# TYPE a thing",
            "column 10: expected counter, gauge, histogram, summary or untyped, got \"thing\"",
        ),
        (
            "# TYPE a gauge x",
            "column 16: expected the end of the line, got \"x\"",
        ),
        (
            "# TYPE first gauge",
            "column 1: expected the type before the samples of a family, got it behind them",
        ),
        (
            "# HELP a\\b",
            "column 9: expected a blank behind the metric name, got \"\\\\b\"",
        ),
        ("# HELP 7 x", "column 8: expected a metric name, got \"7\""),
        (
            "# HELP a \\q",
            "column 10: expected the escape \\\\, \\\" or \\n, got \"\\\\q\"",
        ),
        (
            "first 7",
            "column 1: expected a series that the page has not had, got the one of line 1 again",
        ),
        (
            "\0",
            "column 1: expected a metric name, # or a blank line, got \"\\0\"",
        ),
    ] {
        costs_itself(line, Text, expected);
    }
}

#[test]
fn a_bad_line_of_openmetrics_costs_itself_and_is_reported_with_its_place() {
    for (line, expected) in [
        (
            "# a comment",
            "column 3: expected HELP, TYPE, UNIT or EOF, got \"a\"",
        ),
        (
            "# TYPE a untyped",
            "column 10: expected counter, gauge, histogram, gaugehistogram, summary, info, stateset or unknown, got \"untyped\"",
        ),
        (
            "# UNIT a seconds",
            "column 10: expected the unit that the name of the family ends in, got \"seconds\"",
        ),
        (
            "# UNIT aseconds seconds",
            "column 17: expected the unit that the name of the family ends in, got \"seconds\"",
        ),
        (
            "a-1",
            "column 2: expected a blank or { behind the metric name, got \"-1\"",
        ),
        (
            "a 1 x",
            "column 5: expected a timestamp in seconds, got \"x\"",
        ),
        (
            "a 1 # x",
            "column 7: expected the labels of an exemplar in braces, got \"x\"",
        ),
        (
            "a 1 # {\"b\"} 1",
            "column 7: expected an exemplar, which has no metric name, got \"{\\\"b\\\"}\"",
        ),
        (
            "a 1 # {b=\"c\",b=\"c\"} 1",
            "column 14: expected a label name that this sample has not had, got \"b=\\\"c\\\"}\"",
        ),
        (
            "a 1 # {b=\"c\"}",
            "column 14: expected a decimal number, NaN, +Inf or -Inf, got the end of the line",
        ),
        (
            "first 7 5",
            "column 1: expected a series that the page has not had, got the one of line 1 again",
        ),
    ] {
        costs_itself(line, OpenMetrics, expected);
    }
}

#[test]
fn bytes_that_are_not_utf8_are_found() {
    let (samples, faults) = read(
        b"a{b=\"\xc3\xa9\xff\"} 1\n# HELP a \xfe\n# \xfe\n{\"\xfd\"} 1\na 1",
        Text,
    );
    assert_eq!(samples, ["a [] 1"]);
    assert_eq!(
        faults,
        [
            "line 1, column 7: expected UTF-8, got \"\u{fffd}\\\"}\"",
            "line 2, column 10: expected UTF-8, got \"\u{fffd}\"",
            "line 4, column 3: expected UTF-8, got \"\u{fffd}\\\"}\"",
        ]
    );
}

#[test]
fn a_page_of_openmetrics_ends_with_eof_and_nothing_behind() {
    assert_eq!(
        read("a 1\n", OpenMetrics).1,
        ["line 2, column 1: expected # EOF, got the end of the page, which may have been cut"]
    );
    assert_eq!(read("", OpenMetrics).1.len(), 1);
    let (samples, faults) = read("a 1\n# EOF\n\nb 1\n# EOF\n", OpenMetrics);
    assert_eq!(samples, ["a [] 1"]);
    assert_eq!(
        faults,
        [
            "line 4, column 1: expected nothing behind # EOF, got \"b\"",
            "line 5, column 1: expected nothing behind # EOF, got \"#\"",
        ]
    );
}

#[test]
fn metadata_may_say_the_same_again_but_not_otherwise() {
    let page = "# TYPE a gauge\n# HELP a x\na{b=\"1\"} 1\n# TYPE a gauge\n# HELP a x\n# HELP a\na{b=\"2\"} 2\n\
                # TYPE a counter\n# HELP a y\na{b=\"3\"} 3\n";
    let (samples, faults) = read(page, Text);
    assert_eq!(samples.len(), 3);
    assert_eq!(
        faults,
        [
            "line 8, column 1: expected one type for a family, got a second one",
            "line 9, column 1: expected one help for a family, got a second one",
        ]
    );
}

#[test]
fn a_series_is_the_same_in_any_order_of_its_labels_and_with_empty_ones() {
    let page = "a{b=\"1\",c=\"2\"} 1\na{c=\"2\",b=\"1\"} 1\n{d=\"\",\"a\",c=\"2\",b=\"1\"} 1\na{b=\"1\"} 1\na{b=\"1\",c=\"\"} 1";
    let (samples, faults) = read(page, Text);
    assert_eq!(samples.len(), 2);
    let lines: Vec<_> = faults.iter().map(|fault| fault.split(',').next()).collect();
    assert_eq!(lines, [Some("line 2"), Some("line 3"), Some("line 5")]);
}

#[test]
fn a_series_of_openmetrics_may_come_again_at_a_later_time() {
    let (samples, faults) = read("a 1 1\na 2 2\na 3 2\na 4\n# EOF", OpenMetrics);
    assert_eq!(samples, ["a [] 1 @1000", "a [] 2 @2000"]);
    assert!(
        faults[0].ends_with("got the one of line 2 again"),
        "{faults:?}"
    );
    assert_eq!(faults.len(), 2);
    assert_eq!(read("a 1 1\na 2 2", Text).1.len(), 1);
}

#[test]
fn a_long_token_is_cut_in_the_report() {
    let (_, faults) = read(format!("a {}", "é".repeat(1000)), Text);
    let shown = format!("{:?}...", "é".repeat(40));
    assert!(faults[0].ends_with(&shown), "{faults:?}");
}
