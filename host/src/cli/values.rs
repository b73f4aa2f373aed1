//! The values of all references that a command needs, and one report of those that have none.

use std::borrow::Cow;
use std::collections::BTreeMap;

use vaultref_contract::wire::{FailureKind, Revision};
use vaultref_contract::{ReferenceText, Secret};

use super::text::{Misread, Text};
use super::{Status, output};
use crate::policy::Access;
use crate::resolver::{MAX_WAIT, Resolver, Unresolved};

/// Values by reference.
///
/// What a vault of the backend `env` gives may hold references itself, since the variables of our
/// own environment may. They are followed, so that a variable means the same wherever it is read.
#[derive(Debug, Default)]
pub(super) struct Values {
    known: BTreeMap<String, Result<Secret, Cause>>,
    revisions: BTreeMap<String, Revision>,
}

/// Why a reference has no value.
#[derive(Clone, Debug)]
pub(super) struct Cause {
    kind: FailureKind,
    text: Cow<'static, str>,
}

impl Values {
    /// Reads them, all at once.
    pub(super) async fn read<'a>(
        resolver: &Resolver,
        references: impl IntoIterator<Item = &'a ReferenceText>,
    ) -> Self {
        let mut values = Self::default();
        let mut links: BTreeMap<String, Text> = BTreeMap::new();
        let mut wanted: Vec<ReferenceText> = references.into_iter().cloned().collect();
        loop {
            wanted.retain(|reference| !values.known.contains_key(reference.as_str()));
            wanted.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
            wanted.dedup_by(|a, b| a.as_str() == b.as_str());
            if wanted.is_empty() {
                break;
            }
            let mut next = Vec::new();
            for reference in values
                .read_once(resolver, std::mem::take(&mut wanted))
                .await
            {
                if let Some(link) = values.link(resolver, &reference) {
                    next.extend(link.references().cloned());
                    links.insert(reference.as_str().to_owned(), link);
                }
            }
            wanted = next;
        }
        values.follow(links);
        values
    }

    async fn read_once(
        &mut self,
        resolver: &Resolver,
        wanted: Vec<ReferenceText>,
    ) -> Vec<ReferenceText> {
        let texts: Vec<_> = wanted.iter().map(|text| text.as_str().to_owned()).collect();
        let read = resolver.values(&Access::All, texts, MAX_WAIT).await;
        for (reference, result) in wanted.iter().zip(read) {
            let name = reference.as_str().to_owned();
            let value = result.map(|read| {
                self.revisions.insert(name.clone(), read.revision);
                read.value.into_secret()
            });
            self.known.insert(name, value.map_err(Cause::from));
        }
        wanted
    }

    /// The value of a reference as a text with references, if it is one that is to be followed.
    fn link(&mut self, resolver: &Resolver, reference: &ReferenceText) -> Option<Text> {
        let vaults = resolver.vaults();
        let vault = vaults.find(reference.reference().vault())?;
        if vault.kind().name != "env" {
            return None;
        }
        let known = self.known.get_mut(reference.as_str())?;
        let value = known.as_ref().ok()?.expose();
        if !value.windows(8).any(|bytes| bytes == b"vault://") {
            return None;
        }
        match Text::parse(value) {
            Ok(text) => Some(text),
            Err(_) => {
                *known = Err(Cause {
                    kind: FailureKind::InvalidReference,
                    text: "the variable holds a reference that cannot be read".into(),
                });
                None
            }
        }
    }

    /// Puts values in the place of links, those first that need no other.
    fn follow(&mut self, mut links: BTreeMap<String, Text>) {
        while !links.is_empty() {
            let ready: Vec<String> = links
                .iter()
                .filter(|(_, text)| {
                    let mut needed = text.references();
                    needed.all(|reference| !links.contains_key(reference.as_str()))
                })
                .map(|(name, _)| name.clone())
                .collect();
            if ready.is_empty() {
                break;
            }
            for name in ready {
                if let Some(text) = links.remove(&name) {
                    let value = self.fill(&text);
                    self.known.insert(name, value);
                }
            }
        }
        for name in links.into_keys() {
            let cause = Cause {
                kind: FailureKind::InvalidReference,
                text: "the variable needs itself".into(),
            };
            self.known.insert(name, Err(cause));
        }
    }

    fn fill(&self, text: &Text) -> Result<Secret, Cause> {
        for reference in text.references() {
            if let Err(cause) = self.value(reference) {
                return Err(Cause {
                    text: format!(
                        "the variable refers to {}: {}",
                        reference.as_str(),
                        cause.text
                    )
                    .into(),
                    ..cause
                });
            }
        }
        text.filled(|reference| self.value(reference).ok())
            .ok_or_else(Cause::unread)
    }

    /// The value of a reference.
    pub(super) fn value(&self, reference: &ReferenceText) -> Result<&Secret, Cause> {
        let known = self
            .known
            .get(reference.as_str())
            .ok_or_else(Cause::unread)?;
        known.as_ref().map_err(Clone::clone)
    }

    /// The revisions of the values by reference.
    pub(super) fn revisions(&self) -> impl Iterator<Item = (&str, &Revision)> {
        let revisions = self.revisions.iter();
        revisions.map(|(reference, revision)| (reference.as_str(), revision))
    }
}

