//! A scenario's gateway in the wasmtime harness.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use vaultref_harness::{
    CalloutAnswer, FailurePolicy, Gateway, GatewayBuilder, Module, NginxOptions, Outcome, Plugin,
    Profile, StreamId, Upstream,
};

use super::{Answer, Kind, Seen};
use crate::client::{Address, Request, Response};
use crate::upstream::{Received, Reply};
use crate::{paths, wait};

/// A tick of the filter, as it asks for it.
const TICK: Duration = Duration::from_millis(200);

/// The filter in the harness, with workers that take turns.
pub struct Harness {
    gateway: Gateway,
    workers: usize,
    next: usize,
}

impl Harness {
    /// A gateway of this kind with the module that runs in it; a filter is still to be added.
    ///
    /// # Errors
    ///
    /// When the module is not built.
    pub fn setup(kind: Kind, workers: usize) -> Result<GatewayBuilder> {
        let profile = match kind {
            Kind::HarnessNginx => Profile::Nginx(NginxOptions::kong()),
            _ => Profile::Envoy,
        };
        Ok(Gateway::builder(module(kind)?)
            .profile(profile)
            .workers(workers))
    }

    /// The filter with this configuration.
    #[must_use]
    pub fn plugin(configuration: &str) -> Plugin {
        Plugin::new("vaultref")
            .configuration(configuration)
            .failure_policy(FailurePolicy::FailReload)
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// As the gateway would refuse to start.
    pub fn start(setup: GatewayBuilder, workers: usize) -> Result<Self> {
        Ok(Self {
            gateway: setup.start()?,
            workers,
            next: 0,
        })
    }

    /// Sends a request to the next worker and waits for what becomes of it.
    ///
    /// # Errors
    ///
    /// When nothing becomes of it.
    pub fn send(&mut self, request: &Request) -> Result<Seen> {
        let stream = self.begin(request);
        self.finish(stream)
    }

    /// Sends a request to this worker and waits for what becomes of it.
    ///
    /// # Errors
    ///
    /// When nothing becomes of it.
    pub fn send_to(&mut self, worker: usize, request: &Request) -> Result<Seen> {
        let stream = self.gateway.request(worker, request.into());
        self.finish(stream)
    }

    /// Sends a request to the next worker and lets it go as far as it goes.
    pub fn begin(&mut self, request: &Request) -> StreamId {
        let worker = self.next;
        self.next = (self.next + 1) % self.workers;
        self.gateway.request(worker, request.into())
    }

    /// Waits for what becomes of a request. The filter's clock goes on while nothing arrives.
    ///
    /// # Errors
    ///
    /// When nothing becomes of it.
    pub fn finish(&mut self, stream: StreamId) -> Result<Seen> {
        self.wait_for(stream)?;
        let seen = Seen::from(self.gateway.outcome(stream));
        self.gateway.forget(stream);
        Ok(seen)
    }

    fn wait_for(&mut self, stream: StreamId) -> Result<()> {
        let start = Instant::now();
        while self.gateway.settle(stream, TICK).is_err() {
            if start.elapsed() > wait::SOON {
                bail!("the request is still held:\n{}", self.log());
            }
            self.gateway.advance(TICK);
        }
        Ok(())
    }

    /// Sends a request, has the upstream answer it, and gives what the upstream got and what its answer
    /// was when the client got it.
    ///
    /// # Errors
    ///
    /// When nothing becomes of it.
    pub fn exchange(&mut self, request: &Request, answer: Answer) -> Result<(Seen, Response)> {
        let stream = self.begin(request);
        self.wait_for(stream)?;
        let seen = Seen::from(self.gateway.outcome(stream));
        if let Seen::Upstream(received) = &seen {
            self.gateway.respond(stream, (&answer(received)).into());
        }
        let response = self.gateway.client_response(stream);
        let response = response.context("the client got no answer")?;
        self.gateway.forget(stream);
        Ok((seen, client_s(response)))
    }

    /// As [`Harness::finish`], but a request that nobody will ever wake counts as closed: its VM is
    /// gone, and its client gives up.
    ///
    /// # Errors
    ///
    /// None at present.
    pub fn finish_or_reset(&mut self, stream: StreamId) -> Result<Seen> {
        for _ in 0..20 {
            if self
                .gateway
                .settle(stream, Duration::from_millis(1))
                .is_ok()
            {
                return self.finish(stream);
            }
            self.gateway.advance(TICK);
        }
        self.gateway.disconnect(stream);
        Ok(Seen::Reset)
    }

    /// From now on answers are delivered as they arrive.
    pub fn release_answers(&mut self) {
        self.gateway.release_answers();
    }

    /// Answers every open call as the daemon does, in its place: not an instruction of the filter
    /// then depends on time or on another process. `value` is the secret of a reference, if there is
    /// one; it never changes.
    ///
    /// # Errors
    ///
    /// When a call asks what no filter of ours would.
    pub fn answer_calls(&mut self, value: impl Fn(&str) -> Option<&'static str>) -> Result<()> {
        // One at a time: a filter that traps takes the others along.
        while let Some(call) = self.gateway.open_callouts().into_iter().next() {
            let question: Value = serde_json::from_slice(&call.body)?;
            let references = question["references"].as_array().context("references")?;
            let known = question["known"].as_array().context("what is known")?;
            let results: Vec<Value> = references
                .iter()
                .zip(known)
                .map(|(reference, known)| {
                    outcome(reference.as_str().and_then(&value), !known.is_null())
                })
                .collect();
            let marker = [("x-vaultref-contract", "1")];
            let body = json!({ "results": results }).to_string();
            let answer = CalloutAnswer::response(200, marker, body);
            self.gateway.answer(call.id, answer);
        }
        Ok(())
    }

    /// Lets one tick come, and its callouts end.
    pub fn tick(&mut self) {
        self.gateway.advance(TICK);
        // A callout that hangs is ended by the clock, with one of the next ticks.
        let _ = self.gateway.run_until_idle(TICK);
    }

    /// The gateway itself, for what only the harness can do.
    pub fn gateway(&mut self) -> &mut Gateway {
        &mut self.gateway
    }

    /// The filter's log.
    #[must_use]
    pub fn log(&self) -> String {
        self.gateway.log_text()
    }
}

fn outcome(value: Option<&str>, is_known: bool) -> Value {
    let lifetime = json!({ "fresh_for": 300, "usable_for": 3600, "stale": false });
    match value {
        None => json!({ "failure": { "kind": "not-found", "retryable": false } }),
        Some(_) if is_known => json!({ "unchanged": lifetime }),
        Some(text) => json!({ "secret": {
            "value": { "text": text }, "revision": "1", "lifetime": lifetime,
        }}),
    }
}

impl fmt::Debug for Harness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness")
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

/// A module takes a second or two to compile: once for all scenarios of a process.
fn module(kind: Kind) -> Result<&'static Module> {
    static ENVOY: OnceLock<Module> = OnceLock::new();
    static EVERY: OnceLock<Module> = OnceLock::new();
    let cell = match kind.module() {
        "vaultref-envoy.wasm" => &ENVOY,
        _ => &EVERY,
    };
    if let Some(module) = cell.get() {
        return Ok(module);
    }
    let module = Module::from_file(paths::module(kind.module())?)?;
    Ok(cell.get_or_init(|| module))
}

