//! From references to secrets: what is in memory, what has to be read, how long one waits for it.
//!
//! One entry for one object of one vault, in one version: references to several keys of it, and any
//! number of clients, share one read, and one read at a time runs for it. Nothing is read that
//! nobody asks for. What a client may not read is never started.

mod ask;
mod blocking;
mod cache;
mod doubt;
mod explain;
mod flight;
mod flush;
mod jitter;
mod life;
mod patience;
mod prepare;
mod refresh;
mod settle;
mod terms;
mod turns;

use std::collections::BTreeSet;
use std::fmt;
#[cfg(feature = "wasmtime")]
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use futures::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use vaultref_contract::wire::{
    Failure, FailureKind, Outcome, ResolveRequest, Revision, SecretValue, Value,
};

use crate::metrics::{Answers, Metrics, State};
use crate::policy::Access;
use crate::vault::Vaults;
use ask::{Ask, Draft};
pub use cache::Bounds;
use cache::Cache;
pub use explain::Unresolved;
pub use flush::Flush;
use jitter::Jitter;
use life::Answer;
use patience::Patience;
use settle::Unsettled;
use turns::Turns;

/// The most bytes of values in one reply. What is over it is to be asked for again, in a smaller
/// request.
const MAX_REPLY_BYTES: usize = 16 * 1024 * 1024;

/// The longest that a request can wait, whatever it asks for.
pub const MAX_WAIT: Duration = Duration::from_secs(30);

/// Answers references. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    vaults: RwLock<Arc<Vaults>>,
    runtime: Handle,
    cache: Mutex<Cache>,
    revisions: Revisions,
    jitter: Jitter,
    turns: Arc<Turns>,
    agenda: refresh::Agenda,
    metrics: Metrics,
    finished: watch::Sender<u64>,
}

impl Resolver {
    /// Serves the vaults. `boot` is random and new for each start, so that a revision of an earlier
    /// run is never taken for one of this. Reads run on `runtime`.
    #[must_use]
    pub fn new(vaults: Vaults, boot: u64, runtime: Handle) -> Self {
        Self(Arc::new(Inner {
            vaults: RwLock::new(Arc::new(vaults)),
            runtime,
            cache: Mutex::new(Cache::new(Bounds::default())),
            revisions: Revisions::new(boot),
            jitter: Jitter::new(boot),
            turns: Arc::default(),
            agenda: refresh::Agenda::new(),
            metrics: Metrics::new(),
            finished: watch::Sender::new(0),
        }))
    }

    /// Answers all references of a request, in its order, and waits for what has to be read, at most
    /// `wait_ms` and [`MAX_WAIT`]. What is not read by then is `unavailable`; its read goes on.
    pub async fn resolve(&self, access: &Access, request: &ResolveRequest) -> Vec<Outcome> {
        self.resolve_of(&self.vaults(), access, request).await
    }

    /// The same of these vaults, whatever [`Resolver::replace`] does meanwhile: those that `access` was
    /// decided for.
    pub(crate) async fn resolve_of(
        &self,
        vaults: &Vaults,
        access: &Access,
        request: &ResolveRequest,
    ) -> Vec<Outcome> {
        self.resolve_with(vaults, access, request, Patience::of(request))
            .await
    }

    async fn resolve_with(
        &self,
        vaults: &Vaults,
        access: &Access,
        request: &ResolveRequest,
        patience: Patience,
    ) -> Vec<Outcome> {
        let wait = Duration::from_millis(request.wait_ms.into());
        let drafts = drafts(vaults, request);
        let asked = self.read_all(drafts, access, request, wait, patience).await;
        self.answer_all(&asked, request, FailureKind::Unavailable, MAX_REPLY_BYTES)
    }

    /// The same without waiting: what is not in memory is `pending`, and its read starts.
    /// [`Resolver::finished_reads`] tells when to ask again.
    #[must_use]
    pub fn resolve_now(&self, access: &Access, request: &ResolveRequest) -> Vec<Outcome> {
        let drafts = drafts(&self.vaults(), request);
        for unsettled in Unsettled::of(&drafts, &request.references, access) {
            let Some(turn) = self.0.turns.begin(&unsettled) else {
                continue;
            };
            let resolver = self.clone();
            self.0.runtime.spawn(async move {
                let settling = resolver.settle(unsettled, Patience::Whole);
                // What took too long goes on elsewhere and tells nobody, so that is told as well.
                let is_news = timeout(MAX_WAIT, settling).await != Ok(false);
                if turn.end() || is_news {
                    resolver.0.finished.send_modify(|count| *count += 1);
                }
            });
        }
        let asked = ask_all(&drafts, access);
        self.doubt(&asked, request);
        flight::start(&self.0, asked.iter().flatten(), Patience::Whole);
        self.answer_all(&asked, request, FailureKind::Pending, MAX_REPLY_BYTES)
    }

    /// Counts the reads that have ended, well or not.
    #[must_use]
    pub fn finished_reads(&self) -> watch::Receiver<u64> {
        self.0.finished.subscribe()
    }

    /// The vaults that are served now.
    #[must_use]
    pub fn vaults(&self) -> Arc<Vaults> {
        self.0.vaults()
    }

