//! The time that filters see: it stands still until a test moves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Nanoseconds since the Unix epoch, in the test's hand. Clones share the time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    nanoseconds: Arc<AtomicU64>,
    /// By how much the time that filters are shown is off.
    off: Arc<AtomicI64>,
}

impl ManualClock {
    /// A clock that shows `nanoseconds` since the Unix epoch.
    pub fn at(nanoseconds: u64) -> Self {
        Self {
            nanoseconds: Arc::new(AtomicU64::new(nanoseconds)),
            off: Arc::default(),
        }
    }

    /// Nanoseconds since the Unix epoch.
    pub fn now(&self) -> u64 {
        self.nanoseconds.load(Ordering::SeqCst)
    }

    /// Moves the time without firing anything; [`crate::Gateway::advance`]
    /// also fires the ticks that fall due.
    pub fn set(&self, nanoseconds: u64) {
        self.nanoseconds.store(nanoseconds, Ordering::SeqCst);
    }

    /// Sets the time that filters are shown ahead by so many nanoseconds, or back, as when somebody sets
    /// the machine's wall clock. Ticks and time limits go on as they were.
    pub fn jump(&self, nanoseconds: i64) {
        self.off.fetch_add(nanoseconds, Ordering::SeqCst);
    }

    /// What filters are shown.
    pub(crate) fn shown(&self) -> u64 {
        self.now()
            .saturating_add_signed(self.off.load(Ordering::SeqCst))
    }

    pub(crate) fn after(&self, duration: Duration) -> u64 {
        self.now()
            .saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Default for ManualClock {
    /// 2026-01-01T00:00:00Z: any fixed time will do, as long as every run has the same.
    fn default() -> Self {
        Self::at(1_767_225_600_000_000_000)
    }
}
