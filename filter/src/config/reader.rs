//! Takes the fields of an object one by one, and knows where it is.
//!
//! Written by hand rather than derived: derived readers that track their path are compiled once for
//! every type and made up a third of the module.

use std::collections::BTreeSet;

use super::json::Json;
use super::{ConfigError, push_member};

/// An object of which fields are taken. An absent field and `null` are the same.
pub(super) struct Reader {
    place: String,
    members: Vec<(String, Json)>,
}

impl Reader {
    /// The object at a place; an empty list is an empty object, since Kong may write it so.
    pub(super) fn new(place: String, value: Json) -> Result<Self, ConfigError> {
        let members = match value {
            Json::Object(members) => members,
            Json::List(items) if items.is_empty() => Vec::new(),
            other => return Err(unexpected(place, "an object", &other)),
        };
        if let Some(name) = repeated(&members) {
            let message = format!("'{name}' stands here twice");
            return Err(ConfigError::new(place, message));
        }
        Ok(Self { place, members })
    }

    /// Every field was taken, or it is one that nobody knows.
    pub(super) fn finish(self) -> Result<(), ConfigError> {
        match self.members.first() {
            None => Ok(()),
            Some((name, _)) => Err(ConfigError::new(self.at(name), "unknown field")),
        }
    }

    /// What was not taken.
    pub(super) fn rest(self) -> Vec<(String, Json)> {
        self.members
    }

    /// The error for a field that must be there.
    pub(super) fn missing(&self, name: &str) -> ConfigError {
        ConfigError::new(self.place.clone(), format!("missing field `{name}`"))
    }

    pub(super) fn object(&mut self, name: &str) -> Result<Option<Self>, ConfigError> {
        self.take(name)
            .map(|(place, value)| Self::new(place, value))
            .transpose()
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, ConfigError> {
        self.take(name)
            .map(|(place, value)| text(place, value))
            .transpose()
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, ConfigError> {
        match self.take(name) {
            None => Ok(None),
            Some((_, Json::Number(number))) => Ok(Some(number)),
            Some((place, other)) => Err(unexpected(place, "a number", &other)),
        }
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, ConfigError> {
        match self.take(name) {
            None => Ok(None),
            Some((_, Json::Bool(yes))) => Ok(Some(yes)),
            Some((place, other)) => Err(unexpected(place, "true or false", &other)),
        }
    }

    /// A list with the places of its items; an empty object is an empty list.
    pub(super) fn list(&mut self, name: &str) -> Result<Option<Vec<(String, Json)>>, ConfigError> {
        match self.take(name) {
            None => Ok(None),
            Some((place, Json::List(items))) => {
                let items = items.into_iter().enumerate();
                Ok(Some(
                    items
                        .map(|(at, item)| (format!("{place}/{at}"), item))
                        .collect(),
                ))
            }
            Some((_, Json::Object(members))) if members.is_empty() => Ok(Some(Vec::new())),
            Some((place, other)) => Err(unexpected(place, "a list", &other)),
        }
    }

    /// Texts of which one must hold. An empty list would hold for nothing, or for everything.
    pub(super) fn alternatives(&mut self, name: &str) -> Result<Vec<String>, ConfigError> {
        let place = self.at(name);
        let is_given = self.members.iter().any(|(known, _)| known == name);
        let texts = self.texts(name)?;
        if is_given && texts.is_empty() {
            let message = "is empty; leave it out if it does not matter";
            return Err(ConfigError::new(place, message));
        }
        Ok(texts)
    }

    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<String>, ConfigError> {
        let items = self.list(name)?.unwrap_or_default().into_iter();
        items.map(|(place, item)| text(place, item)).collect()
    }

    pub(super) fn numbers(&mut self, name: &str) -> Result<Option<Vec<u64>>, ConfigError> {
        let numbers = self.list(name)?.map(|items| {
            let items = items.into_iter();
            let numbers = items.map(|(place, item)| match item {
                Json::Number(number) => Ok(number),
                other => Err(unexpected(place, "a number", &other)),
            });
            numbers.collect()
        });
        numbers.transpose()
    }

    /// The members of an object whose values are texts.
    pub(super) fn members(&mut self, name: &str) -> Result<Vec<(String, String)>, ConfigError> {
        let Some(mut object) = self.object(name)? else {
            return Ok(Vec::new());
        };
        let members = std::mem::take(&mut object.members).into_iter();
        members
            .map(|(name, value)| text(object.at(&name), value).map(|value| (name, value)))
            .collect()
    }

    fn take(&mut self, name: &str) -> Option<(String, Json)> {
        let at = self.members.iter().position(|(known, _)| known == name)?;
        let (_, value) = self.members.remove(at);
        (value != Json::Null).then(|| (self.at(name), value))
    }

    fn at(&self, name: &str) -> String {
        let mut place = self.place.clone();
        push_member(&mut place, name);
        place
    }
}

/// A name that stands twice among these.
pub(crate) fn repeated(members: &[(String, Json)]) -> Option<&str> {
    let mut names = BTreeSet::new();
    let mut all = members.iter().map(|(name, _)| name.as_str());
    all.find(|name| !names.insert(*name))
}

fn text(place: String, value: Json) -> Result<String, ConfigError> {
    match value {
        Json::Text(text) => Ok(text),
        other => Err(unexpected(place, "a text", &other)),
    }
}

fn unexpected(place: String, wanted: &str, found: &Json) -> ConfigError {
    ConfigError::new(
        place,
        format!("{wanted} is expected here, not {}", found.kind()),
    )
}