impl From<Address> for Upstream {
    fn from(address: Address) -> Self {
        match address {
            Address::Tcp(address) => Self::Tcp(address),
            Address::Unix(path) => Self::Unix(path),
        }
    }
}

impl From<&Request> for vaultref_harness::Request {
    fn from(request: &Request) -> Self {
        let is_host = |name: &[u8]| name.eq_ignore_ascii_case(b"host");
        let mut made = Self::new(request.method(), request.path());
        for (name, value) in request.headers() {
            made = match is_host(name) {
                true => made.authority(value.clone()),
                false => made.header(name.to_ascii_lowercase(), value.clone()),
            };
        }
        let has = |wanted: &str| {
            let mut names = request.headers().iter();
            names.any(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()))
        };
        if !request.body_bytes().is_empty() && !has("transfer-encoding") {
            made = made.header("content-length", request.body_bytes().len().to_string());
        }
        made.pieces = request.pieces().into_iter().map(<[u8]>::to_vec).collect();
        made
    }
}

impl From<&Reply> for vaultref_harness::Response {
    fn from(reply: &Reply) -> Self {
        let headers = reply.headers.iter();
        Self {
            status: reply.status,
            headers: headers
                .map(|(name, value)| (name.clone().into_bytes(), value.clone()))
                .collect(),
            body: reply.body.clone(),
        }
    }
}

/// A response as the client gets it.
fn client_s(response: vaultref_harness::Response) -> Response {
    Response {
        status: response.status,
        headers: owned(&response.headers),
        body: response.body,
    }
}

fn owned(headers: &vaultref_harness::Headers) -> Vec<(String, Vec<u8>)> {
    let pairs = headers.pairs().iter();
    pairs
        .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.clone()))
        .collect()
}

impl From<Outcome> for Seen {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Local(response) => Self::Local(client_s(response)),
            Outcome::Upstream(request) => Self::Upstream(Received {
                method: String::from_utf8_lossy(&request.method).into_owned(),
                path: String::from_utf8_lossy(&request.path).into_owned(),
                headers: owned(&request.headers),
                body: request.body,
            }),
            Outcome::Reset | Outcome::Waiting => Self::Reset,
        }
    }
}
