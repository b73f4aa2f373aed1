//! What a gateway does once a VM has trapped, or a worker has died.

use super::{Gateway, WorkerState};
use crate::message::Outcome;
use crate::profile::FailurePolicy;
use crate::state::{CalloutState, TickTimer, lock};
use crate::stream::{Stage, Stream};

impl Gateway {
    /// What a gateway does once a VM has trapped.
    pub(super) fn trapped(&mut self, worker: usize, slot: usize, vm: u64, in_tick: bool) {
        let isolated = &self.workers[worker].slots[slot].isolated;
        let owner = isolated.iter().find(|(_, known)| known.id == vm);
        let Some(stream) = owner.map(|(stream, _)| *stream) else {
            return self.vm_trapped(worker, slot, in_tick);
        };
        self.end_isolated(stream);
        self.let_through(stream);
    }

    /// The same for the VM that all requests share.
    pub(super) fn vm_trapped(&mut self, worker: usize, slot: usize, in_tick: bool) {
        let Some(vm) = self.workers[worker].slots[slot].vm.as_ref().map(|vm| vm.id) else {
            return;
        };
        let ticks = self.ticks_of(vm);
        self.fail_vm(worker, slot);
        if !self.profile.is_nginx() {
            return;
        }
        // All filters of the module share the instance: whatever it holds goes on.
        let held = self.streams_in(vm);
        self.workers[worker].slots[slot].vm = None;
        for stream in held {
            self.let_through(stream);
        }
        if let Err(error) = self.start_vm(worker, slot) {
            self.end_worker(worker, WorkerState::Exited(error.to_string()));
            return;
        }
        if in_tick {
            self.keep_ticking(worker, slot, ticks);
        }
    }

    /// The old root context's timer stays beside the new one's.
    fn keep_ticking(&mut self, worker: usize, slot: usize, ticks: Vec<(usize, TickTimer)>) {
        let Some(vm) = self.workers[worker].slots[slot].vm.as_ref() else {
            return;
        };
        for (plugin, tick) in ticks {
            if let Some(root) = self.root_of(vm.id, plugin) {
                let tick = TickTimer {
                    vm: vm.id,
                    root,
                    ..tick
                };
                lock(&self.state).ticks.push(tick);
            }
        }
    }

    fn ticks_of(&self, vm: u64) -> Vec<(usize, TickTimer)> {
        let state = lock(&self.state);
        let of_vm = state.ticks.iter().filter(|tick| tick.vm == vm);
        of_vm
            .filter_map(|tick| Some((state.context(vm, tick.root)?.plugin, tick.clone())))
            .collect()
    }

    pub(super) fn streams_in(&self, vm: u64) -> Vec<u64> {
        let state = lock(&self.state);
        let lives = |stream: &Stream| {
            stream.stage != Stage::Finished && stream.legs.iter().flatten().any(|leg| leg.vm == vm)
        };
        state
            .streams
            .iter()
            .filter(|(_, stream)| lives(stream))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Marks the VM of a slot as dead and drops what it has under way.
    pub(super) fn fail_vm(&mut self, worker: usize, slot: usize) {
        if let Some(vm) = self.workers[worker].slots[slot].vm.as_ref() {
            self.fail(vm.id);
        }
    }

    /// Marks a VM as dead and drops what it has under way.
    pub(super) fn fail(&mut self, vm: u64) {
        if let Some((worker, slot)) = self.place_of(vm)
            && let Some(vm) = self.workers[worker].slots[slot].vm_mut(vm)
        {
            vm.failed = true;
        }
        self.clear_vm(vm);
    }

    /// Drops what a VM has under way.
    pub(super) fn clear_vm(&mut self, id: u64) {
        let mut state = lock(&self.state);
        state.effects.clear();
        state.ticks.retain(|tick| tick.vm != id);
        let open: Vec<usize> = state.open_callouts.iter().copied().collect();
        for callout in open {
            if state.callouts[callout].vm == id {
                state.close_callout(callout, CalloutState::Cancelled);
            }
        }
        if let Some(vm) = state.vms.get_mut(&id) {
            vm.contexts.clear();
        }
    }

    /// Ends a worker's process: its VMs, its callouts, its clients' connections.
    pub(super) fn end_worker(&mut self, worker: usize, end: WorkerState) {
        for slot in 0..self.workers[worker].slots.len() {
            self.fail_vm(worker, slot);
            self.workers[worker].slots[slot].vm = None;
            let isolated = std::mem::take(&mut self.workers[worker].slots[slot].isolated);
            for vm in isolated.into_values() {
                self.clear_vm(vm.id);
            }
        }
        self.workers[worker].state = end;
        let mut state = lock(&self.state);
        for stream in state.streams.values_mut() {
            if stream.worker == worker && stream.stage != Stage::Finished {
                stream.stage = Stage::Finished;
                stream.paused = false;
                if stream.outcome.is_waiting() {
                    stream.outcome = Outcome::Reset;
                }
            }
        }
    }

    /// Envoy, at the next request of a worker: a new VM where the policy says
    /// so and the last one is at least a second old.
    pub(super) fn reload_failed(&mut self, worker: usize) {
        const PAUSE: u64 = 1_000_000_000;
        for index in 0..self.workers[worker].slots.len() {
            let slot = &self.workers[worker].slots[index];
            if !slot.vm.as_ref().is_some_and(|vm| vm.failed) {
                continue;
            }
            let reloads = slot
                .plugins
                .iter()
                .any(|plugin| self.policy(*plugin) == FailurePolicy::FailReload);
            let now = self.clock.now();
            let too_soon = slot
                .reloaded
                .is_some_and(|last| now < last.saturating_add(PAUSE));
            if !reloads || too_soon {
                continue;
            }
            self.workers[worker].slots[index].reloaded = Some(now);
            // A VM that does not start is a failed VM; the next request tries again.
            if self.start_vm(worker, index).is_err() {
                self.fail_vm(worker, index);
            }
        }
    }
}
