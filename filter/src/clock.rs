//! The VM's own time.

use crate::table::Age;

/// It goes on with the gateway's clock and stands still when that jumps back, so that a wrong clock
/// neither prolongs a secret's life nor stops the polls.
pub(crate) struct Clock {
    last: Option<u64>,
    age: Age,
}

impl Clock {
    pub(crate) const fn new() -> Self {
        Self { last: None, age: 0 }
    }

    /// As it was when it was last set.
    pub(crate) fn age(&self) -> Age {
        self.age
    }

    /// Sets it by the gateway's clock.
    pub(crate) fn advance(&mut self, now: u64) {
        let passed = self.last.map_or(0, |last| now.saturating_sub(last));
        self.age = self.age.saturating_add(passed);
        self.last = Some(now);
    }
}
