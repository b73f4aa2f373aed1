//! What is known of each distinct reference of one resolver.
//!
//! Some are named by a configuration, the others were brought by requests. Of those there are so many
//! at most, and they go when they have not been needed for a while: how many there are is the clients'
//! choice.
//!
//! Entries have numbers that are never used again, so that an answer that comes late, after a
//! configuration has changed, can never put one secret in another's place.

use std::collections::BTreeMap;
use std::rc::Rc;

use vaultref_contract::Secret;
use vaultref_contract::wire::{Failure, FailureKind, Lifetime, MAX_REFERENCES, Outcome, Revision};

use crate::compile::Asked;

/// The number of an entry, unique in the VM.
pub(crate) type EntryId = u64;

/// A point in the VM's own time, in nanoseconds.
pub(crate) type Age = u64;

pub(crate) const SECOND: Age = 1_000_000_000;
pub(crate) const MILLISECOND: Age = 1_000_000;

/// The most entries that requests have brought.
pub(crate) const MAX_BROUGHT: usize = 1024;

/// How many of them may be without a value: names that nobody knows must not drive out those that serve.
/// It is more than one request can bring.
const MAX_LACKING: usize = 512;

/// How long such an entry is kept without a request that needs it.
const UNUSED: Age = 300 * SECOND;

/// For how long a failure holds of which the resolver does not say it: what its `neg_ttl` is where
/// nothing else is configured.
const NEGATIVE: u32 = 5;

/// One reference.
pub(crate) struct Entry {
    pub(crate) asked: Asked,
    held: Option<Held>,
    failure: Option<FailureKind>,
    /// Until when the failure holds for an entry that requests have brought.
    failed_until: Age,
    /// When a request last needed it; none if a configuration names it.
    brought: Option<Age>,
    /// Changes with the value, and while there is none with the reason.
    version: u64,
    /// Until when the value is no older than it should be.
    fresh_until: Age,
    /// An upstream has refused the value: the next poll says so.
    is_doubted: bool,
    /// A request needed it that could not ask for it: the next poll does.
    is_wanted: bool,
    /// Only while entries are chosen, see [`Table::choose`].
    is_chosen: bool,
}

/// A value in use.
struct Held {
    secret: Rc<Secret>,
    revision: Revision,
    usable_until: Age,
    /// The first and the last answer that gave it or said that it is unchanged.
    answers: (u64, u64),
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

    /// Whether a configuration names it.
    pub(crate) fn is_configured(&self) -> bool {
        self.brought.is_none()
    }

    /// Whether a request that needs it has to ask for it.
    fn is_lacking(&self, age: Age) -> bool {
        match self.brought {
            None => self.is_undecided(),
            Some(_) => self.held.is_none() && (self.is_undecided() || age >= self.failed_until),
        }
    }

