//! The fields of a body that a rule writes.
//!
//! What a field is called says what kind of body a rule is for: a name with a slash before it is a JSON
//! pointer, any other the name of a field of a form. A rule is for one of them; a request with the
//! other is refused, as is one whose body is neither.

use super::fields::Verb;
use super::{OnError, QueryWrite};
use crate::body::media::Media;
use crate::body::pointer;
use crate::config::{BodyConfig, ConfigError};

const DEFAULT_MAX_BYTES: usize = 1 << 20;

/// A body is in memory three times while it is written.
const LARGEST_MAX_BYTES: usize = 16 << 20;

/// How many names a pointer may have.
const MAX_NAMES: usize = 32;

/// What a rule does with a body.
#[derive(Debug)]
pub(crate) struct BodyRule {
    /// What it writes; of its kind even if that is nothing.
    pub(crate) writes: BodyWrites,
    /// The fields that may hold references, all of the kind of the writes.
    pub(crate) resolved: Vec<BodyNamed>,
    pub(crate) max_bytes: usize,
    /// What is larger goes on as it is.
    pub(crate) passes_excess: bool,
    /// Whether a request that has no body lacks what it must not lack.
    pub(crate) needs_body: bool,
    /// Where the first of all these fields stands in the configuration.
    pub(crate) place: String,
}

/// The fields that are written.
#[derive(Debug)]
pub(crate) enum BodyWrites {
    Form(Vec<QueryWrite>),
    Json(Vec<JsonWrite>),
}

/// What a field of a body is called.
#[derive(Clone, Debug)]
pub(crate) enum BodyName {
    Form(String),
    /// The names of a JSON pointer.
    Json(Vec<String>),
}

/// A field that may hold references.
#[derive(Debug)]
pub(crate) struct BodyNamed {
    pub(crate) name: BodyName,
    /// Where it is named in the configuration.
    pub(crate) place: String,
}

/// One field of JSON and what is done with it.
#[derive(Debug)]
pub(crate) struct JsonWrite {
    /// The names of its pointer.
    pub(crate) path: Vec<String>,
    pub(crate) verb: JsonVerb,
}

/// What is done with a field; the index is that of the rule's value.
#[derive(Debug)]
pub(crate) enum JsonVerb {
    Add(usize),
    Append(usize),
    Remove,
    Rename(String),
    Replace(usize),
    Set(usize),
}

impl BodyWrites {
    pub(crate) fn media(&self) -> Media {
        match self {
            Self::Form(_) => Media::Form,
            Self::Json(_) => Media::Json,
        }
    }
}

/// The writes of one rule while they are put together.
#[derive(Debug, Default)]
pub(super) struct BodyDraft {
    writes: Option<(BodyWrites, String)>,
    resolved: Vec<BodyNamed>,
    /// Which pointers are written, and where that stands.
    claimed: Vec<(Vec<String>, String)>,
    /// A secret is to be there whatever the client sent.
    needs_body: bool,
    /// Without the writes a secret would be missing, or what the client sent would not be kept away.
    must_not_pass: bool,
}

impl BodyDraft {
    /// A value is written.
    pub(super) fn note(&mut self, verb: Verb, is_secret: bool) {
        self.needs_body |= is_secret && verb != Verb::Replace;
        self.must_not_pass |= is_secret || matches!(verb, Verb::Replace | Verb::Set);
    }

    /// A field is taken away.
    pub(super) fn note_removal(&mut self) {
        self.must_not_pass = true;
    }

    /// A field may hold references.
    pub(super) fn push_resolved(
        &mut self,
        place: String,
        name: BodyName,
    ) -> Result<(), ConfigError> {
        let none = match name {
            BodyName::Form(_) => BodyWrites::Form(Vec::new()),
            BodyName::Json(_) => BodyWrites::Json(Vec::new()),
        };
        let (media, same) = (none.media(), place.clone());
        let (writes, _) = self.writes.get_or_insert((none, same));
        if writes.media() != media {
            return Err(mixed(&place));
        }
        // What is too large to be read could hold one.
        self.must_not_pass = true;
        self.resolved.push(BodyNamed { name, place });
        Ok(())
    }