    /// Serves these vaults from now on. Entries of a vault that is not among them go; what is the same
    /// vault (the same object, not only the same name) keeps what it has.
    pub fn replace(&self, vaults: Vaults) {
        let vaults = Arc::new(vaults);
        *self
            .0
            .vaults
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::clone(&vaults);
        let mut cache = self.0.cache();
        cache.retain(|vault| {
            let served = vaults.find(vault.name());
            served.is_some_and(|served| Arc::ptr_eq(served, vault))
        });
    }

    /// Has everything read that has to be, and waits for it.
    async fn read_all(
        &self,
        drafts: Vec<Result<Draft, ask::NotAsked>>,
        access: &Access,
        request: &ResolveRequest,
        wait: Duration,
        patience: Patience,
    ) -> Vec<Result<Ask, ask::NotAsked>> {
        let now = Instant::now();
        let deadline = now + wait.min(MAX_WAIT);
        let unsettled = Unsettled::of(&drafts, &request.references, access);
        let mut asked = ask_all(&drafts, access);
        self.doubt(&asked, request);
        if unsettled.is_empty() {
            self.read(asked.iter(), deadline, patience).await;
        } else {
            // Who has nothing to wait for does not wait for those who have.
            let waits: BTreeSet<usize> = unsettled
                .iter()
                .flat_map(|unsettled| unsettled.indexes.iter().copied())
                .collect();
            let others = asked.iter().enumerate();
            let others = others.filter(|(index, _)| !waits.contains(index));
            let others = others.map(|(_, asked)| asked);
            let settled = self.read(others, deadline, patience);
            let settled_by = patience.until_settled(now, deadline);
            let settling = unsettled.into_iter().map(|unsettled| {
                self.settle_and_read(unsettled, &drafts, access, patience, settled_by)
            });
            let settling = timeout_at(deadline, join_all(settling));
            let (_, in_time) = futures::join!(settled, settling);
            asked = ask_all(&drafts, access);
            if in_time.is_err() {
                // As far as it is known what is meant, it is read for whoever asks next.
                flight::start(&self.0, asked.iter().flatten(), patience);
            }
        }
        asked
    }

    /// Reads what is due of this, and waits for it until the deadline; what is not done by then goes on
    /// without us.
    async fn read<'a>(
        &self,
        asked: impl Iterator<Item = &'a Result<Ask, ask::NotAsked>>,
        deadline: Instant,
        patience: Patience,
    ) {
        let reads = flight::start(&self.0, asked.flatten(), patience);
        if !reads.is_empty() {
            let all = join_all(reads.into_iter().map(flight::finished));
            let _ = timeout_at(deadline, all).await;
        }
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
        let mut counted = Answers::default();
        let mut cache = self.0.cache();
        let outcomes = asked.iter().enumerate().map(|(index, asked)| {
            let ask = match asked {
                Ok(ask) => ask,
                Err(refused) if refused.is_unsettled => {
                    return Outcome::Failure(failure(missing, Some(1)));
                }
                Err(refused) => return Outcome::Failure(failure(refused.kind, None)),
            };
            let vault = ask.key.vault.name();
            let entry = cache.entry(&ask.key);
            match entry.answer(ask, now, missing, &self.0.revisions) {
                Answer::Failed(failure) => {
                    counted.count(vault, failure.kind.name());
                    Outcome::Failure(failure)
                }
                Answer::Value { value, lifetime } => {
                    counted.count(vault, if lifetime.stale { "stale" } else { "fresh" });
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
        let outcomes = outcomes.collect();
        drop(cache);
        self.0.metrics.answered(counted);
        outcomes
    }

    /// What is counted and measured, as Prometheus reads it.
    ///
    /// # Errors
    /// It cannot be written, which nobody has seen yet.
    pub fn metrics(&self) -> Result<String, fmt::Error> {
        let vaults = self.vaults();
        let now = Instant::now();
        let mut cache = self.0.cache();
        let held = cache.held();
        let state = State {
            entries: cache.len(),
            failures: held.failures,
            bytes: held.bytes,
            vaults: vaults
                .iter()
                .map(|vault| (vault.name().to_owned(), vault.circuit.is_open()))
                .collect(),
            objects: cache
                .iter_mut()
                .filter_map(|(key, entry)| entry.state(key, now))
                .collect(),
        };
        drop(cache);
        self.0.metrics.encode(state)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("vaults", &self.vaults())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn vaults(&self) -> Arc<Vaults> {
        // It is replaced whole, so what is there is good whoever panicked.
        let vaults = self.vaults.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&vaults)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // Nothing panics while it is held; if it did, what is in the cache is still whole.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn drafts(vaults: &Vaults, request: &ResolveRequest) -> Vec<Result<Draft, ask::NotAsked>> {
    let references = request.references.iter();
    references
        .map(|reference| Draft::new(vaults, reference))
        .collect()
}

fn ask_all(
    drafts: &[Result<Draft, ask::NotAsked>],
    access: &Access,
) -> Vec<Result<Ask, ask::NotAsked>> {
    let asked = drafts.iter().map(|draft| match draft {
        Ok(draft) => draft.ask(access),
        Err(refused) => Err(refused.clone()),
    });
    asked.collect()
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
mod model;
#[cfg(test)]
mod tests;
