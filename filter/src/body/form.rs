//! Fields of a form (`application/x-www-form-urlencoded`), named by their names.
//!
//! A form is written as a query string is; what was sent and is not named keeps its bytes.

use vaultref_contract::Secret;

use super::BodyError;
use crate::compile::QueryWrite;
use crate::matching::hexadecimal;
use crate::query::{self, Parameter};

/// Applies the writes; values are percent-encoded.
pub(crate) fn edit<'a>(
    body: &[u8],
    writes: &[QueryWrite],
    value: impl Fn(usize) -> Parameter<'a>,
) -> Result<Secret, BodyError> {
    check(body)?;
    Ok(Secret::new(query::rewrite_form(body, writes, value)))
}

/// The text of a field; none if it is not there.
#[allow(dead_code)] // for references that stand in a body
pub(crate) fn text(body: &[u8], name: &str) -> Result<Option<String>, BodyError> {
    check(body)?;
    let mut found = None;
    for piece in body.split(|byte| *byte == b'&') {
        let (written, rest) = query::split_name(piece);
        if query::is_name(written, name) && found.replace(rest).is_some() {
            return Err(BodyError::Ambiguous);
        }
    }
    let Some(written) = found else {
        return Ok(None);
    };
    let text = query::decode(written.strip_prefix(b"=").unwrap_or_default());
    String::from_utf8(text)
        .map(Some)
        .map_err(|_| BodyError::Malformed)
}

/// Whether the bytes can be a form that everybody reads in the same way.
fn check(body: &[u8]) -> Result<(), BodyError> {
    // JSON with the wrong content type.
    if matches!(body.first(), Some(b'{' | b'[')) {
        return Err(BodyError::Malformed);
    }
    let mut rest = body;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte.is_ascii_control() {
            return Err(BodyError::Malformed);
        }
        // Some divide there as well, and would find a field that we do not see.
        if byte == b';' {
            return Err(BodyError::Ambiguous);
        }
        if byte == b'%' {
            let digits = tail.first_chunk::<2>().ok_or(BodyError::Malformed)?;
            if digits.iter().any(|digit| hexadecimal(*digit).is_none()) {
                return Err(BodyError::Malformed);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
