//! The entries by object, bounded in number.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::life::Entry;
use crate::backend::Object;
use crate::vault::Vault;

/// One object of one vault. Vaults do not share entries: their settings differ. A vault that has
/// changed is another one, even under the same name.
#[derive(Clone)]
pub(super) struct EntryKey {
    pub(super) vault: Arc<Vault>,
    pub(super) object: Object,
}

impl PartialEq for EntryKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.vault, &other.vault) && self.object == other.object
    }
}

impl Eq for EntryKey {}

impl Hash for EntryKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.vault).hash(state);
        self.object.hash(state);
    }
}

/// All entries.
pub(super) struct Cache {
    entries: HashMap<EntryKey, Used>,
    most: usize,
    turn: u64,
}

#[derive(Default)]
struct Used {
    entry: Entry,
    /// The turn at which it was last asked for.
    last: u64,
}

impl Cache {
    pub(super) fn new(most: usize) -> Self {
        Self {
            entries: HashMap::new(),
            most,
            turn: 0,
        }
    }

    /// The entry of an object; an empty one if there was none.
    pub(super) fn entry(&mut self, key: &EntryKey) -> &mut Entry {
        self.turn += 1;
        if !self.entries.contains_key(key) {
            self.make_room();
            self.entries.insert(key.clone(), Used::default());
        }
        // (`entry().or_default()` would need a copy of the key each time.)
        let used = self.entries.get_mut(key).expect("was put in above");
        used.last = self.turn;
        &mut used.entry
    }

    /// The entry of an object if there is one. It does not count as asked for.
    pub(super) fn peek(&mut self, key: &EntryKey) -> Option<&mut Entry> {
        self.entries.get_mut(key).map(|used| &mut used.entry)
    }

    /// All entries, in no order.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&EntryKey, &mut Entry)> {
        let entries = self.entries.iter_mut();
        entries.map(|(key, used)| (key, &mut used.entry))
    }

    /// Drops the entries of vaults that are not kept.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&Arc<Vault>) -> bool) {
        self.entries.retain(|key, _| is_kept(&key.vault));
    }

    /// Drops the sixteenth that was least recently asked for, so that the search is seldom made.
    /// Entries without a value go first: no flood of misses takes away what bridges an outage. One
    /// that is being read stays, so that it is not read twice.
    fn make_room(&mut self) {
        if self.entries.len() < self.most {
            return;
        }
        let rank = |used: &Used| (used.entry.has_value(), used.last);
        let mut ranks: Vec<_> = self.entries.values().map(rank).collect();
        ranks.sort_unstable();
        let last = ranks.get(self.most / 16).copied();
        self.entries.retain(|_, used| {
            used.entry.flight.is_some() || last.is_some_and(|last| rank(used) > last)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault() -> Arc<Vault> {
        let config = crate::config::parse("{}", &Arc::default()).expect("a configuration");
        Arc::clone(config.vaults.find("env").expect("env"))
    }

    fn key(vault: &Arc<Vault>, number: usize) -> EntryKey {
        EntryKey {
            vault: Arc::clone(vault),
            object: Object {
                scope: String::new(),
                path: number.to_string(),
                version: None,
                alias: None,
            },
        }
    }

    #[test]
    fn the_least_recently_used_goes_first_and_the_bound_holds() {
        let (mut cache, vault) = (Cache::new(64), self::vault());
        cache.entry(&key(&vault, 0));
        for number in 1..1000 {
            cache.entry(&key(&vault, number));
            cache.entry(&key(&vault, 0));
            assert!(cache.entries.len() <= 64);
        }
        assert!(cache.entries.contains_key(&key(&vault, 0)));
        assert!(cache.entries.contains_key(&key(&vault, 999)));
        assert!(!cache.entries.contains_key(&key(&vault, 1)));
    }

    #[test]
    fn misses_push_out_neither_values_nor_what_is_being_read() {
        let (mut cache, vault) = (Cache::new(64), self::vault());
        let reading = crate::backend::Reading::new(vaultref_contract::Secret::new(Vec::new()));
        let revisions = super::super::Revisions::new(1);
        let now = tokio::time::Instant::now();
        cache
            .entry(&key(&vault, 0))
            .record(Ok(reading), 0, now, &revisions);
        let (_sender, flight) = tokio::sync::watch::channel(false);
        cache.entry(&key(&vault, 1)).flight = Some(flight);
        for number in 2..1000 {
            cache.entry(&key(&vault, number));
        }
        assert!(cache.entries.len() <= 65);
        assert!(cache.entries.contains_key(&key(&vault, 0)));
        assert!(cache.entries.contains_key(&key(&vault, 1)));
        assert!(!cache.entries.contains_key(&key(&vault, 2)));
    }
}
