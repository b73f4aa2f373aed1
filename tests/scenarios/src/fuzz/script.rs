//! An input: what happens to a filter, one step a line, in an order and with arguments that are the
//! fuzzer's choice.
//!
//! It is text, and not bytes that something turns into steps, so that an input in the corpus means
//! the same after the fuzzer has changed, and so that a person can read and edit one:
//!
//! ```text
//! gateway kong
//! configure '{"resolver":{"upstream":"resolver:1"},"request":{"set":{"headers":{"x-key":"{vault://a/b}"}}}}'
//! request GET a.example /v1 '' x-key mine
//! answer 0 ok
//! ```
//!
//! Every text is an input: a word that nobody knows does nothing, an argument that is missing is
//! empty. The words are those of [`super::steps`].

use std::fmt;

/// No input is longer: what more steps would find, fewer find as well.
pub(super) const MAX_STEPS: usize = 64;

/// No argument is longer, in bytes.
pub(super) const MAX_ARGUMENT: usize = 48 * 1024;

/// The steps of one input.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Script {
    /// In their order.
    pub steps: Vec<Step>,
}

/// A word and its arguments.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Step {
    /// What is done.
    pub word: String,
    /// With what.
    pub arguments: Vec<Vec<u8>>,
}

impl Script {
    /// Reads an input.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let steps = text.split(|byte| *byte == b'\n').filter_map(Step::parse);
        Self {
            steps: steps.take(MAX_STEPS).collect(),
        }
    }

    /// How large it is.
    #[must_use]
    pub fn size(&self) -> usize {
        self.to_string().len()
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl Step {
    /// A step.
    #[must_use]
    pub fn new(word: &str, arguments: &[&[u8]]) -> Self {
        Self {
            word: word.to_owned(),
            arguments: arguments.iter().map(|bytes| bytes.to_vec()).collect(),
        }
    }

    /// An argument; empty if there is none.
    #[must_use]
    pub fn bytes(&self, at: usize) -> &[u8] {
        self.arguments.get(at).map_or(&[], Vec::as_slice)
    }

    /// An argument as text.
    #[must_use]
    pub fn text(&self, at: usize) -> String {
        String::from_utf8_lossy(self.bytes(at)).into_owned()
    }

    /// An argument as a number; what is none is 0.
    #[must_use]
    pub fn number(&self, at: usize) -> u64 {
        self.text(at).parse().unwrap_or(0)
    }

    /// The arguments from here on, two by two.
    #[must_use]
    pub fn pairs(&self, from: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let rest = self.arguments.get(from..).unwrap_or_default();
        let pairs = rest.chunks(2);
        pairs
            .map(|pair| (pair[0].clone(), pair.get(1).cloned().unwrap_or_default()))
            .collect()
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = Vec::new();
        let mut rest = line;
        loop {
            let start = rest.iter().position(|byte| *byte != b' ');
            rest = start.map_or(&[][..], |start| &rest[start..]);
            let Some(first) = rest.first() else { break };
            let (word, tail) = match first {
                b'\'' => quoted(&rest[1..]),
                _ => {
                    let end = rest.iter().position(|byte| *byte == b' ');
                    let (word, tail) = rest.split_at(end.unwrap_or(rest.len()));
                    (word.to_vec(), tail)
                }
            };
            words.push(word);
            rest = tail;
        }
        let mut words = words.into_iter();
        let word = String::from_utf8_lossy(&words.next()?).into_owned();
        let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        if word.is_empty() || !word.chars().all(is_word) {
            return None;
        }
        let arguments = words.map(|mut word| {
            word.truncate(MAX_ARGUMENT);
            word
        });
        Some(Self {
            word,
            arguments: arguments.collect(),
        })
    }
}

/// What stands up to the next quote, and what comes behind it.
fn quoted(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, tail) {
            (b'\'', _) => return (out, rest),
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).unwrap_or_default();
                out.push(u8::from_str_radix(digits, 16).unwrap_or(b'?'));
                rest = after;
            }
            (b'\\', [b'n', after @ ..]) => {
                out.push(b'\n');
                rest = after;
            }
            (b'\\', [next, after @ ..]) => {
                out.push(*next);
                rest = after;
            }
            _ => out.push(byte),
        }
    }
    (out, rest)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.word)?;
        for argument in &self.arguments {
            f.write_str(" ")?;
            let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'\'' | b'\\');
            if !argument.is_empty() && argument.iter().all(plain) {
                f.write_str(&String::from_utf8_lossy(argument))?;
                continue;
            }
            f.write_str("'")?;
            for byte in argument {
                match byte {
                    b'\n' => f.write_str("\\n")?,
                    b'\'' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
                    b' '..=b'~' => write!(f, "{}", char::from(*byte))?,
                    _ => write!(f, "\\x{byte:02x}")?,
                }
            }
            f.write_str("'")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let step = Step::new(
            "configure",
            &[b"", b"a b'c\\\n\xff\0", b"plain", b"{\"x\":1}"],
        );
        let script = Script {
            steps: vec![step.clone(), Step::new("tick", &[])],
        };
        assert_eq!(Script::parse(script.to_string().as_bytes()), script);
        assert_eq!(step.number(2), 0);
        assert_eq!(step.bytes(9), b"");
    }

    #[test]
    fn every_text_is_an_input() {
        for text in ["", "'", "'\\", "a '\\x", "  \n# x\n a 'b'c", "\u{fffd}"] {
            let script = Script::parse(text.as_bytes());
            let again = Script::parse(script.to_string().as_bytes());
            assert_eq!(again, script, "{text:?}");
        }
    }
}
