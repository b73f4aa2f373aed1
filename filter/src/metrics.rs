//! What a VM counts and measures, in the gateway's own metrics.
//!
//! Only in Envoy: nginx's engine has had no metrics for most of its life, and ends a filter that asks
//! for them. They are written at ticks, never for a request. Names hold neither rules nor vaults nor
//! values; the log says which.

use std::cell::Cell;

use crate::Host;
use crate::host::MetricKind::{self, Counter, Gauge};

/// What the metrics are called, in the order of [`Metrics::numbers`].
const NAMES: [(MetricKind, &str); 7] = [
    // New values that came for references.
    (Counter, "vaultref.resolved"),
    // Answers that a reference has no value, and why; being read is no answer.
    (Counter, "vaultref.failed"),
    // Those of them that say that this gateway may not read it.
    (Counter, "vaultref.denied"),
    // References that are read anew because an upstream refused their values.
    (Counter, "vaultref.refreshes"),
    // Requests that were answered in the upstream's place.
    (Counter, "vaultref.refused"),
    // Requests that wait for their secrets, in all VMs.
    (Gauge, "vaultref.waiting"),
    // Since when the oldest value that is in use should have been read anew.
    (Gauge, "vaultref.stale_seconds"),
];

/// What happened to references since it was last written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) resolved: u64,
    pub(crate) failed: u64,
    pub(crate) denied: u64,
    pub(crate) refreshes: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.resolved = self.resolved.saturating_add(other.resolved);
        self.failed = self.failed.saturating_add(other.failed);
        self.denied = self.denied.saturating_add(other.denied);
        self.refreshes = self.refreshes.saturating_add(other.refreshes);
    }
}

/// The metrics of a VM.
pub(crate) struct Metrics {
    numbers: [Option<u32>; NAMES.len()],
    is_defined: bool,
    refused: Cell<u64>,
    /// As they were last written.
    waiting: u64,
    stale: u64,
}

impl Metrics {
    pub(crate) const fn new() -> Self {
        Self {
            numbers: [None; NAMES.len()],
            is_defined: false,
            refused: Cell::new(0),
            waiting: 0,
            stale: 0,
        }
    }

    /// Defines them, once. One that the gateway does not give is left out.
    pub(crate) fn define(&mut self, host: &impl Host) {
        if std::mem::replace(&mut self.is_defined, true) {
            return;
        }
        for (number, (kind, name)) in self.numbers.iter_mut().zip(NAMES) {
            *number = host.define_metric(kind, name).ok();
        }
    }

    /// Counts a request that is answered in the upstream's place.
    pub(crate) fn refuse(&self) {
        self.refused.set(self.refused.get().saturating_add(1));
    }

    /// Writes what has changed since the last time.
    pub(crate) fn write(&mut self, host: &impl Host, counts: Counts, waiting: u64, stale: u64) {
        if !self.is_defined {
            return;
        }
        // The gauge is one for all VMs, so each adds what is its own.
        let waits = waiting.wrapping_sub(self.waiting).cast_signed();
        let changes = [
            counts.resolved.cast_signed(),
            counts.failed.cast_signed(),
            counts.denied.cast_signed(),
            counts.refreshes.cast_signed(),
            self.refused.take().cast_signed(),
            waits,
        ];
        for (number, change) in self.numbers.iter().zip(changes) {
            if let Some(number) = number.filter(|_| change != 0) {
                // One that is lost is no reason to do anything.
                let _ = host.increment_metric(number, change);
            }
        }
        if stale != self.stale
            && let Some(number) = self.numbers.last().copied().flatten()
        {
            let _ = host.record_metric(number, stale);
        }
        (self.waiting, self.stale) = (waiting, stale);
    }
}
