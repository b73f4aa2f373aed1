//! The life of workers and VMs: start, configuration, trap, death, new start.

use super::{CallRecord, Gateway, WorkerState};
use crate::abi::types::{Callback, LogLevel};
use crate::headers::size32;
use crate::message::StreamId;
use crate::module::LoadError;
use crate::profile::FailurePolicy;
use crate::state::{CalloutState, Context, VmState, lock};
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

    /// Gives filter number `plugin` another configuration in every worker.
    ///
    /// # Errors
    ///
    /// Where the filter refuses it. Envoy then serves on with the old one;
    /// nginx's workers exit.
    pub fn reconfigure(
        &mut self,
        plugin: usize,
        configuration: impl Into<Vec<u8>>,
    ) -> Result<(), LoadError> {
        let old = {
            let mut state = lock(&self.state);
            let new = configuration.into();
            std::mem::replace(&mut state.plugins[plugin].configuration, new)
        };
        for worker in 0..self.workers.len() {
            let serves = |slot: &super::Slot| slot.plugins.contains(&plugin);
            let Some(slot) = self.workers[worker].slots.iter().position(serves) else {
                continue;
            };
            let Some(vm) = self.workers[worker].slots[slot].vm.as_ref().map(|vm| vm.id) else {
                continue;
            };
            let former = self.workers[worker].slots[slot].roots.get(&plugin).copied();
            match self.start_root(worker, slot, vm, plugin) {
                Ok(()) if self.profile.is_nginx() => {}
                Ok(()) => {
                    if let Some(former) = former {
                        self.end_root(vm, former);
                    }
                }
                Err(error) if self.profile.nginx().is_some_and(|options| !options.kong) => {
                    self.end_worker(worker, WorkerState::Exited(error.to_string()));
                    return Err(error);
                }
                Err(error) => {
                    let slot = &mut self.workers[worker].slots[slot];
                    let refused = slot.roots.get(&plugin).copied();
                    if let Some(former) = former {
                        slot.roots.insert(plugin, former);
                    }
                    if let Some(refused) = refused.filter(|root| Some(*root) != former) {
                        self.end_root(vm, refused);
                    }
                    lock(&self.state).plugins[plugin].configuration = old;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Starts the VM of a slot and configures every filter in it.
    pub(super) fn start_vm(&mut self, worker: usize, slot: usize) -> Result<(), LoadError> {
        let (code, vm_id, plugins) = {
            let slot = &self.workers[worker].slots[slot];
            (slot.code, slot.vm_id.clone(), slot.plugins.clone())
        };
        let id = {
            let mut state = lock(&self.state);
            let id = state.next_vm;
            state.next_vm += 1;
            // nginx counts its callouts from 0: a token of 0 is a token.
            let next_token = u32::from(!state.profile.is_nginx());
            let vm = VmState {
                worker,
                vm_id,
                contexts: Default::default(),
                next_context: 1,
                next_token,
            };
            state.vms.insert(id, vm);
            id
        };
        let vm = Vm::new(
            &self.state,
            id,
            worker,
            &self.codes[code].1,
            self.fuel_limit,
        )?;
        let place = &mut self.workers[worker].slots[slot];
        place.roots.clear();
        place.vm = Some(vm);
        let name = lock(&self.state).plugins[plugins[0]].name.clone();
        if let Called::Trapped(reason) = self.call_raw(id, Callback::Initialize, 0, &[]) {
            let callback = Callback::Initialize.export();
            self.fail_vm(worker, slot);
            return Err(LoadError::Refused {
                plugin: name,
                callback,
                reason,
                log: self.log_text(),
            });
        }
        for plugin in plugins {
            self.start_root(worker, slot, id, plugin)?;
        }
        Ok(())
    }

    fn start_root(
        &mut self,
        worker: usize,
        slot: usize,
        vm: u64,
        plugin: usize,
    ) -> Result<(), LoadError> {
        let (root, name, vm_size, size) = {
            let mut state = lock(&self.state);
            let known = state.plugins[plugin].clone();
            let Some(vm) = state.vms.get_mut(&vm) else {
                return Ok(());
            };
            let root = vm.next_context;
            vm.next_context += 1;
            let context = Context {
                root,
                plugin,
                stream: None,
                lingers: false,
            };
            vm.contexts.insert(root, context);
            (
                root,
                known.name,
                known.vm_configuration.len(),
                known.configuration.len(),
            )
        };
        self.workers[worker].slots[slot].roots.insert(plugin, root);
        let steps: [(Callback, Vec<u32>); 3] = [
            (Callback::ContextCreate, vec![root, 0]),
            (Callback::VmStart, vec![root, size32(vm_size)]),
            (Callback::Configure, vec![root, size32(size)]),
        ];
        for (callback, parameters) in steps {
            let answers = callback != Callback::ContextCreate;
            let reason = match self.call_raw(vm, callback, root, &parameters) {
                Called::Trapped(reason) => {
                    self.fail_vm(worker, slot);
                    reason
                }
                Called::Returned(0) if answers => "returned false".to_owned(),
                Called::Dropped | Called::Missing | Called::Returned(_) => continue,
            };
            let line = format!("{callback} of {name}: {reason}");
            lock(&self.state).write_log(worker, LogLevel::Critical, line.as_bytes());
            return Err(LoadError::Refused {
                plugin: name,
                callback: callback.export(),
                reason,
                log: self.log_text(),
            });
        }
        self.run_effects(None);
        Ok(())
    }

    fn end_root(&mut self, vm: u64, root: u32) {
        lock(&self.state)
            .ticks
            .retain(|tick| tick.vm != vm || tick.root != root);
        if self.call(vm, Callback::Done, root, &[root]) == Called::Returned(0) {
            if let Some(state) = lock(&self.state).vms.get_mut(&vm)
                && let Some(context) = state.contexts.get_mut(&root)
            {
                context.lingers = true;
            }
            return;
        }
        self.delete_context(vm, root);
    }

    /// Calls `proxy_on_delete` and forgets the context.
    pub(super) fn delete_context(&mut self, vm: u64, context: u32) {
        self.call(vm, Callback::Delete, context, &[context]);
        let mut state = lock(&self.state);
        if let Some(vm) = state.vms.get_mut(&vm) {
            vm.contexts.remove(&context);
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
        let lives = |slot: &super::Slot| slot.vm.as_ref().is_some_and(|known| known.id == vm);
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
        let Some(instance) = self.workers[worker].slots[slot].vm.as_mut() else {
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
            None => self.vm_trapped(worker, slot, callback == Callback::Tick),
        }
        called
    }

    pub(super) fn policy(&self, plugin: usize) -> FailurePolicy {
        lock(&self.state).plugins[plugin].policy
    }
}