impl Cause {
    fn unread() -> Self {
        Self {
            kind: FailureKind::Unavailable,
            text: "it was not read".into(),
        }
    }
}

impl From<Unresolved> for Cause {
    fn from(unresolved: Unresolved) -> Self {
        Self {
            kind: unresolved.failure.kind,
            text: unresolved.cause,
        }
    }
}

/// All that keeps a command from going on, each with its place. Holds no value.
#[derive(Debug, Default)]
pub(super) struct Report(Vec<Line>);

#[derive(Debug)]
struct Line {
    status: Status,
    text: String,
}

impl Report {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A reference without a value.
    pub(super) fn unresolved(&mut self, place: &str, reference: &ReferenceText, cause: &Cause) {
        self.0.push(Line {
            status: Status::of(cause.kind),
            text: format!(
                "{place}: {}: {}: {}",
                reference.as_str(),
                cause.kind,
                cause.text
            ),
        });
    }

    /// A text that has a reference which is none. The text is not repeated: what stands around a
    /// reference may be secret.
    pub(super) fn misread(&mut self, place: &str, misread: &Misread) {
        let (kind, error) = (FailureKind::InvalidReference, &misread.error);
        self.other(place, Status::of(kind), &format!("{kind}: {error}"));
    }

    /// Anything else.
    pub(super) fn other(&mut self, place: &str, status: Status, problem: &str) {
        self.0.push(Line {
            status,
            text: format!("{place}: {problem}"),
        });
    }

    /// Prints it as one and gives the exit code.
    pub(super) fn print(&self, headline: &str) -> Status {
        let lines = self.0.iter().map(|line| line.text.as_str());
        output::problems(headline, lines);
        let statuses = self.0.iter().map(|line| line.status);
        Status::most_telling(statuses)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config;
    use crate::environment::Environment;

    #[tokio::test]
    async fn what_a_variable_refers_to_is_followed_and_circles_end() {
        let environment = Environment::from([
            ("A", "<{vault://env/b}{{vault://x}>"),
            ("B", "{vault://env/c}"),
            ("C", "value"),
            ("D", "{vault://env/e}"),
            ("E", "{vault://env/d}"),
            ("F", "{vault://env/none}"),
            ("G", "{vault://}"),
            ("H", "{vault://env/d}"),
        ]);
        let config = config::without_file(&Arc::new(environment)).expect("a configuration");
        let resolver = Resolver::new(config.vaults, 1, tokio::runtime::Handle::current());
        let references: Vec<_> = ["a", "b", "c", "d", "f", "g", "h"]
            .map(|name| format!("{{vault://env/{name}}}"))
            .iter()
            .map(|text| ReferenceText::parse(text).expect("a reference"))
            .collect();
        let values = Values::read(&resolver, &references).await;
        let shown: Vec<_> = references
            .iter()
            .map(|reference| match values.value(reference) {
                Ok(value) => value.expose_text().expect("text").to_owned(),
                Err(cause) => format!("{}: {}", cause.kind, cause.text),
            })
            .collect();
        assert_eq!(
            shown,
            [
                "<value{vault://x}>",
                "value",
                "value",
                "invalid-reference: the variable needs itself",
                "not-found: the variable refers to {vault://env/none}: the variable is not set",
                "invalid-reference: the variable holds a reference that cannot be read",
                "invalid-reference: the variable needs itself",
            ]
        );
    }
}
