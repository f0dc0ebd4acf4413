//! Labels as they stand on the page (prometheus.io "Text-based format", version 0.0.4).

/// Appends a label, after a comma if something stands there.
pub(super) fn put_label(text: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if !text.is_empty() {
        text.push(b',');
    }
    text.extend_from_slice(name);
    text.extend_from_slice(b"=\"");
    for &byte in value {
        match byte {
            b'\\' => text.extend_from_slice(b"\\\\"),
            b'"' => text.extend_from_slice(b"\\\""),
            b'\n' => text.extend_from_slice(b"\\n"),
            other => text.push(other),
        }
    }
    text.push(b'"');
}

/// What every family of an agent says of itself: agents do not tell, and would not agree
/// (coder/coder coderd/prometheusmetrics/aggregator.go).
const HELP: &[u8] =
    b"Metrics are forwarded from workspace agents connected to this instance of coderd.";

/// Appends the lines that a family begins with.
pub(super) fn put_header(page: &mut Vec<u8>, name: &[u8], kind: &[u8]) {
    let lines: [&[u8]; 8] = [b"# HELP ", name, b" ", HELP, b"\n# TYPE ", name, b" ", kind];
    for part in lines {
        page.extend_from_slice(part);
    }
    page.push(b'\n');
}

/// Appends the line of a row.
#[inline]
pub(super) fn put_row(page: &mut Vec<u8>, name: &[u8], group: &[u8], labels: &[u8], value: f64) {
    page.extend_from_slice(name);
    if !(group.is_empty() && labels.is_empty()) {
        page.push(b'{');
        page.extend_from_slice(group);
        if !(group.is_empty() || labels.is_empty()) {
            page.push(b',');
        }
        page.extend_from_slice(labels);
        page.push(b'}');
    }
    page.push(b' ');
    put_value(page, value);
    page.push(b'\n');
}

fn put_value(page: &mut Vec<u8>, value: f64) {
    // Up to here every whole number is one.
    const WHOLE: f64 = (1_u64 << 53) as f64;
    const MINUS_ZERO: u64 = (-0.0_f64).to_bits();
    if value.is_nan() {
        page.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        page.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if value.abs() < WHOLE && value == value.trunc() && value.to_bits() != MINUS_ZERO {
        page.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
    } else {
        page.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_value_is_escaped() {
        let mut text = Vec::new();
        put_label(&mut text, b"a", b"\\ \" \n \xc3\xa9");
        put_label(&mut text, b"b", b"");
        assert_eq!(
            text,
            br#"a="\\ \" \n "#.iter().chain("é\",b=\"\"".as_bytes()).copied().collect::<Vec<_>>()
        );
    }
}
