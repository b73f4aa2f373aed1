//! A request's body on its way through the filters.

use super::Gateway;
use super::requests::Verdict;
use crate::abi::types::Callback;
use crate::headers::size32;
use crate::message::Outcome;
use crate::state::lock;
use crate::stream::{Leg, Stage};

impl Gateway {
    pub(super) fn request_body(&mut self, id: u64, at: usize) {
        let (held_by, empty, leg) = {
            let state = lock(&self.state);
            let stream = &state.streams[&id];
            let empty = stream.body.is_empty() && stream.trailers.is_empty();
            (
                stream.held_by,
                empty,
                stream.legs.get(at).copied().flatten(),
            )
        };
        if let Some(holder) = held_by
            && at > holder
        {
            return self.change(id, |stream| {
                stream.held_by = None;
                stream.body_done = at;
                stream.stage = Stage::RequestHeaders(holder + 1);
            });
        }
        if at == self.chain_length() || empty {
            return self.request_leaves(id);
        }
        let Some(leg) = leg else {
            return self.set_stage(id, Stage::RequestBody(at + 1));
        };
        if self.profile.is_nginx() {
            self.body_in_nginx(id, leg)
        } else {
            self.body_in_envoy(id, leg)
        }
    }

    /// nginx reads the whole body first and hands it over in one piece.
    fn body_in_nginx(&mut self, id: u64, leg: Leg) {
        let size = self.change_with(id, |stream| {
            let body = stream.body.concat();
            let size = body.len();
            stream.buffer = Some(body);
            size
        });
        let parameters = [leg.context, size32(size), 1];
        match self.ask(id, leg, Callback::RequestBody, &parameters) {
            Verdict::Gone => {}
            Verdict::Continue => self.body_passes(id, leg.plugin),
            Verdict::Pause => self.change(id, |stream| stream.paused = true),
        }
    }

    /// Envoy hands the pieces over as they arrive, then an empty one that is
    /// the end; what a filter holds back it sees again with the next piece.
    fn body_in_envoy(&mut self, id: u64, leg: Leg) {
        let limit = self.buffer_limit;
        let pieces = {
            let state = lock(&self.state);
            let stream = &state.streams[&id];
            let mut pieces: Vec<(Vec<u8>, bool)> = stream
                .body
                .iter()
                .map(|piece| (piece.clone(), false))
                .collect();
            if stream.trailers.is_empty() {
                pieces.push((Vec::new(), true));
            }
            pieces
        };
        for (piece, end) in pieces {
            let size = self.change_with(id, |stream| {
                let held = stream.buffer.get_or_insert_default();
                held.extend(piece);
                held.len()
            });
            let parameters = [leg.context, size32(size), end.into()];
            match self.ask(id, leg, Callback::RequestBody, &parameters) {
                Verdict::Gone => return,
                Verdict::Continue => self.change(id, |stream| {
                    stream.buffering = false;
                    stream
                        .passed
                        .extend(stream.buffer.take().unwrap_or_default());
                }),
                Verdict::Pause if size > limit => return self.answer_plainly(id, 413),
                Verdict::Pause => self.change(id, |stream| stream.buffering = true),
            }
        }
        let (trailers, buffering) = {
            let state = lock(&self.state);
            let stream = &state.streams[&id];
            (size32(stream.trailers.len()), stream.buffering)
        };
        let mut held = buffering;
        if trailers > 0 {
            let parameters = [leg.context, trailers];
            held = match self.ask(id, leg, Callback::RequestTrailers, &parameters) {
                Verdict::Gone => return,
                Verdict::Continue => false,
                Verdict::Pause => true,
            };
        }
        if held {
            self.change(id, |stream| stream.paused = true);
        } else {
            self.body_passes(id, leg.plugin);
        }
    }

    /// What a filter has held of the body goes to the next one.
    pub(super) fn body_passes(&mut self, id: u64, at: usize) {
        self.change(id, |stream| {
            let mut passed = std::mem::take(&mut stream.passed);
            passed.extend(stream.buffer.take().unwrap_or_default());
            stream.buffering = false;
            stream.body = if passed.is_empty() {
                Vec::new()
            } else {
                vec![passed]
            };
            stream.stage = Stage::RequestBody(at + 1);
        });
    }

    fn request_leaves(&mut self, id: u64) {
        let nginx = self.profile.is_nginx();
        self.change(id, |stream| {
            let body = stream.body.concat();
            let Some(sent) = stream.sent.as_mut() else {
                return;
            };
            if nginx && sent.headers.first("content-length").is_some() {
                // nginx counts for itself what it sends.
                let length = body.len().to_string();
                sent.headers.set_first("content-length", length);
            }
            sent.body = body;
            sent.trailers = stream.trailers.clone();
            stream.outcome = Outcome::Upstream(sent.clone());
            stream.stage = Stage::Out;
        });
    }
}
