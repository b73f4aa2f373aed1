//! The life of workers and VMs: start, configuration, trap, death, new start.

use super::{CallRecord, Gateway, Slot, WorkerState};
use crate::abi::types::{Callback, LogLevel};
use crate::message::StreamId;
use crate::module::LoadError;
use crate::profile::FailurePolicy;
use crate::state::{CalloutState, VmState, lock};
use crate::vm::{Called, Vm};

impl Gateway {
    pub(super) fn start_worker(&mut self, worker: usize) -> Result<(), LoadError> {
        for slot in 0..self.workers[worker].slots.len() {
            if let Err(error) = self.start_vm(worker, slot) {
                let refused = matches!(error, LoadError::Refused { .. });
                if !refused || self.profile.nginx().is_none_or(|options| options.kong) {
                    return Err(error);
                }
                self.end_worker(worker, WorkerState::Exited(error.to_string()));
                return Ok(());
            }
        }
        Ok(())
    }

    /// Starts a worker anew after it died or exited, as nginx's master does
    /// after a crash.
    ///
    /// # Errors
    ///
    /// As at the first start.
    pub fn restart_worker(&mut self, worker: usize) -> Result<(), LoadError> {
        self.end_worker(worker, WorkerState::Running);
        self.start_worker(worker)
    }

    /// Starts the VM of a slot and configures every filter in it.
    pub(super) fn start_vm(&mut self, worker: usize, slot: usize) -> Result<(), LoadError> {
        let plugins = self.workers[worker].slots[slot].plugins.clone();
        let vm = self.new_vm(worker, slot)?;
        let id = vm.id;
        self.workers[worker].slots[slot].vm = Some(vm);
        self.initialize(id, plugins[0])?;
        for plugin in plugins {
            self.start_root(id, plugin)?;
        }
        Ok(())
    }

    /// nginx under isolation `stream`: the VM of a request, with filter number `plugin` configured
    /// in it.
    pub(super) fn isolated_vm(
        &mut self,
        worker: usize,
        slot: usize,
        stream: u64,
        plugin: usize,
    ) -> Result<u64, LoadError> {
        let known = self.workers[worker].slots[slot].isolated.get(&stream);
        let id = match known.map(|vm| vm.id) {
            Some(id) => id,
            None => {
                let vm = self.new_vm(worker, slot)?;
                let id = vm.id;
                self.workers[worker].slots[slot].isolated.insert(stream, vm);
                self.initialize(id, plugin)?;
                id
            }
        };
        self.start_root(id, plugin)?;
        Ok(id)
    }

    /// The VMs that a request had for itself end with it.
    pub(super) fn end_isolated(&mut self, stream: u64) {
        let worker = lock(&self.state).streams.get(&stream).map(|s| s.worker);
        let Some(worker) = worker else {
            return;
        };
        for slot in 0..self.workers[worker].slots.len() {
            if let Some(vm) = self.workers[worker].slots[slot].isolated.remove(&stream) {
                self.clear_vm(vm.id);
            }
        }
    }

    /// An instance of a slot's module, in which nothing has run yet.
    fn new_vm(&mut self, worker: usize, slot: usize) -> Result<Vm, LoadError> {
        let slot = &self.workers[worker].slots[slot];
        let id = {
            let mut state = lock(&self.state);
            let id = state.next_vm;
            state.next_vm += 1;
            // nginx counts its callouts from 0: a token of 0 is a token.
            let next_token = u32::from(!state.profile.is_nginx());
            let vm = VmState {
                worker,
                vm_id: slot.vm_id.clone(),
                contexts: Default::default(),
                roots: Default::default(),
                next_context: 1,
                next_token,
                configurations: Default::default(),
            };
            state.vms.insert(id, vm);
            id
        };
        let code = &self.codes[slot.code].1;
        Vm::new(&self.state, id, worker, code, self.fuel_limit)
    }

