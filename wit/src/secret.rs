//! The one type that holds a secret's bytes.
//!
//! It cannot be cloned, compared, printed or serialised by accident, and its memory is wiped when it
//! is dropped. Whoever needs the bytes says so with [`Secret::expose`], which is easy to search for.

use std::fmt;

use zeroize::Zeroizing;

/// The bytes of a secret.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over; the caller's buffer becomes this secret's.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A copy, where two owners cannot be avoided. Named so that each use can be found and justified.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    /// The bytes themselves.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The text, if the bytes are UTF-8.
    #[must_use]
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether both hold the same bytes. Takes the same time wherever they differ.
    #[must_use]
    pub fn same_as(&self, other: &[u8]) -> bool {
        let differences = self
            .0
            .iter()
            .zip(other)
            .fold(0u8, |seen, (a, b)| seen | (a ^ b));
        self.len() == other.len() && std::hint::black_box(differences) == 0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text.into_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_shows_neither_value_nor_length() {
        let secret = Secret::from("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), "Secret(redacted)");
        assert_eq!(
            format!("{:#?}", Some(secret)),
            "Some(\n    Secret(redacted),\n)"
        );
    }

    #[test]
    fn same_as_compares_every_byte_and_the_length() {
        let secret = Secret::new(b"abc".to_vec());
        assert!(secret.same_as(b"abc"));
        for other in [&b"abd"[..], b"ab", b"abcd", b""] {
            assert!(!secret.same_as(other));
        }
        assert!(Secret::new(Vec::new()).same_as(b""));
    }
}
