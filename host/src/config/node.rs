//! A configuration taken apart by hand.
//!
//! serde's own messages quote what they could not read, which here may be a token. A [`Node`] knows
//! its place in the file, and its errors name the place and what is wanted, never what was found.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use serde_yaml_ng::Value;
use thiserror::Error;
use vaultref_contract::{Part, ReferenceText, Secret, Template};

use super::files::Files;

/// A value of the configuration and the place where it stands.
#[derive(Clone)]
pub struct Node {
    place: String,
    value: Value,
    /// Comes from an environment variable, where everything is text.
    text_only: bool,
}

impl Node {
    /// The root of a document.
    pub(super) fn root(value: Value) -> Self {
        Self {
            place: String::new(),
            value,
            text_only: false,
        }
    }

    /// A field that an environment variable gives.
    pub(super) fn variable(name: String, value: &Secret) -> Result<Self, ConfigError> {
        let text = value
            .expose_text()
            .ok_or_else(|| ConfigError::new(&name, "is not UTF-8"))?;
        Ok(Self {
            value: Value::String(text.to_owned()),
            place: name,
            text_only: true,
        })
    }

    /// An error at this place.
    #[must_use]
    pub fn error(&self, problem: impl Into<String>) -> ConfigError {
        ConfigError::new(&self.place, problem)
    }

    /// Where it stands.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Whether it is a mapping.
    pub(super) fn is_mapping(&self) -> bool {
        self.value.is_mapping()
    }

    /// A mapping's members.
    ///
    /// # Errors
    /// It is none, or has a name that is no text.
    pub fn fields(self) -> Result<Fields, ConfigError> {
        let Value::Mapping(members) = self.value else {
            return Err(self.error("must be a mapping"));
        };
        let mut fields = Fields::empty(self.place);
        for (name, value) in members {
            let Value::String(name) = name else {
                return Err(ConfigError::new(
                    &fields.place,
                    "has a name that is no text",
                ));
            };
            // `token:` with nothing behind it says nothing, as in Kong's own files.
            if !value.is_null() {
                let place = match fields.place.as_str() {
                    "" => name.clone(),
                    parent => format!("{parent}.{name}"),
                };
                fields.members.push((
                    name,
                    Self {
                        place,
                        value,
                        text_only: self.text_only,
                    },
                ));
            }
        }
        Ok(fields)
    }

    /// A list's items.
    ///
    /// # Errors
    /// It is none.
    pub fn list(self) -> Result<Vec<Self>, ConfigError> {
        let Value::Sequence(items) = self.value else {
            return Err(self.error("must be a list"));
        };
        let items = items.into_iter().enumerate().map(|(index, value)| Self {
            place: format!("{}[{index}]", self.place),
            value,
            text_only: self.text_only,
        });
        Ok(items.collect())
    }

    /// A text.
    ///
    /// # Errors
    /// It is none.
    pub fn text(&self) -> Result<String, ConfigError> {
        match &self.value {
            Value::String(text) => Ok(text.clone()),
            _ => Err(self.error("must be text")),
        }
    }

    /// A text that is secret.
    ///
    /// # Errors
    /// As [`Node::text`].
    pub fn secret(&self) -> Result<Secret, ConfigError> {
        self.text().map(Secret::from)
    }

    /// The references in it and below.
    fn references(&self, found: &mut Vec<ReferenceText>) -> Result<(), ConfigError> {
        each_text(&self.value, &mut |text| {
            let template = Template::parse(text).map_err(|error| self.error(error.to_string()))?;
            for reference in template.references() {
                if !found.contains(reference) {
                    found.push(reference.clone());
                }
            }
            Ok(())
        })
    }

    fn has_references(&self) -> bool {
        let mut found = Vec::new();
        self.references(&mut found).is_ok() && !found.is_empty()
    }

    /// The same with values in the place of references. What a value then is, is given as text.
    fn filled<'a>(mut self, value: &impl Fn(&str) -> Option<&'a str>) -> Self {
        if self.has_references() {
            fill(&mut self.value, value);
            self.text_only = true;
        }
        self
    }

    /// A list of texts.
    ///
    /// # Errors
    /// It is none.
    pub fn texts(self) -> Result<Vec<String>, ConfigError> {
        self.list()?.iter().map(Self::text).collect()
    }

    /// One of some words.
    ///
    /// # Errors
    /// It is another; the message lists the words.
    pub fn word(&self, words: &[&'static str]) -> Result<&'static str, ConfigError> {
        let given = self.value.as_str();
        words
            .iter()
            .find(|word| given == Some(**word))
            .copied()
            .ok_or_else(|| self.error(format!("must be one of {}", words.join(", "))))
    }

    /// A whole number.
    ///
    /// # Errors
    /// It is none, or out of the range.
    pub fn integer(&self, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
        let number = match &self.value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) if self.text_only => text.parse().ok(),
            _ => None,
        };
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (least, most) = range.into_inner();
                self.error(format!("must be a whole number from {least} to {most}"))
            })
    }

    /// True or false.
    ///
    /// # Errors
    /// It is neither.
    pub fn boolean(&self) -> Result<bool, ConfigError> {
        match &self.value {
            Value::Bool(value) => Ok(*value),
            Value::String(text) if self.text_only && text == "true" => Ok(true),
            Value::String(text) if self.text_only && text == "false" => Ok(false),
            _ => Err(self.error("must be true or false")),
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.place)
    }
}