    fn initialize(&mut self, vm: u64, plugin: usize) -> Result<(), LoadError> {
        let Called::Trapped(reason) = self.call_raw(vm, Callback::Initialize, 0, &[]) else {
            return Ok(());
        };
        self.fail(vm);
        Err(LoadError::Refused {
            plugin: lock(&self.state).plugins[plugin].name.clone(),
            callback: Callback::Initialize.export(),
            reason,
            log: self.log_text(),
        })
    }

    /// Calls `proxy_on_delete` and forgets the context.
    pub(super) fn delete_context(&mut self, vm: u64, context: u32) {
        self.call(vm, Callback::Delete, context, &[context]);
        let mut state = lock(&self.state);
        if let Some(vm) = state.vms.get_mut(&vm) {
            vm.contexts.remove(&context);
            vm.configurations.remove(&context);
            vm.roots.retain(|_, root| *root != context);
        }
        let of_context: Vec<usize> = state
            .open_callouts
            .iter()
            .copied()
            .filter(|id| {
                let callout = &state.callouts[*id];
                callout.vm == vm && callout.context == context
            })
            .collect();
        for id in of_context {
            state.close_callout(id, CalloutState::Cancelled);
        }
    }

    /// Which worker and slot a VM lives in, unless it is gone.
    pub(super) fn place_of(&self, vm: u64) -> Option<(usize, usize)> {
        let worker = lock(&self.state).vms.get(&vm)?.worker;
        let lives = |slot: &Slot| slot.vms().any(|known| known.id == vm);
        let slot = self.workers[worker].slots.iter().position(lives)?;
        Some((worker, slot))
    }

    /// Makes a callback and writes it down; what follows of it is the caller's.
    pub(super) fn call_raw(
        &mut self,
        vm: u64,
        callback: Callback,
        context: u32,
        parameters: &[u32],
    ) -> Called {
        let Some((worker, slot)) = self.place_of(vm) else {
            return Called::Missing;
        };
        let Some(instance) = self.workers[worker].slots[slot].vm_mut(vm) else {
            return Called::Missing;
        };
        if instance.failed {
            return Called::Missing;
        }
        let blind = matches!(
            callback,
            Callback::Delete
                | Callback::Done
                | Callback::HttpCallResponse
                | Callback::Log
                | Callback::RequestBody
                | Callback::RequestHeaders
                | Callback::ResponseBody
                | Callback::ResponseHeaders
        );
        if blind && self.profile.is_nginx() && !instance.exports(callback) {
            let reason = format!("{callback} is not exported: NULL call, SIGSEGV");
            lock(&self.state).death = Some(reason.clone());
            return Called::Trapped(reason);
        }
        let (called, fuel) = instance.call(callback, context, parameters);
        if called != Called::Missing && called != Called::Dropped {
            let stream = lock(&self.state)
                .context(vm, context)
                .and_then(|known| known.stream);
            self.records.push(CallRecord {
                worker,
                callback,
                stream: stream.map(StreamId),
                context: parameters.first().copied().unwrap_or(context),
                fuel,
                trapped: matches!(called, Called::Trapped(_)),
            });
        }
        called
    }

    /// Makes a callback, and does what the gateway does where it traps. The
    /// caller still has to see to its own request, and to the effects.
    pub(super) fn call(
        &mut self,
        vm: u64,
        callback: Callback,
        context: u32,
        parameters: &[u32],
    ) -> Called {
        let called = self.call_raw(vm, callback, context, parameters);
        let Called::Trapped(reason) = &called else {
            return called;
        };
        let Some((worker, slot)) = self.place_of(vm) else {
            return called;
        };
        let death = {
            let mut state = lock(&self.state);
            state.effects.clear();
            let line = format!("{callback}: {reason}");
            state.write_log(worker, LogLevel::Critical, line.as_bytes());
            state.death.take()
        };
        match death {
            Some(reason) => self.end_worker(worker, WorkerState::Died(reason)),
            None => self.trapped(worker, slot, vm, callback == Callback::Tick),
        }
        called
    }

    pub(super) fn policy(&self, plugin: usize) -> FailurePolicy {
        lock(&self.state).plugins[plugin].policy
    }
}