    /// Takes an outcome. `known` is the revision that was sent along when it was asked for.
    fn take(&mut self, outcome: Outcome, known: Option<&Revision>, age: Age, answer: u64) {
        let until = |seconds: u64| age.saturating_add(seconds.saturating_mul(SECOND));
        self.is_wanted &=
            matches!(&outcome, Outcome::Failure(failure) if failure.kind == FailureKind::Pending);
        match outcome {
            Outcome::Secret(new) => {
                self.note_age(&new.lifetime, age);
                let usable_until = until(new.lifetime.usable_for);
                let same = self.revision() == Some(&new.revision);
                let first = self.held.as_ref().filter(|_| same);
                let first = first.map_or(answer, |held| held.answers.0);
                if !same {
                    self.version = self.version.wrapping_add(1);
                }
                self.held = Some(Held {
                    secret: Rc::new(new.value.into_secret()),
                    revision: new.revision,
                    usable_until,
                    answers: (first, answer),
                });
                self.failure = None;
            }
            Outcome::Unchanged(lifetime) => match &mut self.held {
                // Another answer may have overtaken this one: it speaks of what was known then.
                Some(held) if Some(&held.revision) == known => {
                    held.usable_until = until(lifetime.usable_for);
                    held.answers.1 = answer;
                    self.failure = None;
                    self.note_age(&lifetime, age);
                }
                _ => {}
            },
            Outcome::Failure(failure) => {
                let holds_for = failure.retry_after.unwrap_or(NEGATIVE).max(1);
                self.failed_until = until(holds_for.into());
                self.fail(failure);
            }
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
    /// How many entries requests have brought.
    brought: usize,
    /// How many answers were taken.
    answers: u64,
}

impl Table {
    /// The entry for a reference of a configuration; made with `next` as its number if there is none.
    pub(crate) fn entry_for(&mut self, asked: &Asked, next: &mut EntryId) -> EntryId {
        let Some(id) = self.by_text.get(&asked.text).copied() else {
            return self.insert(asked, None, next);
        };
        let entry = self.entries.get_mut(&id);
        if entry.is_some_and(|entry| entry.brought.take().is_some()) {
            self.brought = self.brought.saturating_sub(1);
        }
        id
    }

    /// The entries for references that a request has brought, if there is room for them beside those
    /// that are `in_use`.
    pub(crate) fn bring(
        &mut self,
        asked: &[Asked],
        in_use: impl Iterator<Item = EntryId>,
        next: &mut EntryId,
        age: Age,
    ) -> Option<Vec<EntryId>> {
        let known = |table: &Self, asked: &Asked| table.by_text.get(&asked.text).copied();
        let own: Vec<EntryId> = asked
            .iter()
            .filter_map(|asked| known(self, asked))
            .collect();
        let new = asked.len().saturating_sub(own.len());
        if new > 0 {
            let keep: Vec<EntryId> = in_use.chain(own).collect();
            if !self.has_room(new, &keep) {
                return None;
            }
        }
        let mut ids = Vec::with_capacity(asked.len());
        for asked in asked {
            let Some(id) = known(self, asked) else {
                ids.push(self.insert(asked, Some(age), next));
                self.brought = self.brought.saturating_add(1);
                continue;
            };
            let entry = self.entries.get_mut(&id);
            if let Some(used) = entry.and_then(|entry| entry.brought.as_mut()) {
                *used = age;
            }
            ids.push(id);
        }
        Some(ids)
    }

    /// Makes room for so many entries that requests bring; says whether there was enough.
    fn has_room(&mut self, new: usize, keep: &[EntryId]) -> bool {
        let brought = self.entries.values().filter(|entry| !entry.is_configured());
        let lacking = brought.filter(|entry| entry.held.is_none()).count();
        let excess = lacking.saturating_add(new).saturating_sub(MAX_LACKING);
        if !self.make_room(excess, true, keep) {
            return false;
        }
        let excess = self.brought.saturating_add(new).saturating_sub(MAX_BROUGHT);
        self.make_room(excess, false, keep)
    }

    /// Drops so many of the entries that requests have brought, those without a value (or only those) and
    /// those that were not needed for longest first, but none that is to be kept; says whether there were
    /// enough.
    fn make_room(&mut self, count: usize, only_lacking: bool, keep: &[EntryId]) -> bool {
        if count == 0 {
            return true;
        }
        self.choose(keep.iter().copied());
        let mut freed = 0_usize;
        while freed < count {
            let candidates = self
                .entries
                .iter()
                .filter(|(_, entry)| !entry.is_chosen && (!only_lacking || entry.held.is_none()));
            let oldest = candidates
                .filter_map(|(id, entry)| Some((entry.held.is_some(), entry.brought?, *id)))
                .min();
            let Some((_, _, id)) = oldest else {
                break;
            };
            self.remove(id);
            freed = freed.saturating_add(1);
        }
        self.entries
            .values_mut()
            .for_each(|entry| entry.is_chosen = false);
        freed >= count
    }

    fn remove(&mut self, id: EntryId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.by_text.remove(&entry.asked.text);
            if entry.brought.is_some() {
                self.brought = self.brought.saturating_sub(1);
            }
        }
    }

    fn insert(&mut self, asked: &Asked, brought: Option<Age>, next: &mut EntryId) -> EntryId {
        let id = *next;
        *next = next.saturating_add(1);
        let entry = Entry {
            asked: asked.clone(),
            held: None,
            failure: None,
            failed_until: 0,
            brought,
            version: 1,
            fresh_until: Age::MAX,
            is_doubted: false,
            is_wanted: false,
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

    /// Has the next poll ask for these, as a request needs them and cannot.
    pub(crate) fn want(&mut self, ids: &[EntryId]) {
        for id in ids {
            if let Some(entry) = self.entries.get_mut(id) {
                entry.is_wanted = true;
            }
        }
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

    /// What a poll asks for: what a configuration names, what requests have brought and there is, and
    /// what they could not ask for. In the order of the texts, so that the keys of an object stand together.
    pub(crate) fn kept(&self) -> Vec<EntryId> {
        let is_kept =
            |entry: &Entry| entry.is_configured() || entry.held.is_some() || entry.is_wanted;
        let ids = self.by_text.values().copied();
        ids.filter(|id| self.get(*id).is_some_and(is_kept))
            .collect()
    }

    /// How many of these, which are all that is kept, go into one question: if possible not some of
    /// the keys of an object without the others.
    pub(crate) fn batch(&self, kept: &[EntryId]) -> usize {
        if kept.len() <= MAX_REFERENCES {
            return kept.len();
        }
        let object = |at: usize| {
            let entry = kept.get(at).and_then(|id| self.get(*id));
            entry.map(|entry| &entry.asked.object)
        };
        let ends = (1..=MAX_REFERENCES).rev();
        let mut ends = ends.filter(|end| object(*end) != object(end.saturating_sub(1)));
        ends.next().unwrap_or(MAX_REFERENCES)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The entries that a configuration names.
    pub(crate) fn configured(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(|entry| entry.is_configured())
    }

    /// What a request that needs these has to ask for: what is lacking, and all that is known of its
    /// objects, so that the keys of an object always come from one answer.
    pub(crate) fn to_ask(&self, needed: &[EntryId], age: Age) -> Vec<EntryId> {
        let mut objects: Vec<&str> = Vec::new();
        for id in needed {
            let Some(entry) = self.get(*id) else { continue };
            let object = &*entry.asked.object;
            if !objects.contains(&object) && (entry.is_lacking(age) || self.is_torn(needed, object))
            {
                objects.push(object);
            }
        }
        if objects.is_empty() {
            return Vec::new();
        }
        let is_of_these = |id: EntryId| {
            self.get(id)
                .is_some_and(|entry| objects.contains(&&*entry.asked.object))
        };
        let mut ids: Vec<EntryId> = Vec::new();
        for id in needed.iter().copied().filter(|id| is_of_these(*id)) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        let room = MAX_REFERENCES.saturating_sub(ids.len());
        let others = self.kept().into_iter().filter(|id| is_of_these(*id));
        let others = others.filter(|id| !ids.contains(id)).take(room);
        let others: Vec<EntryId> = others.collect();
        ids.extend(others);
        ids
    }

    /// Whether the values of some object, of which these are keys, were never there together.
    pub(crate) fn is_any_torn(&self, ids: &[EntryId]) -> bool {
        let mut entries = ids.iter().filter_map(|id| self.get(*id));
        entries.any(|entry| self.is_torn(ids, &entry.asked.object))
    }

    fn is_torn(&self, ids: &[EntryId], object: &str) -> bool {
        let entries = ids.iter().filter_map(|id| self.get(*id));
        let of_object = entries.filter(|entry| &*entry.asked.object == object);
        let held = of_object.filter_map(|entry| entry.held.as_ref());
        let (first, last) = held.fold((0, u64::MAX), |(first, last), held| {
            (first.max(held.answers.0), last.min(held.answers.1))
        });
        first > last
    }

    /// Takes the outcomes of a question, each with what was known when it was asked.
    pub(crate) fn take(&mut self, asked: Vec<Question>, outcomes: Vec<Outcome>, age: Age) {
        self.answers = self.answers.saturating_add(1);
        for (question, outcome) in asked.into_iter().zip(outcomes) {
            if let Some(entry) = self.entries.get_mut(&question.id) {
                entry.take(outcome, question.known.as_ref(), age, self.answers);
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

    /// Drops what requests have brought and need no longer, but nothing that is `in_use`.
    pub(crate) fn drop_unused(&mut self, in_use: impl Iterator<Item = EntryId>, age: Age) {
        if self.brought == 0 {
            return;
        }
        self.choose(in_use);
        let mut unused = Vec::new();
        for (id, entry) in &mut self.entries {
            let is_chosen = std::mem::take(&mut entry.is_chosen);
            let Some(used) = entry.brought.filter(|_| !is_chosen) else {
                continue;
            };
            let is_over = entry.is_lacking(age) && !entry.is_wanted;
            if is_over || age.saturating_sub(used) >= UNUSED {
                unused.push(*id);
            }
        }
        for id in unused {
            self.remove(id);
        }
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

    /// Drops all entries of configurations but these, which may name one many times.
    pub(crate) fn retain(&mut self, used: impl Iterator<Item = EntryId>) {
        self.choose(used);
        self.entries
            .retain(|_, entry| std::mem::take(&mut entry.is_chosen) || !entry.is_configured());
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
