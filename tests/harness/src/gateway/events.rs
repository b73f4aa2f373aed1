//! What comes from outside: answers of callouts, the host's notices, time.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::Gateway;
use crate::abi::types::Callback;
use crate::callout::CalloutAnswer;
use crate::headers::{Headers, size32};
use crate::message::{CalloutId, Outcome, StreamId};
use crate::profile::Profile;
use crate::state::{AnswerBody, AnswerView, CalloutState, Event, lock};
use crate::vm::Called;

/// Envoy resets a callout whose answer is longer.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// What a test waited for did not happen in time.
#[derive(Debug, Error)]
#[error("not reached within {within:?}; {open} callouts open, {waiting} requests waiting")]
pub struct DeadlineExceeded {
    within: Duration,
    open: usize,
    waiting: usize,
}

impl Gateway {
    /// Handles what has arrived, and waits for more, until `reached` says so.
    /// It looks after each event; it never polls.
    ///
    /// # Errors
    ///
    /// After `within` of real time.
    pub fn run_until(
        &mut self,
        mut reached: impl FnMut(&mut Self) -> bool,
        within: Duration,
    ) -> Result<(), DeadlineExceeded> {
        let deadline = Instant::now() + within;
        loop {
            self.pump();
            if reached(self) {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) => self.handle(event),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(DeadlineExceeded {
                        within,
                        open: self.open_callouts().len(),
                        waiting: self.waiting().len(),
                    });
                }
            }
        }
    }

    /// Waits until a request is no longer held, and says what became of it.
    ///
    /// # Errors
    ///
    /// After `within` of real time.
    pub fn settle(
        &mut self,
        stream: StreamId,
        within: Duration,
    ) -> Result<Outcome, DeadlineExceeded> {
        self.run_until(|gateway| !gateway.outcome(stream).is_waiting(), within)?;
        Ok(self.outcome(stream))
    }

    /// Waits until no callout is on its way.
    ///
    /// # Errors
    ///
    /// After `within` of real time.
    pub fn run_until_idle(&mut self, within: Duration) -> Result<(), DeadlineExceeded> {
        let idle = |gateway: &mut Self| {
            let open = gateway.open_callouts();
            open.iter().all(|call| call.state == CalloutState::Arrived)
        };
        self.run_until(idle, within)
    }

    /// Handles what has arrived by now, without waiting.
    pub fn pump(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.handle(event);
        }
    }

    /// Moves the clock, firing in their order the ticks and the time limits of
    /// callouts that fall due. An answer that has arrived but was not pumped
    /// loses against its time limit.
    pub fn advance(&mut self, duration: Duration) {
        let target = self.clock.after(duration);
        while let Some((due, timer)) = self.next_timer().filter(|(due, _)| *due <= target) {
            self.clock.set(due.max(self.clock.now()));
            match timer {
                Timer::Callout(id) => self.deliver_answer(id, CalloutAnswer::Timeout),
                Timer::Tick { index, vm, root } => {
                    if let Some(tick) = lock(&self.state).ticks.get_mut(index) {
                        tick.due = due + tick.period;
                    }
                    self.call(vm, Callback::Tick, root, &[root]);
                    self.run_effects(None);
                }
            }
        }
        self.clock.set(target);
    }

    /// Delivers the answer of a callout that is held back.
    ///
    /// # Panics
    ///
    /// If no answer of that callout is held.
    pub fn deliver(&mut self, callout: CalloutId) {
        let arrived = lock(&self.state).callouts[callout.0].arrived.take();
        match arrived {
            Some(answer) => self.deliver_answer(callout.0, answer),
            None => panic!("{callout:?} holds no answer"),
        }
    }

    /// Answers a callout that is open, whatever its upstream does.
    ///
    /// # Panics
    ///
    /// If the callout is over.
    pub fn answer(&mut self, callout: CalloutId, answer: CalloutAnswer) {
        assert!(
            lock(&self.state).open_callouts.contains(&callout.0),
            "{callout:?} is over: {:?}",
            self.callout(callout).state
        );
        self.deliver_answer(callout.0, answer);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Callout { callout, news } => {
                let news = {
                    let mut state = lock(&self.state);
                    if !state.open_callouts.contains(&callout) {
                        return;
                    }
                    let due = state.clock.after(state.callouts[callout].timeout);
                    let hold = state.hold_answers;
                    state.callouts[callout].hear(news, due, &self.profile, hold)
                };
                if let Some(answer) = news {
                    self.deliver_answer(callout, answer);
                }
            }
            Event::Foreign {
                vm,
                root,
                function,
                arguments,
            } => {
                let size = size32(arguments.len());
                lock(&self.state).foreign_arguments = Some(arguments);
                self.call(vm, Callback::ForeignFunction, root, &[root, function, size]);
                lock(&self.state).foreign_arguments = None;
                self.run_effects(None);
            }
        }
    }

    fn deliver_answer(&mut self, id: usize, answer: CalloutAnswer) {
        let (vm, context, stream, token, answer) = {
            let mut state = lock(&self.state);
            let answer = match state.faults.truncates() {
                Some(keep) => answer.truncated(keep),
                None => answer,
            };
            state.close_callout(id, CalloutState::Delivered);
            let callout = &state.callouts[id];
            (
                callout.vm,
                callout.context,
                callout.stream,
                callout.token,
                answer,
            )
        };
        self.call_response(vm, context, stream, token, answer);
    }

    /// Calls `proxy_on_http_call_response` as the profile's gateway does.
    pub(super) fn call_response(
        &mut self,
        vm: u64,
        context: u32,
        stream: Option<u64>,
        token: u32,
        answer: CalloutAnswer,
    ) {
        let (view, sizes, silent) = match &self.profile {
            Profile::Envoy => {
                let (view, sizes) = envoy_view(answer);
                (view, sizes, false)
            }
            Profile::Nginx(options) => {
                let (view, sizes) = nginx_view(answer);
                (
                    view,
                    sizes,
                    sizes[0] == 0 && !options.callback_on_failed_callout,
                )
            }
        };
        // The callback bears the root's id. In Envoy it also acts as the root; in
        // nginx it acts on the request all the same.
        let shown = lock(&self.state)
            .context(vm, context)
            .map_or(context, |known| known.root);
        if !silent {
            lock(&self.state).answer = Some(view);
            let parameters = [shown, token, sizes[0], sizes[1], sizes[2]];
            let called = self.call(vm, Callback::HttpCallResponse, context, &parameters);
            lock(&self.state).answer = None;
            if matches!(called, Called::Trapped(_)) {
                return;
            }
            self.run_effects(None);
        }
        let Some(stream) = stream.filter(|_| self.profile.is_nginx()) else {
            return;
        };
        // nginx: a pause ends by itself when the last callout is done.
        if lock(&self.state).open_callouts_of(stream).is_empty() {
            self.resume(stream, false);
        }
    }

    fn next_timer(&self) -> Option<(u64, Timer)> {
        let state = lock(&self.state);
        let tick = state
            .ticks
            .iter()
            .enumerate()
            .min_by_key(|(_, tick)| tick.due);
        let tick = tick.map(|(index, tick)| (tick.due, index));
        let callout = state
            .open_callouts
            .iter()
            .map(|id| (state.callouts[*id].due, *id))
            .filter(|(_, id)| state.callouts[*id].state == CalloutState::InFlight)
            .min();
        match (tick, callout) {
            (_, Some((due, id))) if tick.is_none_or(|(tick, _)| due <= tick) => {
                Some((due, Timer::Callout(id)))
            }
            (Some((due, index)), _) => {
                let tick = &state.ticks[index];
                Some((
                    due,
                    Timer::Tick {
                        index,
                        vm: tick.vm,
                        root: tick.root,
                    },
                ))
            }
            (None, _) => None,
        }
    }
}

