//! Values that an upstream refused: they may have been changed before their time was over.
//!
//! Whoever can make an upstream refuse requests can have them read, so it is done seldom: for one
//! object at most once in [`PAUSE`], not sooner than the vault's `min_ttl` after it was read, and a vault's
//! circuit, pace and `neg_ttl` hold as for any read.

use std::time::Duration;

use tokio::time::Instant;
use vaultref_contract::wire::ResolveRequest;

use super::Resolver;
use super::ask::{Ask, NotAsked};
use super::cache::EntryKey;

/// How often one object is read for this reason at most.
pub(super) const PAUSE: Duration = Duration::from_secs(10);

impl Resolver {
    /// Has read what the request doubts, as far as this client may read it.
    pub(super) fn doubt(&self, asked: &[Result<Ask, NotAsked>], request: &ResolveRequest) {
        if request.refresh.is_empty() {
            return;
        }
        for key in self.doubted(asked, request) {
            let vault = key.vault.name();
            self.0.metrics.doubted(vault);
            tracing::info!(
                vault,
                object = key.object.path,
                "an upstream refused the value: it is read anew"
            );
        }
    }

    /// Of what objects it is news that they are doubted.
    fn doubted<'a>(
        &self,
        asked: &'a [Result<Ask, NotAsked>],
        request: &ResolveRequest,
    ) -> Vec<&'a EntryKey> {
        let now = Instant::now();
        let mut cache = self.0.cache();
        let indexes = request.refresh.iter();
        let doubted = indexes.filter_map(|index| {
            let ask = asked.get(usize::try_from(*index).ok()?)?.as_ref().ok()?;
            let least = ask.key.vault.settings().min_ttl;
            let is_news = cache.peek(&ask.key)?.doubt(now, PAUSE, least);
            is_news.then_some(&ask.key)
        });
        doubted.collect()
    }
}

#[cfg(test)]
mod tests;
