//! One instance of a filter with its memory, and the way to call into it.

use wasmtime::{InstancePre, Memory, Store, TypedFunc, Val};

use crate::abi::types::Callback;
use crate::module::{LoadError, engine};
use crate::state::{Shared, lock};

/// What host functions know of the VM that calls them.
pub(crate) struct VmData {
    pub(crate) state: Shared,
    pub(crate) vm: u64,
    pub(crate) worker: usize,
    /// The callback that runs.
    pub(crate) callback: Callback,
    /// The context for which it runs, as the gateway sees it.
    pub(crate) context: u32,
    /// The same, unless the filter has chosen another.
    pub(crate) effective: u32,
    pub(crate) memory: Option<Memory>,
    pub(crate) allocate: Option<TypedFunc<u32, u32>>,
}

/// How a callback ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Called {
    /// A fault swallowed it.
    Dropped,
    /// The module does not export it.
    Missing,
    /// It returned; 0 where the callback returns nothing.
    Returned(i32),
    Trapped(String),
}

pub(crate) struct Vm {
    pub(crate) id: u64,
    pub(crate) failed: bool,
    store: Store<VmData>,
    instance: wasmtime::Instance,
    fuel_limit: u64,
}

impl Vm {
    pub(crate) fn new(
        state: &Shared,
        id: u64,
        worker: usize,
        code: &InstancePre<VmData>,
        fuel_limit: u64,
    ) -> Result<Self, LoadError> {
        let data = VmData {
            state: state.clone(),
            vm: id,
            worker,
            callback: Callback::Initialize,
            context: 0,
            effective: 0,
            memory: None,
            allocate: None,
        };
        let refuse = |error: wasmtime::Error| LoadError::Instantiate(format!("{error:#}"));
        let mut store = Store::new(engine(), data);
        // A start function may run while the module is instantiated.
        store.set_fuel(fuel_limit).map_err(refuse)?;
        let instance = code.instantiate(&mut store).map_err(refuse)?;
        let memory = instance.get_memory(&mut store, "memory");
        let allocate = ["proxy_on_memory_allocate", "malloc"]
            .into_iter()
            .find_map(|name| instance.get_typed_func(&mut store, name).ok());
        store.data_mut().memory = memory;
        store.data_mut().allocate = allocate;
        Ok(Self {
            id,
            failed: false,
            store,
            instance,
            fuel_limit,
        })
    }

    /// Calls the export behind `callback` with `parameters`, for `context`;
    /// also says how much fuel that took.
    pub(crate) fn call(
        &mut self,
        callback: Callback,
        context: u32,
        parameters: &[u32],
    ) -> (Called, u64) {
        let mut function = self.instance.get_func(&mut self.store, callback.export());
        if function.is_none() && callback == Callback::Initialize {
            function = self.instance.get_func(&mut self.store, "_start");
        }
        let Some(function) = function else {
            return (Called::Missing, 0);
        };
        {
            let mut state = lock(&self.store.data().state);
            if state.faults.drops(callback) {
                return (Called::Dropped, 0);
            }
            if state.faults.traps(callback) {
                return (Called::Trapped("a fault was put in".into()), 0);
            }
        }
        let kind = function.ty(&self.store);
        if kind.params().len() != parameters.len() {
            let name = callback.export();
            return (
                Called::Trapped(format!("{name} takes another number of parameters")),
                0,
            );
        }
        let parameters: Vec<Val> = parameters
            .iter()
            .map(|number| Val::I32(number.cast_signed()))
            .collect();
        let mut results = vec![Val::I32(0); kind.results().len()];
        let data = self.store.data_mut();
        data.callback = callback;
        data.context = context;
        data.effective = context;
        if let Err(error) = self.store.set_fuel(self.fuel_limit) {
            return (Called::Trapped(format!("{error:#}")), 0);
        }
        let returned = function.call(&mut self.store, &parameters, &mut results);
        let left = self.store.get_fuel().unwrap_or(0);
        let called = match returned {
            Ok(()) => Called::Returned(results.first().and_then(Val::i32).unwrap_or(0)),
            Err(error) => Called::Trapped(format!("{error:#}")),
        };
        (called, self.fuel_limit - left)
    }

    pub(crate) fn exports(&mut self, callback: Callback) -> bool {
        self.instance
            .get_func(&mut self.store, callback.export())
            .is_some()
    }

    /// The bytes of a memory that the module exports under this name.
    pub(crate) fn exported_memory(&mut self, name: &str) -> Option<Vec<u8>> {
        let memory = self.instance.get_memory(&mut self.store, name)?;
        Some(memory.data(&self.store).to_vec())
    }

    /// The size of the VM's memory in bytes.
    pub(crate) fn memory_size(&self) -> usize {
        self.store
            .data()
            .memory
            .map_or(0, |memory| memory.data_size(&self.store))
    }
}
