//! Copies a body while it changes the fields that are named.

use std::ops::Range;

use super::{Edit, Verb};
use crate::body::scan::Scanner;
use crate::body::text::{push_quoted, unquote};
use crate::body::{BodyError, pointer};

/// A body on its way from the scanner to what is written.
pub(super) struct Editor<'a> {
    pub(super) scanner: Scanner<'a>,
    pub(super) out: Vec<u8>,
}

impl Editor<'_> {
    pub(super) fn whole(&mut self, edits: &[&Edit<'_>]) -> Result<(), BodyError> {
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
                // Once, not for each edit: how many members there are is the client's choice.
                let written = unquote(self.scanner.part(name.clone()));
                let written = written.as_deref();
                let here = matching(edits, &mut seen, |_, edit| {
                    written == Some(edit.name(depth))
                })?;
                let place = Place {
                    start,
                    name: Some(name),
                    is_displaced: displaced.iter().any(|to| written == Some(*to)),
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
        // Read once, not for each item.
        let places = edits.iter().map(|edit| pointer::index(edit.name(depth)));
        let places: Vec<Option<usize>> = places.collect();
        let mut seen = vec![false; edits.len()];
        let mut length = 0_usize;
        let mut start = self.scanner.at;
        self.scanner.space();
        if self.scanner.peek() != Some(b']') {
            loop {
                self.scanner.space();
                let here = matching(edits, &mut seen, |at, _| {
                    places.get(at) == Some(&Some(length))
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
            self.copy_space();
            return Ok(());
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
                self.copy_space();
                return Ok(());
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
        let inner = depth.saturating_add(1);
        let renamed = |edit: &&'e Edit<'_>| match edit.verb {
            Verb::Rename(to) if edit.ends(inner) => Some((edit.name(depth), to)),
            _ => None,
        };
        let mut renames: Vec<_> = edits.iter().filter_map(renamed).collect();
        let mut displaced = Vec::new();
        let mut scanner = self.scanner.clone();
        scanner.expect(b'{')?;
        scanner.space();
        if renames.is_empty() || scanner.peek() == Some(b'}') {
            return Ok(displaced);
        }
        loop {
            scanner.space();
            let name = scanner.name()?;
            let name = unquote(scanner.part(name));
            renames.retain(|(from, to)| {
                let is_there = name.as_deref() == Some(*from);
                displaced.extend(is_there.then_some(*to));
                !is_there
            });
            scanner.value(inner)?;
            scanner.space();
            if !scanner.take(b',') {
                return Ok(displaced);
            }
        }
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
    goes_on: impl Fn(usize, &Edit<'e>) -> bool,
) -> Result<Vec<&'a Edit<'e>>, BodyError> {
    let mut found = Vec::new();
    for (at, (edit, seen)) in edits.iter().zip(seen).enumerate() {
        if goes_on(at, edit) {
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
