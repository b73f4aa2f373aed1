//! What is known of each distinct reference of one resolver.
//!
//! Entries have numbers that are never used again, so that an answer that comes late, after a
//! configuration has changed, can never put one secret in another's place.

use std::collections::BTreeMap;
use std::rc::Rc;

use vaultref_contract::Secret;
use vaultref_contract::wire::{Failure, FailureKind, Lifetime, Outcome, Revision};

use crate::compile::Asked;

/// The number of an entry, unique in the VM.
pub(crate) type EntryId = u64;

/// A point in the VM's own time, in nanoseconds.
pub(crate) type Age = u64;

pub(crate) const SECOND: Age = 1_000_000_000;
pub(crate) const MILLISECOND: Age = 1_000_000;

/// One reference.
pub(crate) struct Entry {
    pub(crate) asked: Asked,
    held: Option<Held>,
    failure: Option<FailureKind>,
    /// Changes with the value, and while there is none with the reason.
    version: u64,
    /// Until when the value is no older than it should be.
    fresh_until: Age,
    /// An upstream has refused the value: the next poll says so.
    is_doubted: bool,
    /// Only while entries are chosen, see [`Table::choose`].
    is_chosen: bool,
}

/// A value in use.
struct Held {
    secret: Rc<Secret>,
    revision: Revision,
    usable_until: Age,
}

impl Entry {
    pub(crate) fn secret(&self) -> Option<&Secret> {
        self.held.as_ref().map(|held| &*held.secret)
    }

    /// The same, kept for as long as it is needed.
    pub(crate) fn shared_secret(&self) -> Option<Rc<Secret>> {
        self.held.as_ref().map(|held| Rc::clone(&held.secret))
    }

    pub(crate) fn revision(&self) -> Option<&Revision> {
        self.held.as_ref().map(|held| &held.revision)
    }

    /// Why it has no value, or could not be read anew; none if it was never answered or is well.
    pub(crate) fn failure(&self) -> Option<FailureKind> {
        self.failure
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn usable_until(&self) -> Age {
        self.held.as_ref().map_or(0, |held| held.usable_until)
    }

    /// Whether the next answer may help.
    pub(crate) fn is_open(&self) -> bool {
        let bridged = matches!(
            self.failure,
            None | Some(FailureKind::Pending | FailureKind::Unavailable)
        );
        self.held.is_none() && bridged
    }

    /// Whether it is to be asked for again before anything is decided.
    pub(crate) fn is_undecided(&self) -> bool {
        self.held.is_none() && matches!(self.failure, None | Some(FailureKind::Pending))
    }

    /// Takes an outcome. `known` is the revision that was sent along when it was asked for.
    fn take(&mut self, outcome: Outcome, known: Option<&Revision>, age: Age) {
        let until = |seconds: u64| age.saturating_add(seconds.saturating_mul(SECOND));
        match outcome {
            Outcome::Secret(new) => {
                self.note_age(&new.lifetime, age);
                let usable_until = until(new.lifetime.usable_for);
                let same = self.revision() == Some(&new.revision);
                if !same {
                    self.version = self.version.wrapping_add(1);
                }
                self.held = Some(Held {
                    secret: Rc::new(new.value.into_secret()),
                    revision: new.revision,
                    usable_until,
                });
                self.failure = None;
            }
            Outcome::Unchanged(lifetime) => match &mut self.held {
                // Another answer may have overtaken this one: it speaks of what was known then.
                Some(held) if Some(&held.revision) == known => {
                    held.usable_until = until(lifetime.usable_for);
                    self.failure = None;
                    self.note_age(&lifetime, age);
                }
                _ => {}
            },
            Outcome::Failure(failure) => self.fail(failure),
        }
    }

    fn note_age(&mut self, lifetime: &Lifetime, age: Age) {
        self.fresh_until = match lifetime.stale {
            // For how long it has been is known only to whoever has seen it begin.
            true => self.fresh_until.min(age),
            false => age.saturating_add(lifetime.fresh_for.saturating_mul(SECOND)),
        };
    }

    /// For how long the value that is in use should have been read anew, in seconds.
    pub(crate) fn stale_for(&self, age: Age) -> u64 {
        let since = self.held.as_ref().map(|_| self.fresh_until);
        since.map_or(0, |since| age.saturating_sub(since) / SECOND)
    }

    fn fail(&mut self, failure: Failure) {
        let bridged = matches!(
            failure.kind,
            FailureKind::Pending | FailureKind::Unavailable
        );
        let dropped = !bridged && self.held.take().is_some();
        let news = self.held.is_none() && self.failure != Some(failure.kind);
        if dropped || news {
            self.version = self.version.wrapping_add(1);
        }
        self.failure = Some(failure.kind);
    }

    fn expire(&mut self) {
        self.held = None;
        self.version = self.version.wrapping_add(1);
    }
}

/// The entries of one resolver.
#[derive(Default)]
pub(crate) struct Table {
    entries: BTreeMap<EntryId, Entry>,
    by_text: BTreeMap<Rc<str>, EntryId>,
}

impl Table {
    /// The entry for a reference; made with `next` as its number if there is none.
    pub(crate) fn entry_for(&mut self, asked: &Asked, next: &mut EntryId) -> EntryId {
        if let Some(id) = self.by_text.get(&asked.text) {
            return *id;
        }
        let id = *next;
        *next = next.saturating_add(1);
        let entry = Entry {
            asked: asked.clone(),
            held: None,
            failure: None,
            version: 1,
            fresh_until: Age::MAX,
            is_doubted: false,
            is_chosen: false,
        };
        self.entries.insert(id, entry);
        self.by_text.insert(Rc::clone(&asked.text), id);
        id
    }

