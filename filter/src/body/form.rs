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

/// Whether the bytes can be a form that everybody reads in the same way.
pub(crate) fn check(body: &[u8]) -> Result<(), BodyError> {
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
