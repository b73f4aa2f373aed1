//! The life of one object: fresh, due, bridging an outage, gone.
//!
//! | the last read said | a value that was there before |
//! | --- | --- |
//! | `unavailable` | stays in use, as stale, until `resurrect_ttl` after its ttl |
//! | `not-found` | stays in use, as stale, until a second read says so too, at most [`GRACE`] later |
//! | `denied`, `wrong-type` | is dropped at once |

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use vaultref_contract::Secret;
use vaultref_contract::wire::{Failure, FailureKind, Lifetime, Revision};

use super::ask::Ask;
use super::cache::EntryKey;
use super::terms::Terms;
use super::{Revisions, failure};
use crate::backend::{ReadError, ReadErrorKind, Reading};
use crate::metrics::ObjectState;
use crate::value::{Content, Selector};

/// How long after a first `not-found` the second read comes at the latest, if somebody asks. It
/// covers a writer that removes a file and writes it anew.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// How long a read may take before polls no longer wait for it.
const PATIENCE: Duration = Duration::from_millis(500);

/// The longest that a backend's `retry_after` is heeded.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// `fresh_for` of a value that is never due.
const NEVER: u64 = u32::MAX as u64;

/// What is known of one object.
#[derive(Default)]
pub(super) struct Entry {
    /// The read that runs, if one does.
    pub(super) flight: Option<Running>,
    good: Option<Good>,
    failed: Option<Failed>,
    /// The vault's generation when the last read began.
    generation: u64,
    /// There is reason to read it before its time.
    hurried: bool,
    /// When it is to be read because an upstream refused the value.
    doubted: Option<Instant>,
    /// When it was last to be read for that reason.
    last_doubt: Option<Instant>,
    /// Of those who have asked since the last read, the one with the shortest ttl.
    asked: Option<Ask>,
    /// When it is to be read ahead of its expiry.
    pub(super) refresh_at: Option<Instant>,
}

/// A read that runs.
#[derive(Clone)]
pub(super) struct Running {
    /// Becomes true when the read has ended.
    pub(super) ended: watch::Receiver<bool>,
    since: Instant,
}

struct Good {
    content: Content,
    /// What the backend says of how long it holds.
    ttl: Option<Duration>,
    read_at: Instant,
    selections: Selections,
}

/// The values that references have chosen of an object, with their names.
pub(super) type Selections = HashMap<Selector, Selected>;

/// A value and its name.
pub(super) struct Selected {
    pub(super) secret: Secret,
    pub(super) revision: Revision,
}

struct Failed {
    error: ReadError,
    /// The last read.
    at: Instant,
    /// The first read that failed so.
    since: Instant,
}

/// What an entry says to a reference.
pub(super) enum Answer<'a> {
    Failed(Failure),
    Value {
        value: &'a Selected,
        lifetime: Lifetime,
    },
}

impl Entry {
    /// Notes that a reference asks, so that the value is kept fresh for it.
    pub(super) fn note(&mut self, ask: &Ask) {
        let ttl = |ask: &Ask| ask.terms.ttl.unwrap_or(Duration::MAX);
        if self
            .asked
            .as_ref()
            .is_none_or(|known| ttl(ask) < ttl(known))
        {
            self.asked = Some(ask.clone());
        }
    }

    /// The reference for which the value is to be read again, if one has asked since the last read.
    pub(super) fn asked(&self) -> Option<&Ask> {
        self.asked.as_ref()
    }

    /// How long the value holds, counted from now, if it was read well and does not hold for ever.
    pub(super) fn holds_for(&self, ask: &Ask, now: Instant) -> Option<Duration> {
        let good = self.good.as_ref().filter(|_| self.failed.is_none())?;
        Some(good.expires_at(&ask.terms)?.saturating_duration_since(now))
    }

    /// Whether there is a value for a reference that nobody has to wait for a newer one of.
    pub(super) fn is_fresh(&mut self, ask: &Ask, now: Instant, revisions: &Revisions) -> bool {
        let expected = self.generation == ask.generation && !self.is_hurried(now);
        let Some(good) = self
            .good
            .as_mut()
            .filter(|_| self.failed.is_none() && expected)
        else {
            return false;
        };
        let in_time = good
            .expires_at(&ask.terms)
            .is_none_or(|expiry| now < expiry);
        in_time && good.select(&ask.selector, revisions).is_ok()
    }

    /// Whether a reference needs a read now.
    pub(super) fn is_due(&mut self, ask: &Ask, now: Instant, revisions: &Revisions) -> bool {
        let terms = &ask.terms;
        let was_read = self.failed.is_some() || self.good.is_some();
        if was_read && (self.is_hurried(now) || self.generation != ask.generation) {
            return true;
        }
        match (&self.failed, &mut self.good) {
            (Some(failed), good) => now >= failed.again_at(terms, good.is_some()),
            (None, Some(good)) => {
                good.expires_at(terms).is_some_and(|expiry| now >= expiry)
                    // A key that is missing is a failure like others.
                    || (now >= good.read_at + terms.neg_ttl
                        && good.select(&ask.selector, revisions).is_err())
            }
            (None, None) => true,
        }
    }

