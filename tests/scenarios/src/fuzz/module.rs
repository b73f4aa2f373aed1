//! An input run through the real module in the harness, as one of the gateways.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use vaultref_harness::{
    CalloutAnswer, CalloutRecord, Fault, ForeignCaller, Gateway, GatewayBuilder, Isolation,
    LoadError, Module, NginxOptions, Outcome, Plugin, Profile, Request, Status, StreamId, Upstream,
    WorkerState,
};

use super::coverage::{MARKS, mark};
use super::oracle::Oracle;
use super::random::mix;
use super::report::Report;
use super::resolver::{Resolver, SECRET};
use super::script::{Script, Step};
use super::steps::{self, TOKEN, TOKEN_NAME};
use crate::paths;

/// Instructions of one callback, with those that set marks. The largest configuration takes a tenth.
const FUEL: u64 = 1_000_000_000;

/// The memory of one VM in bytes.
const MEMORY: usize = 64 * 1024 * 1024;

/// The files that are shipped, each with marks.
pub struct Modules {
    every: Module,
    envoy: Module,
}

impl Modules {
    /// Reads them from `dist/`.
    ///
    /// # Errors
    ///
    /// When one is not built.
    pub fn read() -> Result<Self> {
        let read = |name: &str| -> Result<Module> {
            let path = paths::module(name)?;
            let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
            mark(&bytes)
        };
        Ok(Self {
            every: read("vaultref.wasm")?,
            envoy: read("vaultref-envoy.wasm")?,
        })
    }
}

/// Runs an input and looks at all that comes of it.
#[must_use]
pub(super) fn run(modules: &Modules, script: &Script) -> Report {
    let mut run = Run::new(modules, script);
    for step in &script.steps {
        run.step(step);
        run.inspect();
        if run.report.finding.is_some() {
            break;
        }
    }
    run.end()
}

struct Run<'a> {
    modules: &'a Modules,
    kind: String,
    gateway: Option<Gateway>,
    /// Faults that wait for the gateway to start.
    faults: Vec<Fault>,
    resolver: Arc<Mutex<Resolver>>,
    oracle: Oracle,
    streams: Vec<(StreamId, Request)>,
    /// How the upstream answers.
    response: Step,
    pending: steps::Pending,
    seen_calls: usize,
    seen_lines: usize,
    report: Report,
}

impl<'a> Run<'a> {
    fn new(modules: &'a Modules, script: &Script) -> Self {
        let mut kinds = script.steps.iter().filter(|step| step.word == "gateway");
        let kind = kinds.next().map(|step| step.text(0)).unwrap_or_default();
        let mut oracle = Oracle::default();
        oracle.is_lenient = kind == "kong-38";
        Self {
            modules,
            kind,
            gateway: None,
            faults: Vec::new(),
            resolver: Arc::default(),
            oracle,
            streams: Vec::new(),
            response: Step::default(),
            pending: steps::Pending::default(),
            seen_calls: 0,
            seen_lines: 0,
            report: Report::default(),
        }
    }

    fn step(&mut self, step: &Step) {
        match step.word.as_str() {
            "configure" => self.configure(step.bytes(0), true),
            "configure-partly" => self.configure(step.bytes(0), false),
            "configure-raw" => {
                self.oracle.is_blind = true;
                self.oracle.look_at(step.bytes(0));
                self.install(step.bytes(0).to_vec());
            }
            "configure-struct" => {
                let labelled = self.oracle.label(step.bytes(0), true);
                self.install(steps::as_struct(&labelled));
            }
            "fault" => self.fault(step),
            "mood" => self.resolver().mood = step.text(0),
            "rotate" => self.resolver().rotate(),
            "chunk" | "trailer" => self.pending.take(step),
            "response" => self.response = step.clone(),
            _ => {
                self.start_bare();
                self.in_gateway(step);
            }
        }
    }

    fn configure(&mut self, bytes: &[u8], with_last: bool) {
        let labelled = self.oracle.label(bytes, with_last);
        self.install(labelled);
    }

    fn install(&mut self, configuration: Vec<u8>) {
        let installed = match &mut self.gateway {
            Some(gateway) => gateway.reconfigure(0, configuration),
            None => self.start(configuration),
        };
        let Err(error) = installed else { return };
        match error {
            LoadError::Refused { reason, log, .. } => {
                for line in log.lines() {
                    self.judge_line(line);
                }
                if reason != "returned false" {
                    self.report.found(format!("while configuring: {reason}"));
                }
            }
            LoadError::ConfigurationTooLong { .. } => {}
            other => self.report.found(format!("{other}")),
        }
    }

