//! How a gateway is put together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, mpsc};

use super::{Gateway, Plugin, Slot, Worker, WorkerState};
use crate::abi;
use crate::abi::types::LogLevel;
use crate::clock::ManualClock;
use crate::fault::{Fault, Faults};
use crate::foreign::ForeignFunctions;
use crate::message::Response;
use crate::metrics::Metrics;
use crate::module::{LoadError, Module};
use crate::profile::Profile;
use crate::shared::{Queues, SharedData};
use crate::state::State;
use crate::upstream::Upstream;

/// Says what a gateway is to be; [`GatewayBuilder::start`] starts it.
pub struct GatewayBuilder {
    module: Module,
    profile: Profile,
    workers: usize,
    plugins: Vec<Plugin>,
    environment: Vec<(String, String)>,
    upstreams: BTreeMap<String, Upstream>,
    properties: BTreeMap<Vec<u8>, Vec<u8>>,
    foreign: Option<Arc<dyn ForeignFunctions>>,
    clock: ManualClock,
    hold_answers: bool,
    no_sockets: bool,
    log_level: LogLevel,
    response: Option<Response>,
    stop_iteration: bool,
    buffer_limit: usize,
    fuel_limit: u64,
    faults: Faults,
}

impl GatewayBuilder {
    pub(super) fn new(module: &Module) -> Self {
        Self {
            module: module.clone(),
            profile: Profile::Envoy,
            workers: 1,
            plugins: Vec::new(),
            environment: Vec::new(),
            upstreams: BTreeMap::new(),
            properties: BTreeMap::new(),
            foreign: None,
            clock: ManualClock::default(),
            hold_answers: false,
            no_sockets: false,
            log_level: LogLevel::Info,
            response: Some(Response {
                status: 200,
                ..Response::default()
            }),
            stop_iteration: false,
            buffer_limit: 1024 * 1024,
            fuel_limit: 5_000_000_000,
            faults: Faults::default(),
        }
    }

    /// The gateway to behave as; Envoy, unless said otherwise.
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// How many workers there are, each with its own VM; 1 unless said otherwise.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// One more filter at the end of the chain. A gateway without any has one
    /// with an empty configuration.
    #[must_use]
    pub fn plugin(mut self, plugin: Plugin) -> Self {
        self.plugins.push(plugin);
        self
    }

    /// One filter with this configuration.
    #[must_use]
    pub fn configuration(self, configuration: impl Into<Vec<u8>>) -> Self {
        self.plugin(Plugin::new("filter").configuration(configuration))
    }

    /// An environment variable that the filter may see.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// What stands behind an upstream's name: a cluster in Envoy, `host` or
    /// `host:port` in nginx (where addresses and `unix:/path` need no entry).
    #[must_use]
    pub fn upstream(mut self, name: impl Into<String>, upstream: Upstream) -> Self {
        self.upstreams.insert(name.into(), upstream);
        self
    }

    /// A property that every context can read.
    #[must_use]
    pub fn property(mut self, path: &[&str], value: impl Into<Vec<u8>>) -> Self {
        self.properties
            .insert(path.join("\0").into_bytes(), value.into());
        self
    }

    /// The functions behind `proxy_call_foreign_function`.
    #[must_use]
    pub fn foreign(mut self, functions: Arc<dyn ForeignFunctions>) -> Self {
        self.foreign = Some(functions);
        self
    }

    /// The clock that the filter sees; a fixed time unless said otherwise.
    #[must_use]
    pub fn clock(mut self, clock: ManualClock) -> Self {
        self.clock = clock;
        self
    }

    /// Callout answers wait until the test delivers them, in the order it likes.
    #[must_use]
    pub fn hold_answers(mut self) -> Self {
        self.hold_answers = true;
        self
    }

    /// No callout opens a socket, whatever address the filter names: each waits until the test gives
    /// its answer, as with [`Upstream::ByHand`].
    #[must_use]
    pub fn no_sockets(mut self) -> Self {
        self.no_sockets = true;
        self
    }

    /// What `proxy_get_log_level` says; Info unless said otherwise.
    #[must_use]
    pub fn log_level(mut self, level: LogLevel) -> Self {
        self.log_level = level;
        self
    }

    /// What the upstream answers to every request; an empty 200 unless said
    /// otherwise.
    #[must_use]
    pub fn response(mut self, response: Response) -> Self {
        self.response = Some(response);
        self
    }

    /// The upstream does not answer until the test calls [`Gateway::respond`].
    #[must_use]
    pub fn respond_by_hand(mut self) -> Self {
        self.response = None;
        self
    }

