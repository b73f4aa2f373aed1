//! `env`: environment variables of the daemon.
//!
//! The variable is the vault's prefix and the resource, dashes turned to underscores, all in upper
//! case. Version 2 is the variable with `_PREVIOUS` behind its name. The variables are those that
//! were handed in; the process environment is never looked at.

use std::borrow::Cow;
use std::sync::Arc;

use futures::future::BoxFuture;

use super::{Asked, Backend, Kind, Object, ReadError, ReadErrorKind, Reading, Spelling};
use crate::config::{ConfigError, Fields};
use crate::environment::Environment;

pub(super) const KIND: Kind = Kind {
    name: "env",
    build,
    reference_options: &["prefix"],
    spelling: Spelling {
        pattern,
        loosely: canonical,
    },
};

const PREVIOUS: &str = "_PREVIOUS";

struct Variables {
    prefix: String,
    environment: Arc<Environment>,
}

fn build(
    fields: &mut Fields,
    environment: &Arc<Environment>,
) -> Result<Arc<dyn Backend>, ConfigError> {
    let prefix = match fields.take("prefix") {
        None => String::new(),
        Some(node) => {
            let text = node.text()?;
            if !is_prefix(&text) {
                return Err(
                    node.error("must be letters, digits, '-' and '_', and not start with a digit")
                );
            }
            text
        }
    };
    Ok(Arc::new(Variables {
        prefix,
        environment: Arc::clone(environment),
    }))
}

impl Backend for Variables {
    fn scope(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn object(&self, asked: &Asked<'_>) -> Result<Object, ReadError> {
        let given = asked.options.iter().find(|(name, _)| name == "prefix");
        let prefix = match given {
            Some((_, text)) if !is_prefix(text) => {
                return Err(ReadError::new(
                    ReadErrorKind::InvalidName,
                    "the option 'prefix' is no start of a variable's name",
                ));
            }
            Some((_, text)) => text,
            None => &self.prefix,
        };
        let mut name = canonical(&format!("{prefix}{}", asked.resource));
        if name.contains(['=', '\0']) {
            return Err(ReadError::new(
                ReadErrorKind::InvalidName,
                "no variable can have such a name",
            ));
        }
        match asked.version {
            None | Some(1) => {}
            Some(2) => name.push_str(PREVIOUS),
            Some(_) => {
                return Err(ReadError::new(
                    ReadErrorKind::NotFound,
                    "a variable has the versions 1 (current) and 2 (previous) only",
                ));
            }
        }
        Ok(Object {
            scope: String::new(),
            alias: name.strip_suffix(PREVIOUS).map(str::to_owned),
            path: name,
            version: None,
        })
    }

    fn read<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Reading, ReadError>> {
        let found = self.environment.value(&object.path).map_or_else(
            || {
                Err(ReadError::new(
                    ReadErrorKind::NotFound,
                    "the variable is not set",
                ))
            },
            // The environment stays as it is; the reading has an owner of its own.
            |value| Ok(Reading::new(value.duplicate())),
        );
        Box::pin(std::future::ready(found))
    }

    fn objects_are_texts(&self) -> bool {
        true
    }
}

fn pattern(pattern: &str) -> String {
    // What follows is a key, which is what it is.
    match pattern.split_once('/') {
        Some((name, key)) => format!("{}/{key}", canonical(name)),
        None => canonical(pattern),
    }
}

fn canonical(name: &str) -> String {
    name.replace('-', "_").to_ascii_uppercase()
}

fn is_prefix(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

#[cfg(test)]
mod tests;
