//! Secrets for guests that are components: a guest gets a handle, and the value stays here.
//!
//! For whoever embeds wasmtime and runs components. [`add_to_linker`] gives guests the interface
//! `vaultref:secrets/secrets`: an opaque `secret` for a reference, its revision and its lifetime. Such
//! a guest can hold a secret and hand it to a function of the embedder, which reads it with
//! [`Secrets::lend`]. [`add_reveal_to_linker`] adds `vaultref:secrets/reveal`, with which the guest
//! itself can read: the import is the capability, and a component that imports it is not instantiated
//! by a linker without it.
//!
//! ```
//! use vaultref_host::component::{OpaqueSecret, Secrets, add_to_linker};
//! use wasmtime::component::{Linker, Resource};
//!
//! struct Embedder {
//!     secrets: Secrets,
//! }
//!
//! let engine = wasmtime::Engine::default();
//! let mut linker = Linker::<Embedder>::new(&engine);
//! add_to_linker(&mut linker, |embedder| &mut embedder.secrets)?;
//! // A function of the embedder, which uses a secret in the guest's stead.
//! linker.instance("example:mail/outbound")?.func_wrap(
//!     "login",
//!     |mut store, (password,): (Resource<OpaqueSecret>,)| {
//!         let password = store.data_mut().secrets.lend(&password)?;
//!         Ok((!password.is_empty(),))
//!     },
//! )?;
//! # Ok::<(), wasmtime::Error>(())
//! ```
//!
//! A [`Secrets`] belongs to one store: what it holds is bounded and goes with it. No other store takes
//! its handles. It never says more of a value than the contract does, not even its length, and has no
//! way to ask which references there are.
//!
//! **Rights.** A [`Secrets`] has the [`Access`] that it was made with for all its life. New clients of a
//! configuration that is read again change nothing for it, though it does see the vaults that
//! [`Resolver::replace`] puts there: under the old rights, which hold for vaults by name. Whose rights
//! have changed gets a new [`Secrets`]; what its guest held goes with the old one.
//!
//! **Waiting.** A call never blocks unless [`Secrets::waiting`] says so: what is not in memory is
//! `pending`, its read starts, and [`Secrets::finished_reads`] tells when to call the guest again.

mod linker;
mod types;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use vaultref_contract::Secret;
use vaultref_contract::wire::{
    Failure, FailureKind, Lifetime, MAX_REFERENCES, Outcome, ResolveRequest, Revision, SecretValue,
};
use wasmtime::component::Resource;

use crate::policy::Access;
use crate::resolver::Resolver;

pub use linker::{add_reveal_to_linker, add_to_linker};

/// What the resource `secret` is called in signatures of the embedder's own functions:
/// `Resource<OpaqueSecret>`. There is no value of this type.
#[derive(Debug)]
pub enum OpaqueSecret {}

/// The secrets that the guests of one store hold.
pub struct Secrets {
    resolver: Resolver,
    access: Access,
    wait: Duration,
    most: usize,
    held: BTreeMap<u32, Held>,
}

/// What is behind one handle.
struct Held {
    reference: String,
    revision: Revision,
    /// As it was told at `told_at`.
    lifetime: Lifetime,
    told_at: Instant,
    /// Handles of one revision share the value.
    value: Result<Arc<Secret>, Failure>,
}

/// Why a secret is not given.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The reference has no value, or the one that was got is of no use any more.
    #[error("the secret has no value: {}", .0.kind)]
    Failure(Failure),
    /// The handle is not one of this store, or has been released.
    #[error("this store has no such secret")]
    Missing,
    /// As many secrets are held as may be.
    #[error("too many secrets are held at once")]
    TooMany,
}

impl Secrets {
    /// What guests ask is answered under the rules of `access`, for as long as this lives: see 'Rights' in
    /// the [module's documentation](self). They may hold 1,024 secrets at once.
    #[must_use]
    pub fn new(resolver: Resolver, access: Access) -> Self {
        Self {
            resolver,
            access,
            wait: Duration::ZERO,
            most: MAX_REFERENCES,
            held: BTreeMap::new(),
        }
    }

