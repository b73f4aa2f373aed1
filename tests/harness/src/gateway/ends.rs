//! What filters ask for beside their return value, and how requests end.

use super::Gateway;
use crate::abi::types::Callback;
use crate::message::{Outcome, Response, StreamId};
use crate::state::{Effect, lock};
use crate::stream::{Leg, Stage, nginx_upstream};
use crate::vm::Called;

impl Gateway {
    /// Does what host functions have asked for. Says whether that ended the
    /// part of `own` in which it was.
    pub(super) fn run_effects(&mut self, own: Option<u64>) -> bool {
        let mut gone = false;
        loop {
            let effects = std::mem::take(&mut lock(&self.state).effects);
            if effects.is_empty() {
                return gone;
            }
            for effect in effects {
                match effect {
                    Effect::Close { stream } => {
                        gone |= own == Some(stream);
                        self.close(stream);
                    }
                    Effect::Done { vm, context } => self.delete_context(vm, context),
                    Effect::Local { stream, response } => {
                        gone |= own == Some(stream);
                        self.begin_response(stream, response, true);
                        if own != Some(stream) {
                            self.drive(stream);
                        }
                    }
                    Effect::Queue { vm, root, queue } => {
                        self.call(vm, Callback::QueueReady, root, &[root, queue]);
                    }
                    // What the callback itself returns counts for its own request.
                    Effect::Resume { stream, .. } if own == Some(stream) => {}
                    Effect::Resume { stream, response } => self.resume(stream, response),
                }
            }
        }
    }

    /// Lets a held request go on.
    pub(super) fn resume(&mut self, id: u64, response: bool) {
        let held = lock(&self.state).streams.get(&id).is_some_and(|stream| {
            stream.paused && stream.stage != Stage::Finished && stream.in_response() == response
        });
        if !held || (!response && !self.may_continue(id)) {
            return;
        }
        let stage = self.change_with(id, |stream| {
            stream.paused = false;
            stream.stage
        });
        match stage {
            Stage::RequestBody(at) => self.body_passes(id, at),
            Stage::RequestHeaders(at) => self.set_stage(id, Stage::RequestHeaders(at + 1)),
            Stage::ResponseBody(at) => self.response_passes(id, at),
            Stage::ResponseHeaders(at) => self.set_stage(id, Stage::ResponseHeaders(at + 1)),
            Stage::Finished | Stage::Out => {}
        }
        self.drive(id);
    }

    fn close(&mut self, id: u64) {
        self.change(id, |stream| {
            if stream.outcome.is_waiting() {
                stream.outcome = Outcome::Reset;
            }
        });
        self.finish(id);
    }

    /// The client goes away: the contexts of its request end, and in nginx the
    /// callouts with them; in Envoy their answers still come, to the root.
    pub fn disconnect(&mut self, stream: StreamId) {
        {
            let mut state = lock(&self.state);
            let Some(stream) = state.streams.get_mut(&stream.0) else {
                return;
            };
            if stream.stage == Stage::Finished {
                return;
            }
            if stream.outcome.is_waiting() {
                stream.outcome = Outcome::Reset;
            }
        }
        self.finish(stream.0);
    }

    /// The gateway's own answer, which no filter sees.
    pub(super) fn answer_plainly(&mut self, id: u64, status: u16) {
        let response = Response {
            status,
            ..Response::default()
        };
        self.change(id, |stream| {
            stream.outcome = Outcome::Local(response.clone());
            stream.client_response = Some(response);
        });
        self.finish(id);
    }

    /// nginx, after a trap: the request goes to the upstream as it stands, and
    /// its response passes unfiltered; or it is over with a 500.
    pub(super) fn let_through(&mut self, id: u64) {
        let refused = lock(&self.state)
            .internal_error
            .take_if(|error| *error == id)
            .is_some();
        if refused {
            return self.answer_plainly(id, 500);
        }
        let kong = self.profile.is_kong();
        self.change(id, |stream| {
            stream.paused = false;
            stream.legs.iter_mut().for_each(|leg| *leg = None);
            if stream.outcome.is_waiting() {
                let mut request = nginx_upstream(stream, kong);
                request.body = match stream.buffer.take() {
                    Some(body) => body,
                    None => stream.body.concat(),
                };
                stream.sent = Some(request.clone());
                stream.outcome = Outcome::Upstream(request);
                stream.stage = Stage::Out;
            }
        });
        // Only its response is left, which no filter sees any more.
        self.drive(id);
    }

    /// Ends a request: its contexts are deleted, and nginx gives its callouts up.
    pub(super) fn finish(&mut self, id: u64) {
        let legs = {
            let mut state = lock(&self.state);
            state.cancel_callouts_of(id);
            let Some(stream) = state.streams.get_mut(&id) else {
                return;
            };
            if stream.stage == Stage::Finished {
                return;
            }
            stream.stage = Stage::Finished;
            stream.paused = false;
            stream.buffer = None;
            std::mem::take(&mut stream.legs)
        };
        let legs: Vec<Leg> = legs.into_iter().flatten().collect();
        if !self.profile.is_nginx() {
            // Envoy writes its access log before it destroys the filters.
            for leg in &legs {
                self.call(leg.vm, Callback::Log, leg.context, &[leg.context]);
            }
        }
        for leg in legs {
            let done = self.call(leg.vm, Callback::Done, leg.context, &[leg.context]);
            if self.profile.is_nginx() {
                self.call(leg.vm, Callback::Log, leg.context, &[leg.context]);
            }
            if done == Called::Returned(0) && !self.profile.is_nginx() {
                let mut state = lock(&self.state);
                if let Some(vm) = state.vms.get_mut(&leg.vm)
                    && let Some(context) = vm.contexts.get_mut(&leg.context)
                {
                    context.lingers = true;
                }
            } else {
                self.delete_context(leg.vm, leg.context);
            }
        }
        self.run_effects(None);
        self.end_isolated(id);
    }
}
