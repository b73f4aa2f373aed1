//! Vaults whose own fields are references: what they need is read before they are.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::task::spawn_blocking;
use vaultref_contract::Reference;
use vaultref_contract::wire::{Outcome, ResolveRequest, SecretValue};

use super::patience::Patience;
use super::{MAX_WAIT, Resolver};
use crate::policy::Access;
use crate::vault::Vault;

impl Resolver {
    /// Makes the vaults of these references ready to be read, as far as that can be done. Says whether
    /// one of them is another now. (That no vault needs itself was checked with the configuration.)
    pub(super) fn prepare<'a>(
        &'a self,
        references: &'a [String],
        patience: Patience,
    ) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let known = self.vaults();
            if !known.have_dependents() {
                return false;
            }
            let mut vaults: Vec<&Arc<Vault>> = references
                .iter()
                .filter_map(|text| Reference::parse(text).ok())
                .filter_map(|reference| known.find(reference.vault()))
                .filter(|vault| vault.as_dependent().is_some())
                .collect();
            vaults.sort_unstable_by_key(|vault| vault.name());
            vaults.dedup_by_key(|vault| vault.name());
            let mut news = false;
            for vault in vaults {
                news |= self.make(vault, patience).await;
            }
            news
        })
    }

    async fn make(&self, vault: &Arc<Vault>, patience: Patience) -> bool {
        let Some(dependent) = vault.as_dependent() else {
            return false;
        };
        let needed = dependent.references();
        let request = ResolveRequest {
            references: needed.iter().map(|text| text.as_str().to_owned()).collect(),
            known: Vec::new(),
            wait_ms: u32::try_from(MAX_WAIT.as_millis()).unwrap_or(u32::MAX),
            ..ResolveRequest::default()
        };
        // The configuration's owner wrote these references, so no client's rules hold for them.
        let vaults = self.vaults();
        let outcomes = self.resolve_with(&vaults, &Access::All, &request, patience);
        let outcomes = outcomes.await;
        let mut values: Vec<SecretValue> = Vec::with_capacity(needed.len());
        for (reference, outcome) in needed.iter().zip(outcomes) {
            match outcome {
                Outcome::Secret(value) => values.push(value),
                Outcome::Failure(failure) => return dependent.fail(reference, failure.kind),
                // Nothing was said to be known.
                Outcome::Unchanged(_) => return false,
            }
        }
        if dependent.is_made_of(&values) {
            return false;
        }
        // Making it may read files, on a file system that hangs.
        let vault = Arc::clone(vault);
        let made = spawn_blocking(move || {
            vault
                .as_dependent()
                .is_some_and(|dependent| dependent.make(&values))
        });
        made.await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests;
