//! Query strings: reading names as forms write them, and writing values so that they arrive as they
//! are.
//!
//! Only the parameters that a rule names are touched; the rest keeps its bytes and its order.

use crate::compile::{QueryVerb, QueryWrite};
use crate::matching::hexadecimal;

/// What a parameter gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parameter<'a> {
    /// Nothing: it is left out.
    Omit,
    /// These bytes, which are percent-encoded.
    Value(&'a [u8]),
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
pub(crate) fn encode(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |value: u8| {
        DIGITS
            .get(usize::from(value & 0xf))
            .copied()
            .unwrap_or(b'0')
    };
    // Three bytes for each at most: the buffer never grows and leaves no copy of a secret behind.
    let mut encoded = Vec::with_capacity(bytes.len().saturating_mul(3));
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            encoded.push(*byte);
        } else {
            encoded.extend([b'%', digit(byte >> 4), digit(*byte)]);
        }
    }
    encoded
}

/// Whether servers differ in which of the parameters that are written a path has: some also divide at a
/// ';', and would find the client's own beside ours, or one that was to be taken away. Only a name beside
/// a ';' decides that. Most servers do not divide there, and to them it is a character like any other.
#[inline(never)] // once is enough in the module
pub(crate) fn is_ambiguous(path: &[u8], writes: &[QueryWrite]) -> bool {
    if !path.contains(&b';') {
        return false;
    }
    let is_written = |name: &[u8]| {
        writes.iter().any(|write| match &write.verb {
            QueryVerb::Rename { to } if is_same_name(name, to) => true,
            _ => is_name(name, &write.name),
        })
    };
    let mut pieces = query_of(path).split(|byte| *byte == b'&');
    pieces.any(|piece| {
        // The first name is the same to all if its '=' comes before the ';'.
        let is_shared = !split_name(piece).0.contains(&b';');
        let parts = piece.split(|byte| *byte == b';');
        let mut parts = parts.skip(usize::from(is_shared));
        parts.any(|part| is_written(split_name(part).0))
    })
}

/// Applies the writes to a path with a query, deciding on what the client sent.
pub(crate) fn rewrite<'a>(
    path: &[u8],
    writes: &[QueryWrite],
    value: impl Fn(usize) -> Parameter<'a>,
) -> Vec<u8> {
    // A fragment is no part of a request; a parameter behind one would be lost.
    let path = path.split(|byte| *byte == b'#').next().unwrap_or_default();
    let (path, query) = match path.iter().position(|byte| *byte == b'?') {
        None => (path, &[][..]),
        Some(mark) => (
            path.get(..mark).unwrap_or_default(),
            path.get(mark.saturating_add(1)..).unwrap_or_default(),
        ),
    };
    rewrite_pairs(Some(path), query, writes, &value)
}

/// Applies the writes to a form, deciding on what the client sent.
pub(crate) fn rewrite_form<'a>(
    form: &[u8],
    writes: &[QueryWrite],
    value: impl Fn(usize) -> Parameter<'a>,
) -> Vec<u8> {
    rewrite_pairs(None, form, writes, &value)
}

fn rewrite_pairs<'a>(
    path: Option<&[u8]>,
    query: &[u8],
    writes: &[QueryWrite],
    value: &dyn Fn(usize) -> Parameter<'a>,
) -> Vec<u8> {
    let pieces = || {
        query
            .split(|byte| *byte == b'&')
            .filter(|_| !query.is_empty())
    };
    // What is renamed takes the place of whatever had the name. Found out once, not for each
    // parameter: how many there are is the client's choice.
    let displaced: Vec<Vec<u8>> = writes
        .iter()
        .filter_map(|write| match &write.verb {
            QueryVerb::Rename { to } => Some((to, &write.name)),
            _ => None,
        })
        .filter(|(_, from)| pieces().any(|piece| is_name(split_name(piece).0, from)))
        .map(|(to, _)| decoded(to))
        .collect();
    let is_displaced = |name: &[u8]| {
        let mut names = displaced.iter();
        names.any(|to| std::str::from_utf8(to).is_ok_and(|to| is_name(name, to)))
    };
    let expected = writes.iter().map(|write| {
        let value = match write.verb {
            QueryVerb::Add(index)
            | QueryVerb::Append(index)
            | QueryVerb::Replace(index)
            | QueryVerb::Set(index) => value(index),
            QueryVerb::Remove | QueryVerb::Rename { .. } => Parameter::Omit,
        };
        let length = match value {
            Parameter::Omit => 0,
            Parameter::Value(value) => value.len(),
        };
        length.saturating_add(write.written.len()).saturating_add(2)
    });
    let expected = expected.fold(query.len(), usize::saturating_add);
    let mut written = vec![false; writes.len()];
    let mut out = Query::new(path, expected);
    for piece in pieces() {
        let (name, rest) = split_name(piece);
        if is_displaced(name) {
            continue;
        }
        let found = writes
            .iter()
            .zip(&mut written)
            .find(|(write, _)| is_name(name, &write.name));
        let Some((write, written)) = found else {
            out.push(&[piece]);
            continue;
        };
        match &write.verb {
            QueryVerb::Append(_) => out.push(&[piece]),
            QueryVerb::Add(_) => {
                *written = true;
                out.push(&[piece]);
            }
            QueryVerb::Remove => {}
            QueryVerb::Rename { to } => out.push(&[to, rest]),
            QueryVerb::Replace(index) | QueryVerb::Set(index) => {
                if let (false, Parameter::Value(value)) = (*written, value(*index)) {
                    out.push(&[&write.written, b"=", value]);
                }
                *written = true;
            }
        }
    }
    for (write, written) in writes.iter().zip(written) {
        let index = match &write.verb {
            QueryVerb::Add(index) | QueryVerb::Set(index) if !written => index,
            QueryVerb::Append(index) => index,
            _ => continue,
        };
        if let Parameter::Value(value) = value(*index) {
            out.push(&[&write.written, b"=", value]);
        }
    }
    out.bytes
}

