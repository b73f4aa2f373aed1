//! What has to be known before it can be said which object a reference means, and whether the client
//! may read it: what a file system calls things, and vaults whose own fields are references.
//!
//! It can take time, or hang. Then only the references that it concerns wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _, Shared, join_all};

use super::ask::{Ask, Draft, NotAsked};
use super::{Resolver, flight};
use crate::policy::Access;
use crate::vault::Vault;

type Look = Shared<BoxFuture<'static, bool>>;

/// References to one vault that have something to wait for.
pub(super) struct Unsettled {
    vault: Arc<Vault>,
    /// Which of the request's references they are.
    pub(super) indexes: Vec<usize>,
    references: Vec<String>,
    resources: Vec<String>,
    looks: Vec<Look>,
}

impl Unsettled {
    /// What of a request is unsettled, by vault.
    pub(super) fn of(
        drafts: &[Result<Draft, NotAsked>],
        references: &[String],
        access: &Access,
    ) -> Vec<Self> {
        let mut asked: BTreeMap<&str, Self> = BTreeMap::new();
        for (index, (draft, reference)) in drafts.iter().zip(references).enumerate() {
            let Ok(draft) = draft else { continue };
            let asked = asked.entry(draft.vault.name());
            let asked = asked.or_insert_with(|| Self::new(&draft.vault));
            asked.indexes.push(index);
            asked.references.push(reference.clone());
            asked.resources.push(draft.resource().to_owned());
        }
        let mut looks: BTreeMap<String, Look> = BTreeMap::new();
        for (name, asked) in &asked {
            if let Some(look) = look(&asked.vault, asked.resources.clone()) {
                looks.insert((*name).to_owned(), look);
            }
        }
        // Where the vaults are of which a `deny` speaks decides on the others of their kind.
        let mut by_kind: BTreeMap<&str, BTreeMap<String, Look>> = BTreeMap::new();
        for denied in access.denied_vaults() {
            let kind = denied.kind().name;
            if !asked.values().any(|asked| asked.vault.kind().name == kind) {
                continue;
            }
            let known = looks.get(denied.name()).cloned();
            if let Some(look) = known.or_else(|| look(denied, Vec::new())) {
                let looks = by_kind.entry(kind).or_default();
                looks.entry(denied.name().to_owned()).or_insert(look);
            }
        }
        let settled = |asked: &Self| asked.looks.is_empty() && asked.vault.as_dependent().is_none();
        let asked = asked.into_values().map(|mut asked| {
            asked.looks.extend(looks.get(asked.vault.name()).cloned());
            let others = by_kind.get(asked.vault.kind().name).into_iter().flatten();
            asked.looks.extend(others.map(|(_, look)| look.clone()));
            asked
        });
        asked.filter(|asked| !settled(asked)).collect()
    }

    fn new(vault: &Arc<Vault>) -> Self {
        Self {
            vault: Arc::clone(vault),
            indexes: Vec::new(),
            references: Vec::new(),
            resources: Vec::new(),
            looks: Vec::new(),
        }
    }
}

fn look(vault: &Vault, resources: Vec<String>) -> Option<Look> {
    let backend = vault.backend().ok()?;
    backend.look(resources).map(|look| look.shared())
}

impl Resolver {
    /// Finds out what is to be found out. Says whether there were news.
    pub(super) async fn settle(&self, unsettled: Unsettled) -> bool {
        let made = self.prepare(&unsettled.references).await;
        let mut looks = unsettled.looks;
        if made {
            looks.extend(look(&unsettled.vault, unsettled.resources));
        }
        let looked = join_all(looks).await;
        made || looked.contains(&true)
    }

    /// The same, and then reads what is due.
    pub(super) async fn settle_and_read(
        &self,
        unsettled: Unsettled,
        drafts: &[Result<Draft, NotAsked>],
        access: &Access,
    ) {
        let indexes = unsettled.indexes.clone();
        self.settle(unsettled).await;
        let drafts = indexes
            .iter()
            .filter_map(|index| drafts.get(*index)?.as_ref().ok());
        let asked: Vec<Ask> = drafts.filter_map(|draft| draft.ask(access).ok()).collect();
        let reads = flight::start(&self.0, asked.iter());
        join_all(reads.into_iter().map(flight::finished)).await;
    }
}
