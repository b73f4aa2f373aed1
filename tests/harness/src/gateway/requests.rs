//! A request's way through the filters to the upstream.

use super::{Gateway, WorkerState};
use crate::abi::types::Callback;
use crate::headers::size32;
use crate::message::{Outcome, Request, StreamId};
use crate::profile::FailurePolicy;
use crate::state::{Context, lock};
use crate::stream::{Leg, Stage, Stream, envoy_upstream, new_stream, nginx_upstream};
use crate::vm::Called;

/// What a filter said to a callback.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Continue,
    /// The request is no longer where it was: answered, closed, let through.
    Gone,
    Pause,
}

impl Gateway {
    /// Sends a request to a worker and runs it as far as it goes.
    ///
    /// # Panics
    ///
    /// If there is no such worker.
    pub fn request(&mut self, worker: usize, request: Request) -> StreamId {
        let serves = self.workers[worker].state.clone();
        if serves == WorkerState::Running {
            self.reload_failed(worker);
        }
        let id = {
            let mut state = lock(&self.state);
            let id = state.next_stream;
            state.next_stream += 1;
            let mut stream = new_stream(&state, worker, request);
            match serves {
                WorkerState::Died(_) => {
                    stream.outcome = Outcome::Reset;
                    stream.stage = Stage::Finished;
                }
                // The connection is accepted by nobody: the client hangs.
                WorkerState::Exited(_) => stream.paused = true,
                WorkerState::Running => {}
            }
            state.streams.insert(id, stream);
            id
        };
        self.drive(id);
        StreamId(id)
    }

    /// Runs a request until it is held, over, or waits for the upstream.
    pub(super) fn drive(&mut self, id: u64) {
        loop {
            let stage = match lock(&self.state).streams.get(&id) {
                Some(stream) if !stream.paused => stream.stage,
                _ => return,
            };
            match stage {
                Stage::Finished => return,
                Stage::Out => match self.response.clone() {
                    Some(response) => self.begin_response(id, response, false),
                    None => return,
                },
                Stage::RequestBody(at) => self.request_body(id, at),
                Stage::RequestHeaders(at) => self.request_headers(id, at),
                Stage::ResponseBody(at) => self.response_body(id, at),
                Stage::ResponseHeaders(at) => self.response_headers(id, at),
            }
        }
    }

    fn request_headers(&mut self, id: u64, at: usize) {
        if at == self.chain_length() {
            return self.headers_leave(id);
        }
        let Some(leg) = self.enter_leg(id, at) else {
            return;
        };
        let (count, end) = {
            let state = lock(&self.state);
            let stream = &state.streams[&id];
            let end = stream.body.is_empty() && stream.trailers.is_empty();
            // In nginx this is false in every header callback.
            (
                size32(stream.request.len()),
                end && !state.profile.is_nginx(),
            )
        };
        let parameters = [leg.context, count, end.into()];
        match self.ask(id, leg, Callback::RequestHeaders, &parameters) {
            Verdict::Gone => {}
            Verdict::Continue => self.set_stage(id, Stage::RequestHeaders(at + 1)),
            Verdict::Pause => {
                let stop_iteration = self.stop_iteration;
                self.change(id, |stream| {
                    if stop_iteration && !stream.body.is_empty() {
                        stream.held_by = Some(at);
                        stream.stage = Stage::RequestBody(stream.body_done);
                    } else {
                        stream.paused = true;
                    }
                });
            }
        }
    }

    /// The context of a request in one filter of the chain, made at first use.
    /// `None`: the filter is left out, or the request has been answered.
    fn enter_leg(&mut self, id: u64, at: usize) -> Option<Leg> {
        let Some((vm, root)) = self.place_for(id, at) else {
            if self.policy(at) == FailurePolicy::FailOpen {
                self.set_stage(id, Stage::RequestHeaders(at + 1));
            } else {
                self.answer_plainly(id, 503);
            }
            return None;
        };
        let leg = {
            let mut state = lock(&self.state);
            let vm_state = state.vms.get_mut(&vm)?;
            let context = vm_state.next_context;
            vm_state.next_context += 1;
            let known = Context {
                root,
                plugin: at,
                stream: Some(id),
                lingers: false,
            };
            vm_state.contexts.insert(context, known);
            let leg = Leg {
                plugin: at,
                vm,
                context,
            };
            state.streams.get_mut(&id)?.legs[at] = Some(leg);
            leg
        };
        match self.ask(id, leg, Callback::ContextCreate, &[leg.context, root]) {
            Verdict::Gone => None,
            Verdict::Continue | Verdict::Pause => Some(leg),
        }
    }

