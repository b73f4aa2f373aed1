//! For how long values and failures hold: what a vault says, and what a reference shortens.

use std::time::Duration;

use crate::vault::Settings;

/// The longest that a backend's word is taken for: ten years. What is longer may not fit a clock.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// For how long values and failures hold for one reference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) ttl: Option<Duration>,
    pub(super) neg_ttl: Duration,
    pub(super) resurrect_ttl: Duration,
    min_ttl: Duration,
    max_ttl: Option<Duration>,
    shortened: bool,
}

impl Terms {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            ttl: settings.ttl,
            neg_ttl: settings.neg_ttl,
            resurrect_ttl: settings.resurrect_ttl,
            min_ttl: settings.min_ttl,
            max_ttl: settings.max_ttl.or(settings.ttl),
            shortened: false,
        }
    }

    /// Zero means 'never again', which shortens nothing.
    pub(super) fn shorten_ttl(&mut self, ttl: Duration, settings: &Settings) {
        if ttl.is_zero() || settings.ttl.is_some_and(|own| own <= ttl) {
            return;
        }
        self.ttl = Some(ttl.max(settings.min_ttl));
        self.shortened = true;
    }

    pub(super) fn shorten_neg_ttl(&mut self, neg_ttl: Duration, settings: &Settings) {
        // A reference must not make the daemon ask a failing backend without pause.
        let least = settings.min_ttl.min(settings.neg_ttl);
        self.neg_ttl = self.neg_ttl.min(neg_ttl.max(least));
    }

    pub(super) fn shorten_resurrect_ttl(&mut self, resurrect_ttl: Duration) {
        self.resurrect_ttl = self.resurrect_ttl.min(resurrect_ttl);
    }

    /// The ttl of a value of which the backend says `given`.
    pub(super) fn ttl(&self, given: Option<Duration>) -> Option<Duration> {
        let given = given.map(|given| given.min(LONGEST));
        let Some(given) = given else { return self.ttl };
        let held = self
            .max_ttl
            .map_or(given, |most| given.min(most))
            .max(self.min_ttl);
        match self.ttl {
            Some(own) if self.shortened => Some(own.min(held)),
            _ => Some(held),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backends_word_is_not_taken_for_longer_than_a_clock_lasts() {
        let settings = Settings {
            ttl: None,
            max_ttl: None,
            ..Settings::default()
        };
        let ttl = Terms::of(&settings).ttl(Some(Duration::from_secs(u64::MAX)));
        assert_eq!(ttl, Some(LONGEST));
        assert!(tokio::time::Instant::now().checked_add(LONGEST).is_some());
    }
}
