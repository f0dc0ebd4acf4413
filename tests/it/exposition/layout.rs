//! What says the same in another layout.

use fastrand::Rng;

/// The same page in another layout: blanks and tabs around what may have them, ends of lines as on other systems,
/// blank lines, a byte order mark, no end of the last line.
pub fn dressed(lines: &[Vec<u8>], random: &mut Rng) -> Vec<u8> {
    let mut page = Vec::new();
    if random.bool() {
        page.extend(b"\xef\xbb\xbf");
    }
    for line in lines {
        while random.u8(..4) == 0 {
            page.extend(blanks(random));
            page.push(b'\n');
        }
        page.extend(blanks(random));
        let (mut quoted, mut escaped) = (false, false);
        let text = help_at(line).unwrap_or(line.len());
        for (at, byte) in line.iter().enumerate() {
            let around = !quoted && at < text && b"{},=# ".contains(byte);
            if around {
                page.extend(blanks(random));
            }
            page.push(*byte);
            if around {
                page.extend(blanks(random));
            }
            quoted ^= *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
        }
        if text == line.len() {
            page.extend(blanks(random));
        }
        page.extend(random.choice([b"\n".as_slice(), b"\r\n"]).unwrap());
    }
    if random.bool() {
        page.truncate(page.trim_ascii_end().len());
    }
    page
}

fn blanks(random: &mut Rng) -> &'static [u8] {
    let blanks: [&[u8]; 6] = [b"", b"", b"", b" ", b"\t", b" \t "];
    random.choice(blanks).unwrap()
}

/// A line in the one layout that OpenMetrics knows.
pub fn tidy(line: &[u8]) -> Vec<u8> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut out: Vec<u8> = Vec::new();
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in line.iter().enumerate() {
        if !quoted && (out.is_empty() || matches!(byte, b' ' | b'\t')) {
            if matches!(byte, b' ' | b'\t') {
                let before = out.last();
                let needless = before.is_none_or(|before| b" {,=".contains(before));
                if !needless {
                    out.push(b' ');
                    if help_at(&out) == Some(out.len()) {
                        let text = &line[at..];
                        let blanks = text.iter().take_while(|byte| b" \t".contains(byte)).count();
                        return [&out, &text[blanks..]].concat();
                    }
                }
                continue;
            }
        } else if !quoted && b"{},=".contains(byte) && out.last() == Some(&b' ') {
            let exemplar = *byte == b'{' && out.ends_with(b"# ");
            if !exemplar {
                out.pop();
            }
        }
        if out == b"#" && *byte != b' ' || !quoted && out.last() == Some(&b'}') && *byte != b' ' {
            out.push(b' ');
        }
        out.push(*byte);
        quoted ^= *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
    }
    if !quoted && out.last() == Some(&b' ') {
        out.pop();
    }
    let without_text = out.iter().filter(|byte| **byte == b' ').count() == 2;
    if without_text && (out.starts_with(b"# HELP") || out.starts_with(b"# UNIT")) {
        out.push(b' ');
    }
    out
}

/// Where the text of a line of help begins.
fn help_at(line: &[u8]) -> Option<usize> {
    let name = b"# HELP ".len();
    let blank = line
        .strip_prefix(b"# HELP ")?
        .iter()
        .position(|byte| *byte == b' ')?;
    Some(name + blank + 1)
}
