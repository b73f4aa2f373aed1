//! A YAML or JSON document of which every value knows where it stands.
//!
//! Names keep their order, and one that stands twice stands twice here too. Numbers are kept as JSON
//! writes them. The texts are wiped when the document is dropped: configurations hold tokens.

pub(super) mod json;
pub(super) mod yaml;

use std::ops::Range;

use zeroize::Zeroizing;

/// How deeply a document may be nested.
const DEEPEST: usize = 128;

/// A value and the bytes of the source that it takes up.
#[derive(Clone)]
pub(super) struct Tree {
    pub(super) value: Value,
    pub(super) span: Range<usize>,
}

#[derive(Clone)]
pub(super) enum Value {
    Bool(bool),
    List(Vec<Tree>),
    Mapping(Vec<Member>),
    Null,
    Number(String),
    Text(Zeroizing<String>),
}

#[derive(Clone)]
pub(super) struct Member {
    pub(super) name: String,
    /// The byte at which the name stands.
    pub(super) at: usize,
    pub(super) tree: Tree,
}

/// A document that cannot be read, and the byte at which that shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unreadable {
    pub(super) at: usize,
    pub(super) problem: &'static str,
}

const TOO_DEEP: &str = "it is nested too deeply";

impl Tree {
    pub(super) fn new(value: Value, span: Range<usize>) -> Self {
        Self { value, span }
    }

    /// A member of a mapping.
    pub(super) fn member(&self, name: &str) -> Option<&Self> {
        let mut members = self.members().iter();
        members
            .find(|member| member.name == name)
            .map(|member| &member.tree)
    }

    /// The member at the end of a path of names.
    pub(super) fn descendant(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |tree, name| tree.member(name))
    }

    pub(super) fn members(&self) -> &[Member] {
        match &self.value {
            Value::Mapping(members) => members,
            _ => &[],
        }
    }

    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn is_mapping(&self) -> bool {
        matches!(self.value, Value::Mapping(_))
    }

    /// The byte at which what a JSON pointer leads to stands: a member's name, or a value. If there
    /// is no such thing, the nearest that would hold it.
    pub(super) fn place(&self, pointer: &str) -> usize {
        let mut at = self.span.start;
        let mut tree = self;
        for name in names(pointer) {
            let next = match &tree.value {
                Value::List(items) => name
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get(index))
                    .map(|item| (item.span.start, item)),
                Value::Mapping(members) => members
                    .iter()
                    .find(|member| member.name == name)
                    .map(|member| (member.at, &member.tree)),
                _ => None,
            };
            let Some((place, next)) = next else { break };
            (at, tree) = (place, next);
        }
        at
    }

    /// What a JSON pointer leads to.
    pub(super) fn get_mut(&mut self, pointer: &str) -> Option<&mut Self> {
        names(pointer).try_fold(self, |tree, name| match &mut tree.value {
            Value::List(items) => items.get_mut(name.parse::<usize>().ok()?),
            Value::Mapping(members) => members
                .iter_mut()
                .find(|member| member.name == name)
                .map(|member| &mut member.tree),
            _ => None,
        })
    }

    /// Every value with its JSON pointer, a mapping or list before what is in it.
    pub(super) fn walk<'a>(&'a self, visit: &mut impl FnMut(&str, &'a Self)) {
        self.walk_from(&mut String::new(), visit);
    }

    fn walk_from<'a>(&'a self, pointer: &mut String, visit: &mut impl FnMut(&str, &'a Self)) {
        visit(pointer, self);
        let length = pointer.len();
        for (index, item) in self.items().iter().enumerate() {
            pointer.push_str(&format!("/{index}"));
            item.walk_from(pointer, visit);
            pointer.truncate(length);
        }
        for member in self.members() {
            pointer.push_str(&child("", &member.name));
            member.tree.walk_from(pointer, visit);
            pointer.truncate(length);
        }
    }

    /// As JSON, which is YAML as well.
    pub(super) fn to_json(&self) -> Zeroizing<String> {
        // Room for it from the start, so that no growing buffer leaves a copy behind.
        let mut json = Zeroizing::new(String::with_capacity(self.json_size()));
        self.write(&mut json);
        json
    }

    fn write(&self, json: &mut String) {
        match &self.value {
            Value::Bool(yes) => json.push_str(if *yes { "true" } else { "false" }),
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    json.push(if index == 0 { '[' } else { ',' });
                    item.write(json);
                }
                json.push_str(if items.is_empty() { "[]" } else { "]" });
            }
            Value::Mapping(members) => {
                for (index, member) in members.iter().enumerate() {
                    json.push(if index == 0 { '{' } else { ',' });
                    write_text(json, &member.name);
                    json.push(':');
                    member.tree.write(json);
                }
                json.push_str(if members.is_empty() { "{}" } else { "}" });
            }
            Value::Null => json.push_str("null"),
            Value::Number(number) => json.push_str(number),
            Value::Text(text) => write_text(json, text),
        }
    }

    fn json_size(&self) -> usize {
        match &self.value {
            Value::Bool(_) | Value::Null => 5,
            Value::List(items) => items.iter().map(|item| item.json_size() + 1).sum::<usize>() + 2,
            Value::Mapping(members) => {
                let sizes = members
                    .iter()
                    .map(|member| text_size(&member.name) + member.tree.json_size() + 2);
                sizes.sum::<usize>() + 2
            }
            Value::Number(number) => number.len(),
            Value::Text(text) => text_size(text),
        }
    }
}

