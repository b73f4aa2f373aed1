//! The values that a scenario has put into the daemon: nothing that anybody logs or shows may hold one.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// A shorter value stands in many a line by chance.
const SHORTEST: usize = 4;

/// What to look for. Scenarios give their secrets values that are nothing else: a value that is also a
/// path or a word of a log would be found there.
#[derive(Default)]
pub(super) struct Values(Mutex<BTreeSet<String>>);

impl Values {
    /// Remembers a value: a text, the texts in a JSON object, what stands between control characters.
    pub(super) fn keep(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        match serde_json::from_str(&text) {
            Ok(object @ Value::Object(_)) => self.keep_all(&object),
            _ => {
                let pieces = text.split(|c: char| c.is_control() || c == '\u{fffd}');
                let long = pieces
                    .map(str::trim)
                    .filter(|piece| piece.len() >= SHORTEST);
                self.lock().extend(long.map(str::to_owned));
            }
        }
    }

    fn keep_all(&self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.keep_all(item)),
            Value::Object(members) => members.values().for_each(|member| self.keep_all(member)),
            Value::String(text) => self.keep(text.as_bytes()),
            Value::Bool(_) | Value::Null | Value::Number(_) => {}
        }
    }

    /// The lines of a text that hold a value, as a word of its own.
    pub(super) fn found_in(&self, text: &str) -> Vec<String> {
        let values = self.lock();
        let holds = |line: &&str| values.iter().any(|value| has_word(line, value));
        text.lines().filter(holds).map(str::to_owned).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Values({})", self.lock().len())
    }
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_as_words() {
        let values = Values::default();
        values.keep(b"ours\n");
        values.keep(br#"{"a":{"b":["deep value"]},"n":7,"s":"xy"}"#);
        values.keep(b"evil\r\nx-injected: 1");
        values.keep(b"\xff octets\0");
        for line in [
            "Bearer ours",
            "ours",
            "\"ours\"",
            "x=ours,",
            "a deep value.",
            "<evil>",
            "octets",
        ] {
            assert_eq!(values.found_in(line), [line], "{line}");
        }
        for line in ["yours", "ours_2", "hours", "xy", "7", "deep", "a", ""] {
            assert_eq!(values.found_in(line), [""; 0], "{line}");
        }
        assert_eq!(values.found_in("one\nthe ours\nthree"), ["the ours"]);
    }
}
