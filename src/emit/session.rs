//! The name under which a run of a producer numbers its logs.

use std::fmt;
use std::str::FromStr;

/// Characters of a UUID in text form.
const LEN: usize = 36;

/// Where the hyphens of a UUID stand.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// A session id: a UUID in text form, as the control plane stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionId(String);

impl SessionId {
    /// A random UUID (version 4), drawn from `random`.
    pub fn random(random: &mut fastrand::Rng) -> Self {
        const VERSION: u128 = 0x4 << 76;
        const VARIANT: u128 = 0b10 << 62;
        let bits = random.u128(..) & !(0xf << 76) & !(0b11 << 62);
        Self::from_bits(bits | VERSION | VARIANT)
    }

    /// The UUID of these bits, most significant first.
    pub fn from_bits(bits: u128) -> Self {
        let mut text = format!("{bits:032x}");
        for at in HYPHENS {
            text.insert(at, '-');
        }
        Self(text)
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a UUID like 6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d")]
pub struct NotAUuid;

impl FromStr for SessionId {
    type Err = NotAUuid;

    fn from_str(text: &str) -> Result<Self, NotAUuid> {
        let well_formed = text.len() == LEN
            && text.bytes().enumerate().all(|(at, byte)| {
                if HYPHENS.contains(&at) {
                    byte == b'-'
                } else {
                    byte.is_ascii_hexdigit()
                }
            });
        if well_formed {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(NotAUuid)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_are_version_4_uuids_and_differ() {
        let mut random = fastrand::Rng::with_seed(1);
        let ids: Vec<_> = (0..100).map(|_| SessionId::random(&mut random)).collect();
        for id in &ids {
            assert_eq!(id.as_str().parse().as_ref(), Ok(id));
            let bytes = id.as_str().as_bytes();
            assert_eq!(bytes[14], b'4', "{id}");
            assert!(b"89ab".contains(&bytes[19]), "{id}");
        }
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn only_uuids_are_taken() {
        let id: SessionId = "6F1F9F3A-2A5E-4C9B-9A53-0D6F3B1C2E4D".parse().unwrap();
        assert_eq!(id.as_str(), "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d");
        for text in [
            "",
            "6f1f9f3a2a5e4c9b9a530d6f3b1c2e4d",
            "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4",
            "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4dd",
            "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4g",
            "6f1f9f3a+2a5e-4c9b-9a53-0d6f3b1c2e4d",
            "ääääääääääääääääää",
        ] {
            assert_eq!(text.parse::<SessionId>(), Err(NotAUuid), "{text:?}");
        }
    }
}