fn write_text(json: &mut String, text: &str) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            // All of these are below 0x10000.
            c if c.is_control() => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => json.push(c),
        }
    }
    json.push('"');
}

fn text_size(text: &str) -> usize {
    let sizes = text.chars().map(|c| match c {
        '"' | '\\' => 2,
        c if c.is_control() => 6,
        c => c.len_utf8(),
    });
    sizes.sum::<usize>() + 2
}

/// The JSON pointer of a member.
pub(super) fn child(parent: &str, name: &str) -> String {
    format!("{parent}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// The names that a JSON pointer consists of.
pub(super) fn names(pointer: &str) -> impl Iterator<Item = String> {
    let names = pointer.split('/').skip(1);
    names.map(|name| name.replace("~1", "/").replace("~0", "~"))
}

/// The byte of a scalar's source at which a byte of its text comes from. `raw` is the source with its
/// quotes or block header.
pub(super) fn offset_in_source(raw: &str, text: &str, offset: usize) -> usize {
    let mut rest = raw.char_indices().peekable();
    let first = raw.chars().next();
    match first {
        Some('|' | '>') if !text.starts_with(['|', '>']) || raw.contains('\n') => {
            // The content of a block begins in the next line.
            while rest.next().is_some_and(|(_, c)| c != '\n') {}
        }
        Some('"' | '\'') => {
            rest.next();
        }
        _ => {}
    }
    let is_escaped = first == Some('"');
    let mut seen = 0;
    for c in text.chars() {
        // The indentation, line breaks and quotes that the text does not have are passed over.
        loop {
            let Some(&(at, found)) = rest.peek() else {
                return raw.len();
            };
            if is_escaped && found == '\\' {
                if seen >= offset {
                    return at;
                }
                rest.next();
                let digits = match rest.next() {
                    Some((_, 'x')) => 2,
                    Some((_, 'u')) => 4,
                    Some((_, 'U')) => 8,
                    // An escaped line break is none.
                    Some((_, '\n')) => continue,
                    _ => 0,
                };
                for _ in 0..digits {
                    rest.next();
                }
                break;
            }
            if found == c {
                if seen >= offset {
                    return at;
                }
                rest.next();
                break;
            }
            if !(found.is_whitespace() || matches!(found, '\'' | '"')) {
                return at;
            }
            rest.next();
        }
        seen += c.len_utf8();
    }
    raw.len()
}

#[cfg(test)]
mod tests;