    /// Whether the read that runs is not worth waiting for to one who has something already: it has
    /// taken long, or the one before it has failed.
    pub(super) fn is_in_trouble(&self, now: Instant) -> bool {
        let hangs = |flight: &Running| now >= flight.since + PATIENCE;
        self.failed.is_some() || self.flight.as_ref().is_some_and(hangs)
    }

    /// What there is for a reference. `missing` stands for what is still being read.
    pub(super) fn answer(
        &mut self,
        ask: &Ask,
        now: Instant,
        missing: FailureKind,
        revisions: &Revisions,
    ) -> Answer<'_> {
        let terms = &ask.terms;
        let reading = self.flight.is_some();
        let failed = self.failed.as_ref();
        let bridge_end = self.good.as_ref().and_then(|good| match failed {
            Some(failed) if failed.error.kind == ReadErrorKind::NotFound => {
                // A grace for what is in use, not for what is too old to be.
                let grace = failed.since + GRACE;
                Some(good.usable_until(terms).map_or(grace, |end| end.min(grace)))
            }
            _ => good.usable_until(terms),
        });
        let usable = self.good.is_some() && bridge_end.is_none_or(|end| now < end);
        if !usable {
            return Answer::Failed(match failed {
                Some(failed) => failed.as_failure(terms, now),
                None if reading || self.good.is_some() => failure(missing, None),
                None => failure(FailureKind::Unavailable, None),
            });
        }
        let Some(good) = self.good.as_mut() else {
            return Answer::Failed(failure(missing, None));
        };
        let expiry = good.expires_at(terms);
        let fresh = failed.is_none() && expiry.is_none_or(|expiry| now < expiry);
        let again = (good.read_at + terms.neg_ttl).saturating_duration_since(now);
        let lifetime = Lifetime {
            fresh_for: match expiry {
                _ if !fresh => 0,
                Some(expiry) => (expiry - now).as_secs(),
                None => NEVER,
            },
            usable_for: bridge_end
                .map_or(terms.resurrect_ttl, |end| end - now)
                .as_secs(),
            stale: !fresh,
        };
        match good.select(&ask.selector, revisions) {
            Ok(value) => Answer::Value { value, lifetime },
            Err(kind) => Answer::Failed(failure(kind, Some(whole_seconds(again)))),
        }
    }

    /// Takes in what a read gave.
    pub(super) fn record(
        &mut self,
        result: Result<Reading, ReadError>,
        generation: u64,
        now: Instant,
        revisions: &Revisions,
    ) {
        self.generation = generation;
        self.hurried = false;
        self.doubted = None;
        self.asked = None;
        self.refresh_at = None;
        match result {
            Ok(reading) => {
                let before = self.good.take().map(|good| good.selections);
                let content = Content::new(reading.content);
                let selections = renewed(before.unwrap_or_default(), &content, revisions);
                self.failed = None;
                self.good = Some(Good {
                    content,
                    ttl: reading.ttl,
                    read_at: now,
                    selections,
                });
            }
            Err(error) => self.record_failure(error, now),
        }
    }

    fn record_failure(&mut self, error: ReadError, now: Instant) {
        let gone = match &mut self.failed {
            Some(failed) if failed.error.kind == ReadErrorKind::NotFound => Some(failed),
            _ => None,
        };
        match (error.kind, gone) {
            // An outage neither ends nor lengthens the grace of what was not found.
            (ReadErrorKind::Unavailable, Some(failed)) if self.good.is_some() => {
                failed.at = now;
                return;
            }
            (ReadErrorKind::Unavailable, _) | (ReadErrorKind::NotFound, None) => {}
            (
                ReadErrorKind::Denied
                | ReadErrorKind::InvalidName
                | ReadErrorKind::NotFound
                | ReadErrorKind::WrongType,
                _,
            ) => self.good = None,
        }
        self.failed = Some(Failed {
            error,
            at: now,
            since: now,
        });
    }

    /// Has the next who asks read it, whatever its ttl. What is known stays in use until then.
    pub(super) fn hurry(&mut self) {
        self.hurried = true;
    }

    /// The same because an upstream refused the value: at once, but not sooner than `pause` after the
    /// last time it was for that reason, nor than `least` after the value was read. Says whether that is
    /// news. What could not be read is read again in its own time, and what is being read is new.
    pub(super) fn doubt(&mut self, now: Instant, pause: Duration, least: Duration) -> bool {
        let is_settled = self.failed.is_none() && self.flight.is_none();
        let Some(good) = self.good.as_ref().filter(|_| is_settled) else {
            return false;
        };
        if self.doubted.is_some() {
            return false;
        }
        // A read for another reason may have answered the last doubt before its time had come.
        let last = self.last_doubt.map(|last| last.min(now));
        let soonest = now.max(good.read_at + least);
        let at = last.map_or(soonest, |last| soonest.max(last + pause));
        self.doubted = Some(at);
        self.last_doubt = Some(at);
        true
    }

    fn is_hurried(&self, now: Instant) -> bool {
        self.hurried || self.doubted.is_some_and(|at| now >= at)
    }

    /// What there is to be told of it, if it has a value.
    pub(super) fn state(&self, key: &EntryKey, now: Instant) -> Option<ObjectState> {
        let good = self.good.as_ref()?;
        let terms = match &self.asked {
            Some(ask) => ask.terms,
            None => Terms::of(key.vault.settings()),
        };
        let since = |at: Instant| now.saturating_duration_since(at);
        let next = self.refresh_at.filter(|_| self.failed.is_none());
        Some(ObjectState {
            vault: key.vault.name().to_owned(),
            object: key.object.path.clone(),
            version: key.object.version,
            age: since(good.read_at),
            stale: good.expires_at(&terms).map_or(Duration::ZERO, since),
            next_read: next.map(|at| at.saturating_duration_since(now)),
        })
    }

    /// How long ago the value was read, if there is one.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        let good = self.good.as_ref()?;
        Some(now.saturating_duration_since(good.read_at))
    }

    /// The bytes of the object, with the values that were taken out of it; 0 if there is none.
    pub(super) fn size(&self) -> usize {
        self.good.as_ref().map_or(0, |good| {
            let selections = good.selections.values();
            let selected: usize = selections.map(|selected| selected.secret.len()).sum();
            // An object that is empty takes room too.
            (good.content.len() + selected).max(1)
        })
    }

    /// Whether there is a value that could still be of use.
    pub(super) fn has_value(&self) -> bool {
        self.good.is_some()
    }

    /// The cause of the last failure, in words.
    pub(super) fn cause(&self, kind: FailureKind) -> Cow<'static, str> {
        match &self.failed {
            Some(failed) => failed.error.cause.clone(),
            None => match kind {
                FailureKind::KeyNotFound => "the object has no such key".into(),
                FailureKind::WrongType => {
                    "the object is no JSON object, the value no text, or the text no base64".into()
                }
                _ => "it was not read in time".into(),
            },
        }
    }
}

