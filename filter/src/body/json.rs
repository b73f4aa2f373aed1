//! Fields of a JSON body, named by JSON pointers.
//!
//! The body is walked once, along the pointers only, and copied with what is written in its place.
//! Every decision is taken on what the client sent.

use std::borrow::Cow;
use std::ops::Range;

use vaultref_contract::Secret;

use super::scan::Scanner;
use super::{BodyError, pointer};

/// A field and what is done with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edit<'a> {
    /// The names of its pointer, at least one.
    pub(crate) path: &'a [String],
    pub(crate) verb: Verb<'a>,
}

/// What is done with a field. A value is JSON, as [`quote`] makes it; none leaves the field out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verb<'a> {
    /// Only if it is absent.
    Add(Option<&'a [u8]>),
    /// One more item of a list; what is no list becomes one of the old value and the new.
    Append(Option<&'a [u8]>),
    Remove,
    /// Gives a member another name, in place of whatever has it.
    Rename(&'a str),
    /// Only if it is present.
    Replace(Option<&'a [u8]>),
    /// Whatever is there. Objects on the way to it are made if they are absent.
    Set(Option<&'a [u8]>),
}

/// Makes all edits, or none. No path may lead to or through another one's field.
pub(crate) fn edit(body: &[u8], edits: &[Edit<'_>]) -> Result<Secret, BodyError> {
    let growth = edits.iter().map(Edit::growth);
    let room = growth.fold(body.len(), usize::saturating_add);
    let mut editor = Editor {
        scanner: Scanner::new(body)?,
        // All of it at once: a buffer that grows leaves pieces of a secret behind.
        out: Vec::with_capacity(room),
    };
    let edits: Vec<&Edit<'_>> = edits.iter().collect();
    let edited = editor.whole(&edits);
    let out = Secret::new(editor.out);
    edited.map(|()| out)
}

/// The text at a pointer; none if nothing is there, or something that is no text.
pub(crate) fn text(body: &[u8], path: &[String]) -> Result<Option<String>, BodyError> {
    let mut whole = Scanner::new(body)?;
    let mut scanner = whole.clone();
    whole.value(0)?;
    whole.end()?;
    for (depth, name) in path.iter().enumerate() {
        match find(scanner, name, depth)? {
            Some(found) => scanner = found,
            None => return Ok(None),
        }
    }
    if scanner.peek() != Some(b'"') {
        return Ok(None);
    }
    let start = scanner.at;
    scanner.value(path.len())?;
    let written = scanner.part(start..scanner.at);
    match unquote(written) {
        Some(text) => Ok(Some(text.into_owned())),
        // An escape that stands for no character.
        None => Err(BodyError::Malformed),
    }
}

/// A text as JSON; none if the bytes are no text.
pub(crate) fn quote(bytes: &[u8]) -> Option<Vec<u8>> {
    std::str::from_utf8(bytes).ok()?;
    let mut quoted = Vec::with_capacity(quoted_length(bytes));
    push_quoted(&mut quoted, bytes);
    Some(quoted)
}

impl Edit<'_> {
    /// How many bytes it may add at most.
    fn growth(&self) -> usize {
        let (Verb::Add(value) | Verb::Append(value) | Verb::Replace(value) | Verb::Set(value)) =
            self.verb
        else {
            return match self.verb {
                Verb::Rename(to) => quoted_length(to.as_bytes()),
                _ => 0,
            };
        };
        let names = self.path.iter();
        // A name with its colon, comma and braces; the brackets of a list.
        let names = names.map(|name| quoted_length(name.as_bytes()).saturating_add(4));
        let value = value.map_or(0, <[u8]>::len).saturating_add(4);
        names.fold(value, usize::saturating_add)
    }

    /// What it writes where nothing is.
    fn creates(&self) -> Option<&[u8]> {
        match self.verb {
            Verb::Add(value) | Verb::Append(value) | Verb::Set(value) => value,
            Verb::Remove | Verb::Rename(_) | Verb::Replace(_) => None,
        }
    }

    fn name(&self, depth: usize) -> &str {
        self.path.get(depth).map_or("", String::as_str)
    }

    fn ends(&self, depth: usize) -> bool {
        self.path.len() <= depth
    }
}

struct Editor<'a> {
    scanner: Scanner<'a>,
    out: Vec<u8>,
}

impl Editor<'_> {
    fn whole(&mut self, edits: &[&Edit<'_>]) -> Result<(), BodyError> {
        self.copy(0..self.scanner.at);
        self.value(edits, 0)?;
        let end = self.scanner.at;
        self.scanner.end()?;
        self.copy(end..self.scanner.at);
        Ok(())
    }

    /// Walks and writes the value at hand. `edits` are those whose paths lead through it; it stands at
    /// the depth of so many names.
    fn value(&mut self, edits: &[&Edit<'_>], depth: usize) -> Result<(), BodyError> {
        match self.scanner.peek() {
            Some(b'{') if !edits.is_empty() => self.object(edits, depth),
            Some(b'[') if !edits.is_empty() => self.list(edits, depth),
            _ if edits.iter().any(|edit| edit.creates().is_some()) => {
                // It is looked at all the same: what is malformed is called so.
                self.scanner.value(depth)?;
                Err(BodyError::Mismatch)
            }
            _ => self.keep(depth),
        }
    }

    /// Writes the value at hand as it is.
    fn keep(&mut self, depth: usize) -> Result<(), BodyError> {
        let start = self.scanner.at;
        self.scanner.value(depth)?;
        self.copy(start..self.scanner.at);
        Ok(())
    }

    fn object(&mut self, edits: &[&Edit<'_>], depth: usize) -> Result<(), BodyError> {
        let inner = depth.saturating_add(1);
        let displaced = self.displaced(edits, depth)?;
        self.scanner.expect(b'{')?;
        let mut members = Items::new(&mut self.out, b'{');
        let mut seen = vec![false; edits.len()];
        let mut start = self.scanner.at;
        self.scanner.space();
        if self.scanner.peek() != Some(b'}') {
            loop {
                self.scanner.space();
                let name = self.scanner.name()?;
                let written = self.scanner.part(name.clone());
                let here = matching(edits, &mut seen, depth, |wanted| is_name(written, wanted))?;
                let place = Place {
                    start,
                    name: Some(name),
                    is_displaced: displaced.iter().any(|to| is_name(written, to)),
                };
                self.item(&mut members, place, &here, inner)?;
                if !self.scanner.take(b',') {
                    break;
                }
                start = self.scanner.at;
            }
        } else {
            self.copy(start..self.scanner.at);
        }
        while let Some(new) = unseen(edits, &mut seen, depth) {
            if let Some(value) = created(&new, inner) {
                members.begin(&mut self.out);
                let name = new.first().map_or("", |edit| edit.name(depth));
                push_quoted(&mut self.out, name.as_bytes());
                self.out.push(b':');
                value.write(&mut self.out);
            }
        }
        self.scanner.expect(b'}')?;
        self.out.push(b'}');
        Ok(())
    }

    fn list(&mut self, edits: &[&Edit<'_>], depth: usize) -> Result<(), BodyError> {
        let inner = depth.saturating_add(1);
        self.scanner.expect(b'[')?;
        let mut items = Items::new(&mut self.out, b'[');
        let mut seen = vec![false; edits.len()];
        let mut length = 0_usize;
        let mut start = self.scanner.at;
        self.scanner.space();
        if self.scanner.peek() != Some(b']') {
            loop {
                self.scanner.space();
                let here = matching(edits, &mut seen, depth, |name| {
                    pointer::index(name) == Some(length)
                })?;
                let place = Place {
                    start,
                    name: None,
                    is_displaced: false,
                };
                self.item(&mut items, place, &here, inner)?;
                length = length.saturating_add(1);
                if !self.scanner.take(b',') {
                    break;
                }
                start = self.scanner.at;
            }
        } else {
            self.copy(start..self.scanner.at);
        }
        while let Some(new) = unseen(edits, &mut seen, depth) {
            if let Some(value) = created(&new, inner) {
                let name = new.first().map_or("", |edit| edit.name(depth));
                if name != "-" && pointer::index(name) != Some(length) {
                    return Err(BodyError::Mismatch);
                }
                items.begin(&mut self.out);
                value.write(&mut self.out);
            }
        }
        self.scanner.expect(b']')?;
        self.out.push(b']');
        Ok(())
    }

    /// A member or item, of which everything before the value has been read.
    fn item(
        &mut self,
        items: &mut Items,
        place: Place,
        edits: &[&Edit<'_>],
        depth: usize,
    ) -> Result<(), BodyError> {
        let value = self.scanner.at;
        let own = edits.iter().find(|edit| edit.ends(depth));
        let Some(own) = own.filter(|_| !place.is_displaced) else {
            if place.is_displaced {
                self.scanner.value(depth)?;
                self.scanner.space();
                return Ok(());
            }
            items.begin(&mut self.out);
            self.copy(place.start..value);
            if edits.is_empty() {
                self.keep(depth)?;
            } else {
                self.value(edits, depth)?;
            }
            return Ok(self.copy_space());
        };
        self.scanner.value(depth)?;
        let end = self.scanner.at;
        let new = match own.verb {
            Verb::Replace(None) | Verb::Set(None) | Verb::Remove => {
                self.scanner.space();
                return Ok(());
            }
            Verb::Replace(Some(new)) | Verb::Set(Some(new)) => New::Value(new),
            Verb::Append(Some(new)) => New::Appended(new),
            Verb::Add(_) | Verb::Append(None) => New::Same,
            Verb::Rename(to) => {
                let name = place.name.ok_or(BodyError::Mismatch)?;
                items.begin(&mut self.out);
                self.copy(place.start..name.start);
                push_quoted(&mut self.out, to.as_bytes());
                self.copy(name.end..end);
                return Ok(self.copy_space());
            }
        };
        items.begin(&mut self.out);
        self.copy(place.start..value);
        match new {
            New::Same => self.copy(value..end),
            New::Value(new) => self.out.extend_from_slice(new),
            New::Appended(new) => {
                let old = self.scanner.part(value..end);
                push_appended(&mut self.out, old, new)?;
            }
        }
        self.copy_space();
        Ok(())
    }

    /// The names that the object at hand loses to members that are renamed.
    fn displaced<'e>(
        &self,
        edits: &[&'e Edit<'_>],
        depth: usize,
    ) -> Result<Vec<&'e str>, BodyError> {
        let mut displaced = Vec::new();
        for edit in edits {
            if let Verb::Rename(to) = edit.verb
                && edit.ends(depth.saturating_add(1))
                && find(self.scanner.clone(), edit.name(depth), depth)?.is_some()
            {
                displaced.push(to);
            }
        }
        Ok(displaced)
    }

    fn copy(&mut self, range: Range<usize>) {
        self.out.extend_from_slice(self.scanner.part(range));
    }

    fn copy_space(&mut self) {
        let start = self.scanner.at;
        self.scanner.space();
        self.copy(start..self.scanner.at);
    }
}

/// Where a member or item stands.
struct Place {
    /// Behind the comma or bracket before it.
    start: usize,
    /// A member's name.
    name: Option<Range<usize>>,
    is_displaced: bool,
}

enum New<'a> {
    Appended(&'a [u8]),
    Same,
    Value(&'a [u8]),
}

/// The members or items that are written, with commas between them.
struct Items {
    empty: bool,
}

impl Items {
    fn new(out: &mut Vec<u8>, bracket: u8) -> Self {
        out.push(bracket);
        Self { empty: true }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if !std::mem::take(&mut self.empty) {
            out.push(b',');
        }
    }
}

/// The edits whose path goes on with the member or item at hand. Such a one must come only once.
fn matching<'a, 'e>(
    edits: &[&'a Edit<'e>],
    seen: &mut [bool],
    depth: usize,
    is_name: impl Fn(&str) -> bool,
) -> Result<Vec<&'a Edit<'e>>, BodyError> {
    let mut found = Vec::new();
    for (edit, seen) in edits.iter().zip(seen) {
        if is_name(edit.name(depth)) {
            if std::mem::replace(seen, true) {
                return Err(BodyError::Ambiguous);
            }
            found.push(*edit);
        }
    }
    Ok(found)
}

/// Edits that go on with the same name, which no member or item has; each is given once.
fn unseen<'a, 'e>(
    edits: &[&'a Edit<'e>],
    seen: &mut [bool],
    depth: usize,
) -> Option<Vec<&'a Edit<'e>>> {
    let first = seen.iter().position(|seen| !seen)?;
    let name = edits.get(first)?.name(depth);
    let mut same = Vec::new();
    for (edit, seen) in edits.iter().zip(seen) {
        if !*seen && edit.name(depth) == name {
            *seen = true;
            same.push(*edit);
        }
    }
    Some(same)
}

/// A value that is made where none is.
enum Created<'a> {
    List(&'a [u8]),
    Object(Vec<(&'a str, Created<'a>)>),
    Value(&'a [u8]),
}

/// What these edits make; none if they only look for what is absent.
fn created<'a>(edits: &[&'a Edit<'_>], depth: usize) -> Option<Created<'a>> {
    if let Some(own) = edits.iter().find(|edit| edit.ends(depth)) {
        let value = own.creates()?;
        return Some(match own.verb {
            Verb::Append(_) => Created::List(value),
            _ => Created::Value(value),
        });
    }
    let mut members = Vec::new();
    let mut seen = vec![false; edits.len()];
    while let Some(same) = unseen(edits, &mut seen, depth) {
        let name = same.first().map_or("", |edit| edit.name(depth));
        if let Some(value) = created(&same, depth.saturating_add(1)) {
            members.push((name, value));
        }
    }
    (!members.is_empty()).then_some(Created::Object(members))
}

impl Created<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Value(value) => out.extend_from_slice(value),
            Self::List(value) => {
                out.push(b'[');
                out.extend_from_slice(value);
                out.push(b']');
            }
            Self::Object(members) => {
                let mut items = Items::new(out, b'{');
                for (name, value) in members {
                    items.begin(out);
                    push_quoted(out, name.as_bytes());
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

/// Writes an old value with one more behind it.
fn push_appended(out: &mut Vec<u8>, old: &[u8], new: &[u8]) -> Result<(), BodyError> {
    match old.first() {
        Some(b'{') => return Err(BodyError::Mismatch),
        // The brackets are the first and the last byte.
        Some(b'[') => {
            let items = old.get(..old.len().saturating_sub(1)).unwrap_or_default();
            out.extend_from_slice(items);
            let is_empty = items.get(1..).unwrap_or_default().trim_ascii().is_empty();
            out.extend_from_slice(if is_empty { b"" } else { b"," });
        }
        // `null`: there is nothing.
        Some(b'n') => out.push(b'['),
        _ => {
            out.push(b'[');
            out.extend_from_slice(old);
            out.push(b',');
        }
    }
    out.extend_from_slice(new);
    out.push(b']');
    Ok(())
}

/// The value of this name in the object or list at hand.
fn find<'a>(
    mut scanner: Scanner<'a>,
    name: &str,
    depth: usize,
) -> Result<Option<Scanner<'a>>, BodyError> {
    let is_object = scanner.take(b'{');
    if !is_object && !scanner.take(b'[') {
        return Ok(None);
    }
    let close = if is_object { b'}' } else { b']' };
    scanner.space();
    if scanner.take(close) {
        return Ok(None);
    }
    let wanted = pointer::index(name).filter(|_| !is_object);
    let mut found = None;
    let mut index = 0_usize;
    loop {
        scanner.space();
        let is_it = if is_object {
            let range = scanner.name()?;
            is_name(scanner.part(range), name)
        } else {
            wanted == Some(index)
        };
        if is_it && found.replace(scanner.clone()).is_some() {
            return Err(BodyError::Ambiguous);
        }
        scanner.value(depth.saturating_add(1))?;
        scanner.space();
        index = index.saturating_add(1);
        if !scanner.take(b',') {
            scanner.expect(close)?;
            return Ok(found);
        }
    }
}

/// Whether a text of JSON, with its quotes, is this name.
fn is_name(written: &[u8], name: &str) -> bool {
    unquote(written).is_some_and(|text| text == name)
}

/// The text that stands between quotes in a JSON text; none if an escape stands for no character.
fn unquote(written: &[u8]) -> Option<Cow<'_, str>> {
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

fn push_quoted(out: &mut Vec<u8>, text: &[u8]) {
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
fn quoted_length(text: &[u8]) -> usize {
    let lengths = text.iter().map(|byte| match byte {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    });
    lengths.fold(2, usize::saturating_add)
}

#[cfg(test)]
mod tests;
