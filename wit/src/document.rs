//! Every reference of a JSON document, with the place where it stands.
//!
//! Only string values are looked at, never the names of members, and nothing is resolved here.

use serde_json::Value;
use thiserror::Error;

use crate::{Template, TextError};

/// A string of the document that holds references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where the string stands, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// The string, taken apart.
    pub template: Template,
}

/// A string of the document whose references cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{pointer}: {error}")]
pub struct DocumentError {
    /// Where the string stands, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong with it, and at which byte of the string.
    pub error: TextError,
}

/// What a walk over a document came across, in the document's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// The strings with references.
    pub found: Vec<Found>,
    /// The strings that cannot be read.
    pub errors: Vec<DocumentError>,
}

/// Walks over a document. It does not stop at the first error, so that one report can name all.
#[must_use]
pub fn references_in(document: &Value) -> Walk {
    let mut walk = Walk::default();
    // A list of what is still to be seen, so that no nesting exhausts the stack.
    let mut open = vec![(String::new(), document)];
    while let Some((pointer, value)) = open.pop() {
        match value {
            Value::Array(items) => {
                let children = items.iter().enumerate();
                open.extend(
                    children
                        .rev()
                        .map(|(index, item)| (format!("{pointer}/{index}"), item)),
                );
            }
            Value::Object(members) => {
                let children = members.iter().rev();
                open.extend(children.map(|(name, item)| (member_pointer(&pointer, name), item)));
            }
            Value::String(text) => match Template::parse(text) {
                Ok(template) if template.has_references() => {
                    walk.found.push(Found { pointer, template });
                }
                Ok(_) => {}
                Err(error) => walk.errors.push(DocumentError { pointer, error }),
            },
            Value::Bool(_) | Value::Null | Value::Number(_) => {}
        }
    }
    walk
}

fn member_pointer(parent: &str, name: &str) -> String {
    format!("{parent}/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_reference_has_its_pointer() {
        let document = json!({
            "a": ["x", "{vault://env/one}", {"deep/er~": "Bearer {vault://env/two}"}],
            "b": {"": "{vault://env/three}{vault://env/four}"},
            "c": [1, true, null, "{{vault://env/not}"],
            "{vault://env/name}": "names are no references",
        });
        let walk = references_in(&document);
        let found: Vec<_> = walk
            .found
            .iter()
            .flat_map(|found| {
                found
                    .template
                    .references()
                    .map(|r| format!("{} {}", found.pointer, r.as_str()))
            })
            .collect();
        assert_eq!(
            found,
            [
                "/a/1 {vault://env/one}",
                "/a/2/deep~1er~0 {vault://env/two}",
                "/b/ {vault://env/three}",
                "/b/ {vault://env/four}",
            ]
        );
        for found in &walk.found {
            let text = document.pointer(&found.pointer).and_then(Value::as_str);
            assert_eq!(text, Some(found.template.to_string().as_str()));
        }
        assert_eq!(walk.errors, []);
    }

    #[test]
    fn all_errors_are_named_not_only_the_first() {
        let walk = references_in(&json!({"a": "{vault://env/", "b": ["ok", "-{vault://env/}"]}));
        let errors: Vec<_> = walk.errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(
            errors[0].starts_with("/a: ") && errors[0].ends_with("(at byte 0)"),
            "{errors:?}"
        );
        assert!(
            errors[1].starts_with("/b/1: ") && errors[1].ends_with("(at byte 14)"),
            "{errors:?}"
        );
    }

    #[test]
    fn deep_nesting_does_not_exhaust_the_stack() {
        let mut document = json!("{vault://env/deep}");
        for _ in 0..50_000 {
            document = Value::Array(vec![document]);
        }
        assert_eq!(references_in(&document).found.len(), 1);
        // Dropping a value this deep would recurse; take it apart by hand.
        while let Value::Array(mut items) = document {
            document = items.pop().unwrap_or_default();
        }
    }
}
