//! What requests bring: how much of it there may be, and when it goes.

use super::entry::WANTED;
use super::{Age, EntryId, SECOND, Table};
use crate::compile::Asked;

/// The most entries that requests have brought.
pub(crate) const MAX_BROUGHT: usize = 1024;

/// How many of them may be without a value: names that nobody knows must not drive out those that serve.
/// No request brings more.
const MAX_LACKING: usize = 512;

/// How many of those may be wanted. Who comes first stays first, however many names others invent.
const MAX_WANTED: usize = 256;

/// How many polls ask for what is wanted and not there yet.
const TRIES: u8 = 5;

/// How long such an entry is kept without a request that needs it.
const UNUSED: Age = 300 * SECOND;

impl Table {
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
        let mut own: Vec<EntryId> = Vec::new();
        let mut new: Vec<&str> = Vec::new();
        for asked in asked {
            match known(self, asked) {
                Some(id) => own.push(id),
                None if new.contains(&&*asked.text) => {}
                None => new.push(&asked.text),
            }
        }
        if !new.is_empty() {
            own.extend(in_use);
            if !self.has_room(new.len(), &own) {
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

    /// Drops so many of the entries that requests have brought, those without a value (or only those, and
    /// of them the wanted ones last) and those that were not needed for longest first, but none that is to be kept; says whether there were
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
                .filter_map(|(id, entry)| Some((entry.rank(), entry.brought?, *id)))
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

    /// Has the next polls ask for these, as a request needs them and cannot; as long as there are not too
    /// many. What a configuration names is asked for anyway, and waited for if there is nothing of it yet.
    pub(crate) fn want(&mut self, ids: &[EntryId]) {
        let is_lacking = |id: &&EntryId| self.get(**id).is_some_and(|entry| entry.held.is_none());
        let new = ids.iter().filter(is_lacking).count();
        let wanted = self.entries.values().filter(|entry| entry.rank() == WANTED);
        if wanted.count().saturating_add(new) > MAX_WANTED {
            return;
        }
        for id in ids {
            let entry = self.entries.get_mut(id);
            if let Some(entry) =
                entry.filter(|entry| entry.held.is_some() || !entry.is_configured())
            {
                entry.wanted = TRIES;
            }
        }
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
            let is_over = entry.is_lacking(age) && entry.wanted == 0;
            if is_over || age.saturating_sub(used) >= UNUSED {
                unused.push(*id);
            }
        }
        for id in unused {
            self.remove(id);
        }
    }
}
