//! The texts of a rule's values, and what they may become.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use vaultref_contract::{Part, Template};

use crate::fuzz::resolver::Resolver;

#[derive(Clone, Debug)]
pub(super) enum Text {
    Basic(Template, Template),
    /// Not of the grammar that is known here.
    Opaque(String),
    Plain(Template),
}

impl Text {
    pub(super) fn read(text: &str) -> Self {
        match Template::parse(text) {
            Ok(template) => Self::Plain(template),
            Err(_) => Self::Opaque(text.to_owned()),
        }
    }

    pub(super) fn references(&self) -> Vec<&str> {
        match self {
            Self::Basic(username, password) => username
                .references()
                .chain(password.references())
                .map(vaultref_contract::ReferenceText::as_str)
                .collect(),
            Self::Opaque(_) => Vec::new(),
            Self::Plain(template) => template
                .references()
                .map(vaultref_contract::ReferenceText::as_str)
                .collect(),
        }
    }

    pub(super) fn has_references(&self) -> bool {
        matches!(self, Self::Opaque(_)) || !self.references().is_empty()
    }

    pub(super) fn is_value(&self, value: &[u8], resolver: &Resolver) -> bool {
        match self {
            Self::Opaque(text) => !text.contains("vault://") || !has_reference(value),
            Self::Plain(template) => is_rendered(template.parts(), value, resolver),
            Self::Basic(username, password) => {
                let pair = value.strip_prefix(b"Basic ");
                let pair = pair.and_then(|text| STANDARD.decode(text).ok());
                pair.is_some_and(|pair| {
                    let mut colons = pair.iter().enumerate();
                    colons.any(|(at, byte)| {
                        *byte == b':'
                            && is_rendered(username.parts(), &pair[..at], resolver)
                            && is_rendered(password.parts(), &pair[at + 1..], resolver)
                    })
                })
            }
        }
    }
}

/// Whether a value is what these pieces make with secrets that were given for their references.
fn is_rendered(parts: &[Part], value: &[u8], resolver: &Resolver) -> bool {
    let Some((first, rest)) = parts.split_first() else {
        return value.is_empty();
    };
    let goes_on = |piece: &[u8]| {
        value
            .strip_prefix(piece)
            .is_some_and(|left| is_rendered(rest, left, resolver))
    };
    match first {
        Part::Text(text) => goes_on(text.as_bytes()),
        Part::Reference(found) => {
            let text = found.as_str();
            match text.split_once("$(") {
                None => resolver.given(text).iter().any(|secret| goes_on(secret)),
                Some((start, _)) => resolver
                    .references()
                    .filter(|known| known.starts_with(start))
                    .any(|known| resolver.given(known).iter().any(|secret| goes_on(secret))),
            }
        }
    }
}

/// Whether a reference that could be asked for stands in a text.
pub(super) fn has_reference(value: &[u8]) -> bool {
    // Not those of a secret, which are a text.
    let text = String::from_utf8_lossy(value).replace("{vault://decoy/x}", "");
    Template::parse(&text).is_ok_and(|template| template.has_references())
}
