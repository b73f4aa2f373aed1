//! YAML into [`Tree`]s, one a document.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};
use zeroize::Zeroizing;

use super::{DEEPEST, Member, TOO_DEEP, Tree, Unreadable, Value};

/// The most values that there may be: aliases of aliases grow without bounds.
const MOST_VALUES: usize = 1_000_000;

/// Reads a text.
pub(in super::super) fn parse(text: &str) -> Result<Vec<Tree>, Unreadable> {
    let mut reader = Reader {
        offsets: Offsets::new(text),
        documents: Vec::new(),
        open: Vec::new(),
        anchors: HashMap::new(),
        values: 0,
    };
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => reader.take(event, span)?,
            Err(error) => {
                return Err(Unreadable {
                    at: reader.offsets.byte(error.marker().index()),
                    problem: "it is not YAML",
                });
            }
        }
    }
    Ok(reader.documents)
}

struct Reader {
    offsets: Offsets,
    documents: Vec<Tree>,
    open: Vec<Open>,
    anchors: HashMap<usize, Tree>,
    values: usize,
}

/// A list or mapping that has not ended.
struct Open {
    tree: Tree,
    anchor: usize,
    /// The name of the member whose value comes next.
    name: Option<(String, usize)>,
}

impl Reader {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Unreadable> {
        let range = self.offsets.range(span);
        match event {
            Event::Alias(anchor) => {
                // One that is not there, or is within itself, stands for nothing.
                let tree = self.anchors.get(&anchor).cloned();
                self.put(tree.unwrap_or(Tree::new(Value::Null, range)), 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(text, style, tag.as_deref());
                self.put(Tree::new(value, range), anchor)
            }
            Event::SequenceStart(anchor, _) => self.open(Value::List(Vec::new()), anchor, &range),
            Event::MappingStart(anchor, _) => self.open(Value::Mapping(Vec::new()), anchor, &range),
            Event::MappingEnd | Event::SequenceEnd => match self.open.pop() {
                None => Ok(()),
                Some(mut ended) => {
                    ended.tree.span.end = range.end.max(ended.tree.span.start);
                    self.put(ended.tree, ended.anchor)
                }
            },
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::DocumentEnd | Event::Nothing | Event::StreamEnd | Event::StreamStart => Ok(()),
        }
    }

    fn open(
        &mut self,
        value: Value,
        anchor: usize,
        range: &Range<usize>,
    ) -> Result<(), Unreadable> {
        if self.open.len() >= DEEPEST {
            return Err(Unreadable {
                at: range.start,
                problem: TOO_DEEP,
            });
        }
        self.open.push(Open {
            tree: Tree::new(value, range.clone()),
            anchor,
            name: None,
        });
        Ok(())
    }

    fn put(&mut self, tree: Tree, anchor: usize) -> Result<(), Unreadable> {
        let at = tree.span.start;
        tree.walk(&mut |_, _| self.values += 1);
        if self.values > MOST_VALUES {
            let problem = "it has too many values";
            return Err(Unreadable { at, problem });
        }
        if anchor != 0 {
            self.anchors.insert(anchor, tree.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.documents.push(tree);
            return Ok(());
        };
        match (&mut open.tree.value, open.name.take()) {
            (Value::List(items), _) => items.push(tree),
            (Value::Mapping(members), Some((name, at))) => members.push(Member { name, at, tree }),
            (_, _) => open.name = Some((name(&tree), at)),
        }
        Ok(())
    }
}

/// A member's name; a list or mapping as a name is as it would be written in JSON.
fn name(tree: &Tree) -> String {
    match tree.text() {
        Some(text) => text.to_owned(),
        None => tree.to_json().to_string(),
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let is_text = style != ScalarStyle::Plain
        || tag.is_some_and(|tag| matches!(&*tag.suffix, "" | "str" | "!"));
    if is_text {
        return Value::Text(Zeroizing::new(text.into_owned()));
    }
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        plain => match number(plain) {
            Some(number) => Value::Number(number),
            None => Value::Text(Zeroizing::new(text.into_owned())),
        },
    }
}

/// A number as JSON writes it. (What is no number in JSON, such as `.inf`, is left a text: no field
/// takes it, and the error says so.)
fn number(text: &str) -> Option<String> {
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (if text.starts_with('-') { "-" } else { "" }, digits),
        None => ("", text),
    };
    let whole = match digits.get(..2) {
        Some("0x") => u64::from_str_radix(digits.get(2..)?, 16).ok(),
        Some("0o") => u64::from_str_radix(digits.get(2..)?, 8).ok(),
        _ if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok(),
        _ => None,
    };
    if let Some(whole) = whole {
        return Some(format!("{sign}{whole}"));
    }
    let starts_as_one = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let plain = |byte: u8| byte.is_ascii_digit() || b".eE+-".contains(&byte);
    if !starts_as_one || !digits.bytes().all(plain) {
        return None;
    }
    let float: f64 = digits
        .parse()
        .ok()
        .filter(|float: &f64| float.is_finite())?;
    Some(format!("{sign}{float:?}"))
}

/// Characters of a text to its bytes.
struct Offsets {
    /// The byte of each character; none if they are the same.
    bytes: Option<Vec<usize>>,
    length: usize,
}

impl Offsets {
    fn new(text: &str) -> Self {
        let bytes = || text.char_indices().map(|(at, _)| at).collect();
        Self {
            bytes: (!text.is_ascii()).then(bytes),
            length: text.len(),
        }
    }

    fn byte(&self, character: usize) -> usize {
        let at = match &self.bytes {
            None => Some(character),
            Some(bytes) => bytes.get(character).copied(),
        };
        at.unwrap_or(self.length).min(self.length)
    }

    fn range(&self, span: Span) -> Range<usize> {
        let start = self.byte(span.start.index());
        start..self.byte(span.end.index()).max(start)
    }
}