    /// The names of a pointer, if no other write of the rule leads to or through its field.
    pub(super) fn claim(&mut self, place: &str, name: &str) -> Result<Vec<String>, ConfigError> {
        let path = pointer::parse(name).ok_or_else(|| {
            let message = "is no JSON pointer: a '~' is followed by 0 or 1";
            ConfigError::new(place, message)
        })?;
        if path.len() > MAX_NAMES {
            let message = format!("a JSON pointer may have {MAX_NAMES} names at most");
            return Err(ConfigError::new(place, message));
        }
        let mut claimed = self.claimed.iter();
        let other = claimed.find(|(other, _)| other.starts_with(&path) || path.starts_with(other));
        if let Some((_, other)) = other {
            let message = format!(
                "the body's field '{name}', or one around or in it, is written at {other} as well"
            );
            return Err(ConfigError::new(place, message));
        }
        self.claimed.push((path.clone(), place.to_owned()));
        Ok(path)
    }

    pub(super) fn push_json(
        &mut self,
        place: &str,
        path: Vec<String>,
        verb: JsonVerb,
    ) -> Result<(), ConfigError> {
        let (writes, _) = self
            .writes
            .get_or_insert_with(|| (BodyWrites::Json(Vec::new()), place.to_owned()));
        match writes {
            BodyWrites::Json(writes) => writes.push(JsonWrite { path, verb }),
            BodyWrites::Form(_) => return Err(mixed(place)),
        }
        Ok(())
    }

    pub(super) fn push_form(&mut self, place: &str, write: QueryWrite) -> Result<(), ConfigError> {
        let (writes, _) = self
            .writes
            .get_or_insert_with(|| (BodyWrites::Form(Vec::new()), place.to_owned()));
        match writes {
            BodyWrites::Form(writes) => writes.push(write),
            BodyWrites::Json(_) => return Err(mixed(place)),
        }
        Ok(())
    }

    /// What the rule at `rule` does with a body, if it does anything.
    #[inline(never)]
    pub(super) fn finish(
        self,
        rule: &str,
        config: &BodyConfig,
        on_error: &OnError,
    ) -> Result<Option<Box<BodyRule>>, ConfigError> {
        let at = |name: &str| format!("{rule}/body{name}");
        let Some((writes, place)) = self.writes else {
            if config.max_bytes.is_some() || config.on_excess.is_some() {
                let message = "no field of the body is written or resolved by this rule";
                return Err(ConfigError::new(at(""), message));
            }
            return Ok(None);
        };
        let max_bytes = match config.max_bytes {
            None => DEFAULT_MAX_BYTES,
            Some(given) => usize::try_from(given)
                .ok()
                .filter(|given| (1..=LARGEST_MAX_BYTES).contains(given))
                .ok_or_else(|| {
                    ConfigError::new(at("/max_bytes"), "must be from 1 to 16777216 bytes")
                })?,
        };
        let passes_excess = match config.on_excess.as_deref() {
            None | Some("refuse") => false,
            Some("pass") => true,
            Some(_) => {
                let message = "must be 'refuse' or 'pass'";
                return Err(ConfigError::new(at("/on_excess"), message));
            }
        };
        if passes_excess && self.must_not_pass {
            let message = "'pass' is possible only where the body's fields are renamed, or literals \
                           are added or appended: a request would go on without its secret, or with \
                           what the client put in its place";
            return Err(ConfigError::new(at("/on_excess"), message));
        }
        let needs_body = self.needs_body && *on_error != OnError::WithoutField;
        Ok(Some(Box::new(BodyRule {
            writes,
            resolved: self.resolved,
            max_bytes,
            passes_excess,
            needs_body,
            place,
        })))
    }
}

pub(super) fn mixed(place: &str) -> ConfigError {
    let message = "JSON pointers (which begin with '/') and fields of forms cannot stand in one rule: \
                   it is for one kind of body";
    ConfigError::new(place, message)
}

/// The name that a member gets, if both pointers lead to members of the same object.
pub(super) fn new_name(place: &str, from: &[String], to: &[String]) -> Result<String, ConfigError> {
    match (from.split_last(), to.split_last()) {
        (Some((_, object)), Some((name, same))) if object == same => Ok(name.clone()),
        _ => {
            let message = "a member can only get another name, not another place: both pointers \
                           differ in the last name alone";
            Err(ConfigError::new(place, message))
        }
    }
}
