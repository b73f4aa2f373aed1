//! Makes a field's value out of its literal pieces and the secrets they stand around.
//!
//! Rendering happens when a secret changes, never for a request. What comes out is as secret as what
//! went in, so it lives in a [`Secret`] too, in a buffer that is large enough from the start.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use vaultref_contract::Secret;

use crate::body::text::quote;

/// A value that a rule writes.
#[derive(Debug)]
pub(crate) struct Value {
    /// Where it stands in the configuration, for the log.
    pub(crate) place: String,
    pub(crate) kind: ValueKind,
    pub(crate) encoding: Encoding,
}

/// How the pieces become a value.
#[derive(Debug)]
pub(crate) enum ValueKind {
    /// `Basic` and the base64 of both halves.
    Basic {
        username: Vec<Piece>,
        password: Vec<Piece>,
    },
    /// One after the other.
    Text(Vec<Piece>),
}

/// A piece of a value.
#[derive(Debug)]
pub(crate) enum Piece {
    /// The index of a reference in the rule's list.
    Reference(usize),
    /// Stands for itself.
    Text(String),
}

/// Where a value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Into a header, as it is.
    Header,
    /// Into a JSON body, as a text with its quotes.
    Json,
    /// Into a query string or a form, percent-encoded.
    Query,
}

/// Why a value cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unrenderable {
    /// A secret's control character would end the header.
    ControlCharacter(usize),
    /// A username with a colon would move a part of itself into the password.
    ColonInUsername(usize),
    /// A secret that is no text is to become one; the index of a reference of the value.
    NotText(usize),
    /// A secret is not there; the index of its reference in the rule's list.
    Missing(usize),
}

impl Value {
    pub(crate) fn has_references(&self) -> bool {
        self.pieces()
            .any(|piece| matches!(piece, Piece::Reference(_)))
    }

    /// Makes the value; `secret` gives what is known of the rule's references.
    pub(crate) fn render<'a>(
        &self,
        secret: impl Fn(usize) -> Option<&'a Secret>,
    ) -> Result<Secret, Unrenderable> {
        match &self.kind {
            ValueKind::Text(pieces) => {
                let text = join(pieces, &secret)?;
                match self.encoding {
                    Encoding::Header => {
                        check(pieces, &secret, is_control, Unrenderable::ControlCharacter)?;
                        Ok(text)
                    }
                    Encoding::Json => match quote(text.expose()) {
                        Some(quoted) => Ok(Secret::new(quoted)),
                        None => Err(Unrenderable::NotText(not_text(pieces, &secret))),
                    },
                    Encoding::Query => Ok(Secret::new(crate::query::encode(text.expose()))),
                }
            }
            ValueKind::Basic { username, password } => {
                let halves = (join(username, &secret)?, join(password, &secret)?);
                for pieces in [username, password] {
                    check(pieces, &secret, is_control, Unrenderable::ControlCharacter)?;
                }
                check(
                    username,
                    &secret,
                    |byte| byte == b':',
                    Unrenderable::ColonInUsername,
                )?;
                Ok(basic(&halves.0, &halves.1))
            }
        }
    }

    /// What stands in the place of the value when a rule has a default for it.
    pub(crate) fn literal(&self, text: &str) -> Secret {
        match self.encoding {
            Encoding::Header => Secret::new(text.as_bytes().to_vec()),
            Encoding::Json => Secret::new(quote(text.as_bytes()).unwrap_or_default()),
            Encoding::Query => Secret::new(crate::query::encode(text.as_bytes())),
        }
    }

    pub(crate) fn pieces_mut(&mut self) -> impl Iterator<Item = &mut Piece> {
        let (first, second) = match &mut self.kind {
            ValueKind::Basic { username, password } => {
                (username.as_mut_slice(), password.as_mut_slice())
            }
            ValueKind::Text(pieces) => (pieces.as_mut_slice(), &mut [][..]),
        };
        first.iter_mut().chain(second)
    }

    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        let (first, second) = match &self.kind {
            ValueKind::Basic { username, password } => (username.as_slice(), password.as_slice()),
            ValueKind::Text(pieces) => (pieces.as_slice(), &[][..]),
        };
        first.iter().chain(second)
    }
}

/// Whether a byte cannot stand in a header's value.
pub(crate) fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

fn join<'a>(
    pieces: &[Piece],
    secret: &impl Fn(usize) -> Option<&'a Secret>,
) -> Result<Secret, Unrenderable> {
    let mut length = 0_usize;
    for piece in pieces {
        length = length.saturating_add(match piece {
            Piece::Text(text) => text.len(),
            Piece::Reference(index) => secret(*index).ok_or(Unrenderable::Missing(*index))?.len(),
        });
    }
    let mut joined = Vec::with_capacity(length);
    for piece in pieces {
        match piece {
            Piece::Text(text) => joined.extend_from_slice(text.as_bytes()),
            Piece::Reference(index) => {
                joined.extend_from_slice(secret(*index).map_or(&[], Secret::expose));
            }
        }
    }
    Ok(Secret::new(joined))
}

fn check<'a>(
    pieces: &[Piece],
    secret: &impl Fn(usize) -> Option<&'a Secret>,
    is_forbidden: impl Fn(u8) -> bool,
    error: impl Fn(usize) -> Unrenderable,
) -> Result<(), Unrenderable> {
    for piece in pieces {
        if let Piece::Reference(index) = piece
            && let Some(secret) = secret(*index)
            && secret.expose().iter().any(|byte| is_forbidden(*byte))
        {
            return Err(error(*index));
        }
    }
    Ok(())
}

/// The reference whose secret is no text, or the first one.
fn not_text<'a>(pieces: &[Piece], secret: &impl Fn(usize) -> Option<&'a Secret>) -> usize {
    let mut references = pieces.iter().filter_map(|piece| match piece {
        Piece::Reference(index) => Some(*index),
        Piece::Text(_) => None,
    });
    let first = references.clone().next().unwrap_or_default();
    let is_text = |index: &usize| {
        secret(*index).is_none_or(|secret| std::str::from_utf8(secret.expose()).is_ok())
    };
    references.find(|index| !is_text(index)).unwrap_or(first)
}

fn basic(username: &Secret, password: &Secret) -> Secret {
    const SCHEME: &[u8] = b"Basic ";
    let pair = Secret::new([username.expose(), b":", password.expose()].concat());
    let length = base64::encoded_len(pair.len(), true).unwrap_or_default();
    let mut header = vec![0; length.saturating_add(SCHEME.len())];
    let (scheme, text) = header.split_at_mut(SCHEME.len());
    scheme.copy_from_slice(SCHEME);
    // The buffer has exactly the length that is needed, so this cannot fail; if it could, the
    // header would hold no credential, which the upstream refuses.
    if STANDARD.encode_slice(pair.expose(), text).is_err() {
        text.fill(b'A');
    }
    Secret::new(header)
}

#[cfg(test)]
mod tests;
