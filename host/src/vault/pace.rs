//! A bound on how many reads of a vault begin in a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Gives each read its time. As many as belong to one second may begin at once.
#[derive(Debug)]
pub(crate) struct Pace {
    step: Duration,
    /// When the next read would begin if all kept the pace.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// So many reads a second; none means as many as come.
    pub(crate) fn new(per_second: Option<u32>) -> Self {
        let step = per_second.map_or(Duration::ZERO, |count| {
            Duration::from_secs(1) / count.max(1)
        });
        Self {
            step,
            next: Mutex::new(None),
        }
    }

    /// When a read that is asked for now may begin.
    pub(crate) fn turn(&self, now: Instant) -> Instant {
        // Nothing panics while it is held.
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let at = next.map_or(now, |next| next.max(now));
        *next = Some(at + self.step);
        // What is at most a second ahead of the pace begins at once.
        let burst = Duration::from_secs(1).saturating_sub(self.step);
        at.checked_sub(burst).map_or(now, |early| early.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_seconds_worth_begins_at_once_and_the_rest_keeps_the_pace() {
        let pace = Pace::new(Some(10));
        let now = Instant::now();
        let turns: Vec<_> = (0..25).map(|_| pace.turn(now) - now).collect();
        assert!(turns[..10].iter().all(Duration::is_zero), "{turns:?}");
        assert_eq!(turns[10], Duration::from_millis(100));
        assert_eq!(turns[24], Duration::from_millis(1500));
        let later = now + Duration::from_secs(60);
        assert_eq!(pace.turn(later), later);
        let free = Pace::new(None);
        assert!((0..1000).all(|_| free.turn(now) == now));
    }
}
