//! The same input run through the filter's library, on a host that is nothing but memory: here a sum
//! that overflows panics, as it does not in the module; and each text goes to the parsers as it is.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;
use vaultref_contract::wire::decode_reply;
use vaultref_contract::{Reference, Template, references_in};
use vaultref_filter::{
    Action, Callbacks, HeaderPair, Host, Kind, Level, MetricKind, Status, Vm, check,
};
use vaultref_harness::{Headers, Request, Response, UpstreamRequest};

use super::oracle::Oracle;
use super::report::Report;
use super::resolver::Resolver;
use super::script::{Script, Step};
use super::steps::{self, TOKEN, TOKEN_NAME};

const MARKER: (&str, &str) = ("x-vaultref-contract", "1");

/// Runs an input and looks at all that comes of it.
#[must_use]
pub(super) fn run(script: &Script) -> Report {
    let ran = catch_unwind(AssertUnwindSafe(|| run_steps(script)));
    ran.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        let mut report = Report::default();
        report.found(format!("natively: panicked: {}", text.unwrap_or("?")));
        report
    })
}

fn run_steps(script: &Script) -> Report {
    let mut kinds = script.steps.iter().filter(|step| step.word == "gateway");
    let kind = kinds.next().map(|step| step.text(0)).unwrap_or_default();
    let callbacks = match kind.as_str() {
        "envoy-small" => Callbacks::Headers,
        _ => Callbacks::Every,
    };
    let memory = Memory {
        is_nginx: kind.starts_with(['k', 'n']),
        is_kong: kind.starts_with('k'),
        ..Memory::default()
    };
    memory.now.set(1_767_225_600_000_000_000);
    let mut run = Run {
        vm: Vm::new(&memory, callbacks),
        memory: &memory,
        oracle: Oracle::default(),
        root: 0,
        next: 1,
        response: Step::default(),
        pending: steps::Pending::default(),
    };
    run.oracle.is_lenient = kind == "kong-38";
    for step in &script.steps {
        for bytes in &step.arguments {
            parse(&memory, bytes);
        }
        run.step(step);
    }
    run.end();
    memory.report.into_inner()
}

/// Every parser that reads what others wrote.
fn parse(memory: &Memory, bytes: &[u8]) {
    let mut report = memory.report.borrow_mut();
    for expected in [0, 1, 3] {
        if let Err(error) = decode_reply(bytes, expected) {
            report.note_line(&format!("reply: {error}"));
        }
    }
    for kind in [Kind::Envoy, Kind::Nginx] {
        let token = |name: &str| (name == TOKEN_NAME).then(|| TOKEN.to_owned());
        if let Err(error) = check(bytes, kind, token) {
            report.note_line(&format!("check: {}", error.message()));
        }
    }
    let _ = vaultref_filter::decode_pairs(bytes);
    if let Ok(json) = serde_json::from_slice::<Value>(bytes) {
        let _ = references_in(&json);
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Err(error) = Reference::parse(text) {
        report.note_line(&format!("reference: {:?}", error.kind()));
    }
    match Template::parse(text) {
        Ok(template) if Template::parse(&template.to_string()).as_ref() != Ok(&template) => {
            report.found(format!("the text {text:?} is another when it is written"));
        }
        Ok(_) => {}
        Err(error) => report.note_line(&format!("text: {error}")),
    }
}

struct Run<'a> {
    vm: Vm<&'a Memory>,
    memory: &'a Memory,
    oracle: Oracle,
    root: u32,
    next: u32,
    /// How the upstream answers.
    response: Step,
    pending: steps::Pending,
}

