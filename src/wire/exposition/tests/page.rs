use super::super::{Entry, Format, Kind, MAX_FAMILIES, MAX_LABELS, MAX_LINE, Reader};
use super::{read, sound};
use Format::{OpenMetrics, Text};

#[test]
fn labels_hold_anything_and_are_sorted() {
    assert_eq!(
        sound(r##"a{z="}",b="# {,=\"\\\n","é"="x"} 1"##, Text),
        [r##"a [b="# {,=\"\\\n" z="}" é="x"] 1"##]
    );
    assert_eq!(
        sound("a{} 1\nb{c=\"\",} 2", Text),
        ["a [] 1", r#"b [c=""] 2"#]
    );
    assert_eq!(sound("a{b=\"\0\r\t\"} 1", Text), ["a [b=\"\\0\\r\\t\"] 1"]);
}

#[test]
fn a_metric_name_may_stand_in_quotes() {
    for page in [
        r#"{"my.name",b="c"} 1"#,
        r#"{b="c","my.name"} 1"#,
        r#" { "my.name" , b = "c" , } 1"#,
    ] {
        assert_eq!(sound(page, Text), [r#"my.name [b="c"] 1"#]);
    }
    let page = "# TYPE \"a b\" counter\n# HELP \"a b\" Help.\n{\"a b\"} 1\n";
    let mut reader = Reader::new(page.as_bytes(), Text);
    while reader.next().is_some() {}
    let [family] = reader.families() else {
        panic!("{:?}", reader.families());
    };
    assert_eq!(
        (&*family.name, family.kind, &*family.help),
        ("a b", Kind::Counter, "Help.")
    );
}

#[test]
fn an_unknown_escape_stays_in_openmetrics() {
    let page = r#"a{b="\x\d\n"} 1"#;
    assert_eq!(
        sound(format!("{page}\n# EOF"), OpenMetrics),
        [r#"a [b="\\x\\d\n"] 1"#]
    );
    assert_eq!(
        read(page, Text).1,
        [r#"line 1, column 6: expected the escape \\, \" or \n, got "\\x\\d\\n\"}""#]
    );
}

#[test]
fn layout_does_not_matter() {
    let page = "\u{feff}\r\n \t# TYPE a   counter \r\n\t a\t{ b =\t\"c\" , } \t1  5\t\r\n\n#TYPE d gauge\nd{}7\nd{e=\"f\"}\t8";
    assert_eq!(
        sound(page, Text),
        [r#"a [b="c"] 1 @5"#, "d [] 7", r#"d [e="f"] 8"#]
    );
    assert_eq!(sound("", Text), [""; 0]);
    assert_eq!(sound("\n\n", Text), [""; 0]);
    assert_eq!(sound("#  EOF\t\r\n", OpenMetrics), [""; 0]);
}

#[test]
fn a_sign_ends_a_name_in_the_text_format() {
    // Both parsers of Prometheus read it so: a name with a dash is another metric.
    assert_eq!(sound("http-2 5", Text), ["http [] -2 @5"]);
}

#[test]
fn exemplars_and_times_of_openmetrics_are_read() {
    let page = "# TYPE a counter\n\
                a_total{b=\"c\"} 1 1.5 # {trace_id=\"x\"} 0.5 1.25\n\
                a_total{b=\"d\"} 2 # {} 3\n\
                # EOF\n";
    assert_eq!(
        sound(page, OpenMetrics),
        [
            r#"a_total [b="c"] 1 @1500 # [trace_id="x"] 0.5 @1250"#,
            r#"a_total [b="d"] 2 # [] 3"#,
        ]
    );
}

/// The family and its type of each sample.
fn families(page: &str, format: Format) -> Vec<(String, String, Kind)> {
    let mut reader = Reader::new(page.as_bytes(), format);
    let mut families = Vec::new();
    while let Some(line) = reader.next() {
        if let Entry::Sample(sample) = line.unwrap() {
            let family = sample.family;
            families.push((sample.name.to_owned(), family.name.to_string(), family.kind));
        }
    }
    families
}

#[track_caller]
fn belong(page: &str, format: Format, expected: &[(&str, &str, Kind)]) {
    let owned = |(name, family, kind): &(&str, &str, Kind)| {
        ((*name).to_owned(), (*family).to_owned(), *kind)
    };
    let expected: Vec<_> = expected.iter().map(owned).collect();
    assert_eq!(families(page, format), expected);
}

#[test]
fn a_sample_belongs_to_the_family_that_its_suffix_leads_to() {
    belong(
        "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nother 1\nh_sum 1\nh_count 1\nh_total 1\n\
         # TYPE s summary\ns{quantile=\"1\"} 1\ns_sum 1\ns_count 1\ns_bucket 1\n\
         # TYPE c counter\nc 1\nc_total 1\n",
        Text,
        &[
            ("h_bucket", "h", Kind::Histogram),
            ("other", "other", Kind::Unknown),
            ("h_sum", "h", Kind::Histogram),
            ("h_count", "h", Kind::Histogram),
            ("h_total", "h_total", Kind::Unknown),
            ("s", "s", Kind::Summary),
            ("s_sum", "s", Kind::Summary),
            ("s_count", "s", Kind::Summary),
            ("s_bucket", "s_bucket", Kind::Unknown),
            ("c", "c", Kind::Counter),
            ("c_total", "c_total", Kind::Unknown),
        ],
    );
    belong(
        "# TYPE c counter\nc_total 1\nc_created 1\n# TYPE i info\ni_info 1\n\
         # TYPE s stateset\ns{s=\"on\"} 1\n# TYPE g gaugehistogram\ng_bucket{le=\"1\"} 1\ng_gsum 1\ng_gcount 1\n\
         # TYPE c_x gauge\n# UNIT c_x x\nc_x 1\nu_total 1\n# EOF",
        OpenMetrics,
        &[
            ("c_total", "c", Kind::Counter),
            ("c_created", "c", Kind::Counter),
            ("i_info", "i", Kind::Info),
            ("s", "s", Kind::StateSet),
            ("g_bucket", "g", Kind::GaugeHistogram),
            ("g_gsum", "g", Kind::GaugeHistogram),
            ("g_gcount", "g", Kind::GaugeHistogram),
            ("c_x", "c_x", Kind::Gauge),
            ("u_total", "u_total", Kind::Unknown),
        ],
    );
}

#[test]
fn a_gauge_and_a_counter_of_one_stem_are_two_families_of_openmetrics() {
    for second in [
        "# HELP x All.\n# TYPE x counter\n",
        "# TYPE x counter\n# HELP x All.\n",
        "# HELP x Now.\n# TYPE x counter\n",
    ] {
        let page =
            format!("# HELP x Now.\n# TYPE x gauge\nx 1\n{second}x_total 2\nx_created 3\n# EOF");
        belong(
            &page,
            OpenMetrics,
            &[
                ("x", "x", Kind::Gauge),
                ("x_total", "x", Kind::Counter),
                ("x_created", "x", Kind::Counter),
            ],
        );
    }
    // Other types share nothing, nor does a page of the text format call a counter so.
    let (_, faults) = read("# TYPE x gauge\nx 1\n# TYPE x summary\n# EOF", OpenMetrics);
    assert_eq!(faults.len(), 1);
    let (_, faults) = read("# TYPE x gauge\nx 1\n# TYPE x counter\n", Text);
    assert_eq!(faults.len(), 1);
}

#[test]
fn the_very_name_goes_before_a_suffix() {
    belong(
        "# TYPE h histogram\n# TYPE h_count gauge\nh_count 1\nh_sum 1\n",
        Text,
        &[
            ("h_count", "h_count", Kind::Gauge),
            ("h_sum", "h", Kind::Histogram),
        ],
    );
}

#[test]
fn every_bound_costs_the_line_that_breaks_it() {
    let long = format!("a{{b=\"{}\"}} 1\na 2", "x".repeat(MAX_LINE));
    let (samples, faults) = read(long, Text);
    assert_eq!(samples, ["a [] 2"]);
    let bytes = MAX_LINE + 9;
    assert_eq!(
        faults,
        [format!(
            "line 1, column 1: expected a line of at most 65536 bytes, got {bytes} bytes"
        )]
    );

    let labels = |count: usize| -> String { (0..count).map(|n| format!("l{n}=\"\",")).collect() };
    assert_eq!(
        sound(format!("a{{{}}} 1", labels(MAX_LABELS)), Text).len(),
        1
    );
    let (_, faults) = read(format!("a{{{}}} 1", labels(MAX_LABELS + 1)), Text);
    assert!(
        faults[0].contains("expected at most 128 labels"),
        "{faults:?}"
    );

    let page: String = (0..MAX_FAMILIES + 2).map(|n| format!("a{n} 1\n")).collect();
    let (samples, faults) = read(page + "a0{b=\"c\"} 1\n", Text);
    assert_eq!(samples.len(), MAX_FAMILIES + 1);
    assert_eq!(faults.len(), 2);
    assert!(
        faults[0].contains("expected at most 20000 families"),
        "{faults:?}"
    );
}