    /// The VM in which a filter of the chain runs for a request, and its root context there; none if
    /// there is no such VM at present.
    fn place_for(&mut self, id: u64, at: usize) -> Option<(u64, u32)> {
        let worker = lock(&self.state).streams[&id].worker;
        let mut slots = self.workers[worker].slots.iter();
        let slot = slots.position(|slot| slot.plugins.contains(&at))?;
        let vm = if self.profile.isolates_streams() {
            self.isolated_vm(worker, slot, id, at).ok()?
        } else {
            let vm = self.workers[worker].slots[slot].vm.as_ref();
            vm.filter(|vm| !vm.failed)?.id
        };
        Some((vm, self.root_of(vm, at)?))
    }

    fn headers_leave(&mut self, id: u64) {
        let envoy = !self.profile.is_nginx();
        let bad = {
            let mut state = lock(&self.state);
            let kong = state.profile.is_kong();
            let Some(stream) = state.streams.get_mut(&id) else {
                return;
            };
            let request = match envoy {
                true => envoy_upstream(stream),
                false => nginx_upstream(stream, kong),
            };
            let bad =
                envoy
                    && request.headers.pairs().iter().any(|(_, value)| {
                        value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
                    });
            if !bad {
                stream.sent = Some(request);
                stream.stage = Stage::RequestBody(stream.body_done);
            }
            bad
        };
        if bad {
            // Envoy's codec refuses such a value, and nothing of it is sent.
            self.answer_plainly(id, 503);
        }
    }

    /// Makes a callback for a request, and sees to all that follows of it.
    pub(super) fn ask(
        &mut self,
        id: u64,
        leg: Leg,
        callback: Callback,
        parameters: &[u32],
    ) -> Verdict {
        let called = self.call(leg.vm, callback, leg.context, parameters);
        if let Called::Trapped(_) = called {
            self.after_trap(id);
            return Verdict::Gone;
        }
        if self.run_effects(Some(id)) {
            return Verdict::Gone;
        }
        let verdict = match called {
            Called::Returned(action) if action != 0 => Verdict::Pause,
            _ => Verdict::Continue,
        };
        let response = callback.is_response() || callback == Callback::ContextCreate;
        if verdict == Verdict::Continue && !response && !self.may_continue(id) {
            return Verdict::Gone;
        }
        verdict
    }

    /// nginx crashes where a request goes on with a callout of its own open.
    pub(super) fn may_continue(&mut self, id: u64) -> bool {
        if !self.profile.is_nginx() {
            return true;
        }
        let (worker, open) = {
            let state = lock(&self.state);
            (
                state.streams[&id].worker,
                !state.open_callouts_of(id).is_empty(),
            )
        };
        if open {
            let reason = "continued with a callout outstanding: SIGSEGV".to_owned();
            self.end_worker(worker, WorkerState::Died(reason));
        }
        !open
    }

    /// Envoy: what becomes of the request in whose callback the VM died. nginx
    /// has already let it through, or has died.
    fn after_trap(&mut self, id: u64) {
        if self.profile.is_nginx() {
            return;
        }
        let (stage, policy) = {
            let state = lock(&self.state);
            let stream = &state.streams[&id];
            let at = match stream.stage {
                Stage::RequestBody(at) | Stage::RequestHeaders(at) => at,
                Stage::ResponseBody(at) | Stage::ResponseHeaders(at) => stream.legs.len() - 1 - at,
                Stage::Finished | Stage::Out => return,
            };
            (stream.stage, state.plugins[at].policy)
        };
        if policy != FailurePolicy::FailOpen {
            return self.answer_plainly(id, 503);
        }
        match stage {
            Stage::RequestBody(at) => self.body_passes(id, at),
            Stage::RequestHeaders(at) => self.set_stage(id, Stage::RequestHeaders(at + 1)),
            Stage::ResponseBody(at) => self.set_stage(id, Stage::ResponseBody(at + 1)),
            Stage::ResponseHeaders(at) => self.set_stage(id, Stage::ResponseHeaders(at + 1)),
            Stage::Finished | Stage::Out => {}
        }
    }

    pub(super) fn chain_length(&self) -> usize {
        lock(&self.state).plugins.len()
    }

    pub(super) fn set_stage(&mut self, id: u64, stage: Stage) {
        self.change(id, |stream| stream.stage = stage);
    }

    pub(super) fn change(&mut self, id: u64, change: impl FnOnce(&mut Stream)) {
        if let Some(stream) = lock(&self.state).streams.get_mut(&id) {
            change(stream);
        }
    }

    pub(super) fn change_with<R>(&mut self, id: u64, change: impl FnOnce(&mut Stream) -> R) -> R {
        match lock(&self.state).streams.get_mut(&id) {
            Some(stream) => change(stream),
            None => unreachable!("a request is only forgotten once it is over"),
        }
    }
}
