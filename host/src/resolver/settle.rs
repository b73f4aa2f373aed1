//! What has to be known before it can be said which object a reference means, and whether the client
//! may read it: what a file system calls things, and vaults whose own fields are references.
//!
//! It can take time, or hang. Then only the references that it concerns wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _, Shared, join_all};

use tokio::time::{Instant, timeout_at};

use super::ask::{Ask, Draft, NotAsked};
use super::patience::Patience;
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

/// The references of a request to one vault. Nothing is copied of them: most requests are polls that
/// have nothing to wait for.
struct OfVault<'a> {
    vault: &'a Arc<Vault>,
    indexes: Vec<usize>,
    resources: Vec<&'a str>,
}

impl Unsettled {
    /// What of a request is unsettled, by vault.
    pub(super) fn of(
        drafts: &[Result<Draft, NotAsked>],
        references: &[String],
        access: &Access,
    ) -> Vec<Self> {
        let asked = by_vault(drafts);
        let mut looks: BTreeMap<&str, Look> = BTreeMap::new();
        for (name, asked) in &asked {
            if let Some(look) = look(asked.vault, &asked.resources) {
                looks.insert(name, look);
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
            if let Some(look) = known.or_else(|| look(denied, &[])) {
                let looks = by_kind.entry(kind).or_default();
                looks.entry(denied.name().to_owned()).or_insert(look);
            }
        }
        let unsettled = asked.into_iter().filter_map(|(name, asked)| {
            let mut all: Vec<Look> = looks.get(name).cloned().into_iter().collect();
            let others = by_kind.get(asked.vault.kind().name).into_iter().flatten();
            all.extend(others.map(|(_, look)| look.clone()));
            let is_settled = all.is_empty() && asked.vault.as_dependent().is_none();
            (!is_settled).then(|| Self::new(asked, references, all))
        });
        unsettled.collect()
    }

    /// What is to be found out, by name: what the vault is made of, or what the references mean.
    pub(super) fn subjects(&self) -> Vec<String> {
        match self.looks.is_empty() {
            true => vec![self.vault.name().to_owned()],
            false => self.references.clone(),
        }
    }

    fn new(asked: OfVault<'_>, references: &[String], looks: Vec<Look>) -> Self {
        let indexes = asked.indexes.iter();
        let references = indexes.filter_map(|index| references.get(*index).cloned());
        Self {
            vault: Arc::clone(asked.vault),
            references: references.collect(),
            resources: asked
                .resources
                .iter()
                .map(|text| (*text).to_owned())
                .collect(),
            indexes: asked.indexes,
            looks,
        }
    }
}

fn by_vault(drafts: &[Result<Draft, NotAsked>]) -> BTreeMap<&str, OfVault<'_>> {
    let mut asked: BTreeMap<&str, OfVault<'_>> = BTreeMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        let Ok(draft) = draft else { continue };
        let asked = asked.entry(draft.vault.name());
        let asked = asked.or_insert_with(|| OfVault {
            vault: &draft.vault,
            indexes: Vec::new(),
            resources: Vec::new(),
        });
        asked.indexes.push(index);
        asked.resources.push(draft.resource());
    }
    asked
}

fn look(vault: &Vault, resources: &[&str]) -> Option<Look> {
    let backend = vault.backend().ok()?;
    backend.look(resources).map(|look| look.shared())
}

impl Resolver {
    /// Finds out what is to be found out. Says whether there were news.
    pub(super) async fn settle(&self, unsettled: Unsettled, patience: Patience) -> bool {
        let made = self.prepare(&unsettled.references, patience).await;
        let mut looks = unsettled.looks;
        if made {
            let resources: Vec<&str> = unsettled.resources.iter().map(String::as_str).collect();
            looks.extend(look(&unsettled.vault, &resources));
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
        patience: Patience,
        settled_by: Instant,
    ) {
        let indexes = unsettled.indexes.clone();
        let _ = timeout_at(settled_by, self.settle(unsettled, patience)).await;
        let drafts = indexes
            .iter()
            .filter_map(|index| drafts.get(*index)?.as_ref().ok());
        let asked: Vec<Ask> = drafts.filter_map(|draft| draft.ask(access).ok()).collect();
        let reads = flight::start(&self.0, asked.iter(), patience);
        join_all(reads.into_iter().map(flight::finished)).await;
    }
}
