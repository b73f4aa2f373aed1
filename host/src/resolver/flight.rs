//! Reads under way: which are due, which go together in one call, and what is asked for again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::Inner;
use super::ask::Ask;
use super::life::{Entry, Running};
use super::patience::Patience;
use crate::backend::{Backend, Object, ReadError, ReadErrorKind, Reading};
use crate::metrics::Hits;
use crate::policy::Access;
use crate::vault::{Dependent, Vault};

/// How often one object is asked for in one read, if the failures are such as may be over at once.
const ATTEMPTS: u32 = 3;

/// The pause before the second attempt, give or take half of it; it doubles with each.
const PAUSE: Duration = Duration::from_millis(150);

type Outcome = Result<Reading, ReadError>;

/// Starts the reads that are due and do not run. Gives those that run and have to be waited for.
pub(super) fn start<'a>(
    inner: &Arc<Inner>,
    asks: impl Iterator<Item = &'a Ask>,
    patience: Patience,
) -> Vec<watch::Receiver<bool>> {
    let now = Instant::now();
    let mut running = Vec::new();
    let mut due: Vec<Seat> = Vec::new();
    let mut hits = Hits::default();
    let mut cache = inner.cache();
    for ask in asks {
        let entry = cache.entry(&ask.key);
        entry.note(ask);
        if entry.flight.is_none() && entry.is_due(ask, now, &inner.revisions) {
            due.push(Seat::taken(ask, entry, now));
        }
        // A read ahead of the expiry keeps nobody waiting.
        let is_fresh = entry.is_fresh(ask, now, &inner.revisions);
        hits.count(ask.key.vault.name(), is_fresh);
        if let Some(flight) = entry.flight.clone()
            && !is_fresh
            && patience.is_for(entry, now)
        {
            running.push(flight.ended);
        }
    }
    drop(cache);
    inner.metrics.looked_up(hits);
    depart(inner, due);
    running
}

/// Reads these whether they are due or not, unless they are being read.
pub(super) fn refresh(inner: &Arc<Inner>, asks: &[Ask]) {
    let now = Instant::now();
    let mut due: Vec<Seat> = Vec::new();
    let mut cache = inner.cache();
    for ask in asks {
        let entry = cache.entry(&ask.key);
        if entry.flight.is_none() {
            due.push(Seat::taken(ask, entry, now));
        }
    }
    drop(cache);
    depart(inner, due);
}

fn depart(inner: &Arc<Inner>, due: Vec<Seat>) {
    for seats in together(due) {
        let flight = Flight {
            inner: Arc::clone(inner),
            seats,
            is_admitted: true,
            start: Instant::now(),
        };
        inner.runtime.spawn(flight.run());
    }
}

/// The reads that one call can do.
fn together(due: Vec<Seat>) -> Vec<Vec<Seat>> {
    let mut flights: Vec<Vec<Seat>> = Vec::new();
    for seat in due {
        let most = seat.ask.backend.batch();
        let fits = |seats: &&mut Vec<Seat>| {
            let same = |first: &Seat| Arc::ptr_eq(&first.ask.backend, &seat.ask.backend);
            seats.len() < most && seats.first().is_some_and(same)
        };
        match flights.iter_mut().rev().find(fits) {
            Some(seats) => seats.push(seat),
            None => flights.push(vec![seat]),
        }
    }
    flights
}

/// Objects of one vault that are read in one call. Whatever becomes of it, those who wait are told.
struct Flight {
    inner: Arc<Inner>,
    /// Never empty.
    seats: Vec<Seat>,
    /// The vault may be asked.
    is_admitted: bool,
    start: Instant,
}

/// One object of a flight.
struct Seat {
    ask: Ask,
    sender: watch::Sender<bool>,
    result: Option<Outcome>,
}

impl Seat {
    fn taken(ask: &Ask, entry: &mut Entry, now: Instant) -> Self {
        let (sender, receiver) = watch::channel(false);
        entry.flight = Some(Running::new(receiver, now));
        Self {
            ask: ask.clone(),
            sender,
            result: None,
        }
    }
}

