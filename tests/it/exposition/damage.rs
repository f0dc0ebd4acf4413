//! Pages as exporters write them, with one line that is not as it should be. Everything follows from the seed.

use fastrand::Rng;
use weir::wire::exposition::Format;

/// A page in which one line was tampered with.
#[derive(Clone, Debug)]
pub struct Page {
    lines: Vec<Vec<u8>>,
    /// Where in `lines` that one is.
    damaged: usize,
}

impl Page {
    /// The line that was tampered with, for messages.
    pub fn line(&self) -> String {
        self.lines[self.damaged].escape_ascii().to_string()
    }

    /// All lines.
    pub fn whole(&self) -> Vec<u8> {
        joined(&self.lines)
    }

    /// All lines but these, which are counted from 1.
    pub fn without(&self, numbers: &[usize]) -> Vec<Vec<u8>> {
        let lines = self.lines.iter().enumerate();
        let kept = lines.filter(|(index, _)| !numbers.contains(&(index + 1)));
        kept.map(|(_, line)| line.clone()).collect()
    }
}

/// Lines as a page.
pub fn joined(lines: &[Vec<u8>]) -> Vec<u8> {
    let ended = lines.iter().map(|line| [line, b"\n".as_slice()].concat());
    ended.collect::<Vec<_>>().concat()
}

/// Makes pages.
#[derive(Debug)]
pub struct Pages {
    random: Rng,
}

const NAMES: [&str; 8] = [
    "up",
    "a_b",
    "http_requests",
    "x:y:z",
    "_",
    "Q9",
    "node_cpu_seconds",
    "le",
];

/// Lines that chance rarely makes.
pub const RARE: [&str; 11] = [
    " up 5",
    "# \0 x",
    "up 1 1.0015",
    "up 5 -1",
    "up\"x y\" 5",
    "# HELP \"up x",
    "up-1 5",
    "# T\0YPE up gauge",
    "#TYPE up",
    "#TYPE up gauge x",
    "up{a=\"b\" c=\"d\"} 1",
];

const QUOTED: [&str; 6] = [
    "my.metric",
    "h\u{e9}",
    "with \\\"quotes\\\"",
    "a b",
    "back\\\\slash",
    "up",
];

const LABEL_VALUES: [&[u8]; 16] = [
    b"",
    b"a",
    b"0",
    b"/var/lib/x,y",
    b"{}",
    b"}",
    b"# x",
    b"a=\\\"b\\\"",
    b"C:\\\\new\\\\x",
    b"line\\nfeed",
    b"\xc3\xa9\xe2\x82\xac\xf0\x9f\xa6\x80",
    b"tab\there",
    b"nul\0nul",
    b"cr\rcr",
    b" blank ",
    b"\xef\xbf\xbd",
];

/// What a number may look like, and what only looks like one.
const NUMBERS: &str = "0 -0 +0 1 +1 -1 1.5 .5 5. 1e5 1E5 1e+5 1e-5 1.e5 .5e5 00012 1e400 -1e400 1e-400 1e308 \
    1.7976931348623159e308 4.9e-324 2.2250738585072014e-308 9007199254740993 0.1 \
    123456789012345678901234567890 0e999999999999 1e99999999999999999999 NaN nan NAN +NaN -NaN Inf +Inf \
    -Inf inf INF Infinity +infinity -INFINITY infin nano 0x10 0x1p4 0X1P-2 1_000 0x_1p2 1p5 0b11 0o17 \
    1,5 1.2.3 --1 +-1 . + e5 1e 1e+ \u{661} 1f";

const TIMESTAMPS: &str = "0 1395066363000 -1 +1 9223372036854775807 -9223372036854775808 9223372036854775808 1.5 \
    1395066363.123 1e3 NaN +Inf 1_0 0x10 00 -0 1e300 x - 1.0015";