fn each_text(
    value: &Value,
    visit: &mut impl FnMut(&str) -> Result<(), ConfigError>,
) -> Result<(), ConfigError> {
    match value {
        Value::Mapping(members) => {
            let mut items = members.values();
            items.try_for_each(|item| each_text(item, visit))
        }
        Value::Sequence(items) => items.iter().try_for_each(|item| each_text(item, visit)),
        Value::String(text) => visit(text),
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::Tagged(_) => Ok(()),
    }
}

fn fill<'a>(value: &mut Value, lookup: &impl Fn(&str) -> Option<&'a str>) {
    match value {
        Value::Mapping(members) => members.values_mut().for_each(|item| fill(item, lookup)),
        Value::Sequence(items) => items.iter_mut().for_each(|item| fill(item, lookup)),
        Value::String(text) => {
            let Ok(template) = Template::parse(text) else {
                return;
            };
            *text = template
                .parts()
                .iter()
                .map(|part| match part {
                    Part::Reference(reference) => lookup(reference.as_str()).unwrap_or_default(),
                    Part::Text(text) => text,
                })
                .collect();
        }
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::Tagged(_) => {}
    }
}

/// The members of a mapping; each is taken out once, and what remains is an error.
#[derive(Clone, Debug)]
pub struct Fields {
    place: String,
    members: Vec<(String, Node)>,
    files: Files,
}

impl Fields {
    /// No members.
    pub(super) fn empty(place: String) -> Self {
        Self {
            place,
            members: Vec::new(),
            files: Files::default(),
        }
    }

    /// Adds a member unless it is there.
    pub(super) fn add_missing(&mut self, name: &str, node: Node) {
        if !self.has(name) {
            self.members.push((name.to_owned(), node));
        }
    }

    /// Whether there is a member of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(known, _)| known == name)
    }

    /// Takes a member out.
    pub fn take(&mut self, name: &str) -> Option<Node> {
        let at = self.members.iter().position(|(known, _)| known == name)?;
        Some(self.members.remove(at).1)
    }

    /// Takes a member out that must be there.
    ///
    /// # Errors
    /// It is not.
    pub fn require(&mut self, name: &str) -> Result<Node, ConfigError> {
        self.take(name)
            .ok_or_else(|| self.error(format!("the field '{name}' is missing")))
    }

    /// An error at the mapping's own place.
    #[must_use]
    pub fn error(&self, problem: impl Into<String>) -> ConfigError {
        ConfigError::new(&self.place, problem)
    }

    /// A hash of all that the members say, wherever they stand and in whatever order. It is for
    /// telling one reading of a file from the next, never for anybody who could choose the fields.
    pub(super) fn fingerprint(&self) -> u64 {
        let members = self.members.iter().map(|(name, node)| {
            let mut hasher = DefaultHasher::new();
            (name, &node.value, node.text_only).hash(&mut hasher);
            hasher.finish()
        });
        members.fold(0, u64::wrapping_add)
    }

    /// The references in the members, each once.
    pub(super) fn references(&self) -> Result<Vec<ReferenceText>, ConfigError> {
        let mut found = Vec::new();
        for (_, node) in &self.members {
            node.references(&mut found)?;
        }
        Ok(found)
    }

    /// Whether the member at that place, or what is below it, holds a reference.
    pub(crate) fn has_references_at(&self, place: &str) -> bool {
        let at_or_above = |node: &Node| place.starts_with(node.place());
        let mut nodes = self.members.iter().map(|(_, node)| node);
        nodes.any(|node| at_or_above(node) && node.has_references())
    }

    /// The same with values in the place of references.
    pub(crate) fn filled<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> Self {
        let members = self.members.iter();
        let members = members.map(|(name, node)| (name.clone(), node.clone().filled(&value)));
        Self {
            place: self.place.clone(),
            members: members.collect(),
            files: Files::default(),
        }
    }

    /// Reads a file that is part of what the fields say: the vault is another when it changes.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read_file(&mut self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        self.files.read(path.as_ref())
    }

    /// The files that were read.
    pub(crate) fn files(&self) -> Files {
        self.files.clone()
    }

    /// All members must have been taken.
    ///
    /// # Errors
    /// Names the first that was not.
    pub fn finish(self) -> Result<(), ConfigError> {
        self.members
            .first()
            .map_or(Ok(()), |(_, node)| Err(node.error("unknown field")))
    }
}

/// What is wrong with a configuration, and where.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
#[error("{}{problem}", if place.is_empty() { String::new() } else { format!("{place}: ") })]
pub struct ConfigError {
    place: String,
    problem: String,
}

impl ConfigError {
    /// An error at a place: a file, a path in it, a variable.
    pub fn new(place: &str, problem: impl Into<String>) -> Self {
        Self {
            place: place.to_owned(),
            problem: problem.into(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What is wrong there.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// The same error in a file.
    #[must_use]
    pub(super) fn in_file(self, file: &str) -> Self {
        let place = match self.place.as_str() {
            "" => file.to_owned(),
            place => format!("{file}: {place}"),
        };
        Self { place, ..self }
    }
}
