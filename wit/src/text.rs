//! References inside longer texts: `Bearer {vault://payments/stripe/token}`.
//!
//! The first `}` ends a reference. Of a run of braces right before `vault://`, each pair stands for
//! one literal `{`, and a remaining one opens a reference; braces anywhere else mean themselves:
//!
//! | text | means |
//! | --- | --- |
//! | `{vault://a/b}` | a reference |
//! | `{{vault://a/b}` | the text `{vault://a/b}` |
//! | `{{{vault://a/b}` | the text `{`, then a reference |
//! | `{{ x }}` | the text `{{ x }}` |

use std::fmt::{self, Write as _};
use std::ops::Range;

use thiserror::Error;

use crate::reference::OPEN;
use crate::{Reference, ReferenceErrorKind};

const SCHEME: &str = "vault://";

/// A text taken apart into what stands for itself and what is a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

/// A piece of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A reference, to be replaced by its secret.
    Reference(ReferenceText),
    /// Text that stands for itself, with doubled braces already halved. Never empty, and never two
    /// in a row.
    Text(String),
}

/// A reference together with the way it was written, which is what the host is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceText {
    text: String,
    reference: Reference,
}

impl ReferenceText {
    /// Reads a reference and keeps how it was written.
    ///
    /// # Errors
    /// As [`Reference::parse`].
    pub fn parse(text: &str) -> Result<Self, crate::ReferenceError> {
        Ok(Self {
            text: text.to_owned(),
            reference: Reference::parse(text)?,
        })
    }

    /// The reference as it was written, with its braces.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it means.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }
}

impl Template {
    /// Takes a text apart.
    ///
    /// # Errors
    /// A reference that has no end or is none; the offset is a byte of `text`.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut scan = Scan::new(text);
        while let Some(scanned) = scan.advance(&mut literal) {
            let found = scanned.found?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::Reference(found));
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self(parts))
    }

    /// The pieces in order; none for the empty text.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    /// The references in order; one that stands twice comes twice.
    pub fn references(&self) -> impl Iterator<Item = &ReferenceText> {
        self.0.iter().filter_map(|part| match part {
            Part::Reference(found) => Some(found),
            Part::Text(_) => None,
        })
    }

    /// Whether there is a reference in it at all.
    #[must_use]
    pub fn has_references(&self) -> bool {
        self.references().next().is_some()
    }
}

impl fmt::Display for Template {
    /// Writes the text as it was taken apart. Only braces that need no doubling can differ from the
    /// original, and only in a template that was not made by [`Template::parse`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            match part {
                Part::Reference(found) => f.write_str(&found.text)?,
                Part::Text(text) => {
                    let opens = matches!(self.0.get(index + 1), Some(Part::Reference(_)));
                    write_text(f, text, opens)?;
                }
            }
        }
        Ok(())
    }
}

/// Doubles the braces that stand right before `vault://`, or before a reference that follows.
fn write_text(f: &mut fmt::Formatter<'_>, text: &str, reference_follows: bool) -> fmt::Result {
    let mut pieces = text.split(SCHEME).peekable();
    while let Some(piece) = pieces.next() {
        let last = pieces.peek().is_none();
        let plain = piece.trim_end_matches('{');
        f.write_str(piece)?;
        if !last || reference_follows {
            for _ in plain.len()..piece.len() {
                f.write_char('{')?;
            }
        }
        if !last {
            f.write_str(SCHEME)?;
        }
    }
    Ok(())
}

/// Goes through a text from reference to reference and past those that cannot be read, for reports
/// that name them all with their places.
#[derive(Clone, Debug)]
pub struct Scan<'a> {
    text: &'a str,
    rest: &'a str,
}

/// What a [`Scan`] came across.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// The bytes of the text that it takes up, braces included.
    pub range: Range<usize>,
    /// The reference, or why it is none.
    pub found: Result<ReferenceText, TextError>,
}

impl<'a> Scan<'a> {
    /// Begins at the start of a text.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self { text, rest: text }
    }

    /// Moves past the next reference and adds what stands before it, or before the end, to `literal`.
    fn advance(&mut self, literal: &mut String) -> Option<Scanned> {
        while let Some(scheme) = self.rest.find(SCHEME) {
            let (before, after) = self.rest.split_at(scheme);
            let plain = before.trim_end_matches('{');
            let braces = before.len() - plain.len();
            literal.push_str(plain);
            literal.extend(std::iter::repeat_n('{', braces / 2));
            if braces % 2 == 0 {
                literal.push_str(SCHEME);
                self.rest = after.strip_prefix(SCHEME).unwrap_or_default();
                continue;
            }
            return Some(self.reference(self.text.len() - after.len() - 1, after));
        }
        literal.push_str(std::mem::take(&mut self.rest));
        None
    }

    /// The reference that starts at `offset`; `after` is what follows its brace.
    fn reference(&mut self, offset: usize, after: &'a str) -> Scanned {
        let Some(end) = after.find('}') else {
            let kind = TextErrorKind::Unclosed;
            self.rest = "";
            return Scanned {
                range: offset..self.text.len(),
                found: Err(TextError { kind, offset }),
            };
        };
        let mut range = offset..offset + end + 2;
        let written = self.text.get(range.clone()).unwrap_or_default();
        let found = ReferenceText::parse(written).map_err(|error| TextError {
            kind: TextErrorKind::Reference(error.kind()),
            offset: offset + error.offset(),
        });
        // The inner one of two may be what it should be.
        if let Err(error) = &found
            && error.kind == TextErrorKind::Reference(ReferenceErrorKind::Nested)
        {
            range.end = error.offset;
        }
        self.rest = self.text.get(range.end..).unwrap_or_default();
        Scanned { range, found }
    }
}

impl Iterator for Scan<'_> {
    type Item = Scanned;

    fn next(&mut self) -> Option<Scanned> {
        self.advance(&mut String::new())
    }
}

/// A text whose references cannot be read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{kind} (at byte {offset})")]
pub struct TextError {
    kind: TextErrorKind,
    offset: usize,
}

impl TextError {
    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> TextErrorKind {
        self.kind
    }

    /// The byte of the text at which it is wrong.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }
}

/// What can be wrong with references in a text.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextErrorKind {
    /// What stands between the braces is no reference.
    #[error("{0}")]
    Reference(ReferenceErrorKind),
    /// `{vault://` with no `}` after it.
    #[error("the reference that starts here has no '}}'; a literal '{OPEN}' is written '{{{OPEN}'")]
    Unclosed,
}

#[cfg(test)]
mod tests;