impl Run<'_> {
    fn step(&mut self, step: &Step) {
        let memory = self.memory;
        let number = |at| u32::try_from(step.number(at)).unwrap_or(u32::MAX);
        let at = usize::try_from(step.number(0)).unwrap_or(0);
        match step.word.as_str() {
            "configure" | "configure-partly" | "configure-struct" => {
                let with_last = step.word != "configure-partly";
                let labelled = self.oracle.label(step.bytes(0), with_last);
                self.configure(match step.word.as_str() {
                    "configure-struct" => steps::as_struct(&labelled),
                    _ => labelled,
                });
            }
            "configure-raw" => {
                self.oracle.is_blind = true;
                self.oracle.look_at(step.bytes(0));
                self.configure(step.bytes(0).to_vec());
            }
            "mood" => memory.resolver.borrow_mut().mood = step.text(0),
            "rotate" => memory.resolver.borrow_mut().rotate(),
            "fault" => {
                self.oracle.is_lenient = true;
                let times = number(2).clamp(1, 64);
                let fault = (step.text(0), number(1).clamp(1, 12), times);
                memory.faults.borrow_mut().push(fault);
            }
            "tick" => {
                let until = memory.now.get() + step.number(0).min(100_000) * 1_000_000;
                while memory.now.get() < until {
                    let next = (memory.now.get() + 200_000_000).min(until);
                    memory.now.set(next);
                    self.enter(self.root);
                    self.vm.on_tick(self.root);
                }
            }
            "request" => self.request(step),
            "answer" | "cut" | "late" => {
                let Some(call) = memory.call(at, step.word == "late") else {
                    return;
                };
                let mut resolver = memory.resolver.borrow_mut();
                let mut body = resolver.answer(&call.question, &step.text(1));
                drop(resolver);
                let promised = body.len();
                if step.word == "cut" {
                    body.truncate(usize::try_from(step.number(2)).unwrap_or(0));
                }
                let headers = vec![pair(":status", "200"), pair(MARKER.0, MARKER.1)];
                self.answer(&call, headers, body, promised);
            }
            "answer-raw" => {
                if let Some(call) = memory.call(at, false) {
                    let mut headers = step.pairs(3);
                    headers.push((b":status".to_vec(), step.bytes(1).to_vec()));
                    let body = step.bytes(2).to_vec();
                    let promised = body.len();
                    self.answer(&call, headers, body, promised);
                }
            }
            "end" => {
                if let Some(call) = memory.call(at, false) {
                    self.answer(&call, Vec::new(), Vec::new(), 0);
                }
            }
            "stray" => {
                self.oracle.is_lenient = true;
                let body = step.bytes(2).to_vec();
                *memory.answer.borrow_mut() = (vec![pair(MARKER.0, MARKER.1)], body.clone());
                self.enter(number(0));
                self.vm
                    .on_http_call_response(number(0), number(1), 1, body.len());
            }
            "disconnect" => {
                let contexts: Vec<u32> = memory.requests.borrow().keys().copied().collect();
                if let Some(context) = contexts.get(at % contexts.len().max(1)) {
                    self.vm.on_delete(*context);
                    memory.drop_calls(*context);
                }
            }
            "call" => self.call(step),
            "chunk" | "trailer" => self.pending.take(step),
            "response" => self.response = step.clone(),
            _ => {}
        }
        self.respond();
    }

    fn configure(&mut self, bytes: Vec<u8>) {
        let size = bytes.len();
        self.memory.configuration.replace(bytes);
        let root = self.next;
        self.next += 1;
        self.enter(root);
        self.vm.on_context_create(root, 0);
        if self.vm.on_configure(root, size) {
            if !self.memory.is_nginx && self.root != 0 {
                self.vm.on_delete(self.root);
            }
            self.root = root;
        } else {
            self.vm.on_delete(root);
        }
    }

    fn request(&mut self, step: &Step) {
        let context = self.next;
        self.next += 1;
        let sent = steps::request(step, &mut self.pending);
        let mut headers = vec![
            (b":method".to_vec(), sent.method.clone()),
            (b":path".to_vec(), sent.path.clone()),
            (b":authority".to_vec(), sent.authority.clone()),
            (b"host".to_vec(), sent.authority.clone()),
        ];
        headers.extend(sent.headers.iter().cloned());
        let body = [sent.body.clone(), sent.pieces.concat()].concat();
        let size = body.len();
        let request = Held {
            path: sent.path.clone(),
            body,
            sent,
            headers,
            response: Vec::new(),
            state: State::Waiting,
        };
        self.memory.requests.borrow_mut().insert(context, request);
        self.enter(context);
        self.vm.on_context_create(context, self.root);
        let is_whole = size == 0;
        if self.vm.on_request_headers(context, is_whole) == Action::Continue {
            self.memory.go_on(context);
        }
    }

    /// What has left the headers goes through the body to the upstream, which answers it.
    fn respond(&mut self) {
        let due = std::mem::take(&mut *self.memory.due.borrow_mut());
        for context in due {
            self.enter(context);
            let size = self.memory.with(|held| held.body.len()).unwrap_or(0);
            if size > 0 && self.vm.on_request_body(context, size, true) == Action::Pause {
                continue;
            }
            self.memory.leave(context);
            if let Some(held) = self.memory.requests.borrow_mut().get_mut(&context)
                && let State::Upstream(got) = &held.state
            {
                let response = steps::response(&self.response, got);
                held.response = response.headers.pairs().to_vec();
                let status = response.status.to_string().into_bytes();
                held.response.push((b":status".to_vec(), status));
            }
            let _ = self.vm.on_response_headers(context);
        }
    }

    fn answer(&mut self, call: &Call, headers: Vec<HeaderPair>, body: Vec<u8>, promised: usize) {
        let count = headers.len();
        *self.memory.answer.borrow_mut() = (headers, body);
        // As the root in both; in nginx what is done is done to the request.
        match self.memory.is_nginx {
            true => self.enter(call.context),
            false => self.enter(self.root),
        }
        self.vm
            .on_http_call_response(self.root, call.token, count, promised);
        if self.memory.is_nginx && self.memory.open_calls_of(call.context) == 0 {
            self.memory.go_on(call.context);
        }
    }

    fn call(&mut self, step: &Step) {
        let number = |at| u32::try_from(step.number(at)).unwrap_or(u32::MAX);
        self.oracle.is_lenient = true;
        self.enter(number(1));
        match step.bytes(0) {
            b"proxy_on_context_create" => self.vm.on_context_create(number(1), number(2)),
            b"proxy_on_delete" => self.vm.on_delete(number(1)),
            b"proxy_on_tick" => self.vm.on_tick(number(1)),
            b"proxy_on_foreign_function" => self.vm.on_foreign_function(number(1)),
            b"proxy_on_request_headers" => {
                let _ = self.vm.on_request_headers(number(1), number(3) != 0);
            }
            b"proxy_on_request_body" => {
                let size = usize::try_from(step.number(2)).unwrap_or(usize::MAX);
                let _ = self.vm.on_request_body(number(1), size, number(3) != 0);
            }
            b"proxy_on_request_trailers" => {
                let _ = self.vm.on_request_trailers(number(1));
            }
            b"proxy_on_response_headers" => {
                let _ = self.vm.on_response_headers(number(1));
            }
            b"proxy_on_http_call_response" => {
                *self.memory.answer.borrow_mut() = (vec![pair(MARKER.0, MARKER.1)], Vec::new());
                let size = |at| usize::try_from(step.number(at)).unwrap_or(usize::MAX);
                self.vm
                    .on_http_call_response(number(1), number(2), size(3), size(4));
            }
            b"proxy_on_configure" => {
                let size = usize::try_from(step.number(2)).unwrap_or(0);
                self.vm.on_configure(number(1), size);
            }
            _ => {}
        }
    }

    fn enter(&self, context: u32) {
        self.memory.current.set(context);
    }

    fn end(&mut self) {
        for line in self.memory.lines.borrow().iter() {
            if self.oracle.is_leak(line) {
                let mut report = self.memory.report.borrow_mut();
                report.found(format!("natively, in the log: {line}"));
            }
        }
        let requests = self.memory.requests.borrow();
        let resolver = self.memory.resolver.borrow();
        for held in requests.values() {
            let judged = match &held.state {
                State::Leaving | State::Waiting => Ok(()),
                State::Answered(response) => self.oracle.judge_answer(response),
                State::Upstream(got) => self
                    .oracle
                    .judge(&held.sent, got, &resolver, true)
                    .and_then(|()| {
                        let echoed = Headers::from_iter(held.response.iter().cloned());
                        self.oracle.judge_response(got, &echoed)
                    }),
            };
            if let Err(why) = judged {
                let mut report = self.memory.report.borrow_mut();
                report.found(format!("natively: {why}"));
            }
        }
    }
}

