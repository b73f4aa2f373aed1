//! Everything that host functions read and change, behind one lock.
//!
//! A host function never calls back into the gateway: what has to happen after
//! the filter's callback returns is queued as an [`Effect`], as real gateways
//! defer it too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::abi::types::{Callback, LogLevel};
use crate::callout::{CalloutAnswer, Flight, News};
use crate::clock::ManualClock;
use crate::fault::Faults;
use crate::foreign::ForeignFunctions;
use crate::gateway::Plugin;
use crate::headers::Headers;
use crate::message::{CalloutId, Response};
use crate::metrics::Metrics;
use crate::profile::Profile;
use crate::shared::{Queues, SharedData};
use crate::stream::Stream;
use crate::upstream::Upstream;

pub(crate) type Shared = Arc<Mutex<State>>;

/// Locks the state; a test that panicked while it held the lock has failed already.
pub(crate) fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct State {
    pub(crate) profile: Profile,
    pub(crate) clock: ManualClock,
    pub(crate) plugins: Vec<Plugin>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) upstreams: BTreeMap<String, Upstream>,
    pub(crate) properties: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) foreign: Option<Arc<dyn ForeignFunctions>>,
    pub(crate) hold_answers: bool,
    pub(crate) no_sockets: bool,
    pub(crate) log_level: LogLevel,
    pub(crate) events: Sender<Event>,

    pub(crate) log: Vec<LogLine>,
    pub(crate) metrics: Metrics,
    pub(crate) data: SharedData,
    pub(crate) queues: Queues,
    pub(crate) streams: BTreeMap<u64, Stream>,
    pub(crate) callouts: Vec<Callout>,
    /// Callouts that are not over, so that a long run stays quick.
    pub(crate) open_callouts: BTreeSet<usize>,
    pub(crate) vms: BTreeMap<u64, VmState>,
    pub(crate) ticks: Vec<TickTimer>,
    pub(crate) host_calls: BTreeMap<&'static str, u64>,
    pub(crate) faults: Faults,
    pub(crate) effects: Vec<Effect>,
    /// Why the worker whose VM is running has to die, where it has to.
    pub(crate) death: Option<String>,
    /// The request that nginx answers with 500 because of what trapped.
    pub(crate) internal_error: Option<u64>,
    pub(crate) answer: Option<AnswerView>,
    pub(crate) foreign_arguments: Option<Vec<u8>>,
    pub(crate) random: u64,
    pub(crate) next_stream: u64,
    pub(crate) next_vm: u64,
}

impl State {
    pub(crate) fn write_log(&mut self, worker: usize, level: LogLevel, text: &[u8]) {
        let limit = if self.profile.is_nginx() {
            2047
        } else {
            usize::MAX
        };
        let text = String::from_utf8_lossy(&text[..text.len().min(limit)]).into_owned();
        self.log.push(LogLine {
            worker,
            level,
            text,
        });
    }

    pub(crate) fn context(&self, vm: u64, context: u32) -> Option<&Context> {
        self.vms.get(&vm)?.contexts.get(&context)
    }

    pub(crate) fn stream_of(&mut self, vm: u64, context: u32) -> Option<(u64, &mut Stream)> {
        let id = self.context(vm, context)?.stream?;
        Some((id, self.streams.get_mut(&id)?))
    }

    /// Callouts of a request that have neither been answered nor given up.
    pub(crate) fn open_callouts_of(&self, stream: u64) -> Vec<usize> {
        let of_stream = |id: &usize| self.callouts[*id].stream == Some(stream);
        self.open_callouts
            .iter()
            .copied()
            .filter(of_stream)
            .collect()
    }

    /// A request ends: in nginx its callouts end with it; in Envoy they are the
    /// root's and go on.
    pub(crate) fn cancel_callouts_of(&mut self, stream: u64) {
        if self.profile.is_nginx() {
            for callout in self.open_callouts_of(stream) {
                self.close_callout(callout, CalloutState::Cancelled);
            }
        }
    }

    pub(crate) fn close_callout(&mut self, id: usize, state: CalloutState) {
        self.open_callouts.remove(&id);
        if let Some(callout) = self.callouts.get_mut(id) {
            callout.state = state;
            callout.flight = None;
            callout.arrived = None;
        }
    }