    /// Envoy's `allow_on_headers_stop_iteration`: a pause in the headers still
    /// delivers the body.
    #[must_use]
    pub fn allow_on_headers_stop_iteration(mut self) -> Self {
        self.stop_iteration = true;
        self
    }

    /// How much of a body Envoy holds for a filter, in bytes, before it answers
    /// 413; 1 MiB unless said otherwise.
    #[must_use]
    pub fn buffer_limit(mut self, bytes: usize) -> Self {
        self.buffer_limit = bytes;
        self
    }

    /// How much fuel one callback may use before it traps; a bound for filters
    /// that would never return.
    #[must_use]
    pub fn fuel_limit(mut self, fuel: u64) -> Self {
        self.fuel_limit = fuel;
        self
    }

    /// Puts in a fault that waits for its occasion, which may come while the gateway starts.
    #[must_use]
    pub fn inject(mut self, fault: Fault) -> Self {
        self.faults.add(fault);
        self
    }

    /// Starts every worker.
    ///
    /// # Errors
    ///
    /// Where the gateway would not start: an unknown import; in Envoy and Kong
    /// also a refused configuration. Plain nginx starts, and its workers are
    /// then [`WorkerState::Exited`].
    pub fn start(self) -> Result<Gateway, LoadError> {
        let mut plugins = self.plugins;
        if plugins.is_empty() {
            plugins.push(Plugin::new("filter"));
        }
        if let Some(limit) = self
            .profile
            .nginx()
            .and_then(|options| options.parameter_limit)
            && let Some(plugin) = plugins
                .iter()
                .find(|plugin| plugin.configuration.len() > limit)
        {
            let plugin = plugin.name.clone();
            return Err(LoadError::ConfigurationTooLong { plugin, limit });
        }
        let linker = abi::linker(&self.profile)?;
        let mut codes: Vec<(Module, _)> = Vec::new();
        let mut slots: Vec<Slot> = Vec::new();
        for (index, plugin) in plugins.iter().enumerate() {
            let module = plugin.module.as_ref().unwrap_or(&self.module);
            let code = match codes.iter().position(|(known, _)| known.is(module)) {
                Some(code) => code,
                None => {
                    module.check(&self.profile)?;
                    codes.push((module.clone(), abi::link(&linker, module.inner())?));
                    codes.len() - 1
                }
            };
            // nginx: one instance a module; Envoy: one a module and vm_id.
            let vm_id = match self.profile {
                Profile::Envoy => plugin.vm_id.clone(),
                Profile::Nginx(_) => String::new(),
            };
            match slots
                .iter_mut()
                .find(|slot| slot.code == code && slot.vm_id == vm_id)
            {
                Some(slot) => slot.plugins.push(index),
                None => slots.push(Slot::new(code, vm_id, index)),
            }
        }
        let (sender, events) = mpsc::channel();
        let state = State {
            profile: self.profile.clone(),
            clock: self.clock.clone(),
            plugins,
            environment: self.environment,
            upstreams: self.upstreams,
            properties: self.properties,
            foreign: self.foreign,
            hold_answers: self.hold_answers,
            no_sockets: self.no_sockets,
            log_level: self.log_level,
            events: sender,
            log: Vec::new(),
            metrics: Metrics::default(),
            data: SharedData::default(),
            queues: Queues::default(),
            streams: BTreeMap::new(),
            callouts: Vec::new(),
            open_callouts: BTreeSet::new(),
            vms: BTreeMap::new(),
            ticks: Vec::new(),
            host_calls: BTreeMap::new(),
            faults: self.faults,
            effects: Vec::new(),
            death: None,
            internal_error: None,
            answer: None,
            foreign_arguments: None,
            random: 0,
            next_stream: 0,
            next_vm: 0,
        };
        let workers = (0..self.workers)
            .map(|_| Worker {
                state: WorkerState::Running,
                slots: slots.iter().map(Slot::empty_copy).collect(),
            })
            .collect();
        let mut gateway = Gateway {
            profile: self.profile,
            clock: self.clock,
            state: Arc::new(Mutex::new(state)),
            events,
            codes,
            workers,
            records: Vec::new(),
            response: self.response,
            stop_iteration: self.stop_iteration,
            buffer_limit: self.buffer_limit,
            fuel_limit: self.fuel_limit,
        };
        for worker in 0..self.workers {
            gateway.start_worker(worker)?;
        }
        Ok(gateway)
    }
}