impl Pages {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Rng::with_seed(seed),
        }
    }

    /// A page of some families, in which a line was made up, or changed, or moved.
    pub fn page(&mut self, format: Format) -> Page {
        let mut lines = self.sound(format);
        let eof = usize::from(format == Format::OpenMetrics);
        let end = lines.len() - eof;
        let at = self.random.usize(..end);
        let damaged = match self.random.u8(..10) {
            // A new line before or behind the families, which are to stay in one piece.
            kind @ 0..=4 => {
                let at = if self.random.bool() { 0 } else { end };
                let line = match kind {
                    0..=3 => self.odd_sample(format),
                    _ => self.odd_metadata(&lines),
                };
                lines.insert(at, line);
                at
            }
            // A line again, somewhere.
            5 => {
                let line = lines[self.random.usize(..end)].clone();
                lines.insert(at, line);
                at
            }
            // Bytes of a line.
            _ => {
                for _ in 0..self.random.usize(1..3) {
                    self.damage(&mut lines[at]);
                }
                at
            }
        };
        Page { lines, damaged }
    }

    /// A sound page with this line before everything else.
    pub fn page_with(&mut self, line: &str, format: Format) -> Page {
        let mut lines = self.sound(format);
        lines.insert(0, line.as_bytes().to_vec());
        Page { lines, damaged: 0 }
    }

    /// A page with nothing wrong.
    pub fn sound(&mut self, format: Format) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        for family in 0..self.random.usize(1..4) {
            self.family(&format!("f{family}_"), format, &mut lines);
        }
        if format == Format::OpenMetrics {
            lines.push(b"# EOF".to_vec());
        }
        lines
    }

    fn family(&mut self, prefix: &str, format: Format, lines: &mut Vec<Vec<u8>>) {
        let open_metrics = format == Format::OpenMetrics;
        let name = format!("{prefix}{}", self.random.choice(NAMES).unwrap());
        let kinds: &[&str] = match format {
            Format::Text => &["counter", "gauge", "histogram", "summary", "untyped", ""],
            Format::OpenMetrics => &["counter", "gauge", "histogram", "summary", "unknown"],
        };
        let kind = kinds[self.random.usize(..kinds.len())];
        if self.random.bool() {
            lines.push(format!("# HELP {name} Help \\\\ with \\n \u{e9}.").into_bytes());
        }
        if !kind.is_empty() {
            lines.push(format!("# TYPE {name} {kind}").into_bytes());
        }
        // One for the family: expfmt has room for one in a histogram.
        let timestamp = match self.random.u8(..4) {
            0 if open_metrics => " 1395066363.125",
            0 => " 1395066363000",
            _ => "",
        };
        for series in 0..self.random.usize(1..3) {
            let labels = self.labels(series);
            let mut sample = |suffix: &str, more: &str, value: &str| {
                let mut line = format!("{name}{suffix}").into_bytes();
                let inside = [&labels, more.as_bytes()];
                let inside: Vec<_> = inside.into_iter().filter(|part| !part.is_empty()).collect();
                if !inside.is_empty() {
                    line.push(b'{');
                    line.extend(inside.join(&b','));
                    line.push(b'}');
                }
                line.extend(format!(" {value}{timestamp}").bytes());
                lines.push(line);
            };
            match kind {
                "counter" if open_metrics => sample("_total", "", "17"),
                "histogram" => {
                    sample("_bucket", "le=\"0.5\"", "1");
                    sample("_bucket", "le=\"+Inf\"", "3");
                    sample("_sum", "", "2.25");
                    sample("_count", "", "3");
                }
                "summary" => {
                    sample("", "quantile=\"0.5\"", "0.25");
                    sample("_sum", "", "2.25");
                    sample("_count", "", "3");
                }
                _ => sample("", "", "1.5"),
            }
        }
    }

    fn labels(&mut self, series: usize) -> Vec<u8> {
        let mut labels = format!("series=\"{series}\"").into_bytes();
        for name in ["a", "path"] {
            if self.random.bool() {
                labels.extend(format!(",{name}=\"").bytes());
                labels.extend(self.random.choice(LABEL_VALUES).unwrap());
                labels.push(b'"');
            }
        }
        labels
    }

    /// A sample that tries one thing or another.
    fn odd_sample(&mut self, format: Format) -> Vec<u8> {
        let mut line = Vec::new();
        let mut labels = Vec::new();
        for index in 0..self.random.usize(..4) {
            let mut label: Vec<u8> = match self.random.u8(..8) {
                0 => format!("\"{}\"", self.random.choice(QUOTED).unwrap()).into_bytes(),
                1 => b"__name__".to_vec(),
                2 => b"a".to_vec(),
                3 => b"a:b".to_vec(),
                _ => format!("l{index}").into_bytes(),
            };
            label.extend(b"=\"");
            label.extend(self.random.choice(LABEL_VALUES).unwrap());
            label.push(b'"');
            labels.push(label);
        }
        let brace = match self.random.u8(..4) {
            0 => {
                let name = format!("\"{}\"", self.random.choice(QUOTED).unwrap());
                let at = if self.random.bool() { 0 } else { labels.len() };
                labels.insert(at, name.into_bytes());
                true
            }
            1 => {
                line.extend(self.random.choice(NAMES).unwrap().bytes());
                false
            }
            _ => {
                line.extend(self.random.choice(NAMES).unwrap().bytes());
                true
            }
        };
        if brace {
            line.push(b'{');
            line.extend(labels.join(&b','));
            if self.random.u8(..6) == 0 {
                line.push(b',');
            }
            line.push(b'}');
        }
        line.push(b' ');
        line.extend(self.word(NUMBERS).bytes());
        if self.random.u8(..4) == 0 {
            line.push(b' ');
            line.extend(self.word(TIMESTAMPS).bytes());
        }
        if format == Format::OpenMetrics && self.random.u8(..6) == 0 {
            line.extend(b" # {trace_id=\"ab\"} ");
            line.extend(self.word(NUMBERS).bytes());
            if self.random.bool() {
                line.push(b' ');
                line.extend(self.word(TIMESTAMPS).bytes());
            }
        }
        line
    }

    fn odd_metadata(&mut self, lines: &[Vec<u8>]) -> Vec<u8> {
        let words = [
            "# HELP", "# TYPE", "# UNIT", "#HELP", "# help", "#", "##", "# EOF", "# x",
        ];
        let names = [
            "up",
            "f0_up",
            "\"a.b\"",
            "1x",
            "",
            "a-b",
            "f0_a_b",
            "up_seconds",
        ];
        let texts = [
            "",
            "counter",
            "gauge",
            "Counter",
            "histogram",
            "untyped",
            "unknown",
            "info",
            "x y",
            "\\x",
            "\\\"",
            "seconds",
            "counter ",
        ];
        let typed = lines.iter().find_map(|line| {
            let rest = line.strip_prefix(b"# TYPE ")?;
            rest.split(|byte| *byte == b' ').next()
        });
        let typed = typed.map(|name| String::from_utf8_lossy(name).into_owned());
        let mut line = self.random.choice(words).unwrap().to_owned();
        for part in [
            match (typed.as_deref(), self.random.bool()) {
                (Some(typed), true) => typed,
                _ => self.random.choice(names).unwrap(),
            },
            self.random.choice(texts).unwrap(),
        ] {
            if self.random.u8(..8) > 0 {
                line.push_str(if self.random.u8(..8) > 0 { " " } else { "\t" });
                line.push_str(part);
            }
        }
        line.into_bytes()
    }

    fn word(&mut self, of: &'static str) -> &'static str {
        let words: Vec<_> = of.split_whitespace().collect();
        words[self.random.usize(..words.len())]
    }

    fn damage(&mut self, line: &mut Vec<u8>) {
        let signs = b" \t\"\\{}=,#+-.:_0aen\r\0\xff\xc3\xa9\xef\xbb\xbf";
        let sign = *self.random.choice(signs).unwrap();
        if line.is_empty() {
            return line.push(sign);
        }
        let at = self.random.usize(..line.len());
        match self.random.u8(..6) {
            0 => line[at] = sign,
            1 | 2 => line.insert(at, sign),
            3 => drop(line.remove(at)),
            4 => line.truncate(at),
            _ => {
                let end = self.random.usize(at..=line.len().min(at + 12));
                let again = line[at..end].to_vec();
                line.extend(again);
            }
        }
    }
}
