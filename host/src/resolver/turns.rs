//! What is being found out for callers that do not wait: one task for it, however often they ask.
//!
//! A guest can ask in a loop. Each call would leave a task behind, for as long as a vault or a file system
//! lets it wait.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::settle::Unsettled;

/// How many such tasks run at the most.
pub(super) const MOST: usize = 128;

/// The tasks that run.
#[derive(Default)]
pub(super) struct Turns(Mutex<Running>);

#[derive(Default)]
struct Running {
    tasks: usize,
    subjects: BTreeSet<String>,
    /// Somebody was turned away for whom no task runs.
    is_missed: bool,
}

impl Turns {
    /// The right to find this out; none if that is being done, or if too much is.
    pub(super) fn begin(self: &Arc<Self>, unsettled: &Unsettled) -> Option<Turn> {
        let mut running = self.running();
        let mut subjects = unsettled.subjects();
        subjects.retain(|subject| !running.subjects.contains(subject));
        if subjects.is_empty() {
            return None;
        }
        if running.tasks >= MOST {
            running.is_missed = true;
            return None;
        }
        running.tasks += 1;
        running.subjects.extend(subjects.iter().cloned());
        let turns = Arc::clone(self);
        Some(Turn { turns, subjects })
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to find something out, until it is dropped.
pub(super) struct Turn {
    turns: Arc<Turns>,
    subjects: Vec<String>,
}

impl Turn {
    /// It is found out, or not. Says whether there is room again for somebody who was turned away.
    pub(super) fn end(self) -> bool {
        let turns = Arc::clone(&self.turns);
        drop(self);
        std::mem::take(&mut turns.running().is_missed)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut running = self.turns.running();
        running.tasks -= 1;
        for subject in &self.subjects {
            running.subjects.remove(subject);
        }
    }
}
