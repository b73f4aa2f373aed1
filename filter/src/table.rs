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

use vaultref_contract::wire::{MAX_REFERENCES, Outcome, Revision};

use crate::compile::Asked;

mod brought;
mod entry;

pub(crate) use entry::Entry;

/// The number of an entry, unique in the VM.
pub(crate) type EntryId = u64;

/// A point in the VM's own time, in nanoseconds.
pub(crate) type Age = u64;

pub(crate) const SECOND: Age = 1_000_000_000;
pub(crate) const MILLISECOND: Age = 1_000_000;

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
        let entry = Entry::new(asked.clone(), brought);
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

    /// What a poll asks for: what a configuration names, and what requests have brought and there is. In
    /// the order of the texts, so that the keys of an object stand together.
    pub(crate) fn kept(&self) -> Vec<EntryId> {
        self.in_order(|entry| is_kept(entry) && entry.wanted == 0)
    }

    /// What it asks for beside: what requests needed and could not ask for, with all that was to come
    /// from the same answer.
    pub(crate) fn wanted(&self) -> Vec<EntryId> {
        self.in_order(|entry| entry.wanted > 0)
    }

    fn in_order(&self, is_one: impl Fn(&Entry) -> bool) -> Vec<EntryId> {
        let ids = self.by_text.values().copied();
        ids.filter(|id| self.get(*id).is_some_and(&is_one))
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
        let others = self
            .in_order(is_kept)
            .into_iter()
            .filter(|id| is_of_these(*id));
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

    /// Whether these are the entries of the references, in their order.
    pub(crate) fn is_of(&self, ids: &[EntryId], asked: &[Asked]) -> bool {
        let texts = ids
            .iter()
            .map(|id| self.get(*id).map(|entry| &entry.asked.text));
        texts.eq(asked.iter().map(|asked| Some(&asked.text)))
    }

    /// Notes what is sent now of these: what there is, or that there is nothing.
    pub(crate) fn sent(&self, ids: &[EntryId]) -> Vec<Sent> {
        let versions = ids.iter().map(|id| self.get(*id).map_or(0, Entry::version));
        self.sent_as(ids, versions)
    }

    /// Notes what was sent of these in other versions than those of now.
    pub(crate) fn sent_as(
        &self,
        ids: &[EntryId],
        versions: impl Iterator<Item = u64>,
    ) -> Vec<Sent> {
        let sent = ids
            .iter()
            .copied()
            .zip(versions)
            .filter_map(|(id, version)| {
                let object = Rc::clone(&self.get(id)?.asked.object);
                Some(Sent {
                    id,
                    version,
                    object,
                })
            });
        sent.collect()
    }

    /// Whether values of some object are not of one time: of these, and of what was sent before.
    pub(crate) fn is_apart(&self, ids: &[EntryId], sent: &[Sent]) -> bool {
        let entries = || ids.iter().filter_map(|id| self.get(*id));
        let of_same = |sent: &&Sent| entries().any(|entry| entry.asked.object == sent.object);
        let mut all = ids.to_vec();
        for sent in sent.iter().filter(of_same) {
            if self.get(sent.id).map(Entry::version) != Some(sent.version) {
                return true;
            }
            all.push(sent.id);
        }
        self.is_any_torn(&all)
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

    /// A question had no answer: it was one of the tries.
    pub(crate) fn unanswered(&mut self, asked: &[Question]) {
        for question in asked {
            if let Some(entry) = self.entries.get_mut(&question.id) {
                entry.wanted = entry.wanted.saturating_sub(1);
            }
        }
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

/// Whether what is known of it is to stay known.
fn is_kept(entry: &Entry) -> bool {
    entry.is_configured() || entry.held.is_some()
}

/// A value that a request has gone on with.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) id: EntryId,
    version: u64,
    object: Rc<str>,
}

/// One reference that was asked for.
pub(crate) struct Question {
    pub(crate) id: EntryId,
    pub(crate) known: Option<Revision>,
    /// It is to be read anew.
    pub(crate) is_doubted: bool,
}
