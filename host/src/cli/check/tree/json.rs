//! JSON into a [`Tree`].
//!
//! serde_json decides what is JSON; this only finds out where things stand in a text of which that is
//! known.

use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use super::{DEEPEST, Member, TOO_DEEP, Tree, Unreadable, Value};

/// Reads a text.
pub(in super::super) fn parse(text: &str) -> Result<Tree, Unreadable> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| Unreadable {
        at: offset(text, error.line(), error.column()),
        problem: "it is not JSON",
    })?;
    Scanner { text, at: 0 }.value(0)
}

fn offset(text: &str, line: usize, column: usize) -> usize {
    let mut lines = text.split_inclusive('\n');
    let before: usize = lines
        .by_ref()
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    let within = lines.next().unwrap_or_default().len();
    let mut at = before + column.saturating_sub(1).min(within);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    fn value(&mut self, depth: usize) -> Result<Tree, Unreadable> {
        self.skip_space();
        let start = self.at;
        if depth > DEEPEST {
            return Err(Unreadable {
                at: start,
                problem: TOO_DEEP,
            });
        }
        let value = match self.byte() {
            b'{' => Value::Mapping(self.members(depth)?),
            b'[' => Value::List(self.items(depth)?),
            b'"' => Value::Text(self.string()?),
            b't' => self.word(4, Value::Bool(true)),
            b'f' => self.word(5, Value::Bool(false)),
            b'n' => self.word(4, Value::Null),
            _ => self.number(),
        };
        Ok(Tree::new(value, start..self.at))
    }

    fn members(&mut self, depth: usize) -> Result<Vec<Member>, Unreadable> {
        let mut members = Vec::new();
        self.at += 1;
        while self.is_before_another(b'}') {
            let at = self.at;
            let name = self.string()?;
            self.skip_space();
            // The colon.
            self.at += 1;
            members.push(Member {
                name: name.to_string(),
                at,
                tree: self.value(depth + 1)?,
            });
        }
        Ok(members)
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Tree>, Unreadable> {
        let mut items = Vec::new();
        self.at += 1;
        while self.is_before_another(b']') {
            items.push(self.value(depth + 1)?);
        }
        Ok(items)
    }

    /// Moves to the next member or item, or past the end.
    fn is_before_another(&mut self, end: u8) -> bool {
        self.skip_space();
        if self.byte() == b',' {
            self.at += 1;
            self.skip_space();
        }
        let is_end = self.byte() == end;
        self.at += usize::from(is_end);
        !is_end
    }

    fn string(&mut self) -> Result<Zeroizing<String>, Unreadable> {
        let start = self.at;
        self.at += 1;
        while self.byte() != b'"' {
            self.at += if self.byte() == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        let written = self.text.get(start..self.at).unwrap_or_default();
        serde_json::from_str(written)
            .map(Zeroizing::new)
            .map_err(|_| Unreadable {
                at: start,
                problem: "a text has an escape that stands for no character",
            })
    }

    fn word(&mut self, length: usize, value: Value) -> Value {
        self.at += length;
        value
    }

    fn number(&mut self) -> Value {
        let start = self.at;
        while matches!(self.byte(), b'+' | b'-' | b'.' | b'0'..=b'9' | b'E' | b'e') {
            self.at += 1;
        }
        Value::Number(self.text.get(start..self.at).unwrap_or_default().to_owned())
    }

    fn skip_space(&mut self) {
        while matches!(self.byte(), b' ' | b'\t' | b'\r' | b'\n') {
            self.at += 1;
        }
    }

    /// The byte at hand. (At the end the quote ends a text and stands for nothing else; what is JSON
    /// never gets there.)
    fn byte(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(b'"')
    }
}