fn pair(name: &str, value: &str) -> HeaderPair {
    (name.as_bytes().to_vec(), value.as_bytes().to_vec())
}

/// A host of which nothing goes out.
#[derive(Default)]
struct Memory {
    is_nginx: bool,
    is_kong: bool,
    now: Cell<u64>,
    current: Cell<u32>,
    configuration: RefCell<Vec<u8>>,
    requests: RefCell<BTreeMap<u32, Held>>,
    calls: RefCell<Vec<Call>>,
    answer: RefCell<(Vec<HeaderPair>, Vec<u8>)>,
    resolver: RefCell<Resolver>,
    faults: RefCell<Vec<(String, u32, u32)>>,
    report: RefCell<Report>,
    lines: RefCell<Vec<String>>,
    /// Requests that the upstream has got and not answered.
    due: RefCell<Vec<u32>>,
}

struct Held {
    sent: Request,
    headers: Vec<HeaderPair>,
    path: Vec<u8>,
    body: Vec<u8>,
    /// The headers of the upstream's answer.
    response: Vec<HeaderPair>,
    state: State,
}

enum State {
    Answered(Response),
    /// Past its headers.
    Leaving,
    Upstream(UpstreamRequest),
    Waiting,
}

#[derive(Clone)]
struct Call {
    token: u32,
    context: u32,
    question: Vec<u8>,
    is_open: bool,
}

