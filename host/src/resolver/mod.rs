//! From references to secrets: what is in memory, what has to be read, how long one waits for it.
//!
//! One entry for one object of one vault, in one version: references to several keys of it, and any
//! number of clients, share one read, and one read at a time runs for it. Nothing is read that
//! nobody asks for. What a client may not read is never started.

mod ask;
mod cache;
mod flight;
mod jitter;
mod life;
mod prepare;

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use vaultref_contract::wire::{
    Failure, FailureKind, Outcome, ResolveRequest, Revision, SecretValue, Value,
};

use crate::policy::Access;
use crate::vault::Vaults;
use ask::Ask;
use cache::Cache;
use jitter::Jitter;
use life::Answer;

/// The most bytes of values in one reply. What is over it is to be asked for again, in a smaller
/// request.
const MAX_REPLY_BYTES: usize = 16 * 1024 * 1024;

/// The longest that a request can wait, whatever it asks for.
pub const MAX_WAIT: Duration = Duration::from_secs(30);

/// The most objects that are kept; the one that was asked for least recently goes first.
pub const MAX_ENTRIES: usize = 10_000;

/// Answers references. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    vaults: Vaults,
    runtime: Handle,
    cache: Mutex<Cache>,
    revisions: Revisions,
    jitter: Jitter,
    finished: watch::Sender<u64>,
}

impl Resolver {
    /// Serves the vaults. `boot` is random and new for each start, so that a revision of an earlier
    /// run is never taken for one of this. Reads run on `runtime`.
    #[must_use]
    pub fn new(vaults: Vaults, boot: u64, runtime: Handle) -> Self {
        Self(Arc::new(Inner {
            vaults,
            runtime,
            cache: Mutex::new(Cache::new(MAX_ENTRIES)),
            revisions: Revisions::new(boot),
            jitter: Jitter::new(boot),
            finished: watch::Sender::new(0),
        }))
    }

    /// Answers all references of a request, in its order, and waits for what has to be read, at most
    /// `wait_ms` and [`MAX_WAIT`]. What is not read by then is `unavailable`; its read goes on.
    pub async fn resolve(&self, access: &Access, request: &ResolveRequest) -> Vec<Outcome> {
        let wait = Duration::from_millis(request.wait_ms.into());
        let asked = self.read_all(access, request, wait).await;
        self.answer_all(&asked, request, FailureKind::Unavailable, MAX_REPLY_BYTES)
    }

    /// The same without waiting: what is not in memory is `pending`, and its read starts.
    /// [`Resolver::finished_reads`] tells when to ask again.
    #[must_use]
    pub fn resolve_now(&self, access: &Access, request: &ResolveRequest) -> Vec<Outcome> {
        if self.0.vaults.have_dependents() {
            let (resolver, references) = (self.clone(), request.references.clone());
            self.0.runtime.spawn(async move {
                if timeout(MAX_WAIT, resolver.prepare(&references)).await == Ok(true) {
                    resolver.0.finished.send_modify(|count| *count += 1);
                }
            });
        }
        let asked = self.ask_all(access, request);
        flight::start(&self.0, asked.iter().flatten());
        self.answer_all(&asked, request, FailureKind::Pending, MAX_REPLY_BYTES)
    }

