//! Texts as they stand in JSON.

use std::borrow::Cow;

/// A text as JSON; none if the bytes are no text.
pub(crate) fn quote(bytes: &[u8]) -> Option<Vec<u8>> {
    std::str::from_utf8(bytes).ok()?;
    let mut quoted = Vec::with_capacity(quoted_length(bytes));
    push_quoted(&mut quoted, bytes);
    Some(quoted)
}

/// Whether a text of JSON, with its quotes, is this name.
pub(crate) fn is_name(written: &[u8], name: &str) -> bool {
    unquote(written).is_some_and(|text| text == name)
}

/// The text that stands between quotes in a JSON text; none if an escape stands for no character.
pub(crate) fn unquote(written: &[u8]) -> Option<Cow<'_, str>> {
    let inner = written.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let inner = std::str::from_utf8(inner).ok()?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        let char = match char {
            '\\' => match chars.next()? {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => unescape_unicode(&mut chars)?,
                other => other,
            },
            other => other,
        };
        text.push(char);
    }
    Some(Cow::Owned(text))
}

fn unescape_unicode(chars: &mut std::str::Chars<'_>) -> Option<char> {
    let first = unit(chars)?;
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first);
    }
    if chars.next() != Some('\\') || chars.next() != Some('u') {
        return None;
    }
    let second = unit(chars)?;
    let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
    let high = first.saturating_sub(0xd800);
    char::from_u32((high << 10 | low).saturating_add(0x1_0000))
}

fn unit(chars: &mut std::str::Chars<'_>) -> Option<u32> {
    let mut unit = 0;
    for _ in 0..4 {
        unit = unit << 4 | chars.next()?.to_digit(16)?;
    }
    Some(unit)
}

pub(crate) fn push_quoted(out: &mut Vec<u8>, text: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            0..0x20 => {
                let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or(b'0');
                out.extend_from_slice(b"\\u00");
                out.extend([digit(byte >> 4), digit(byte & 0xf)]);
            }
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}

/// How long a text is as JSON.
pub(crate) fn quoted_length(text: &[u8]) -> usize {
    let lengths = text.iter().map(|byte| match byte {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    });
    lengths.fold(2, usize::saturating_add)
}
