//! Reads ahead of expiry, so that nobody waits for a value that is only due.
//!
//! What was asked for since it was last read is read again in the last quarter of its ttl. Many values
//! that were read at once, at start-up say, would all be due at once, time after time; so each is put
//! where the fewest others are, out of some places chosen by chance.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::cache::EntryKey;
use super::jitter::Jitter;
use super::{Resolver, flight};

/// Reads are counted in intervals of this length when a place is looked for.
const INTERVAL: Duration = Duration::from_secs(10);

/// How many places are looked at.
const PLACES: u32 = 6;

/// When what is to be read.
pub(super) struct Agenda {
    origin: Instant,
    plans: Mutex<Plans>,
    changed: Notify,
}

#[derive(Default)]
struct Plans {
    queue: BinaryHeap<Reverse<Plan>>,
    /// How many reads are planned in each interval, counted from the origin.
    intervals: BTreeMap<u64, u32>,
    number: u64,
}

struct Plan {
    at: Instant,
    number: u64,
    key: EntryKey,
}

impl Agenda {
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
            plans: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// When to read what holds for `time` from now. What is read for the first time gets a place
    /// anywhere before, what is known one near the end.
    pub(super) fn plan(
        &self,
        now: Instant,
        time: Duration,
        is_known: bool,
        jitter: &Jitter,
    ) -> Instant {
        let (from, to) = if is_known {
            (time * 3 / 4, time * 19 / 20)
        } else {
            (time / 10, time * 19 / 20)
        };
        let width = u32::try_from((to - from).as_millis()).unwrap_or(u32::MAX);
        let places = (0..PLACES).map(|_| {
            let offset = Duration::from_millis(jitter.below(width).into());
            now + from + offset
        });
        let mut plans = self.plans();
        let at = places
            .min_by_key(|at| plans.intervals.get(&self.interval(*at)).copied())
            .unwrap_or(now + from);
        *plans.intervals.entry(self.interval(at)).or_default() += 1;
        at
    }

    /// Puts it down.
    pub(super) fn add(&self, at: Instant, key: EntryKey) {
        let mut plans = self.plans();
        plans.number += 1;
        let number = plans.number;
        let is_next = plans.queue.peek().is_none_or(|Reverse(next)| at < next.at);
        plans.queue.push(Reverse(Plan { at, number, key }));
        drop(plans);
        if is_next {
            self.changed.notify_one();
        }
    }

    /// Takes out what is due.
    fn take(&self, now: Instant) -> Vec<(Instant, EntryKey)> {
        let mut plans = self.plans();
        let current = self.interval(now);
        plans.intervals.retain(|interval, _| *interval >= current);
        let mut due = Vec::new();
        while plans
            .queue
            .peek()
            .is_some_and(|Reverse(next)| next.at <= now)
        {
            due.extend(plans.queue.pop().map(|Reverse(plan)| (plan.at, plan.key)));
        }
        due
    }

    fn next(&self) -> Option<Instant> {
        self.plans().queue.peek().map(|Reverse(next)| next.at)
    }

    fn interval(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.origin).as_secs() / INTERVAL.as_secs()
    }

    fn plans(&self) -> MutexGuard<'_, Plans> {
        // Nothing panics while it is held.
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolver {
    /// Reads what is in use ahead of its expiry, for as long as it is polled.
    pub async fn keep_fresh(&self) {
        let agenda = &self.0.agenda;
        loop {
            let changed = agenda.changed.notified();
            match agenda.next() {
                None => changed.await,
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(at) => self.refresh_due(),
                },
            }
        }
    }

    fn refresh_due(&self) {
        let due = self.0.agenda.take(Instant::now());
        let mut cache = self.0.cache();
        let asks: Vec<_> = due
            .iter()
            .filter_map(|(at, key)| {
                // It may have been read since, or dropped.
                let entry = cache
                    .peek(key)
                    .filter(|entry| entry.refresh_at == Some(*at))?;
                // What nobody has asked for any more is left to expire.
                entry.asked().cloned()
            })
            .collect();
        drop(cache);
        flight::refresh(&self.0, &asks);
    }
}

impl PartialEq for Plan {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Plan {}

impl PartialOrd for Plan {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Plan {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[cfg(test)]
mod tests;
