//! Lists of headers as the ABI passes them: a count, the lengths, then names and values with a zero
//! behind each. All numbers are 32 bits, little-endian.

use vaultref_contract::Secret;

use crate::HeaderPair;

/// Writes a list. One of its values may be a token, so the bytes are wiped after use.
#[must_use]
pub fn encode_pairs(pairs: &[(&str, &[u8])]) -> Secret {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    let size = pairs.iter().fold(4_usize, |size, (name, value)| {
        size.saturating_add(name.len())
            .saturating_add(value.len())
            .saturating_add(10)
    });
    let mut bytes = Vec::with_capacity(size);
    bytes.extend(u32::try_from(pairs.len()).unwrap_or(u32::MAX).to_le_bytes());
    for (name, value) in pairs {
        bytes.extend(length(name.as_bytes()));
        bytes.extend(length(value));
    }
    for (name, value) in pairs {
        for part in [name.as_bytes(), value] {
            bytes.extend_from_slice(part);
            bytes.push(0);
        }
    }
    Secret::new(bytes)
}

/// Reads a list; none if it ends before it should.
#[must_use]
pub fn decode_pairs(bytes: &[u8]) -> Option<Vec<HeaderPair>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let mut rest = bytes;
    let count = take_number(&mut rest)?;
    // Each pair needs ten bytes at least, so a wrong count reserves nothing.
    if count > rest.len() / 10 {
        return None;
    }
    let mut lengths = rest.get(..count.checked_mul(8)?)?;
    rest = rest.get(lengths.len()..)?;
    let mut pairs = Vec::with_capacity(count);
    while !lengths.is_empty() {
        let name_length = take_number(&mut lengths)?;
        let value_length = take_number(&mut lengths)?;
        let name = take_part(&mut rest, name_length)?;
        pairs.push((name, take_part(&mut rest, value_length)?));
    }
    Some(pairs)
}

fn take_number(rest: &mut &[u8]) -> Option<usize> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    usize::try_from(u32::from_le_bytes(*number)).ok()
}

fn take_part(rest: &mut &[u8], length: usize) -> Option<Vec<u8>> {
    let part = rest.get(..length)?;
    *rest = rest.get(length.checked_add(1)?..)?;
    Some(part.to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{decode_pairs, encode_pairs};

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            pairs in prop::collection::vec(("[ -~]{0,8}", prop::collection::vec(any::<u8>(), 0..9)), 0..6),
        ) {
            let borrowed: Vec<_> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_slice())).collect();
            let read = decode_pairs(encode_pairs(&borrowed).expose()).expect("own bytes");
            let owned: Vec<_> = pairs.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.clone())).collect();
            prop_assert_eq!(read, owned);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode_pairs(&bytes);
        }
    }

    #[test]
    fn a_list_that_is_cut_off_is_none() {
        let whole = encode_pairs(&[("a", b"1"), ("bc", b"")]);
        for end in 1..whole.len() {
            assert_eq!(decode_pairs(&whole.expose()[..end]), None, "{end}");
        }
        assert_eq!(decode_pairs(b""), Some(Vec::new()));
    }
}