impl Memory {
    /// A call that is open, or any; it is over then.
    fn call(&self, at: usize, any: bool) -> Option<Call> {
        let mut calls = self.calls.borrow_mut();
        let mut found: Vec<&mut Call> = calls
            .iter_mut()
            .filter(|call| any || call.is_open)
            .collect();
        let count = found.len();
        let call = found.get_mut(at % count.max(1))?;
        call.is_open = false;
        Some(call.clone())
    }

    fn open_calls_of(&self, context: u32) -> usize {
        let calls = self.calls.borrow();
        let mut open = calls.iter().filter(|call| call.is_open);
        open.by_ref().filter(|call| call.context == context).count()
    }

    fn drop_calls(&self, context: u32) {
        let mut calls = self.calls.borrow_mut();
        calls.retain(|call| call.context != context || !self.is_nginx);
    }

    /// The headers of a request that waits go on.
    fn go_on(&self, context: u32) {
        if let Some(held) = self.requests.borrow_mut().get_mut(&context)
            && matches!(held.state, State::Waiting)
        {
            held.state = State::Leaving;
            self.due.borrow_mut().push(context);
        }
    }

    /// A request leaves as it stands.
    fn leave(&self, context: u32) {
        if let Some(held) = self.requests.borrow_mut().get_mut(&context)
            && matches!(held.state, State::Leaving)
        {
            let pseudo = |name: &[u8]| name.starts_with(b":") || name == b"host";
            let headers = held.headers.iter().filter(|(name, _)| !pseudo(name));
            let path = held.headers.iter().find(|(name, _)| name == b":path");
            held.state = State::Upstream(UpstreamRequest {
                path: match (self.is_nginx, path) {
                    (false, Some((_, path))) => path.clone(),
                    _ => held.path.clone(),
                },
                headers: Headers::from_iter(headers.cloned()),
                body: held.body.clone(),
                ..UpstreamRequest::default()
            });
        }
    }

    /// Takes the fault of a function, by its name in the ABI.
    fn ask(&self, function: &str) -> Result<(), Status> {
        self.report.borrow_mut().note("asked", function);
        let mut faults = self.faults.borrow_mut();
        let Some(at) = faults.iter().position(|fault| fault.0 == function) else {
            return Ok(());
        };
        let status = Status::from_abi(faults[at].1);
        faults[at].2 -= 1;
        if faults[at].2 == 0 {
            faults.remove(at);
        }
        status.map_or(Ok(()), Err)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Held) -> T) -> Result<T, Status> {
        let mut requests = self.requests.borrow_mut();
        let held = requests.get_mut(&self.current.get());
        held.map(act).ok_or(Status::BadArgument)
    }
}

