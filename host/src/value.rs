//! What of an object a reference gets: all of it, or the string under a key.
//!
//! One place for all backends, so that a key, a JSON pointer and base64 mean the same everywhere.

use std::cell::OnceCell;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use vaultref_contract::Secret;
use vaultref_contract::wire::FailureKind;
use zeroize::Zeroize as _;

/// Which value of an object is meant.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Selector {
    /// A name in the object, or a JSON pointer if there is no such name; none means all of it.
    pub(crate) key: Option<String>,
    /// The value is base64 text and its bytes are meant.
    pub(crate) base64_decode: bool,
}

/// An object's bytes, taken apart at most once however many keys are asked of it.
pub(crate) struct Content {
    bytes: Secret,
    document: OnceCell<Option<Wiped>>,
}

impl Content {
    pub(crate) fn new(bytes: Secret) -> Self {
        Self {
            bytes,
            document: OnceCell::new(),
        }
    }

    /// The number of bytes of the object.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes the value out of the object.
    ///
    /// # Errors
    /// `key-not-found`, or `wrong-type`: the object is no JSON object, the value no string, the text
    /// no base64.
    pub(crate) fn select(&self, selector: &Selector) -> Result<Secret, FailureKind> {
        let value = match &selector.key {
            // The object stays in the cache for other keys; this value has an owner of its own.
            None => self.bytes.duplicate(),
            Some(key) => Secret::new(self.under_key(key)?.as_bytes().to_vec()),
        };
        if selector.base64_decode {
            return decode(&value).ok_or(FailureKind::WrongType);
        }
        Ok(value)
    }

    fn under_key(&self, key: &str) -> Result<&str, FailureKind> {
        let document = self
            .document
            .get_or_init(|| serde_json::from_slice(self.bytes.expose()).ok().map(Wiped));
        let document = document.as_ref().map(|document| &document.0);
        let Some(Value::Object(members)) = document else {
            return Err(FailureKind::WrongType);
        };
        let pointed = || document.filter(|_| key.starts_with('/'))?.pointer(key);
        match members.get(key).or_else(pointed) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(FailureKind::WrongType),
            None => Err(FailureKind::KeyNotFound),
        }
    }
}

fn decode(text: &Secret) -> Option<Secret> {
    let trimmed = text.expose().trim_ascii();
    let mut bytes = vec![0; base64::decoded_len_estimate(trimmed.len())];
    let length = STANDARD.decode_slice(trimmed, &mut bytes).ok();
    bytes.truncate(length.unwrap_or_default());
    let secret = Secret::new(bytes);
    length.map(|_| secret)
}

/// A JSON document whose strings are wiped when it is dropped.
pub(crate) struct Wiped(pub(crate) Value);

impl Wiped {
    /// Takes out what the JSON pointer leads to; null if that is nothing.
    pub(crate) fn take(&mut self, pointer: &str) -> Value {
        let found = self.0.pointer_mut(pointer);
        found.map(Value::take).unwrap_or_default()
    }

    /// Its JSON text, in memory of just that size: text that grows leaves copies behind.
    pub(crate) fn text(&self) -> Option<Secret> {
        let mut size = Size(0);
        serde_json::to_writer(&mut size, &self.0).ok()?;
        let mut text = Vec::with_capacity(size.0);
        let written = serde_json::to_writer(&mut text, &self.0);
        let text = Secret::new(text);
        written.ok().map(|()| text)
    }
}

/// Counts what is written to it.
struct Size(usize);

impl Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        // A list of what is still to be wiped: the nesting comes from outside.
        let mut open = vec![&mut self.0];
        while let Some(value) = open.pop() {
            match value {
                Value::Array(items) => open.extend(items),
                Value::Object(members) => open.extend(members.iter_mut().map(|(_, item)| item)),
                Value::String(text) => text.zeroize(),
                Value::Bool(_) | Value::Null | Value::Number(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: &str = r#"{"user":"ada","n":1,"db":{"password":"p","list":["zero","one"]},
        "/db/password":"flat","/a~1":"tilde","b64":"aGk=","bad":"a*","empty":"","x/y":"slash"}"#;

    fn select(
        key: Option<&str>,
        base64_decode: bool,
        content: &str,
    ) -> Result<String, FailureKind> {
        let selector = Selector {
            key: key.map(str::to_owned),
            base64_decode,
        };
        Content::new(Secret::from(content.to_owned()))
            .select(&selector)
            .map(|value| value.expose_text().expect("text").to_owned())
    }

    #[test]
    fn keys_pointers_and_types() {
        use FailureKind::{KeyNotFound, WrongType};
        let table: [(&str, Result<&str, FailureKind>); 14] = [
            ("user", Ok("ada")),
            ("empty", Ok("")),
            ("x/y", Ok("slash")),
            ("n", Err(WrongType)),
            ("db", Err(WrongType)),
            ("none", Err(KeyNotFound)),
            ("/db/password", Ok("flat")),
            ("/db/list/1", Ok("one")),
            ("/db/list/2", Err(KeyNotFound)),
            ("/db/list/01", Err(KeyNotFound)),
            ("/db/list", Err(WrongType)),
            ("/a~1", Ok("tilde")),
            ("/user", Ok("ada")),
            ("/", Err(KeyNotFound)),
        ];
        for (key, expected) in table {
            let expected = expected.map(str::to_owned);
            assert_eq!(select(Some(key), false, OBJECT), expected, "{key}");
        }
    }

    #[test]
    fn an_object_is_needed_for_a_key_only() {
        for text in ["plain", "", "[\"user\"]", "\"user\"", "1", "{", "{}x"] {
            assert_eq!(
                select(Some("user"), false, text),
                Err(FailureKind::WrongType),
                "{text}"
            );
            assert_eq!(select(None, false, text), Ok(text.to_owned()));
        }
    }

    #[test]
    fn base64_holds_for_the_value_that_was_chosen() {
        assert_eq!(select(Some("b64"), true, OBJECT), Ok("hi".to_owned()));
        assert_eq!(
            select(Some("bad"), true, OBJECT),
            Err(FailureKind::WrongType)
        );
        assert_eq!(select(None, true, " aGk=\n"), Ok("hi".to_owned()));
        assert_eq!(select(None, true, OBJECT), Err(FailureKind::WrongType));
    }
}