    fn start(&mut self, configuration: Vec<u8>) -> Result<(), LoadError> {
        let resolver = Arc::clone(&self.resolver);
        let function = move |_: &ForeignCaller, name: &str, question: &[u8]| {
            if name != "vaultref.resolve" {
                return Err(Status::NotFound);
            }
            let mut resolver = resolver.lock().unwrap_or_else(PoisonError::into_inner);
            let mood = resolver.mood.clone();
            match mood.as_str() {
                "away" => Err(Status::InternalFailure),
                "garbled" => Ok(b"{\"results\":[{}]}".to_vec()),
                mood => Ok(resolver.answer(question, mood)),
            }
        };
        let mut builder = self
            .builder()
            .plugin(Plugin::new("vaultref").configuration(configuration))
            .foreign(Arc::new(function))
            .env(TOKEN_NAME, TOKEN)
            .no_sockets()
            .respond_by_hand()
            .fuel_limit(FUEL);
        for name in steps::UPSTREAMS {
            builder = builder.upstream(name, Upstream::ByHand);
        }
        for fault in self.faults.drain(..) {
            builder = builder.inject(fault);
        }
        self.gateway = Some(builder.start()?);
        Ok(())
    }

    fn builder(&self) -> GatewayBuilder {
        let nginx = |options: NginxOptions| {
            Gateway::builder(&self.modules.every).profile(Profile::Nginx(NginxOptions {
                foreign_functions: true,
                ..options
            }))
        };
        match self.kind.as_str() {
            "envoy-small" => Gateway::builder(&self.modules.envoy),
            "envoy-stop" => Gateway::builder(&self.modules.every).allow_on_headers_stop_iteration(),
            "kong" => nginx(NginxOptions::kong()),
            "kong-38" => nginx(NginxOptions::kong_38()),
            "kong-stream" => nginx(NginxOptions {
                isolation: Isolation::Stream,
                ..NginxOptions::kong()
            }),
            "nginx" => nginx(NginxOptions::plain()),
            _ => Gateway::builder(&self.modules.every),
        }
    }

    /// What comes before any configuration finds a gateway with an empty one, where that can be.
    fn start_bare(&mut self) {
        if self.gateway.is_none() && self.kind.starts_with(['k', 'n']) {
            self.install(Vec::new());
        }
    }

    fn fault(&mut self, step: &Step) {
        let Some(fault) = steps::fault(step) else {
            return;
        };
        self.oracle.is_lenient = true;
        match &mut self.gateway {
            Some(gateway) => gateway.inject(fault),
            None => self.faults.push(fault),
        }
    }

    fn in_gateway(&mut self, step: &Step) {
        let Some(gateway) = &mut self.gateway else {
            return;
        };
        let open = gateway.open_callouts();
        let at = usize::try_from(step.number(0)).unwrap_or(0);
        let call = open.get(at % open.len().max(1));
        let stream = self.streams.get(at % self.streams.len().max(1));
        let number = |at| u32::try_from(step.number(at)).unwrap_or(u32::MAX);
        match (step.word.as_str(), call) {
            ("answer", Some(call)) => gateway.answer(call.id, reply(&self.resolver, call, step)),
            ("answer-raw", Some(call)) => gateway.answer(call.id, steps::answer(step)),
            ("call", _) => {
                if let Some((callback, parameters)) = steps::callback(step) {
                    self.oracle.is_lenient |= steps::takes_away(callback);
                    let context = parameters.first().copied().unwrap_or(0);
                    gateway.call_raw_callback(0, callback, context, &parameters);
                }
            }
            ("cut", Some(call)) => {
                let answer = reply(&self.resolver, call, step);
                let keep = usize::try_from(step.number(2)).unwrap_or(0);
                gateway.answer(call.id, answer.truncated(keep));
            }
            ("disconnect", _) => {
                if let Some((stream, _)) = stream {
                    gateway.disconnect(*stream);
                }
            }
            ("end", Some(call)) => gateway.answer(call.id, steps::no_answer(step)),
            ("late", _) => {
                let calls = gateway.callouts();
                if let Some(call) = calls.get(at % calls.len().max(1)) {
                    gateway.deliver_late(call.id, reply(&self.resolver, call, step));
                }
            }
            ("replace", _) => {
                self.oracle.is_lenient = true;
                let marks = gateway.exported_memories(0, MARKS);
                note_marks(&mut self.report, &self.kind, &marks);
                if let Err(error) = gateway.replace_instances(0) {
                    self.report.note_line(&error.to_string());
                }
            }
            ("request", _) => {
                let request = steps::request(step, &mut self.pending);
                let stream = gateway.request(0, request.clone());
                self.streams.push((stream, request));
            }
            ("stray", _) => {
                self.oracle.is_lenient = true;
                let headers = [("x-vaultref-contract", "1")];
                let answer = CalloutAnswer::response(200, headers, step.bytes(2));
                gateway.deliver_raw(0, number(0), number(1), answer);
            }
            ("tick", _) => {
                let time = Duration::from_millis(step.number(0).min(100_000));
                gateway.advance(time);
            }
            _ => {}
        }
        gateway.pump();
        // The upstream answers what it has got.
        for (stream, _) in &self.streams {
            if let Outcome::Upstream(got) = gateway.outcome(*stream) {
                gateway.respond(*stream, steps::response(&self.response, &got));
            }
        }
    }