impl Running {
    pub(super) fn new(ended: watch::Receiver<bool>, now: Instant) -> Self {
        Self { ended, since: now }
    }
}

impl Good {
    fn expires_at(&self, terms: &Terms) -> Option<Instant> {
        terms.ttl(self.ttl).map(|ttl| self.read_at + ttl)
    }

    fn usable_until(&self, terms: &Terms) -> Option<Instant> {
        self.expires_at(terms)
            .map(|expiry| expiry + terms.resurrect_ttl)
    }

    fn select(
        &mut self,
        selector: &Selector,
        revisions: &Revisions,
    ) -> Result<&Selected, FailureKind> {
        // (Two look-ups: a borrow that is returned early cannot be given up again.)
        if !self.selections.contains_key(selector) {
            let secret = self.content.select(selector)?;
            let revision = revisions.next();
            self.selections
                .insert(selector.clone(), Selected { secret, revision });
        }
        self.selections
            .get(selector)
            .ok_or(FailureKind::KeyNotFound)
    }
}

/// The same choices of a new reading. A value that has not changed keeps its name.
fn renewed(before: Selections, content: &Content, revisions: &Revisions) -> Selections {
    let chosen = before.into_iter().filter_map(|(selector, old)| {
        let secret = content.select(&selector).ok()?;
        let revision = if secret.same_as(old.secret.expose()) {
            old.revision
        } else {
            revisions.next()
        };
        Some((selector, Selected { secret, revision }))
    });
    chosen.collect()
}

impl Failed {
    /// When the backend may be asked again.
    fn again_at(&self, terms: &Terms, in_use: bool) -> Instant {
        let wait = match self.error.kind {
            ReadErrorKind::NotFound if in_use => terms.neg_ttl.min(GRACE),
            _ => terms.neg_ttl,
        };
        let asked = self
            .error
            .retry_after
            .unwrap_or_default()
            .min(MAX_RETRY_AFTER);
        self.at + wait.max(asked)
    }

    fn as_failure(&self, terms: &Terms, now: Instant) -> Failure {
        let wait = self.again_at(terms, false).saturating_duration_since(now);
        failure(self.error.kind.failure_kind(), Some(whole_seconds(wait)))
    }
}

fn whole_seconds(time: Duration) -> u32 {
    let seconds = time.as_millis().div_ceil(1000);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
