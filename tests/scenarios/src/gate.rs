//! A door for answers: whoever comes to it waits until it is opened. So a test knows that somebody waits,
//! and for how long is in its hand.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::wait;

/// A door for answers. Clones are the same door.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_open: bool,
    waiting: usize,
}

impl Gate {
    /// One that is closed.
    #[must_use]
    pub fn closed() -> Self {
        Self::default()
    }

    /// Waits until it is open; not for ever, so that a test that failed leaves nobody waiting.
    pub fn pass(&self) {
        let mut state = self.state();
        state.waiting += 1;
        let (mut state, _) = self
            .0
            .changed
            .wait_timeout_while(state, wait::START, |state| !state.is_open)
            .unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state().waiting
    }

    /// Lets everybody through from now on.
    pub fn open(&self) {
        self.state().is_open = true;
        self.0.changed.notify_all();
    }

    /// Lets nobody through from now on.
    pub fn close(&self) {
        self.state().is_open = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
