//! From references to secrets: what is in memory, what has to be read, how long one waits for it.
//!
//! One entry for one object of one vault, in one version: references to several keys of it, and any
//! number of clients, share one read, and one read at a time runs for it. Nothing is read that
//! nobody asks for. What a client may not read is never started.

mod ask;
mod cache;
mod life;

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

use crate::backend::{ReadError, ReadErrorKind, Reading};
use crate::policy::Access;
use crate::vault::Vaults;
use ask::Ask;
use cache::{Cache, EntryKey};
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
            finished: watch::Sender::new(0),
        }))
    }

    /// Answers all references of a request, in its order, and waits for what has to be read, at most
    /// `wait_ms` and [`MAX_WAIT`]. What is not read by then is `unavailable`; its read goes on.
    pub async fn resolve(&self, access: &Access, request: &ResolveRequest) -> Vec<Outcome> {
        let wait = Duration::from_millis(request.wait_ms.into()).min(MAX_WAIT);
        let deadline = Instant::now() + wait;
        let asked = self.ask_all(access, request);
        let reads: Vec<_> = asked
            .iter()
            .flatten()
            .filter_map(|ask| self.start(ask))
            .collect();
        if !reads.is_empty() {
            let all = join_all(reads.into_iter().map(finished));
            // What is not done by then goes on without us.
            let _ = timeout_at(deadline, all).await;
        }
        self.answer_all(&asked, request, FailureKind::Unavailable)
    }

    /// The same without waiting: what is not in memory is `pending`, and its read starts.
    /// [`Resolver::finished_reads`] tells when to ask again.
    #[must_use]
    pub fn resolve_now(&self, access: &Access, request: &ResolveRequest) -> Vec<Outcome> {
        let asked = self.ask_all(access, request);
        for ask in asked.iter().flatten() {
            self.start(ask);
        }
        self.answer_all(&asked, request, FailureKind::Pending)
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
        let request = ResolveRequest {
            references: vec![reference.to_owned()],
            known: Vec::new(),
            wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
        };
        let mut outcomes = self.resolve(access, &request).await;
        match outcomes.pop() {
            Some(Outcome::Secret(secret)) => Ok(secret),
            Some(Outcome::Failure(failure)) => Err(Unresolved {
                failure,
                cause: self.cause(access, reference, failure.kind),
            }),
            Some(Outcome::Unchanged(_)) | None => Err(Unresolved {
                failure: failure(FailureKind::Unavailable, None),
                cause: "no answer".into(),
            }),
        }
    }

    /// The vaults that are served.
    #[must_use]
    pub fn vaults(&self) -> &Vaults {
        &self.0.vaults
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

    /// Starts a read if one is due and none runs. Gives the one that runs, to be waited for.
    fn start(&self, ask: &Ask) -> Option<watch::Receiver<bool>> {
        let mut cache = self.0.cache();
        let entry = cache.entry(&ask.key);
        if let Some(flight) = &entry.flight {
            return Some(flight.clone());
        }
        if !entry.is_due(ask, Instant::now(), &self.0.revisions) {
            return None;
        }
        let (sender, receiver) = watch::channel(false);
        entry.flight = Some(receiver.clone());
        drop(cache);
        let flight = Flight {
            inner: Arc::clone(&self.0),
            ask: ask.clone(),
            landed: false,
            sender,
        };
        self.0.runtime.spawn(flight.run());
        Some(receiver)
    }

    fn answer_all(
        &self,
        asked: &[Result<Ask, ask::NotAsked>],
        request: &ResolveRequest,
        missing: FailureKind,
    ) -> Vec<Outcome> {
        let now = Instant::now();
        let mut room = MAX_REPLY_BYTES;
        let mut cache = self.0.cache();
        let outcomes = asked.iter().enumerate().map(|(index, asked)| {
            let ask = match asked {
                Ok(ask) => ask,
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

    fn land(
        &self,
        key: &EntryKey,
        flight: &watch::Receiver<bool>,
        result: Result<Reading, ReadError>,
    ) {
        let mut cache = self.cache();
        let entry = cache.entry(key);
        // The entry may have gone and come back meanwhile, with a read of its own.
        if entry
            .flight
            .as_ref()
            .is_some_and(|known| known.same_channel(flight))
        {
            entry.flight = None;
        }
        entry.record(result, Instant::now(), &self.revisions);
        drop(cache);
        self.finished.send_modify(|count| *count += 1);
    }
}

/// One read under way. Whatever becomes of it, those who wait for it are told.
struct Flight {
    inner: Arc<Inner>,
    ask: Ask,
    landed: bool,
    sender: watch::Sender<bool>,
}

impl Flight {
    async fn run(mut self) {
        let vault = Arc::clone(&self.ask.vault);
        let object = self.ask.key.object.clone();
        let limit = vault.settings().timeout;
        let read = async {
            // Closed by nobody; without a permit the read is only less orderly.
            let _permit = vault.reads.acquire().await;
            vault.backend().read(&object).await
        };
        let result = timeout(limit, read).await.unwrap_or_else(|_| {
            Err(ReadError::new(
                ReadErrorKind::Unavailable,
                format!("no answer within {} s", limit.as_secs()),
            ))
        });
        if let Err(error) = &result {
            tracing::warn!(
                vault = vault.name(),
                object = object.path,
                kind = error.kind.failure_kind().name(),
                cause = %error.cause,
                "cannot read"
            );
        }
        self.land(result);
    }

    fn land(&mut self, result: Result<Reading, ReadError>) {
        self.landed = true;
        let flight = self.sender.subscribe();
        self.inner.land(&self.ask.key, &flight, result);
        self.sender.send_replace(true);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.landed {
            self.land(Err(ReadError::new(
                ReadErrorKind::Unavailable,
                "the read was broken off",
            )));
        }
    }
}

async fn finished(mut flight: watch::Receiver<bool>) {
    // An error means that the sender is gone, and so is the read.
    let _ = flight.wait_for(|done| *done).await;
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
