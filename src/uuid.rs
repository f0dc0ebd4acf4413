//! UUIDs in their text form, `6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d` (RFC 9562).

use std::fmt::{self, Display, Formatter};

/// Reads one; digits may be of either case.
pub(crate) fn parse(text: &str) -> Option<[u8; 16]> {
    let well_placed = text.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    if text.len() != 36 || !well_placed {
        return None;
    }
    let digits = text.chars().filter_map(|digit| digit.to_digit(16));
    let number = digits.fold(0, |number: u128, digit| number << 4 | u128::from(digit));
    Some(number.to_be_bytes())
}

/// Writes one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text(pub(crate) [u8; 16]);

impl Display for Text {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if [4, 6, 8, 10].contains(&at) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_again(id: [u8; 16]) {
            let text = Text(id).to_string();
            prop_assert_eq!(parse(&text), Some(id));
            prop_assert_eq!(parse(&text.to_uppercase()), Some(id));
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let id = "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d";
        assert_eq!(parse(id).map(|id| id[0]), Some(0x6f));
        for bad in [
            "",
            "6f1f9f3a2a5e4c9b9a530d6f3b1c2e4d",
            "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4g",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse(&format!("{{{id}}}")), None);
        assert_eq!(parse(&id.replace("-9a53-", "9a53--")), None);
    }
}