    /// Looks at what is new since the last step.
    fn inspect(&mut self) {
        let Some(gateway) = &self.gateway else { return };
        let calls = gateway.calls();
        for call in &calls[self.seen_calls..] {
            let callback = call.callback.export();
            if call.trapped {
                self.report.found(format!("{callback} has trapped"));
            }
            let cost = call.fuel.checked_ilog2().unwrap_or(0) / 2;
            self.report.note(callback, cost.to_string());
        }
        self.seen_calls = calls.len();
        if let WorkerState::Died(why) | WorkerState::Exited(why) = gateway.worker_state(0) {
            self.report.found(format!("the worker is gone: {why}"));
        }
        let size = gateway.memory_size(0);
        let isolated = self.streams.len() * 2 * 1024 * 1024;
        if size > MEMORY + isolated {
            self.report
                .found(format!("the VM's memory has {size} bytes"));
        }
        let lines = gateway.logs();
        for line in &lines[self.seen_lines..] {
            let line = format!("{:?} {}", line.level, line.text);
            self.judge_line(&line);
        }
        self.seen_lines = lines.len();
    }

    fn judge_line(&mut self, line: &str) {
        self.report.note_logged(line);
        if self.oracle.is_leak(line) {
            self.report.found(format!("in the log: {line}"));
        }
        if line.chars().any(char::is_control) {
            self.report
                .found(format!("a control character in the log: {line:?}"));
        }
    }

    fn end(mut self) -> Report {
        if let Some(mut gateway) = self.gateway.take() {
            let marks = gateway.exported_memories(0, MARKS);
            note_marks(&mut self.report, &self.kind, &marks);
            let resolver = Arc::clone(&self.resolver);
            let resolver = resolver.lock().unwrap_or_else(PoisonError::into_inner);
            for (stream, sent) in &self.streams {
                let found = judge_stream(&self.oracle, &gateway, *stream, sent, &resolver);
                if let Err(why) = found {
                    self.report.found(why);
                }
                let what = match gateway.outcome(*stream) {
                    Outcome::Local(response) => format!("local {}", response.status),
                    Outcome::Reset => "reset".to_owned(),
                    Outcome::Upstream(_) => "upstream".to_owned(),
                    Outcome::Waiting => "waiting".to_owned(),
                };
                self.report.note("outcome", format!("{} {what}", self.kind));
            }
            for call in gateway.callouts() {
                if contains(&call.body, SECRET.as_bytes()) {
                    self.report.found("a callout has a secret");
                }
            }
            for name in gateway.metrics().keys() {
                if name.contains(SECRET) {
                    self.report.found("a metric's name has a secret");
                }
            }
        }
        self.report
    }

    fn resolver(&self) -> MutexGuard<'_, Resolver> {
        self.resolver.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the resolver answers to a call.
fn reply(resolver: &Mutex<Resolver>, call: &CalloutRecord, step: &Step) -> CalloutAnswer {
    let mut resolver = resolver.lock().unwrap_or_else(PoisonError::into_inner);
    let body = resolver.answer(&call.body, &step.text(1));
    CalloutAnswer::response(200, [("x-vaultref-contract", "1")], body)
}

fn judge_stream(
    oracle: &Oracle,
    gateway: &Gateway,
    stream: StreamId,
    sent: &Request,
    resolver: &Resolver,
) -> Result<(), String> {
    match gateway.outcome(stream) {
        Outcome::Upstream(got) => {
            oracle.judge(sent, &got, resolver, true)?;
            match gateway.client_response(stream) {
                Some(response) => oracle.judge_response(&got, &response.headers),
                None => Ok(()),
            }
        }
        outcome => {
            if let Outcome::Local(response) = outcome {
                oracle.judge_answer(&response)?;
            }
            // In Envoy the headers leave before the body.
            match gateway.sent_so_far(stream) {
                Some(got) => oracle.judge(sent, &got, resolver, false),
                None => Ok(()),
            }
        }
    }
}

fn note_marks(report: &mut Report, kind: &str, memories: &[Vec<u8>]) {
    let module = u64::from(kind == "envoy-small") << 32;
    for memory in memories {
        // Most of it is empty.
        let pieces = memory.chunks(PIECE).zip((module..).step_by(PIECE));
        for (piece, first) in pieces.filter(|(piece, _)| **piece != [0; PIECE][..piece.len()]) {
            let marks = piece.iter().zip(first..).filter(|(mark, _)| **mark != 0);
            report.features.extend(marks.map(|(_, place)| mix(place)));
        }
    }
}

const PIECE: usize = 64;

fn contains(bytes: &[u8], piece: &[u8]) -> bool {
    bytes.windows(piece.len()).any(|window| window == piece)
}

/// The names of the gateways, as words in an input.
pub(super) const KINDS: [&str; 7] = [
    "envoy",
    "envoy-small",
    "envoy-stop",
    "kong",
    "kong-38",
    "kong-stream",
    "nginx",
];