fn is_same(pair: &HeaderPair, name: &str) -> bool {
    pair.0.eq_ignore_ascii_case(name.as_bytes())
}

impl Host for &Memory {
    fn log(&self, level: Level, message: &str) {
        let line = format!("{level:?} {message}");
        self.report.borrow_mut().note_logged(&line);
        self.lines.borrow_mut().push(message.to_owned());
    }

    fn now(&self) -> u64 {
        self.now.get()
    }

    fn environment(&self, name: &str) -> Option<String> {
        (name == TOKEN_NAME).then(|| TOKEN.to_owned())
    }

    fn configuration(&self, size: usize) -> Result<Vec<u8>, Status> {
        self.ask("proxy_get_buffer_bytes")?;
        let bytes = self.configuration.borrow();
        Ok(bytes.iter().copied().take(size).collect())
    }

    fn set_tick_period(&self, _: u32) -> Result<(), Status> {
        self.ask("proxy_set_tick_period_milliseconds")
    }

    fn request_header(&self, name: &str) -> Result<Option<Vec<u8>>, Status> {
        self.ask("proxy_get_header_map_value")?;
        self.with(|held| {
            let mut pairs = held.headers.iter();
            let found = pairs.find(|pair| is_same(pair, name));
            found.map(|(_, value)| value.clone())
        })
    }

    fn request_headers(&self) -> Result<Vec<HeaderPair>, Status> {
        self.ask("proxy_get_header_map_pairs")?;
        self.with(|held| held.headers.clone())
    }

    fn set_request_header(&self, name: &str, value: &[u8]) -> Result<(), Status> {
        self.ask("proxy_replace_header_map_value")?;
        let is_nginx = self.is_nginx;
        self.with(|held| {
            let at = held.headers.iter().position(|pair| is_same(pair, name));
            match at {
                Some(at) if is_nginx => held.headers[at].1 = value.to_vec(),
                _ => {
                    held.headers.retain(|pair| !is_same(pair, name));
                    held.headers
                        .push((name.as_bytes().to_vec(), value.to_vec()));
                }
            }
        })
    }

    fn add_request_header(&self, name: &str, value: &[u8]) -> Result<(), Status> {
        self.ask("proxy_add_header_map_value")?;
        let new = (name.as_bytes().to_vec(), value.to_vec());
        self.with(|held| held.headers.push(new))
    }

    fn remove_request_header(&self, name: &str) -> Result<(), Status> {
        self.ask("proxy_remove_header_map_value")?;
        self.with(|held| held.headers.retain(|pair| !is_same(pair, name)))
    }

    fn request_body(&self, size: usize) -> Result<Vec<u8>, Status> {
        self.ask("proxy_get_buffer_bytes")?;
        self.with(|held| held.body.iter().copied().take(size).collect())
    }

    fn set_request_body(&self, size: usize, body: &[u8]) -> Result<(), Status> {
        self.ask("proxy_set_buffer_bytes")?;
        self.with(|held| {
            let rest = held.body.get(size..).unwrap_or_default();
            held.body = [body, rest].concat();
        })
    }

    fn define_metric(&self, _: MetricKind, name: &str) -> Result<u32, Status> {
        self.ask("proxy_define_metric")?;
        self.lines.borrow_mut().push(name.to_owned());
        Ok(0)
    }

    fn increment_metric(&self, _: u32, _: i64) -> Result<(), Status> {
        self.ask("proxy_increment_metric")
    }

    fn record_metric(&self, _: u32, _: u64) -> Result<(), Status> {
        self.ask("proxy_record_metric")
    }

    fn response_header(&self, name: &str) -> Result<Option<Vec<u8>>, Status> {
        self.ask("proxy_get_header_map_value")?;
        self.with(|held| {
            let mut pairs = held.response.iter();
            let found = pairs.find(|pair| is_same(pair, name));
            found.map(|(_, value)| value.clone())
        })
    }

    fn response_headers(&self) -> Result<Vec<HeaderPair>, Status> {
        self.ask("proxy_get_header_map_pairs")?;
        self.with(|held| held.response.clone())
    }

