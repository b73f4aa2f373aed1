//! The gateway: workers with their VMs, and an event loop that only runs when
//! the test says so, in the test's own thread.

mod bodies;
mod builder;
mod ends;
mod events;
mod faults;
mod plugin;
mod requests;
mod responses;
mod roots;
mod traps;
mod workers;

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;

use wasmtime::InstancePre;

pub use builder::GatewayBuilder;
pub use events::DeadlineExceeded;
pub use plugin::Plugin;

use crate::abi::types::Callback;
use crate::clock::ManualClock;
use crate::headers::Headers;
use crate::message::{CalloutId, Outcome, Response, StreamId, UpstreamRequest};
use crate::metrics::Metric;
use crate::module::Module;
use crate::profile::Profile;
use crate::state::{CalloutRecord, CalloutState, Event, LogLine, Shared, State, lock};
use crate::vm::{Vm, VmData};

/// Whether a worker still serves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WorkerState {
    /// The process crashed, and why; its clients' connections are closed.
    Died(String),
    /// It ended for good while it was configured; clients hang.
    Exited(String),
    /// It serves.
    Running,
}

/// One callback that was made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CallRecord {
    /// The worker whose VM ran it.
    pub worker: usize,
    /// Which callback.
    pub callback: Callback,
    /// The request for which it ran; `None` for a root context, as which Envoy
    /// makes every call response.
    pub stream: Option<StreamId>,
    /// The context id that the filter was given.
    pub context: u32,
    /// wasmtime's fuel: about one unit an instruction, the same in every run.
    pub fuel: u64,
    /// Whether it trapped.
    pub trapped: bool,
}

pub(crate) struct Worker {
    state: WorkerState,
    slots: Vec<Slot>,
}

/// The place of one VM in a worker: the filters that live in it, and the VM
/// that serves them at present.
pub(crate) struct Slot {
    code: usize,
    vm_id: String,
    plugins: Vec<usize>,
    vm: Option<Vm>,
    /// nginx under isolation `stream`: the VMs of requests, by request.
    isolated: BTreeMap<u64, Vm>,
    reloaded: Option<u64>,
}

impl Slot {
    fn new(code: usize, vm_id: String, plugin: usize) -> Self {
        let plugins = vec![plugin];
        Self {
            code,
            vm_id,
            plugins,
            vm: None,
            isolated: BTreeMap::new(),
            reloaded: None,
        }
    }

    fn empty_copy(&self) -> Self {
        let plugins = self.plugins.clone();
        Self {
            plugins,
            ..Self::new(self.code, self.vm_id.clone(), 0)
        }
    }

    fn vms(&self) -> impl Iterator<Item = &Vm> {
        self.vm.iter().chain(self.isolated.values())
    }

    fn vm_mut(&mut self, id: u64) -> Option<&mut Vm> {
        let mut vms = self.vm.iter_mut().chain(self.isolated.values_mut());
        vms.find(|vm| vm.id == id)
    }
}

/// A gateway that runs Proxy-Wasm filters.
///
/// Nothing happens behind the caller's back: callbacks run while one of its
/// methods runs, and the clock stands still between [`Gateway::advance`]s. Only
/// the sockets of callouts live in threads; what they bring waits for
/// [`Gateway::run_until`] or [`Gateway::pump`].
pub struct Gateway {
    profile: Profile,
    clock: ManualClock,
    state: Shared,
    events: Receiver<Event>,
    codes: Vec<(Module, InstancePre<VmData>)>,
    workers: Vec<Worker>,
    records: Vec<CallRecord>,
    response: Option<Response>,
    stop_iteration: bool,
    buffer_limit: usize,
    fuel_limit: u64,
}

impl Gateway {
    /// Begins a gateway that runs `module`.
    pub fn builder(module: &Module) -> GatewayBuilder {
        GatewayBuilder::new(module)
    }