enum Timer {
    Callout(usize),
    Tick { index: usize, vm: u64, root: u32 },
}

/// Envoy makes responses of its own where there was none, and shows nothing
/// at all of one that broke off.
fn envoy_view(answer: CalloutAnswer) -> (AnswerView, [u32; 3]) {
    let own = |status: u16, body: &str| CalloutAnswer::Response {
        status,
        headers: Headers::from([("content-type", "text/plain")]),
        body: body.into(),
        trailers: Headers::new(),
    };
    let reset = |reason: &str| {
        format!("upstream connect error or disconnect/reset before headers. reset reason: {reason}")
    };
    let answer = match answer {
        CalloutAnswer::Closed => own(503, &reset("connection termination")),
        CalloutAnswer::NotHttp => own(502, &reset("protocol error")),
        CalloutAnswer::Refused => own(503, &reset("remote connection failure")),
        CalloutAnswer::Timeout => own(504, "upstream request timeout"),
        other => other,
    };
    match answer {
        CalloutAnswer::Response {
            status,
            headers,
            body,
            trailers,
        } if body.len() <= MAX_ANSWER => {
            let mut map = Headers::new();
            map.add(":status", status.to_string());
            for (name, value) in headers.lowercased().pairs() {
                map.add(name.clone(), value.clone());
            }
            let sizes = [
                size32(map.len()),
                size32(body.len()),
                size32(trailers.len()),
            ];
            let view = AnswerView {
                headers: Some(map),
                trailers: (!trailers.is_empty()).then_some(trailers),
                body: AnswerBody::Bytes(body),
                dispatch_status: None,
            };
            (view, sizes)
        }
        _ => (AnswerView::default(), [0; 3]),
    }
}

/// nginx has `num_headers` 0 after a failure, and a body that cannot be read
/// where less came than was promised.
fn nginx_view(answer: CalloutAnswer) -> (AnswerView, [u32; 3]) {
    let failed = |status| {
        let view = AnswerView {
            headers: Some(Headers::new()),
            trailers: None,
            body: AnswerBody::None,
            dispatch_status: Some(status),
        };
        (view, [0; 3])
    };
    let with_status = |status: u16, headers: &Headers| {
        let mut map = Headers::new();
        map.add(":status", status.to_string());
        for (name, value) in headers.pairs() {
            map.add(name.clone(), value.clone());
        }
        map
    };
    match answer {
        // It may say so although nothing came: only the count can be relied on.
        CalloutAnswer::Closed | CalloutAnswer::NotHttp => failed("ok"),
        CalloutAnswer::Refused => failed("broken connection"),
        CalloutAnswer::Timeout => failed("timeout"),
        CalloutAnswer::Response {
            status,
            headers,
            body,
            ..
        } => {
            let sizes = [size32(headers.len()), size32(body.len()), 0];
            let view = AnswerView {
                headers: Some(with_status(status, &headers)),
                trailers: None,
                body: AnswerBody::Bytes(body),
                dispatch_status: Some("ok"),
            };
            (view, sizes)
        }
        CalloutAnswer::Truncated {
            status,
            headers,
            declared,
            body,
        } => {
            let promised = size32(declared.unwrap_or(body.len()));
            let sizes = [size32(headers.len()), promised, 0];
            let view = AnswerView {
                headers: Some(with_status(status, &headers)),
                trailers: None,
                body: AnswerBody::Broken,
                dispatch_status: Some("ok"),
            };
            (view, sizes)
        }
    }
}
