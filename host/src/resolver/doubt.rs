//! Values that an upstream refused: they may have been changed before their time was over.
//!
//! Whoever can make an upstream refuse requests can have them read, so it is done seldom: for one
//! object at most once in [`PAUSE`], and a vault's circuit, pace and `neg_ttl` hold as for any read.

use std::time::Duration;

use tokio::time::Instant;
use vaultref_contract::wire::ResolveRequest;

use super::Resolver;
use super::ask::{Ask, NotAsked};

/// How often one object is read for this reason at most.
pub(super) const PAUSE: Duration = Duration::from_secs(10);

impl Resolver {
    /// Has read what the request doubts, as far as this client may read it.
    pub(super) fn doubt(&self, asked: &[Result<Ask, NotAsked>], request: &ResolveRequest) {
        if request.refresh.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut cache = self.0.cache();
        for index in &request.refresh {
            let index = usize::try_from(*index).ok();
            let Some(Ok(ask)) = index.and_then(|index| asked.get(index)) else {
                continue;
            };
            let vault = &ask.key.vault;
            let pause = PAUSE.max(vault.settings().min_ttl);
            let entry = cache.peek(&ask.key);
            if entry.is_some_and(|entry| entry.doubt(now, pause)) {
                self.0.metrics.doubted(vault.name());
                tracing::info!(
                    vault = vault.name(),
                    object = ask.key.object.path,
                    "an upstream refused the value: it is read anew"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
