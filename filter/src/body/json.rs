//! Fields of a JSON body, named by JSON pointers.
//!
//! The body is walked once, along the pointers only, and copied with what is written in its place.
//! Every decision is taken on what the client sent.

use vaultref_contract::Secret;

use super::scan::Scanner;
use super::text::{is_name, quoted_length, unquote};
use super::{BodyError, pointer};

mod editor;

use editor::Editor;

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

/// Whether the bytes are JSON, no deeper than it may be.
pub(crate) fn check(body: &[u8]) -> Result<(), BodyError> {
    let mut scanner = Scanner::new(body)?;
    scanner.value(0)?;
    scanner.end()
}

/// The text at a pointer into what was checked; none if nothing is there, or something that is no text.
pub(crate) fn text(body: &[u8], path: &[String]) -> Result<Option<String>, BodyError> {
    let mut scanner = Scanner::new(body)?;
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

#[cfg(test)]
mod tests;