/// The query of a path; empty if there is none.
pub(crate) fn query_of(path: &[u8]) -> &[u8] {
    let mark = path.iter().position(|byte| *byte == b'?');
    mark.and_then(|mark| path.get(mark.saturating_add(1)..))
        .unwrap_or_default()
}

/// The values of a parameter, as they are written.
pub(crate) fn values<'a>(query: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    let pieces = query.split(|byte| *byte == b'&').map(split_name);
    let same = pieces.filter(move |(written, _)| is_name(written, name));
    same.map(|(_, value)| value.strip_prefix(b"=").unwrap_or_default())
}

/// A parameter's name as it is written, and what follows it.
pub(crate) fn split_name(piece: &[u8]) -> (&[u8], &[u8]) {
    let end = piece.iter().position(|byte| *byte == b'=');
    piece.split_at(end.unwrap_or(piece.len()).min(piece.len()))
}

/// The text of a field of a form.
pub(crate) fn decode(written: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = written
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    decoded(&spaced)
}

/// Undoes [`encode`].
fn decoded(written: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(written.len());
    let mut rest = written;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let digits = tail.first().zip(tail.get(1));
        let digits = digits.map(|(high, low)| (hexadecimal(*high), hexadecimal(*low)));
        match digits {
            Some((Some(high), Some(low))) if byte == b'%' => {
                bytes.push(high << 4 | low);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => bytes.push(byte),
        }
    }
    bytes
}

/// A path, or nothing, to which parameters are appended.
struct Query {
    bytes: Vec<u8>,
    /// What stands before the next parameter.
    separator: Option<u8>,
}

impl Query {
    fn new(path: Option<&[u8]>, expected: usize) -> Self {
        // All of it at once: a buffer that grows leaves pieces of a secret behind.
        let length = path.map_or(0, <[u8]>::len);
        let room = length.saturating_add(expected).saturating_add(256);
        let mut bytes = Vec::with_capacity(room);
        bytes.extend_from_slice(path.unwrap_or_default());
        let separator = path.map(|_| b'?');
        Self { bytes, separator }
    }

    fn push(&mut self, pieces: &[&[u8]]) {
        self.bytes.extend(self.separator);
        self.separator = Some(b'&');
        for piece in pieces {
            self.bytes.extend_from_slice(piece);
        }
    }
}

/// Whether a name (or a value) of a query string, as it stands there, is this one.
pub(crate) fn is_name(written: &[u8], name: &str) -> bool {
    let mut rest = written;
    let mut wanted = name.bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let mut decoded = if byte == b'+' { b' ' } else { byte };
        if let (b'%', [high, low, after @ ..]) = (byte, tail)
            && let (Some(high), Some(low)) = (hexadecimal(*high), hexadecimal(*low))
        {
            decoded = high << 4 | low;
            rest = after;
        }
        if wanted.next() != Some(decoded) {
            return false;
        }
    }
    wanted.next().is_none()
}

/// Whether two names, as they stand in query strings, are the same.
fn is_same_name(written: &[u8], other: &[u8]) -> bool {
    std::str::from_utf8(&decoded(other)).is_ok_and(|name| is_name(written, name))
}

#[cfg(test)]
mod tests;
