//! Leaves a vault alone that fails again and again, and tries from time to time whether it is back.
//!
//! Without it every value that is due would make connections to a server that is down, each as often
//! as it is asked for. The pauses are short: they are time in which a server that is back is not used
//! yet. After a pause what is due is tried until the first of it has failed. It is not one read alone:
//! that could be of an object that always fails, and would keep those that do not from being read.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many reads in a row have to fail before the vault is left alone.
const FAILURES: u32 = 5;

/// The first pause; it doubles with each trial that fails.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Circuit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Reads in a row that have failed.
    failures: u32,
    /// Until when it is left alone.
    left_alone_until: Option<Instant>,
}

impl Circuit {
    pub(crate) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Whether a read may begin. If not, how long it is until one may.
    pub(crate) fn admit(&self, now: Instant) -> Result<(), Duration> {
        let until = self.state().left_alone_until;
        match until {
            Some(until) if now < until => Err(until - now),
            _ => Ok(()),
        }
    }

    /// Notes how a read that was admitted has ended; says whether the vault is left alone from now on
    /// (`Some(true)`), is used again (`Some(false)`), or nothing has changed.
    pub(crate) fn note(&self, is_outage: bool, now: Instant) -> Option<bool> {
        let mut state = self.state();
        let was_open = state.left_alone_until.is_some();
        if !is_outage {
            *state = State::default();
            return was_open.then_some(false);
        }
        state.failures = state.failures.saturating_add(1);
        let over = state.failures.checked_sub(FAILURES)?;
        let pause = PAUSE.saturating_mul(2u32.saturating_pow(over)).min(LONGEST);
        state.left_alone_until = Some(now + pause);
        (!was_open).then_some(true)
    }

    /// Whether the vault is left alone now.
    pub(crate) fn is_open(&self) -> bool {
        self.state().left_alone_until.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_and_tries_until_the_first_has_failed() {
        let circuit = Circuit::new();
        let start = Instant::now();
        for _ in 0..4 {
            assert_eq!(circuit.note(true, start), None);
        }
        assert_eq!(circuit.note(false, start), None, "not in a row");
        for _ in 0..4 {
            assert_eq!(circuit.note(true, start), None);
        }
        assert_eq!(circuit.admit(start), Ok(()));
        assert_eq!(circuit.note(true, start), Some(true));
        assert_eq!(circuit.admit(start), Err(PAUSE));
        let later = start + PAUSE;
        assert_eq!(circuit.admit(later), Ok(()), "a trial");
        assert_eq!(circuit.admit(later), Ok(()), "nor does another object wait");
        assert_eq!(circuit.note(true, later), None);
        assert_eq!(circuit.admit(later), Err(PAUSE * 2));
        let later = later + PAUSE * 2;
        assert_eq!(circuit.admit(later), Ok(()));
        assert_eq!(circuit.note(false, later), Some(false));
        assert_eq!(circuit.admit(later), Ok(()));
        assert_eq!(circuit.admit(later), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_has_a_bound() {
        let circuit = Circuit::new();
        let now = Instant::now();
        for _ in 0..100 {
            circuit.note(true, now);
        }
        assert_eq!(circuit.admit(now), Err(LONGEST));
        assert_eq!(circuit.admit(now + LONGEST), Ok(()));
    }
}