    /// Has `get` wait for a read for so long, at most [`MAX_WAIT`](crate::resolver::MAX_WAIT), and
    /// block the thread meanwhile. Not for a thread on which the resolver's own runtime depends.
    #[must_use]
    pub fn waiting(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// Has guests hold no more secrets than this at once. Memory is held for each, and for the value
    /// of each revision once.
    #[must_use]
    pub fn at_most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// How many secrets are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Changes with each read that has ended, so that a guest that met `pending` can be called again.
    #[must_use]
    pub fn finished_reads(&self) -> watch::Receiver<u64> {
        self.resolver.finished_reads()
    }

    /// Gets the current value of a reference, for a guest or to be handed to one. Who does not pass it
    /// on releases it.
    ///
    /// # Errors
    /// There is no value, or too many secrets are held.
    pub fn get(&mut self, reference: &str) -> Result<Resource<OpaqueSecret>, SecretError> {
        if self.held.len() >= self.most {
            return Err(SecretError::TooMany);
        }
        let secret = self.read(reference).map_err(SecretError::Failure)?;
        let known = self.held.values();
        let known = known.filter(|held| held.revision == secret.revision);
        let known = known.filter_map(|held| held.value.as_ref().ok());
        let value = known.map(Arc::clone).next();
        let held = Held {
            reference: reference.to_owned(),
            value: Ok(value.unwrap_or_else(|| Arc::new(secret.value.into_secret()))),
            revision: secret.revision,
            lifetime: secret.lifetime,
            told_at: Instant::now(),
        };
        let mut number = next_number();
        while self.held.contains_key(&number) {
            number = next_number();
        }
        self.held.insert(number, held);
        Ok(Resource::new_own(number))
    }

    /// Reads a secret that a guest has handed over, for as long as this is borrowed.
    ///
    /// # Errors
    /// It is of no use any more: the guest may not have it now, it is gone, or it cannot be read anew
    /// and is too old. Or it is not of this store.
    pub fn lend(&mut self, secret: &Resource<OpaqueSecret>) -> Result<&Secret, SecretError> {
        let held = self.current(secret)?;
        let value = held.value.as_ref();
        value
            .map(AsRef::as_ref)
            .map_err(|failure| SecretError::Failure(*failure))
    }

    /// Which value of its reference it is.
    ///
    /// # Errors
    /// It is not of this store.
    pub fn revision(&self, secret: &Resource<OpaqueSecret>) -> Result<&Revision, SecretError> {
        let held = self.held.get(&secret.rep());
        held.map(|held| &held.revision).ok_or(SecretError::Missing)
    }

    /// For how long it holds, counted from now. Nothing of it is left when it is of no use any more.
    ///
    /// # Errors
    /// It is not of this store.
    pub fn lifetime(&mut self, secret: &Resource<OpaqueSecret>) -> Result<Lifetime, SecretError> {
        self.current(secret)
            .map(|held| held.lifetime_at(Instant::now()))
    }

    /// Drops a secret that was got here, or that a guest has given away for good.
    pub fn release(&mut self, secret: &Resource<OpaqueSecret>) {
        self.held.remove(&secret.rep());
    }

    /// The current value of a reference, if it is there or comes in time.
    fn read(&self, reference: &str) -> Result<SecretValue, Failure> {
        let request = request(reference, None);
        let outcome = match one(self.resolver.resolve_now(&self.access, &request)) {
            Outcome::Failure(failure)
                if failure.kind == FailureKind::Pending && !self.wait.is_zero() =>
            {
                let outcomes = self
                    .resolver
                    .resolve_blocking(&self.access, &request, self.wait);
                one(outcomes)
            }
            outcome => outcome,
        };
        match outcome {
            Outcome::Failure(failure) => Err(failure),
            Outcome::Secret(secret) => Ok(secret),
            // Nothing was said to be known.
            Outcome::Unchanged(_) => Err(unavailable()),
        }
    }

    /// What is held, after a look at what the resolver says of it now.
    fn current(&mut self, secret: &Resource<OpaqueSecret>) -> Result<&Held, SecretError> {
        let held = self.held.get_mut(&secret.rep());
        let held = held.ok_or(SecretError::Missing)?;
        if held.value.is_ok() {
            let request = request(&held.reference, Some(held.revision.clone()));
            let outcome = one(self.resolver.resolve_now(&self.access, &request));
            held.hear(&outcome, Instant::now());
        }
        Ok(held)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets")
            .field("access", &self.access)
            .field("wait", &self.wait)
            .field("most", &self.most)
            .field("held", &self.held.len())
            .finish_non_exhaustive()
    }
}

impl Held {
    /// Takes in what the resolver says of the reference. The value goes with the right to have it.
    fn hear(&mut self, outcome: &Outcome, now: Instant) {
        match outcome {
            Outcome::Failure(failure) => match failure.kind {
                // Nothing is known against it.
                FailureKind::Pending | FailureKind::Unavailable => {}
                FailureKind::Denied
                | FailureKind::InvalidReference
                | FailureKind::KeyNotFound
                | FailureKind::NotFound
                | FailureKind::UnknownVault
                | FailureKind::WrongType => return self.lose(*failure),
            },
            // There is a newer one, and this stays what it was.
            Outcome::Secret(_) => self.lifetime.fresh_for = 0,
            Outcome::Unchanged(lifetime) => {
                self.lifetime = *lifetime;
                self.told_at = now;
                return;
            }
        }
        if now >= self.told_at + Duration::from_secs(self.lifetime.usable_for) {
            self.lose(unavailable());
        }
    }

    fn lose(&mut self, failure: Failure) {
        self.value = Err(failure);
        self.lifetime.fresh_for = 0;
        self.lifetime.usable_for = 0;
    }

    /// The lifetime, counted from `now`.
    fn lifetime_at(&self, now: Instant) -> Lifetime {
        let passed = now.saturating_duration_since(self.told_at).as_secs();
        Lifetime {
            fresh_for: self.lifetime.fresh_for.saturating_sub(passed),
            usable_for: self.lifetime.usable_for.saturating_sub(passed),
            stale: self.lifetime.stale,
        }
    }
}

fn request(reference: &str, known: Option<Revision>) -> ResolveRequest {
    ResolveRequest {
        references: vec![reference.to_owned()],
        known: known.map(Some).into_iter().collect(),
        wait_ms: 0,
        ..ResolveRequest::default()
    }
}

/// The outcome of the one reference that was asked for.
fn one(outcomes: Vec<Outcome>) -> Outcome {
    let outcome = outcomes.into_iter().next();
    outcome.unwrap_or_else(|| Outcome::Failure(unavailable()))
}

fn unavailable() -> Failure {
    Failure {
        kind: FailureKind::Unavailable,
        retryable: true,
        retry_after: None,
    }
}

/// A number that no handle of this process has had yet, until all have been given.
fn next_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