impl Flight {
    async fn run(mut self) {
        let Some(first) = self.seats.first() else {
            return;
        };
        let vault = Arc::clone(&first.ask.key.vault);
        let backend = Arc::clone(&first.ask.backend);
        if let Err(pause) = vault.circuit.admit(Instant::now()) {
            return self.leave_alone(pause);
        }
        let deadline = Instant::now() + vault.settings().timeout;
        for attempt in 1..=ATTEMPTS {
            let open: Vec<usize> = self.open().collect();
            if !self.read(&open, &vault, &*backend, deadline).await {
                break;
            }
            let Some(pause) = self.pause(attempt) else {
                break;
            };
            if attempt == ATTEMPTS || Instant::now() + pause >= deadline {
                break;
            }
            sleep(pause).await;
        }
    }

    /// None is asked for: the vault has failed too often of late.
    fn leave_alone(mut self, pause: Duration) {
        self.is_admitted = false;
        for seat in &mut self.seats {
            seat.result = Some(Err(ReadError {
                retry_after: Some(pause),
                ..ReadError::new(
                    ReadErrorKind::Unavailable,
                    "not asked for now, since the vault has failed several times in a row",
                )
            }));
        }
    }

    fn note_outcome(&self) {
        let first = self.seats.first().filter(|_| self.is_admitted);
        let Some(vault) = first.map(|seat| &seat.ask.key.vault) else {
            return;
        };
        let is_outage = |seat: &Seat| match &seat.result {
            // One object that cannot be read for reasons of its own says nothing about the vault.
            Some(Err(error)) => error.transient,
            Some(Ok(_)) => false,
            None => true,
        };
        let outage = self.seats.iter().all(is_outage);
        match vault.circuit.note(outage, Instant::now()) {
            Some(true) => tracing::warn!(
                vault = vault.name(),
                "fails again and again; it is tried from time to time only"
            ),
            Some(false) => tracing::info!(vault = vault.name(), "answers again"),
            None => {}
        }
    }

    /// The seats that have no result, or one that may be another if it is asked for again.
    fn open(&self) -> impl Iterator<Item = usize> {
        let seats = self.seats.iter().enumerate();
        seats.filter_map(|(index, seat)| match &seat.result {
            None => Some(index),
            Some(Err(error)) if error.transient => Some(index),
            Some(_) => None,
        })
    }

    /// Asks for these; says whether an answer came in time.
    async fn read(
        &mut self,
        open: &[usize],
        vault: &Vault,
        backend: &dyn Backend,
        deadline: Instant,
    ) -> bool {
        let objects: Vec<Object> = open
            .iter()
            .filter_map(|index| Some(self.seats.get(*index)?.ask.key.object.clone()))
            .collect();
        let read = async {
            sleep_until(vault.pace.turn(Instant::now())).await;
            // Closed by nobody; without a permit the read is only less orderly.
            let _permit = vault.reads.acquire().await;
            match &*objects {
                [object] => vec![backend.read(object).await],
                objects => backend.read_batch(objects).await,
            }
        };
        let Ok(results) = timeout_at(deadline, read).await else {
            for seat in self.seats.iter_mut().filter(|seat| seat.result.is_none()) {
                let limit = vault.settings().timeout.as_secs();
                let cause = format!("no answer within {limit} s");
                seat.result = Some(Err(ReadError::transient(cause)));
            }
            return false;
        };
        for (index, result) in open.iter().zip(results) {
            if let Some(seat) = self.seats.get_mut(*index) {
                seat.result = Some(result);
            }
        }
        true
    }

    /// How long to wait before what is open is asked for again; none if nothing is.
    fn pause(&self, attempt: u32) -> Option<Duration> {
        let open = self.open().filter_map(|index| self.seats.get(index));
        let asked = open.filter_map(|seat| match &seat.result {
            Some(Err(error)) => Some(error.retry_after.unwrap_or_default()),
            _ => None,
        });
        let usual = PAUSE * 2u32.pow(attempt - 1);
        let spread = self
            .inner
            .jitter
            .below(u32::try_from(usual.as_millis()).ok()?);
        let jittered = usual / 2 + Duration::from_millis(spread.into());
        asked.max().map(|asked| asked.max(jittered))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.note_outcome();
        for seat in self.seats.drain(..) {
            let result = seat.result.unwrap_or_else(|| {
                Err(ReadError::new(
                    ReadErrorKind::Unavailable,
                    "the read was broken off",
                ))
            });
            let error = result.as_ref().err().cloned();
            if result
                .as_ref()
                .is_err_and(|error| error.kind == ReadErrorKind::Denied)
            {
                suspect_credentials(&self.inner, &seat.ask.key.vault);
            }
            if self.is_admitted {
                let outcome = result.as_ref().err();
                let outcome = outcome.map_or("ok", |error| error.kind.failure_kind().name());
                let vault = seat.ask.key.vault.name();
                self.inner
                    .metrics
                    .read(vault, outcome, self.start.elapsed());
            }
            let aftermath = land(&self.inner, &seat.ask, &seat.sender, result);
            if let Some(error) = error {
                aftermath.log(&seat.ask, &error);
            }
        }
    }
}