    /// Counts the reads that have ended, well or not.
    #[must_use]
    pub fn finished_reads(&self) -> watch::Receiver<u64> {
        self.0.finished.subscribe()
    }

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
        };
        let asked = self.read_all(access, &request, wait).await;
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
        match Ask::new(&self.0.vaults, access, reference) {
            Err(refused) if !refused.is_unmade => Err(Unresolved {
                failure: failure(refused.kind, None),
                cause: refused.cause,
            }),
            _ => Ok(()),
        }
    }

    /// The vaults that are served.
    #[must_use]
    pub fn vaults(&self) -> &Vaults {
        &self.0.vaults
    }

    /// Has everything read that has to be, and waits for it.
    async fn read_all(
        &self,
        access: &Access,
        request: &ResolveRequest,
        wait: Duration,
    ) -> Vec<Result<Ask, ask::NotAsked>> {
        let deadline = Instant::now() + wait.min(MAX_WAIT);
        // What is not made by then is unavailable; whoever asks next goes on with it.
        let _ = timeout_at(deadline, self.prepare(&request.references)).await;
        let asked = self.ask_all(access, request);
        let reads = flight::start(&self.0, asked.iter().flatten());
        if !reads.is_empty() {
            let all = join_all(reads.into_iter().map(flight::finished));
            // What is not done by then goes on without us.
            let _ = timeout_at(deadline, all).await;
        }
        asked
    }

    fn ask_all(
        &self,
        access: &Access,
        request: &ResolveRequest,
    ) -> Vec<Result<Ask, ask::NotAsked>> {
        let references = request.references.iter();
        references
            .map(|reference| Ask::new(&self.0.vaults, access, reference))
            .collect()
    }

    fn answer_all(
        &self,
        asked: &[Result<Ask, ask::NotAsked>],
        request: &ResolveRequest,
        missing: FailureKind,
        most_bytes: usize,
    ) -> Vec<Outcome> {
        let now = Instant::now();
        let mut room = most_bytes;
        let mut cache = self.0.cache();
        let outcomes = asked.iter().enumerate().map(|(index, asked)| {
            let ask = match asked {
                Ok(ask) => ask,
                Err(refused) if refused.is_unmade => {
                    return Outcome::Failure(failure(missing, Some(1)));
                }
                Err(refused) => return Outcome::Failure(failure(refused.kind, None)),
            };
            let entry = cache.entry(&ask.key);
            match entry.answer(ask, now, missing, &self.0.revisions) {
                Answer::Failed(failure) => Outcome::Failure(failure),
                Answer::Value { value, lifetime } => {
                    if request.known.get(index).and_then(Option::as_ref) == Some(&value.revision) {
                        return Outcome::Unchanged(lifetime);
                    }
                    let Some(left) = room.checked_sub(value.secret.len()) else {
                        return Outcome::Failure(failure(FailureKind::Unavailable, Some(1)));
                    };
                    room = left;
                    Outcome::Secret(SecretValue {
                        // The answer is written and wiped; the cache keeps its own.
                        value: Value::new(value.secret.duplicate()),
                        revision: value.revision.clone(),
                        lifetime,
                    })
                }
            }
        });
        outcomes.collect()
    }

    fn cause(&self, access: &Access, reference: &str, kind: FailureKind) -> Cow<'static, str> {
        match Ask::new(&self.0.vaults, access, reference) {
            Err(refused) => refused.cause,
            Ok(ask) => self.0.cache().entry(&ask.key).cause(kind),
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("vaults", &self.0.vaults)
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn cache(&self) -> MutexGuard<'_, Cache> {
        // Nothing panics while it is held; if it did, what is in the cache is still whole.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no value, with the cause in words. The words are for the operator, not for clients.
#[derive(Debug)]
pub struct Unresolved {
    /// The failure as the contract has it.
    pub failure: Failure,
    /// The cause; repeats no value.
    pub cause: Cow<'static, str>,
}

/// Makes names for values. A name says nothing of its value.
struct Revisions {
    boot: u64,
    next: AtomicU64,
}

impl Revisions {
    fn new(boot: u64) -> Self {
        Self {
            boot,
            next: AtomicU64::new(1),
        }
    }

    fn next(&self) -> Revision {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Revision(format!("{:016x}-{number:x}", self.boot))
    }
}

fn no_answer() -> Unresolved {
    Unresolved {
        failure: failure(FailureKind::Unavailable, None),
        cause: "no answer".into(),
    }
}

fn failure(kind: FailureKind, retry_after: Option<u32>) -> Failure {
    use FailureKind as Kind;
    let retryable = match kind {
        Kind::Denied | Kind::InvalidReference | Kind::UnknownVault => retry_after.is_some(),
        Kind::KeyNotFound
        | Kind::NotFound
        | Kind::Pending
        | Kind::Unavailable
        | Kind::WrongType => true,
    };
    Failure {
        kind,
        retryable,
        retry_after,
    }
}

#[cfg(test)]
mod tests;
