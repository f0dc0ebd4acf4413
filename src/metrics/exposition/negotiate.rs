//! What the `Accept` and `Accept-Encoding` headers of a scrape ask for (RFC 9110, section 12.5).

use super::Format;

/// One element of such a header.
struct Choice<'a> {
    name: &'a str,
    version: Option<&'a str>,
    /// 0 to 1; 0 means "not this", and stands for a weight that cannot be read.
    weight: f32,
}

pub(super) fn format<'a>(accept: impl IntoIterator<Item = &'a str>) -> Format {
    let mut best = (0.0, Format::Text);
    for choice in accept.into_iter().flat_map(choices) {
        // Of equal weights the one that is listed first wins.
        if let Some(format) = choice.format()
            && choice.weight > best.0
        {
            best = (choice.weight, format);
        }
    }
    best.1
}

/// Whether the values of the `Accept-Encoding` header prefer gzip to the plain page.
pub fn accepts_gzip<'a>(accept_encoding: impl IntoIterator<Item = &'a str>) -> bool {
    let (mut gzip, mut plain, mut other) = (None, None, 0.0);
    for choice in accept_encoding.into_iter().flat_map(choices) {
        match choice.name.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => gzip = Some(choice.weight),
            "identity" => plain = Some(choice.weight),
            "*" => other = choice.weight,
            _ => {}
        }
    }
    let gzip = gzip.unwrap_or(other);
    gzip > 0.0 && gzip >= plain.unwrap_or(0.0)
}

/// Whether the values of the `Accept` header name HTML, as those of a browser do.
pub fn accepts_html<'a>(accept: impl IntoIterator<Item = &'a str>) -> bool {
    accept
        .into_iter()
        .flat_map(choices)
        .any(|choice| choice.name.eq_ignore_ascii_case("text/html") && choice.weight > 0.0)
}

fn choices(header: &str) -> impl Iterator<Item = Choice<'_>> {
    header.split(',').map(|element| {
        let mut parts = element.split(';').map(str::trim);
        let mut choice = Choice {
            name: parts.next().unwrap_or_default(),
            version: None,
            weight: 1.0,
        };
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            if key.eq_ignore_ascii_case("q") {
                choice.weight = weight(value);
            } else if key.eq_ignore_ascii_case("version") {
                choice.version = Some(value.trim_matches('"'));
            }
        }
        choice
    })
}

fn weight(text: &str) -> f32 {
    match text.parse() {
        Ok(weight) if (0.0..=1.0).contains(&weight) => weight,
        _ => 0.0,
    }
}

impl Choice<'_> {
    /// The format that this element names, if it can be served.
    fn format(&self) -> Option<Format> {
        let is = |name: &str| self.name.eq_ignore_ascii_case(name);
        match self.version {
            None | Some("1.0.0") if is("application/openmetrics-text") => Some(Format::OpenMetrics),
            None | Some("0.0.4") if is("text/plain") => Some(Format::Text),
            _ if is("text/*") || is("*/*") => Some(Format::Text),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_format_that_can_be_served_is_taken() {
        let openmetrics = [
            // Prometheus 3 and 2.
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "application/openmetrics-text",
            "Application/OpenMetrics-Text ; Version=\"1.0.0\" ; Q=1.0",
            "text/plain;q=0.5, application/openmetrics-text",
            "application/openmetrics-text, text/plain",
        ];
        for accept in openmetrics {
            assert_eq!(format([accept]), Format::OpenMetrics, "{accept}");
        }
        let text = [
            "",
            "*/*",
            "text/plain",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "application/openmetrics-text;version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.2, text/plain;q=0.3",
            "text/plain, application/openmetrics-text",
            "application/openmetrics-text;q=2",
            "application/openmetrics-text;q=NaN",
            "application/openmetrics-text;q=",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
            "text/plain;version=1.0.0",
            ",;,=;q=1",
        ];
        for accept in text {
            assert_eq!(format([accept]), Format::Text, "{accept}");
        }
        assert_eq!(
            format(["text/plain;q=0.1", "application/openmetrics-text"]),
            Format::OpenMetrics,
            "a header that is sent in two lines"
        );
        assert_eq!(format([]), Format::Text);
    }

    #[test]
    fn gzip_is_used_when_it_is_not_second_to_the_plain_page() {
        for accept in [
            "gzip",
            "GZIP",
            "x-gzip",
            "*",
            "br, gzip;q=0.1",
            "gzip, identity",
        ] {
            assert!(accepts_gzip([accept]), "{accept}");
        }
        for accept in [
            "",
            "identity",
            "br",
            "gzip;q=0",
            "*, gzip;q=0",
            "gzip;q=0.5, identity",
            "gzipped",
        ] {
            assert!(!accepts_gzip([accept]), "{accept}");
        }
        assert!(!accepts_gzip([]));
    }

    #[test]
    fn only_what_names_html_is_shown_it() {
        assert!(accepts_html(["text/html,application/xhtml+xml,*/*;q=0.8"]));
        assert!(accepts_html(["text/plain", "Text/HTML;q=0.1"]));
        for accept in [
            "",
            "*/*",
            "text/*",
            "text/html;q=0",
            "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        ] {
            assert!(!accepts_html([accept]), "{accept}");
        }
    }
}