    fn set_response_header(&self, name: &str, value: &[u8]) -> Result<(), Status> {
        self.ask("proxy_replace_header_map_value")?;
        let new = (name.as_bytes().to_vec(), value.to_vec());
        self.with(|held| {
            held.response.retain(|pair| !is_same(pair, name));
            held.response.push(new);
        })
    }

    fn add_response_header(&self, name: &str, value: &[u8]) -> Result<(), Status> {
        self.ask("proxy_add_header_map_value")?;
        let new = (name.as_bytes().to_vec(), value.to_vec());
        self.with(|held| held.response.push(new))
    }

    fn property(&self, path: &[&str]) -> Result<Vec<u8>, Status> {
        self.ask("proxy_get_property")?;
        match path {
            ["plugin_vm_id"] if !self.is_nginx => Ok(Vec::new()),
            ["ngx", "upstream_uri"] if self.is_kong => self.with(|held| held.path.clone()),
            ["ngx", "request_uri"] if self.is_nginx => self.with(|held| held.sent.path.clone()),
            _ => self
                .with(|held| {
                    let mut properties = held.sent.properties.iter();
                    let found = properties.find(|(known, _)| known == path);
                    found.map(|(_, value)| value.clone())
                })?
                .ok_or(Status::NotFound),
        }
    }

    fn set_property(&self, path: &[&str], value: &[u8]) -> Result<(), Status> {
        self.ask("proxy_set_property")?;
        if path != ["ngx", "upstream_uri"] || !self.is_kong {
            self.report
                .borrow_mut()
                .found(format!("natively: nginx would end the request: {path:?}"));
        }
        self.with(|held| held.path = value.to_vec())
    }

    fn dispatch(&self, _: &str, _: &[(&str, &[u8])], body: &[u8], _: u32) -> Result<u32, Status> {
        self.ask("proxy_http_call")?;
        let mut calls = self.calls.borrow_mut();
        let token = u32::try_from(calls.len()).unwrap_or(u32::MAX);
        calls.push(Call {
            token,
            context: self.current.get(),
            question: body.to_vec(),
            is_open: true,
        });
        Ok(token)
    }

    fn callout_header(&self, name: &str) -> Result<Option<Vec<u8>>, Status> {
        self.ask("proxy_get_header_map_value")?;
        let answer = self.answer.borrow();
        let found = answer.0.iter().find(|pair| is_same(pair, name));
        Ok(found.map(|(_, value)| value.clone()))
    }

    fn callout_body(&self, _: usize) -> Result<Vec<u8>, Status> {
        self.ask("proxy_get_buffer_bytes")?;
        Ok(self.answer.borrow().1.clone())
    }

    fn call_foreign_function(&self, _: &str, argument: &[u8]) -> Result<Vec<u8>, Status> {
        self.ask("proxy_call_foreign_function")?;
        let mut resolver = self.resolver.borrow_mut();
        let mood = resolver.mood.clone();
        match mood.as_str() {
            "away" => Err(Status::InternalFailure),
            mood => Ok(resolver.answer(argument, mood)),
        }
    }

    fn send_local_response(
        &self,
        status: u32,
        headers: &[(&str, &[u8])],
        body: &[u8],
    ) -> Result<(), Status> {
        self.ask("proxy_send_local_response")?;
        self.report.borrow_mut().note("local", status.to_string());
        let headers = headers.iter();
        let headers = headers.map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()));
        let response = Response {
            status: u16::try_from(status).unwrap_or(0),
            headers: headers.collect(),
            body: body.to_vec(),
        };
        self.with(|held| {
            if matches!(held.state, State::Leaving | State::Waiting) {
                held.state = State::Answered(response);
            }
        })
    }

    fn resume_request(&self) -> Result<(), Status> {
        self.ask("proxy_continue_stream")?;
        self.go_on(self.current.get());
        Ok(())
    }

    fn set_effective_context(&self, context: u32) -> Result<(), Status> {
        self.ask("proxy_set_effective_context")?;
        if !self.is_nginx {
            self.current.set(context);
        }
        Ok(())
    }
}
