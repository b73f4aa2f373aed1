//! Bytes with references in them: a variable's value, a file that is to be rendered.
//!
//! References are read as everywhere (`vaultref_contract::Template`). Bytes that are no UTF-8 stand
//! for themselves, and end a reference that they would stand in.

use vaultref_contract::{Part, ReferenceText, Scan, Secret, Template, TextError};

/// Bytes taken apart.
#[derive(Debug)]
pub(super) struct Text(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Literal(Secret),
    /// With the byte at which it starts.
    Reference(usize, ReferenceText),
}

/// A reference that cannot be read.
#[derive(Debug)]
pub(super) struct Misread {
    /// The byte at which it starts.
    pub(super) offset: usize,
    /// What is wrong with it.
    pub(super) error: TextError,
}

impl Text {
    /// Takes bytes apart.
    ///
    /// # Errors
    /// All references that cannot be read.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Vec<Misread>> {
        let mut pieces = Vec::new();
        let mut misread = Vec::new();
        let mut start = 0;
        for chunk in bytes.utf8_chunks() {
            let scan = Scan::new(chunk.valid());
            let mut scanned = scan.map(|scanned| (start + scanned.range.start, scanned.found));
            match Template::parse(chunk.valid()) {
                Ok(template) => {
                    let mut offsets = scanned.map(|(offset, _)| offset);
                    let parts = template.parts().iter();
                    pieces.extend(parts.map(|part| Piece::new(part, &mut offsets)));
                }
                Err(_) => misread.extend(scanned.by_ref().filter_map(|(offset, found)| {
                    found.err().map(|error| Misread { offset, error })
                })),
            }
            if !chunk.invalid().is_empty() {
                pieces.push(Piece::Literal(Secret::new(chunk.invalid().to_vec())));
            }
            start += chunk.valid().len() + chunk.invalid().len();
        }
        if misread.is_empty() {
            Ok(Self(pieces))
        } else {
            Err(misread)
        }
    }

    /// The references in order, each with the byte at which it starts.
    pub(super) fn places(&self) -> impl Iterator<Item = (usize, &ReferenceText)> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Literal(_) => None,
            Piece::Reference(offset, reference) => Some((*offset, reference)),
        })
    }

    /// The references in order; one that stands twice comes twice.
    pub(super) fn references(&self) -> impl Iterator<Item = &ReferenceText> {
        self.places().map(|(_, reference)| reference)
    }

    pub(super) fn has_references(&self) -> bool {
        self.references().next().is_some()
    }

    /// The reference, if there is nothing else.
    pub(super) fn whole(&self) -> Option<&ReferenceText> {
        match &*self.0 {
            [Piece::Reference(_, reference)] => Some(reference),
            _ => None,
        }
    }

    /// The bytes with values in the place of references, if there is one for each.
    pub(super) fn filled<'a>(
        &'a self,
        value: impl Fn(&'a ReferenceText) -> Option<&'a Secret>,
    ) -> Option<Secret> {
        let pieces: Vec<&Secret> = self
            .0
            .iter()
            .map(|piece| match piece {
                Piece::Literal(text) => Some(text),
                Piece::Reference(_, reference) => value(reference),
            })
            .collect::<Option<_>>()?;
        // Room for all of it from the start, so that no growing buffer leaves a copy behind.
        let mut bytes = Vec::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
        for piece in pieces {
            bytes.extend_from_slice(piece.expose());
        }
        Some(Secret::new(bytes))
    }
}

impl Piece {
    /// A part of a template; `offsets` are those of its references.
    fn new(part: &Part, offsets: &mut impl Iterator<Item = usize>) -> Self {
        match part {
            Part::Reference(reference) => {
                Self::Reference(offsets.next().unwrap_or_default(), reference.clone())
            }
            // What stands around a reference may be half of a credential.
            Part::Text(text) => Self::Literal(Secret::from(text.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(bytes: &[u8]) -> Vec<u8> {
        let value = Secret::new(b"\xffv".to_vec());
        let text = Text::parse(bytes).expect("readable");
        let filled = text.filled(|_| Some(&value)).expect("all values");
        filled.expose().to_vec()
    }

    #[test]
    fn bytes_that_are_no_text_survive_on_both_sides() {
        for (bytes, expected) in [
            (&b"\xfe{vault://a/b}\x80\x81"[..], &b"\xfe\xffv\x80\x81"[..]),
            (b"{{vault://a/b}\xf0", b"{vault://a/b}\xf0"),
            (b"{vault://a/b}{vault://a/c}", b"\xffv\xffv"),
            (b"", b""),
            (b"\xff", b"\xff"),
        ] {
            assert_eq!(filled(bytes), expected);
        }
    }

    #[test]
    fn all_that_cannot_be_read_is_named_with_its_byte() {
        let misread = Text::parse(b"\xff{vault://} {vault://a/b} {vault://a/\xff}")
            .expect_err("two that are none");
        let offsets: Vec<_> = misread.iter().map(|misread| misread.offset).collect();
        assert_eq!(offsets, [1, 26]);
    }

    #[test]
    fn nothing_is_filled_while_a_value_is_missing() {
        let text = Text::parse(b"a{vault://a/b}").expect("readable");
        assert!(text.filled(|_| None).is_none() && text.whole().is_none());
        let text = Text::parse(b"{vault://a/b}").expect("readable");
        assert!(text.whole().is_some() && text.has_references());
    }

    #[test]
    fn places_are_bytes_of_the_whole() {
        let text =
            Text::parse(b"\xff{{vault://x}{vault://a/b}\xff{vault://c/d}").expect("readable");
        let places: Vec<_> = text.places().map(|(offset, _)| offset).collect();
        assert_eq!(places, [13, 27]);
    }
}