    /// The clock that filters see.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// What has become of a request.
    ///
    /// # Panics
    ///
    /// If the request is another gateway's, or was forgotten.
    pub fn outcome(&self, stream: StreamId) -> Outcome {
        self.stream(stream, |stream| stream.outcome.clone())
    }

    /// The request as the upstream got it.
    ///
    /// # Panics
    ///
    /// If it did not go to the upstream; the message says what became of it.
    pub fn upstream_request(&self, stream: StreamId) -> UpstreamRequest {
        match self.outcome(stream) {
            Outcome::Upstream(request) => request,
            other => panic!("the request did not go to the upstream: {other:?}"),
        }
    }

    /// The response that was made for a request on this side of the upstream.
    ///
    /// # Panics
    ///
    /// If there was none; the message says what became of the request.
    pub fn local_response(&self, stream: StreamId) -> Response {
        match self.outcome(stream) {
            Outcome::Local(response) => response,
            other => panic!("the request was not answered locally: {other:?}"),
        }
    }

    /// What has left for the upstream so far, even if the request was then
    /// answered locally: in Envoy, headers leave before the body.
    pub fn sent_so_far(&self, stream: StreamId) -> Option<UpstreamRequest> {
        self.stream(stream, |stream| stream.sent.clone())
    }

    /// What the client got, once its response is complete.
    pub fn client_response(&self, stream: StreamId) -> Option<Response> {
        self.stream(stream, |stream| stream.client_response.clone())
    }

    /// The requests that are held, in the order in which they came.
    pub fn waiting(&self) -> Vec<StreamId> {
        let state = lock(&self.state);
        let waiting = state
            .streams
            .iter()
            .filter(|(_, stream)| stream.outcome.is_waiting());
        waiting.map(|(id, _)| StreamId(*id)).collect()
    }

    /// Drops what is kept about a request that is over, so that a long run does
    /// not grow; [`Gateway::forget_history`] drops the rest.
    pub fn forget(&mut self, stream: StreamId) {
        let mut state = lock(&self.state);
        let over = |stream: &crate::stream::Stream| stream.stage == crate::stream::Stage::Finished;
        if state.streams.get(&stream.0).is_some_and(over) {
            state.streams.remove(&stream.0);
        }
    }

    /// Drops log lines, call records, and what callouts that are over have sent.
    pub fn forget_history(&mut self) {
        let mut state = lock(&self.state);
        state.log.clear();
        let State {
            callouts,
            open_callouts,
            ..
        } = &mut *state;
        for (id, callout) in callouts.iter_mut().enumerate() {
            if !open_callouts.contains(&id) {
                callout.headers = Headers::new();
                callout.body = Vec::new();
                callout.wire = Vec::new();
            }
        }
        self.records.clear();
    }

    /// Every line that was logged, in order.
    pub fn logs(&self) -> Vec<LogLine> {
        lock(&self.state).log.clone()
    }

    /// The same as text, a line each.
    pub fn log_text(&self) -> String {
        let line = |line: LogLine| format!("{:?}: {}\n", line.level, line.text);
        self.logs().into_iter().map(line).collect()
    }

    /// Whether any log line contains `text`.
    pub fn has_logged(&self, text: &str) -> bool {
        lock(&self.state)
            .log
            .iter()
            .any(|line| line.text.contains(text))
    }

    /// The metrics by name.
    pub fn metrics(&self) -> BTreeMap<String, Metric> {
        lock(&self.state).metrics.by_name()
    }

    /// Every callout that filters have made, in order.
    pub fn callouts(&self) -> Vec<CalloutRecord> {
        let state = lock(&self.state);
        state
            .callouts
            .iter()
            .enumerate()
            .map(|(id, call)| call.record(id))
            .collect()
    }

    /// One callout.
    ///
    /// # Panics
    ///
    /// If it is another gateway's.
    pub fn callout(&self, id: CalloutId) -> CalloutRecord {
        lock(&self.state).callouts[id.0].record(id.0)
    }

