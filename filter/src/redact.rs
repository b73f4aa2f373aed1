//! Masks the secrets of a request in the headers of its response: an upstream that repeats what it got
//! (an error that quotes the credential, a redirect that keeps the query) must not give it to the
//! client.
//!
//! A secret is found as it is and percent-encoded, whatever was encoded of it; of basic auth also what
//! stands behind `Basic`. One of fewer than eight bytes is not looked for: it occurs by chance. Other
//! encodings are not undone.

use std::rc::Rc;

use vaultref_contract::Secret;

use crate::compile::Rule;
use crate::matching::hexadecimal;
use crate::render::ValueKind;
use crate::table::{Entry, EntryId, Table};
use crate::{Host, Status};

/// The shortest secret that is masked, in bytes.
const SHORTEST: usize = 8;

const MASK: &[u8] = b"***";

/// What is masked in the responses to requests of a rule.
pub(crate) type Needles = Rc<Vec<Rc<Secret>>>;

/// The secrets of a rule as they are now, if the configuration wants them masked.
pub(crate) fn needles(rule: &Rule, entries: &[EntryId], table: &Table) -> Needles {
    let mut needles: Vec<Rc<Secret>> = Vec::new();
    if !rule.is_redacted {
        return Rc::new(needles);
    }
    let entry = |index: usize| entries.get(index).and_then(|id| table.get(*id));
    let entries = entries.iter().filter_map(|id| table.get(*id));
    needles.extend(entries.filter_map(Entry::shared_secret));
    for value in &rule.values {
        let is_basic = matches!(value.kind, ValueKind::Basic { .. });
        if is_basic
            && value.has_references()
            && let Ok(basic) = value.render(|index| entry(index).and_then(Entry::secret))
            && let Some(pair) = basic.expose().strip_prefix(b"Basic ")
        {
            needles.push(Rc::new(Secret::new(pair.to_vec())));
        }
    }
    needles.retain(|needle| needle.len() >= SHORTEST);
    Rc::new(needles)
}

/// All of both.
pub(crate) fn joined(some: &Needles, others: &Needles) -> Needles {
    Rc::new(some.iter().chain(&**others).cloned().collect())
}

/// Masks them in all headers of the current response; says whether there was something to mask.
pub(crate) fn redact(host: &impl Host, needles: &[Rc<Secret>]) -> Result<bool, Status> {
    if needles.is_empty() {
        return Ok(false);
    }
    let pairs = host.response_headers()?;
    let masked: Vec<Option<Vec<u8>>> = pairs
        .iter()
        .map(|(name, value)| match is_framing(name) {
            true => None,
            false => masked(value, needles),
        })
        .collect();
    if masked.iter().all(Option::is_none) {
        return Ok(false);
    }
    let values = || pairs.iter().zip(&masked);
    for (at, (name, _)) in pairs.iter().enumerate() {
        let is_same = |other: &[u8]| other.eq_ignore_ascii_case(name);
        let is_first = !pairs.iter().take(at).any(|(other, _)| is_same(other));
        let same = || values().filter(|((other, _), _)| is_same(other));
        if !is_first || !same().any(|(_, masked)| masked.is_some()) {
            continue;
        }
        let name = std::str::from_utf8(name).map_err(|_| Status::BadArgument)?;
        for (index, ((_, own), masked)) in same().enumerate() {
            let value = masked.as_deref().unwrap_or(own);
            match index {
                // This one takes the place of all.
                0 => host.set_response_header(name, value)?,
                _ => host.add_response_header(name, value)?,
            }
        }
    }
    Ok(true)
}

/// Whether a header is a part of the message's frame, in which a mask would break it.
fn is_framing(name: &[u8]) -> bool {
    name.starts_with(b":") || name.eq_ignore_ascii_case(b"content-length")
}

/// The value with every occurrence masked; none if there is none.
fn masked(value: &[u8], needles: &[Rc<Secret>]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut is_found = false;
    let mut rest = value;
    while let Some((first, tail)) = rest.split_first() {
        let lengths = needles
            .iter()
            .filter_map(|needle| occurrence(rest, needle.expose()));
        // The longest: one may be the beginning of another.
        if let Some(behind) = lengths.max().and_then(|length| rest.get(length..)) {
            out.extend_from_slice(MASK);
            is_found = true;
            rest = behind;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    is_found.then_some(out)
}

/// How many bytes of the text are this secret, if it begins with it.
fn occurrence(text: &[u8], secret: &[u8]) -> Option<usize> {
    if text.starts_with(secret) {
        return Some(secret.len());
    }
    let mut rest = text;
    for wanted in secret {
        let (&byte, tail) = rest.split_first()?;
        rest = tail;
        let mut read = byte;
        if let (b'%', [high, low, behind @ ..]) = (byte, tail)
            && let (Some(high), Some(low)) = (hexadecimal(*high), hexadecimal(*low))
        {
            read = high << 4 | low;
            rest = behind;
        }
        let is_space = *wanted == b' ' && byte == b'+';
        if read != *wanted && !is_space {
            return None;
        }
    }
    Some(text.len().saturating_sub(rest.len()))
}

#[cfg(test)]
mod tests;
