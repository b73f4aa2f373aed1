//! What a VM counts and measures, in the gateway's own metrics.
//!
//! Only in Envoy: nginx's engine has had no metrics for most of its life, and ends a filter that asks
//! for them. They are written at ticks, never for a request. Names hold neither rules nor vaults nor
//! values; the log says which.
//!
//! All VMs of the process have one number for each name, and it outlives them. So a VM adds its own
//! changes where the VMs are counted together, and looks before it lowers what is the most of any.

use std::cell::Cell;

use crate::Host;
use crate::host::MetricKind::{self, Counter, Gauge};
use crate::table::{Age, SECOND};

/// What a VM shows goes up each second while it is not over. What has stood still for this long is of
/// one that is gone.
const LEFT_BEHIND: Age = 5 * SECOND;

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
    // Since when the oldest value that is in use, in any VM, should have been read anew.
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
    /// As it was last written.
    waiting: u64,
    /// What the gateway was last seen to show, and since when.
    stale: u64,
    stale_since: Age,
    /// When it is looked at again.
    due: Age,
}

impl Metrics {
    pub(crate) const fn new() -> Self {
        Self {
            numbers: [None; NAMES.len()],
            is_defined: false,
            refused: Cell::new(0),
            waiting: 0,
            stale: 0,
            stale_since: 0,
            due: 0,
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
    pub(crate) fn write(
        &mut self,
        host: &impl Host,
        counts: Counts,
        waiting: u64,
        stale: u64,
        age: Age,
    ) {
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
        self.waiting = waiting;
        if age >= self.due {
            self.due = age.saturating_add(SECOND);
            self.show_stale(host, stale, age);
        }
    }

    /// Shows for how long a value of this VM is stale, unless another VM has an older one.
    fn show_stale(&mut self, host: &impl Host, stale: u64, age: Age) {
        let Some(number) = self.numbers.last().copied().flatten() else {
            return;
        };
        let shown = host.metric(number).unwrap_or(self.stale);
        if shown != self.stale {
            (self.stale, self.stale_since) = (shown, age);
        }
        let is_left = age.saturating_sub(self.stale_since) >= LEFT_BEHIND;
        if stale > shown || (stale < shown && is_left) {
            let _ = host.record_metric(number, stale);
            (self.stale, self.stale_since) = (stale, age);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::testing::FakeHost;

    /// The metrics of VMs of one gateway.
    struct Vms {
        host: Rc<FakeHost>,
        vms: Vec<Metrics>,
        age: Age,
    }

    impl Vms {
        fn new(count: usize) -> Self {
            let host = Rc::new(FakeHost::default());
            let mut first = Metrics::new();
            first.define(&host);
            let vm = || Metrics {
                numbers: first.numbers,
                is_defined: true,
                ..Metrics::new()
            };
            let vms = (0..count).map(|_| vm()).collect();
            Self { host, vms, age: 0 }
        }

        /// A second passes, in which these VMs have this to show; gives what is shown after each.
        fn pass(&mut self, stale: &[Option<u64>]) -> Vec<i64> {
            self.age += SECOND;
            let shown = self.vms.iter_mut().zip(stale).map(|(vm, stale)| {
                if let Some(stale) = stale {
                    vm.write(&self.host, Counts::default(), 0, *stale, self.age);
                }
                self.host.metrics.borrow().last().expect("the gauge").2
            });
            shown.collect()
        }
    }

    #[test]
    fn the_oldest_value_of_any_vm_is_shown_and_none_that_a_vm_has_left_behind() {
        let mut vms = Vms::new(2);
        assert_eq!(vms.pass(&[Some(500), Some(3)]), [500, 500]);
        for second in 1..20 {
            let shown = vms.pass(&[Some(500 + second), Some(3)]);
            assert_eq!(shown, [500 + second.cast_signed(); 2]);
        }
        // The first one dies, and a new one comes in its place.
        vms.vms[0] = Vms::new(1).vms.remove(0);
        for _ in 0..4 {
            assert_eq!(vms.pass(&[None, Some(3)])[1], 519);
        }
        assert_eq!(vms.pass(&[None, Some(3)])[1], 3);
        for _ in 0..2 {
            assert_eq!(vms.pass(&[Some(0), Some(3)]), [3, 3]);
        }
        // What is over is over soon.
        let shown: Vec<_> = (0..12).map(|_| vms.pass(&[Some(0), Some(0)])[1]).collect();
        assert_eq!((shown[0], shown[11]), (3, 0), "{shown:?}");
    }

    #[test]
    fn where_it_cannot_be_looked_at_the_own_value_is_shown() {
        let mut vms = Vms::new(1);
        let status = crate::Status::InternalFailure;
        vms.host.failures.borrow_mut().insert("metric", status);
        assert_eq!(vms.pass(&[Some(7)]), [7]);
        let shown: Vec<_> = (0..6).map(|_| vms.pass(&[Some(0)])[0]).collect();
        assert_eq!((shown[0], shown[5]), (7, 0), "{shown:?}");
    }
}
