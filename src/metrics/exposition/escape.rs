//! What would end a text on a page.

use std::fmt::{self, Display, Formatter};

/// Help texts and label values alike: backslash, line feed and double quote are escaped.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some((plain, special, after)) = split_at_special(rest) {
            f.write_str(plain)?;
            f.write_str(special)?;
            rest = after;
        }
        f.write_str(rest)
    }
}

/// What stands before the first character that needs escaping, that character escaped, and what follows.
fn split_at_special(text: &str) -> Option<(&str, &'static str, &str)> {
    let at = text.find(['\\', '\n', '"'])?;
    let (plain, rest) = text.split_at_checked(at)?;
    let mut rest = rest.chars();
    let escaped = match rest.next()? {
        '\n' => "\\n",
        '"' => "\\\"",
        _ => "\\\\",
    };
    Some((plain, escaped, rest.as_str()))
}
