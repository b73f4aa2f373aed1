//! One reference: its value if it has one, or why it has none, and for how long that holds.

use std::rc::Rc;

use vaultref_contract::Secret;
use vaultref_contract::wire::{Failure, FailureKind, Lifetime, Outcome, Revision};

use super::{Age, SECOND};
use crate::compile::Asked;

/// For how long a failure holds of which the resolver does not say it: what its `neg_ttl` is where
/// nothing else is configured.
const NEGATIVE: u32 = 5;

/// The [`Entry::rank`] of what is wanted and not there.
pub(super) const WANTED: u8 = 1;

/// One reference.
pub(crate) struct Entry {
    pub(crate) asked: Asked,
    pub(super) held: Option<Held>,
    failure: Option<FailureKind>,
    /// Until when the failure holds for an entry that requests have brought.
    pub(super) failed_until: Age,
    /// When a request last needed it; none if a configuration names it.
    pub(super) brought: Option<Age>,
    /// Changes with the value, and while there is none with the reason.
    version: u64,
    /// Until when the value is no older than it should be.
    fresh_until: Age,
    /// An upstream has refused the value: the next poll says so.
    pub(super) is_doubted: bool,
    /// How many polls are still to ask for it, since a request needed it that could not.
    pub(super) wanted: u8,
    /// Only while entries are chosen, see [`Table::choose`].
    pub(super) is_chosen: bool,
}

/// A value in use.
pub(super) struct Held {
    secret: Rc<Secret>,
    revision: Revision,
    pub(super) usable_until: Age,
    /// The first and the last answer that gave it or said that it is unchanged.
    pub(super) answers: (u64, u64),
}

impl Entry {
    /// One of which nothing is known; `brought` says when a request has brought it.
    pub(super) fn new(asked: Asked, brought: Option<Age>) -> Self {
        Self {
            asked,
            held: None,
            failure: None,
            failed_until: 0,
            brought,
            version: 1,
            fresh_until: Age::MAX,
            is_doubted: false,
            wanted: 0,
            is_chosen: false,
        }
    }

    pub(crate) fn secret(&self) -> Option<&Secret> {
        self.held.as_ref().map(|held| &*held.secret)
    }

    /// The same, kept for as long as it is needed.
    pub(crate) fn shared_secret(&self) -> Option<Rc<Secret>> {
        self.held.as_ref().map(|held| Rc::clone(&held.secret))
    }

    pub(crate) fn revision(&self) -> Option<&Revision> {
        self.held.as_ref().map(|held| &held.revision)
    }

    /// Why it has no value, or could not be read anew; none if it was never answered or is well.
    pub(crate) fn failure(&self) -> Option<FailureKind> {
        self.failure
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn usable_until(&self) -> Age {
        self.held.as_ref().map_or(0, |held| held.usable_until)
    }

    /// Whether the next answer may help.
    pub(crate) fn is_open(&self) -> bool {
        self.held.is_none() && self.failure.is_none_or(is_bridged)
    }

    /// Whether it is to be asked for again before anything is decided.
    pub(crate) fn is_undecided(&self) -> bool {
        self.held.is_none() && matches!(self.failure, None | Some(FailureKind::Pending))
    }

    /// Whether a configuration names it.
    pub(crate) fn is_configured(&self) -> bool {
        self.brought.is_none()
    }

    /// What goes first when room is needed has the lowest.
    pub(super) fn rank(&self) -> u8 {
        match (&self.held, self.wanted) {
            (None, 0) => 0,
            (None, _) => WANTED,
            (Some(_), _) => 2,
        }
    }

    /// Whether a request that needs it has to ask for it.
    pub(super) fn is_lacking(&self, age: Age) -> bool {
        match self.brought {
            None => self.is_undecided(),
            Some(_) => self.held.is_none() && (self.is_undecided() || age >= self.failed_until),
        }
    }

    /// Takes an outcome. `known` is the revision that was sent along when it was asked for.
    pub(super) fn take(
        &mut self,
        outcome: Outcome,
        known: Option<&Revision>,
        age: Age,
        answer: u64,
    ) {
        let until = |seconds: u64| age.saturating_add(seconds.saturating_mul(SECOND));
        self.wanted = match &outcome {
            Outcome::Failure(failure) if is_bridged(failure.kind) => self.wanted.saturating_sub(1),
            _ => 0,
        };
        match outcome {
            Outcome::Secret(new) => {
                self.note_age(&new.lifetime, age);
                let usable_until = until(new.lifetime.usable_for);
                let secret = new.value.into_secret();
                // A daemon that was started anew has other revisions for the same values.
                let is_equal = |held: &Held| {
                    held.revision == new.revision || held.secret.same_as(secret.expose())
                };
                let same = self.held.as_ref().is_some_and(is_equal);
                let first = self.held.as_ref().filter(|_| same);
                let first = first.map_or(answer, |held| held.answers.0);
                if !same {
                    self.version = self.version.wrapping_add(1);
                }
                self.held = Some(Held {
                    secret: Rc::new(secret),
                    revision: new.revision,
                    usable_until,
                    answers: (first, answer),
                });
                self.failure = None;
            }
            Outcome::Unchanged(lifetime) => match &mut self.held {
                // Another answer may have overtaken this one: it speaks of what was known then.
                Some(held) if Some(&held.revision) == known => {
                    held.usable_until = until(lifetime.usable_for);
                    held.answers.1 = answer;
                    self.failure = None;
                    self.note_age(&lifetime, age);
                }
                _ => {}
            },
            Outcome::Failure(failure) => {
                let holds_for = failure.retry_after.unwrap_or(NEGATIVE).max(1);
                self.failed_until = until(holds_for.into());
                self.fail(failure);
            }
        }
    }

    fn note_age(&mut self, lifetime: &Lifetime, age: Age) {
        self.fresh_until = match lifetime.stale {
            // For how long it has been is known only to whoever has seen it begin.
            true => self.fresh_until.min(age),
            false => age.saturating_add(lifetime.fresh_for.saturating_mul(SECOND)),
        };
    }

    /// For how long the value that is in use should have been read anew, in seconds.
    pub(crate) fn stale_for(&self, age: Age) -> u64 {
        let since = self.held.as_ref().map(|_| self.fresh_until);
        since.map_or(0, |since| age.saturating_sub(since) / SECOND)
    }

    fn fail(&mut self, failure: Failure) {
        let dropped = !is_bridged(failure.kind) && self.held.take().is_some();
        let news = self.held.is_none() && self.failure != Some(failure.kind);
        if dropped || news {
            self.version = self.version.wrapping_add(1);
        }
        self.failure = Some(failure.kind);
    }

    pub(super) fn expire(&mut self) {
        self.held = None;
        self.version = self.version.wrapping_add(1);
    }
}

/// Whether the next answer may be another one.
fn is_bridged(failure: FailureKind) -> bool {
    matches!(failure, FailureKind::Pending | FailureKind::Unavailable)
}
