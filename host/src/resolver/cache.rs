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

/// How much is kept; the objects that were asked for least recently go first.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most objects.
    pub entries: usize,
    /// The most objects without a value, of which only is remembered why.
    pub failures: usize,
    /// The most bytes of objects.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            entries: 10_000,
            failures: 2_000,
            bytes: 64 * 1024 * 1024,
        }
    }
}

/// All entries.
pub(super) struct Cache {
    entries: HashMap<EntryKey, Used>,
    bounds: Bounds,
    turn: u64,
    held: Held,
}

/// What is in the cache.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    pub(super) failures: usize,
    pub(super) bytes: usize,
}

#[derive(Default)]
struct Used {
    entry: Entry,
    /// The turn at which it was last asked for.
    last: u64,
    /// What it was counted as.
    counted: Option<usize>,
}

impl Cache {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            entries: HashMap::new(),
            bounds,
            turn: 0,
            held: Held::default(),
        }
    }

    /// The number of entries.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What the entries hold.
    pub(super) fn held(&self) -> Held {
        self.held
    }

    /// The entry of an object; an empty one if there was none.
    pub(super) fn entry(&mut self, key: &EntryKey) -> &mut Entry {
        self.turn += 1;
        if !self.entries.contains_key(key) {
            if self.entries.len() >= self.bounds.entries {
                self.drop_oldest(self.bounds.entries / 16, |_| true);
            }
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
        self.count();
    }

    /// Counts an entry anew that has been read, and makes room if it is too much now.
    pub(super) fn settle(&mut self, key: &EntryKey) {
        let Some(used) = self.entries.get_mut(key) else {
            return;
        };
        self.held.take(used.counted);
        used.counted = Some(used.entry.size());
        self.held.add(used.counted);
        if self.held.failures > self.bounds.failures {
            self.drop_oldest(self.bounds.failures / 16, |used| used.counted == Some(0));
        }
        while self.held.bytes > self.bounds.bytes && self.entries.len() > 1 {
            let before = self.entries.len();
            self.drop_oldest(before / 16 + 1, |used| used.counted != Some(0));
            if self.entries.len() == before {
                break;
            }
        }
    }

    /// Drops some that were least recently asked for, so that the search is seldom made. Entries
    /// without a value go first: no flood of misses takes away what bridges an outage. One that is
    /// being read stays, so that it is not read twice.
    fn drop_oldest(&mut self, count: usize, may_go: impl Fn(&Used) -> bool) {
        let rank = |used: &Used| (used.entry.has_value(), used.last);
        let goes = |used: &Used| used.entry.flight.is_none() && may_go(used);
        let mut ranks: Vec<_> = self
            .entries
            .values()
            .filter(|used| goes(used))
            .map(rank)
            .collect();
        ranks.sort_unstable();
        let last = ranks.get(count.min(ranks.len().saturating_sub(1))).copied();
        let is_last = |used: &Used| last.is_some_and(|last| rank(used) <= last);
        self.entries
            .retain(|_, used| !(goes(used) && is_last(used)));
        self.count();
    }

    fn count(&mut self) {
        self.held = Held::default();
        for used in self.entries.values() {
            self.held.add(used.counted);
        }
    }
}

impl Held {
    fn add(&mut self, counted: Option<usize>) {
        self.bytes += counted.unwrap_or_default();
        self.failures += usize::from(counted == Some(0));
    }

    fn take(&mut self, counted: Option<usize>) {
        self.bytes -= counted.unwrap_or_default();
        self.failures -= usize::from(counted == Some(0));
    }
}

#[cfg(test)]
mod tests {
    use super::super::life::Running;
    use super::*;

    const SMALL: Bounds = Bounds {
        entries: 64,
        failures: 1000,
        bytes: 100_000,
    };

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
        let (mut cache, vault) = (Cache::new(SMALL), self::vault());
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
        let (mut cache, vault) = (Cache::new(SMALL), self::vault());
        let reading = crate::backend::Reading::new(vaultref_contract::Secret::new(Vec::new()));
        let revisions = super::super::Revisions::new(1);
        let now = tokio::time::Instant::now();
        cache
            .entry(&key(&vault, 0))
            .record(Ok(reading), 0, now, &revisions);
        let (_sender, flight) = tokio::sync::watch::channel(false);
        cache.entry(&key(&vault, 1)).flight = Some(Running::new(flight, now));
        for number in 2..1000 {
            cache.entry(&key(&vault, number));
        }
        assert!(cache.entries.len() <= 65);
        assert!(cache.entries.contains_key(&key(&vault, 0)));
        assert!(cache.entries.contains_key(&key(&vault, 1)));
        assert!(!cache.entries.contains_key(&key(&vault, 2)));
    }

    #[test]
    fn bytes_and_failures_have_bounds_of_their_own() {
        let vault = self::vault();
        let revisions = super::super::Revisions::new(1);
        let now = tokio::time::Instant::now();
        let mut cache = Cache::new(Bounds {
            entries: 10_000,
            failures: 100,
            bytes: 50_000,
        });
        for number in 0..1000 {
            let key = key(&vault, number);
            let result = if number % 2 == 0 {
                let content = vaultref_contract::Secret::new(vec![b'x'; 1000]);
                Ok(crate::backend::Reading::new(content))
            } else {
                let kind = crate::backend::ReadErrorKind::NotFound;
                Err(crate::backend::ReadError::new(kind, "as told"))
            };
            cache.entry(&key).record(result, 0, now, &revisions);
            cache.settle(&key);
            let held = cache.held();
            assert!(held.bytes <= 50_000 && held.failures <= 100, "{held:?}");
            assert!(cache.entries.contains_key(&key), "the newest stays");
        }
        assert!(cache.held().bytes > 40_000 && cache.held().failures > 80);
    }
}
