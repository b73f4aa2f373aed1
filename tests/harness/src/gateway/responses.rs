//! A response's way back: the upstream's, or one that was made here.

use super::Gateway;
use super::requests::Verdict;
use crate::abi::types::Callback;
use crate::headers::size32;
use crate::message::{Outcome, Response, StreamId};
use crate::state::lock;
use crate::stream::{Leg, Stage};

impl Gateway {
    /// The upstream answers a request that waits for it. Does nothing where it
    /// does not.
    pub fn respond(&mut self, stream: StreamId, response: Response) {
        let out = self.stream(stream, |stream| stream.stage == Stage::Out);
        if out {
            self.begin_response(stream.0, response, false);
            self.drive(stream.0);
        }
    }

    /// Turns a request round: from here on filters see this response. A local
    /// one passes the filters as well, in both gateways.
    pub(super) fn begin_response(&mut self, id: u64, response: Response, local: bool) {
        {
            let mut state = lock(&self.state);
            let over = |stream: &crate::stream::Stream| stream.stage == Stage::Finished;
            if state.streams.get(&id).is_none_or(over) {
                return;
            }
            state.cancel_callouts_of(id);
        }
        self.change(id, |stream| {
            let mut headers = crate::Headers::new();
            headers.add(":status", response.status.to_string());
            for (name, value) in response.headers.pairs() {
                headers.add(name.clone(), value.clone());
            }
            let next = match stream.stage {
                Stage::ResponseBody(at) | Stage::ResponseHeaders(at) => at + 1,
                _ => 0,
            };
            stream.response = Some(headers);
            stream.response_body = response.body;
            stream.is_local |= local && !stream.in_response();
            stream.buffer = None;
            stream.paused = false;
            stream.stage = Stage::ResponseHeaders(next);
        });
    }

    pub(super) fn response_headers(&mut self, id: u64, at: usize) {
        let Some(leg) = self.response_leg(id, at) else {
            return;
        };
        let Some(leg) = leg else {
            let past = at >= self.chain_length();
            let next = if past {
                Stage::ResponseBody(0)
            } else {
                Stage::ResponseHeaders(at + 1)
            };
            return self.set_stage(id, next);
        };
        let (count, end) = {
            let state = lock(&self.state);
            let stream = &state.streams[&id];
            let count = stream.response.as_ref().map_or(0, crate::Headers::len);
            (
                size32(count),
                stream.response_body.is_empty() && !state.profile.is_nginx(),
            )
        };
        let parameters = [leg.context, count, end.into()];
        match self.ask(id, leg, Callback::ResponseHeaders, &parameters) {
            Verdict::Gone => {}
            Verdict::Continue => self.set_stage(id, Stage::ResponseHeaders(at + 1)),
            Verdict::Pause => self.change(id, |stream| stream.paused = true),
        }
    }

    pub(super) fn response_body(&mut self, id: u64, at: usize) {
        let Some(leg) = self.response_leg(id, at) else {
            return;
        };
        // nginx calls even for an empty body: its last buffer is one.
        let skip = {
            let state = lock(&self.state);
            state.streams[&id].response_body.is_empty() && !state.profile.is_nginx()
        };
        if at >= self.chain_length() || skip {
            return self.response_leaves(id);
        }
        let Some(leg) = leg else {
            return self.set_stage(id, Stage::ResponseBody(at + 1));
        };
        let size = self.change_with(id, |stream| {
            let body = std::mem::take(&mut stream.response_body);
            let size = body.len();
            stream.buffer = Some(body);
            size
        });
        let parameters = [leg.context, size32(size), 1];
        match self.ask(id, leg, Callback::ResponseBody, &parameters) {
            Verdict::Gone => {}
            Verdict::Continue => self.response_passes(id, at),
            Verdict::Pause => self.change(id, |stream| stream.paused = true),
        }
    }

    pub(super) fn response_passes(&mut self, id: u64, at: usize) {
        self.change(id, |stream| {
            stream.response_body = stream.buffer.take().unwrap_or_default();
            stream.stage = Stage::ResponseBody(at + 1);
        });
    }

    /// The filter that is the `at`th to see a response: in Envoy the chain runs
    /// backwards, in nginx forwards. The outer `None`: the request is gone.
    fn response_leg(&self, id: u64, at: usize) -> Option<Option<Leg>> {
        let state = lock(&self.state);
        let stream = state.streams.get(&id)?;
        let index = match state.profile.is_nginx() {
            true => at,
            false => match stream.legs.len().checked_sub(at + 1) {
                Some(index) => index,
                None => return Some(None),
            },
        };
        Some(stream.legs.get(index).copied().flatten())
    }

    fn response_leaves(&mut self, id: u64) {
        self.change(id, |stream| {
            let headers = stream.response.take().unwrap_or_default();
            let status = headers.text(":status").and_then(|text| text.parse().ok());
            let response = Response {
                status: status.unwrap_or(0),
                headers: headers.without_pseudo(),
                body: std::mem::take(&mut stream.response_body),
            };
            if stream.is_local {
                stream.outcome = Outcome::Local(response.clone());
            }
            stream.client_response = Some(response);
        });
        self.finish(id);
    }
}