    pub(crate) fn get(&self, id: EntryId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// Whether one of these is to be asked for again before anything is decided.
    pub(crate) fn is_any_undecided(&self, ids: &[EntryId]) -> bool {
        let mut entries = ids.iter().map(|id| self.get(*id));
        entries.any(|entry| entry.is_none_or(Entry::is_undecided))
    }

    pub(crate) fn ids(&self) -> Vec<EntryId> {
        self.entries.keys().copied().collect()
    }

    /// Notes that an upstream has refused these values; says whether that is news of one.
    pub(crate) fn doubt(&mut self, ids: &[EntryId]) -> bool {
        let mut is_news = false;
        for id in ids {
            if let Some(entry) = self
                .entries
                .get_mut(id)
                .filter(|entry| entry.held.is_some())
            {
                is_news |= !std::mem::replace(&mut entry.is_doubted, true);
            }
        }
        is_news
    }

    /// Whether the value is doubted; from now on it is not.
    pub(crate) fn take_doubt(&mut self, id: EntryId) -> bool {
        let entry = self.entries.get_mut(&id);
        entry.is_some_and(|entry| std::mem::take(&mut entry.is_doubted))
    }

    /// The vaults of these entries, for the log.
    pub(crate) fn vaults_of(&self, ids: &[EntryId]) -> String {
        let mut text = String::new();
        let mut vaults: Vec<&str> = Vec::new();
        for entry in ids.iter().filter_map(|id| self.get(*id)) {
            let vault = &*entry.asked.vault;
            if vaults.contains(&vault) {
                continue;
            }
            text.push_str(if vaults.is_empty() { "'" } else { ", '" });
            text.push_str(vault);
            text.push('\'');
            vaults.push(vault);
        }
        text
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Takes the outcomes of a question, each with what was known when it was asked.
    pub(crate) fn take(&mut self, asked: Vec<Question>, outcomes: Vec<Outcome>, age: Age) {
        for (question, outcome) in asked.into_iter().zip(outcomes) {
            if let Some(entry) = self.entries.get_mut(&question.id) {
                entry.take(outcome, question.known.as_ref(), age);
            }
        }
    }

    /// Drops the values that are too old; says whether there was one.
    pub(crate) fn expire(&mut self, age: Age) -> bool {
        let mut expired = false;
        for entry in self.entries.values_mut() {
            if entry
                .held
                .as_ref()
                .is_some_and(|held| held.usable_until <= age)
            {
                entry.expire();
                expired = true;
            }
        }
        expired
    }

    /// Of these, which may name an entry many times, those that are still to be decided.
    pub(crate) fn undecided(&mut self, ids: impl Iterator<Item = EntryId>) -> Vec<EntryId> {
        self.choose(ids);
        let mut undecided = Vec::new();
        for (id, entry) in &mut self.entries {
            if std::mem::take(&mut entry.is_chosen) && entry.is_undecided() {
                undecided.push(*id);
            }
        }
        undecided
    }

    /// Drops all entries but these, which may name one many times.
    pub(crate) fn retain(&mut self, used: impl Iterator<Item = EntryId>) {
        self.choose(used);
        self.entries
            .retain(|_, entry| std::mem::take(&mut entry.is_chosen));
        let entries = &self.entries;
        self.by_text.retain(|_, id| entries.contains_key(id));
    }

    /// Marks entries, which takes less code than a set of their numbers.
    fn choose(&mut self, ids: impl Iterator<Item = EntryId>) {
        for id in ids {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.is_chosen = true;
            }
        }
    }
}

/// One reference that was asked for.
pub(crate) struct Question {
    pub(crate) id: EntryId,
    pub(crate) known: Option<Revision>,
    /// It is to be read anew.
    pub(crate) is_doubted: bool,
}