    pub(crate) fn next_random(&mut self) -> u64 {
        // SplitMix64: the same bytes in every run.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A line that a filter, or the gateway on its behalf, has logged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogLine {
    /// The worker whose VM logged.
    pub worker: usize,
    /// How grave it is.
    pub level: LogLevel,
    /// The text; bytes that are no UTF-8 are replaced.
    pub text: String,
}

/// What arrives from outside the event loop.
#[derive(Debug)]
pub(crate) enum Event {
    Callout {
        callout: usize,
        news: News,
    },
    Foreign {
        vm: u64,
        root: u32,
        function: u32,
        arguments: Vec<u8>,
    },
}

/// What a host function has asked for, done after the callback has returned.
#[derive(Debug)]
pub(crate) enum Effect {
    Close { stream: u64 },
    Done { vm: u64, context: u32 },
    Local { stream: u64, response: Response },
    Queue { vm: u64, root: u32, queue: u32 },
    Resume { stream: u64, response: bool },
}

#[derive(Debug)]
pub(crate) struct VmState {
    pub(crate) worker: usize,
    pub(crate) vm_id: String,
    pub(crate) contexts: BTreeMap<u32, Context>,
    /// The root context of each of the filters that live in it.
    pub(crate) roots: BTreeMap<usize, u32>,
    pub(crate) next_context: u32,
    pub(crate) next_token: u32,
    /// What each root context got as its configuration.
    pub(crate) configurations: BTreeMap<u32, Vec<u8>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) root: u32,
    pub(crate) plugin: usize,
    pub(crate) stream: Option<u64>,
    /// `on_done` has said 'not yet', and `proxy_done` is awaited.
    pub(crate) lingers: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct TickTimer {
    pub(crate) vm: u64,
    pub(crate) root: u32,
    pub(crate) period: u64,
    pub(crate) due: u64,
}

/// Where a callout stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CalloutState {
    /// Its answer is here and held back until the test delivers it.
    Arrived,
    /// Given up: its VM is gone or, in nginx, its request.
    Cancelled,
    /// Its answer has been delivered.
    Delivered,
    /// On its way.
    InFlight,
}

pub(crate) struct Callout {
    pub(crate) vm: u64,
    pub(crate) worker: usize,
    pub(crate) context: u32,
    pub(crate) stream: Option<u64>,
    pub(crate) token: u32,
    pub(crate) upstream: String,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) timeout: Duration,
    pub(crate) due: u64,
    pub(crate) wire: Vec<u8>,
    pub(crate) during: Callback,
    pub(crate) state: CalloutState,
    pub(crate) arrived: Option<CalloutAnswer>,
    pub(crate) flight: Option<Flight>,
}

/// A callout that a filter has made.
#[derive(Clone, Debug)]
pub struct CalloutRecord {
    /// Its name.
    pub id: CalloutId,
    /// The worker whose VM made it.
    pub worker: usize,
    /// The request for which it was made, though in Envoy the answer comes to
    /// the root; `None` for a root context.
    pub stream: Option<crate::message::StreamId>,
    /// What the filter got as its token.
    pub token: u32,
    /// The upstream as the filter named it.
    pub upstream: String,
    /// Headers as the filter gave them, with pseudo headers.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
    /// The time limit.
    pub timeout: Duration,
    /// When the limit passes, by the gateway's clock, in nanoseconds.
    pub due: u64,
    /// The bytes as they go over the wire.
    pub wire: Vec<u8>,
    /// The callback in which it was made.
    pub during: Callback,
    /// Where it stands.
    pub state: CalloutState,
}

impl Callout {
    /// Takes what its thread has to say; `due` is when its time would be over if it began now.
    /// Gives the answer back, unless it is to be held.
    pub(crate) fn hear(
        &mut self,
        news: News,
        due: u64,
        profile: &Profile,
        hold: bool,
    ) -> Option<CalloutAnswer> {
        match news {
            News::Answer(answer) if hold => {
                self.state = CalloutState::Arrived;
                self.arrived = Some(answer);
                self.flight = None;
                None
            }
            News::Answer(answer) => Some(answer),
            // nginx waits so long for the connection, for the request to be sent, and for each part
            // of the answer; Envoy for all of it.
            News::Progress if profile.is_nginx() => {
                self.due = due;
                None
            }
            News::Progress => None,
        }
    }

    pub(crate) fn record(&self, id: usize) -> CalloutRecord {
        CalloutRecord {
            id: CalloutId(id),
            worker: self.worker,
            stream: self.stream.map(crate::message::StreamId),
            token: self.token,
            upstream: self.upstream.clone(),
            headers: self.headers.clone(),
            body: self.body.clone(),
            timeout: self.timeout,
            due: self.due,
            wire: self.wire.clone(),
            during: self.during,
            state: self.state,
        }
    }
}

/// An answer while its callback runs.
#[derive(Debug, Default)]
pub(crate) struct AnswerView {
    /// `None` where the getters have nothing to read (Envoy after a reset).
    pub(crate) headers: Option<Headers>,
    pub(crate) trailers: Option<Headers>,
    pub(crate) body: AnswerBody,
    /// nginx's `:dispatch_status`.
    pub(crate) dispatch_status: Option<&'static str>,
}

#[derive(Debug, Default)]
pub(crate) enum AnswerBody {
    /// Shorter than promised: nginx answers 2 to every read of it.
    Broken,
    Bytes(Vec<u8>),
    #[default]
    None,
}