    /// The callouts on their way or held back, in the order of dispatch.
    pub fn open_callouts(&self) -> Vec<CalloutRecord> {
        let state = lock(&self.state);
        let open = state.open_callouts.iter();
        open.map(|id| state.callouts[*id].record(*id)).collect()
    }

    /// The callouts whose answers are held back.
    pub fn arrived(&self) -> Vec<CalloutId> {
        let open = self.open_callouts().into_iter();
        open.filter(|call| call.state == CalloutState::Arrived)
            .map(|call| call.id)
            .collect()
    }

    /// How often a host function was called, by all VMs.
    pub fn host_calls(&self, function: &str) -> u64 {
        lock(&self.state)
            .host_calls
            .get(function)
            .copied()
            .unwrap_or(0)
    }

    /// Every callback that was made, in order.
    pub fn calls(&self) -> &[CallRecord] {
        &self.records
    }

    /// The callbacks of one kind.
    pub fn calls_of(&self, callback: Callback) -> Vec<CallRecord> {
        self.records
            .iter()
            .filter(|record| record.callback == callback)
            .cloned()
            .collect()
    }

    /// The fuel of all callbacks that ran for a request so far. In Envoy call
    /// responses are the root's, and not in it.
    pub fn fuel_of(&self, stream: StreamId) -> u64 {
        let of_stream = self
            .records
            .iter()
            .filter(|record| record.stream == Some(stream));
        of_stream.map(|record| record.fuel).sum()
    }

    /// The size of a worker's VMs' memories in bytes.
    pub fn memory_size(&self, worker: usize) -> usize {
        let vms = self.workers[worker].slots.iter().flat_map(Slot::vms);
        vms.map(Vm::memory_size).sum()
    }

    /// The bytes of a memory that the module exports under this name, in each of a worker's VMs: for
    /// modules that keep an account of themselves in one.
    pub fn exported_memories(&mut self, worker: usize, name: &str) -> Vec<Vec<u8>> {
        let slots = self.workers[worker].slots.iter_mut();
        let vms = slots.flat_map(|slot| slot.vm.iter_mut().chain(slot.isolated.values_mut()));
        vms.filter_map(|vm| vm.exported_memory(name)).collect()
    }

    /// Whether a worker serves.
    pub fn worker_state(&self, worker: usize) -> &WorkerState {
        &self.workers[worker].state
    }

    /// Envoy: whether a VM of this worker has died and not been replaced.
    pub fn vm_failed(&self, worker: usize) -> bool {
        let mut vms = self.workers[worker]
            .slots
            .iter()
            .filter_map(|slot| slot.vm.as_ref());
        vms.any(|vm| vm.failed)
    }

    /// The context that a request has in the chain's filter number `plugin`.
    pub fn context_of(&self, stream: StreamId, plugin: usize) -> Option<u32> {
        self.stream(stream, |stream| {
            Some(stream.legs.get(plugin)?.as_ref()?.context)
        })
    }

    /// The root context of filter number `plugin` in a worker.
    pub fn root_context(&self, worker: usize, plugin: usize) -> Option<u32> {
        let mut slots = self.workers[worker].slots.iter();
        let vm = slots
            .find(|slot| slot.plugins.contains(&plugin))?
            .vm
            .as_ref()?;
        self.root_of(vm.id, plugin)
    }

    /// Forgets all shared data, as a reload of nginx does.
    pub fn clear_shared_data(&mut self) {
        lock(&self.state).data.clear();
    }

    /// Changes what stands behind an upstream's name: a cluster becomes ready,
    /// a server moves or goes away.
    pub fn set_upstream(&mut self, name: impl Into<String>, upstream: crate::Upstream) {
        lock(&self.state).upstreams.insert(name.into(), upstream);
    }

    fn stream<R>(&self, id: StreamId, read: impl FnOnce(&crate::stream::Stream) -> R) -> R {
        let state = lock(&self.state);
        match state.streams.get(&id.0) {
            Some(stream) => read(stream),
            None => panic!("{id:?} is another gateway's, or was forgotten"),
        }
    }
}
