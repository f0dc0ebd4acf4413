//! The payload of an InvokeMetadata packet: entries of a key and a value (storj/drpc
//! drpcmetadata/serialize.go). Nothing here wants to know them, only whether they are well formed.

use super::frame::take_varint;

const ENTRY: u8 = 0x0a;
const KEY: u8 = 0x0a;
const VALUE: u8 = 0x12;

/// Whether the reference would read the payload.
pub fn is_well_formed(mut payload: &[u8]) -> bool {
    while !payload.is_empty() {
        let Some((ENTRY, mut entry, rest)) = field(payload) else {
            return false;
        };
        payload = rest;
        while !entry.is_empty() {
            let Some((KEY | VALUE, _, rest)) = field(entry) else {
                return false;
            };
            entry = rest;
        }
    }
    true
}

/// The tag of the first field, its value, and what follows.
fn field(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (length, rest) = take_varint(rest).ok()??;
    let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((tag, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_entries_are_well_formed() {
        let traceparent = b"\x0a\x14\x0a\x0btraceparent\x12\x0500-01";
        assert!(is_well_formed(b""));
        assert!(is_well_formed(traceparent));
        assert!(is_well_formed(
            &[traceparent.as_slice(), b"\x0a\x00"].concat()
        ));
        for end in 1..traceparent.len() {
            assert!(!is_well_formed(&traceparent[..end]), "{end} bytes");
        }
        for broken in [
            b"\x0a\xff".as_slice(),
            b"\x12\x00",
            b"\x0a\x02\x1a\x00",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert!(!is_well_formed(broken), "{broken:x?}");
        }
    }
}
