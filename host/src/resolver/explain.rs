//! Values for the process itself and for a person, with the cause in words where there is none.

use std::borrow::Cow;
use std::time::Duration;

use vaultref_contract::wire::{Failure, FailureKind, Outcome, ResolveRequest, SecretValue};

use super::ask::Ask;
use super::patience::Patience;
use super::{Resolver, drafts, failure};
use crate::policy::Access;

/// Why there is no value, with the cause in words. The words are for the operator, not for clients.
#[derive(Debug)]
pub struct Unresolved {
    /// The failure as the contract has it.
    pub failure: Failure,
    /// The cause; repeats no value.
    pub cause: Cow<'static, str>,
}

impl Resolver {
    /// One value, with the cause in words if there is none.
    ///
    /// # Errors
    /// The failure as the contract has it, and its cause for the operator.
    pub async fn value(
        &self,
        access: &Access,
        reference: &str,
        wait: Duration,
    ) -> Result<SecretValue, Unresolved> {
        let mut values = self.values(access, vec![reference.to_owned()], wait).await;
        // One for each reference.
        values.pop().unwrap_or_else(|| Err(no_answer()))
    }

    /// The values of any number of references, in their order, for the process itself: there is no
    /// bound on the bytes of them all.
    pub async fn values(
        &self,
        access: &Access,
        references: Vec<String>,
        wait: Duration,
    ) -> Vec<Result<SecretValue, Unresolved>> {
        let request = ResolveRequest {
            references,
            known: Vec::new(),
            wait_ms: 0,
            ..ResolveRequest::default()
        };
        let drafts = drafts(&self.vaults(), &request);
        let asked = self.read_all(drafts, access, &request, wait, Patience::Whole);
        let asked = asked.await;
        let outcomes = self.answer_all(&asked, &request, FailureKind::Unavailable, usize::MAX);
        let answered = request.references.iter().zip(outcomes);
        answered
            .map(|(reference, outcome)| match outcome {
                Outcome::Secret(secret) => Ok(secret),
                Outcome::Failure(failure) => Err(Unresolved {
                    failure,
                    cause: self.cause(access, reference, failure.kind),
                }),
                // Nothing was said to be known.
                Outcome::Unchanged(_) => Err(no_answer()),
            })
            .collect()
    }

    /// What can be said of a reference without reading anything: that its vault is there, that its
    /// options are allowed and that there can be such an object.
    ///
    /// # Errors
    /// As [`Resolver::value`].
    pub fn examine(&self, access: &Access, reference: &str) -> Result<(), Unresolved> {
        match Ask::new(&self.vaults(), access, reference) {
            Err(refused) if !refused.is_unsettled => Err(Unresolved {
                failure: failure(refused.kind, None),
                cause: refused.cause,
            }),
            _ => Ok(()),
        }
    }

    fn cause(&self, access: &Access, reference: &str, kind: FailureKind) -> Cow<'static, str> {
        match Ask::new(&self.vaults(), access, reference) {
            Err(refused) => refused.cause,
            Ok(ask) => self.0.cache().entry(&ask.key).cause(kind),
        }
    }
}

fn no_answer() -> Unresolved {
    Unresolved {
        failure: failure(FailureKind::Unavailable, None),
        cause: "no answer".into(),
    }
}