/// What becomes of the value that was there before a read that failed.
enum Aftermath {
    /// It bridges the outage; it was read so long ago.
    Bridged(Duration),
    Dropped,
    /// There was none.
    None,
}

impl Aftermath {
    fn of(before: Option<Duration>, after: Option<Duration>) -> Self {
        match (before, after) {
            (_, Some(age)) => Self::Bridged(age),
            (Some(_), None) => Self::Dropped,
            (None, None) => Self::None,
        }
    }

    /// Says why a value is stale, or gone.
    fn log(self, ask: &Ask, error: &ReadError) {
        let vault = ask.key.vault.name();
        let object = &ask.key.object.path;
        let kind = error.kind.failure_kind().name();
        let cause = &error.cause;
        match self {
            Self::Bridged(age) => {
                let age = age.as_secs();
                tracing::warn!(vault, object, kind, %cause, age, "cannot read, the value from before stays in use");
            }
            Self::Dropped => {
                tracing::warn!(vault, object, kind, %cause, "cannot read, the value from before is dropped");
            }
            Self::None => tracing::warn!(vault, object, kind, %cause, "cannot read"),
        }
    }
}

/// The vault's credentials were refused. Where they come from another vault they may have changed
/// there, before their ttl was over.
fn suspect_credentials(inner: &Inner, vault: &Vault) {
    let references = vault.as_dependent().map(Dependent::references);
    for reference in references.unwrap_or_default() {
        let ask = Ask::new(&inner.vaults(), &Access::All, reference.as_str());
        if let Ok(ask) = ask
            && let Some(entry) = inner.cache().peek(&ask.key)
        {
            entry.hurry();
        }
    }
}

fn land(inner: &Inner, ask: &Ask, sender: &watch::Sender<bool>, result: Outcome) -> Aftermath {
    let now = Instant::now();
    let mut aftermath = Aftermath::None;
    let mut cache = inner.cache();
    if let Some(entry) = cache.peek(&ask.key) {
        let before = entry.age(now);
        record(inner, ask, sender, entry, result);
        aftermath = Aftermath::of(before, entry.age(now));
        cache.settle(&ask.key);
    }
    drop(cache);
    inner.finished.send_modify(|count| *count += 1);
    sender.send_replace(true);
    aftermath
}

fn record(
    inner: &Inner,
    ask: &Ask,
    sender: &watch::Sender<bool>,
    entry: &mut Entry,
    result: Outcome,
) {
    // The entry may have gone and come back meanwhile, with a read of its own.
    let flight = sender.subscribe();
    let is_own = |known: &Running| known.ended.same_channel(&flight);
    if entry.flight.as_ref().is_some_and(is_own) {
        entry.flight = None;
    }
    let was_known = entry.has_value();
    let now = Instant::now();
    let for_whom = entry.asked().unwrap_or(ask).clone();
    entry.record(result, ask.generation, now, &inner.revisions);
    if let Some(time) = entry.holds_for(&for_whom, now) {
        let at = inner.agenda.plan(now, time, was_known, &inner.jitter);
        entry.refresh_at = Some(at);
        inner.agenda.add(at, ask.key.clone());
    }
}

/// Waits for the end of a read.
pub(super) async fn finished(mut flight: watch::Receiver<bool>) {
    // An error means that the sender is gone, and so is the read.
    let _ = flight.wait_for(|done| *done).await;
}

#[cfg(test)]
mod tests;
