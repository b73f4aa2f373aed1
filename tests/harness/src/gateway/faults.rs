//! Faults that happen at once, at the test's word.

use super::{Gateway, WorkerState};
use crate::abi::types::{Callback, LogLevel};
use crate::callout::CalloutAnswer;
use crate::fault::Fault;
use crate::message::CalloutId;
use crate::module::LoadError;
use crate::state::lock;
use crate::vm::Called;

impl Gateway {
    /// Puts in a fault that waits for its occasion.
    pub fn inject(&mut self, fault: Fault) {
        lock(&self.state).faults.add(fault);
    }

    /// Takes out the faults that have not had their occasion.
    pub fn clear_faults(&mut self) {
        lock(&self.state).faults.clear();
    }

    /// From now on answers are delivered as they arrive, and those that were held are delivered now.
    pub fn release_answers(&mut self) {
        lock(&self.state).hold_answers = false;
        for callout in self.arrived() {
            self.deliver(callout);
        }
    }

    /// Every VM of a worker traps now, outside any callback, while requests wait.
    pub fn trap_vms(&mut self, worker: usize) {
        for slot in 0..self.workers[worker].slots.len() {
            let isolated = self.workers[worker].slots[slot].isolated.values();
            let isolated: Vec<u64> = isolated.map(|vm| vm.id).collect();
            lock(&self.state).write_log(worker, LogLevel::Critical, b"a fault was put in");
            self.vm_trapped(worker, slot, false);
            for vm in isolated {
                self.trapped(worker, slot, vm, false);
            }
        }
    }

    /// Replaces every VM of a worker by a fresh one, while requests wait. What
    /// waits in the old one goes on as it stands in nginx; in Envoy it stays
    /// held, and the answers of its callouts are lost.
    ///
    /// # Errors
    ///
    /// Where the fresh VM does not start.
    pub fn replace_instances(&mut self, worker: usize) -> Result<(), LoadError> {
        for slot in 0..self.workers[worker].slots.len() {
            if self.profile.is_nginx() {
                self.vm_trapped(worker, slot, false);
            } else {
                self.fail_vm(worker, slot);
                self.workers[worker].slots[slot].vm = None;
                self.start_vm(worker, slot)?;
            }
        }
        Ok(())
    }

    /// Delivers an answer for a callout that is over, to the context and with
    /// the token that it had, in whatever VM now stands in its place: an answer
    /// for a request that is gone. A callout that is still open, as Envoy leaves
    /// them when their request ends, is answered as by [`Gateway::answer`].
    pub fn deliver_late(&mut self, callout: CalloutId, answer: CalloutAnswer) {
        if lock(&self.state).open_callouts.contains(&callout.0) {
            return self.answer(callout, answer);
        }
        let (worker, context, token) = {
            let state = lock(&self.state);
            let callout = &state.callouts[callout.0];
            (callout.worker, callout.context, callout.token)
        };
        self.deliver_raw(worker, context, token, answer);
    }

    /// Calls `proxy_on_http_call_response` with any context and any token.
    pub fn deliver_raw(&mut self, worker: usize, context: u32, token: u32, answer: CalloutAnswer) {
        let vms = self.workers[worker]
            .slots
            .iter()
            .filter_map(|slot| slot.vm.as_ref());
        let vms: Vec<u64> = vms.map(|vm| vm.id).collect();
        let answers = std::iter::repeat_n(answer, vms.len());
        for (vm, answer) in vms.into_iter().zip(answers) {
            let stream = lock(&self.state)
                .context(vm, context)
                .and_then(|known| known.stream);
            self.call_response(vm, context, stream, token, answer);
        }
    }

    /// Makes one callback with parameters of the test's choice, such as a
    /// context that does not exist; the profile's consequences of a trap apply.
    /// Says what it returned; `None` where it trapped or is missing.
    pub fn call_raw_callback(
        &mut self,
        worker: usize,
        callback: Callback,
        context: u32,
        parameters: &[u32],
    ) -> Option<i32> {
        let vm = self.workers[worker].slots.first()?.vm.as_ref()?.id;
        let called = self.call(vm, callback, context, parameters);
        self.run_effects(None);
        match called {
            Called::Returned(value) => Some(value),
            Called::Dropped | Called::Missing | Called::Trapped(_) => None,
        }
    }

    /// Kills a worker's process now.
    pub fn kill_worker(&mut self, worker: usize) {
        self.end_worker(worker, WorkerState::Died("killed".into()));
    }
}
