//! Root contexts: how a filter gets its configuration, and another one.

use super::{Gateway, WorkerState};
use crate::abi::types::{Callback, LogLevel};
use crate::headers::size32;
use crate::kong;
use crate::module::LoadError;
use crate::state::{Context, lock};
use crate::vm::Called;

impl Gateway {
    /// Gives filter number `plugin` another configuration in every worker.
    ///
    /// # Errors
    ///
    /// Where the filter refuses it. Envoy, which tries it in a VM of its own first, and Kong then
    /// serve on with the old one; plain nginx's workers exit.
    pub fn reconfigure(
        &mut self,
        plugin: usize,
        configuration: impl Into<Vec<u8>>,
    ) -> Result<(), LoadError> {
        let new = configuration.into();
        let old = self.swap_configuration(plugin, new);
        for worker in 0..self.workers.len() {
            let serves = |slot: &super::Slot| slot.plugins.contains(&plugin);
            let Some(slot) = self.workers[worker].slots.iter().position(serves) else {
                continue;
            };
            let Some(vm) = self.workers[worker].slots[slot].vm.as_ref() else {
                continue;
            };
            let changed = self.change_root(worker, slot, vm.id, plugin);
            let Err(error) = changed else {
                continue;
            };
            if self.profile.nginx().is_some_and(|options| !options.kong) {
                self.end_worker(worker, WorkerState::Exited(error.to_string()));
                return Err(error);
            }
            self.swap_configuration(plugin, old);
            let slots = &self.workers[worker].slots;
            if self.profile.is_kong() && slots[slot].vm.as_ref().is_some_and(|vm| vm.failed) {
                // The instance is another one, with the configuration that it had.
                self.vm_trapped(worker, slot, false);
            }
            return Err(error);
        }
        Ok(())
    }

    fn swap_configuration(&mut self, plugin: usize, other: Vec<u8>) -> Vec<u8> {
        let mut state = lock(&self.state);
        std::mem::replace(&mut state.plugins[plugin].configuration, other)
    }

    /// Starts a root with the new configuration in the place of the one before, which stays where
    /// that fails.
    fn change_root(
        &mut self,
        worker: usize,
        slot: usize,
        vm: u64,
        plugin: usize,
    ) -> Result<(), LoadError> {
        if self.profile.is_nginx() {
            return self.start_or_restore(vm, plugin).map(|_| ());
        }
        self.try_in_canary(worker, slot)?;
        let former = self.start_or_restore(vm, plugin)?;
        if let Some(former) = former {
            self.end_root(vm, former);
        }
        Ok(())
    }

    /// Starts a root; gives the one before, which is a filter's root again if that fails.
    fn start_or_restore(&mut self, vm: u64, plugin: usize) -> Result<Option<u32>, LoadError> {
        let former = self.root_of(vm, plugin);
        let Err(error) = self.start_root(vm, plugin) else {
            return Ok(former);
        };
        let refused = self.root_of(vm, plugin);
        if let Some(refused) = refused.filter(|root| Some(*root) != former) {
            self.end_root(vm, refused);
        }
        if let (Some(former), Some(vm)) = (former, lock(&self.state).vms.get_mut(&vm)) {
            vm.roots.insert(plugin, former);
        }
        Err(error)
    }

    /// Envoy tries a configuration in a VM that is then thrown away.
    fn try_in_canary(&mut self, worker: usize, slot: usize) -> Result<(), LoadError> {
        let canary = self.workers[worker].slots[slot].empty_copy();
        let at = self.workers[worker].slots.len();
        self.workers[worker].slots.push(canary);
        let started = self.start_vm(worker, at);
        self.fail_vm(worker, at);
        self.workers[worker].slots.truncate(at);
        started
    }

    /// Makes the root context of a filter and configures it.
    pub(super) fn start_root(&mut self, vm: u64, plugin: usize) -> Result<(), LoadError> {
        let (worker, root, name, vm_size, size) = {
            let mut state = lock(&self.state);
            let known = state.plugins[plugin].clone();
            let configuration = match state.profile.nginx() {
                Some(options) if options.encodes_configuration => {
                    let seed = state.next_random();
                    kong::configuration(&known.configuration, seed)
                }
                _ => known.configuration,
            };
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
            let size = configuration.len();
            vm.configurations.insert(root, configuration);
            vm.roots.insert(plugin, root);
            (
                vm.worker,
                root,
                known.name,
                known.vm_configuration.len(),
                size,
            )
        };
        let steps: [(Callback, Vec<u32>); 3] = [
            (Callback::ContextCreate, vec![root, 0]),
            (Callback::VmStart, vec![root, size32(vm_size)]),
            (Callback::Configure, vec![root, size32(size)]),
        ];
        for (callback, parameters) in steps {
            let answers = callback != Callback::ContextCreate;
            let reason = match self.call_raw(vm, callback, root, &parameters) {
                Called::Trapped(reason) => {
                    self.fail(vm);
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

    /// The root context of a filter in a VM.
    pub(super) fn root_of(&self, vm: u64, plugin: usize) -> Option<u32> {
        let state = lock(&self.state);
        state.vms.get(&vm)?.roots.get(&plugin).copied()
    }
}
