//! The same input run through the filter's library, on a host that is nothing but memory: here a sum
//! that overflows panics, as it does not in the module; and each text goes to the parsers as it is.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;
use vaultref_contract::wire::decode_reply;
use vaultref_contract::{Reference, Template, references_in};
use vaultref_filter::{Action, Callbacks, HeaderPair, Kind, Vm, check};
use vaultref_harness::Headers;

use super::oracle::Oracle;
use super::report::Report;
use super::script::{Script, Step};
use super::steps::{self, TOKEN, TOKEN_NAME};

mod memory;

use memory::{Call, Held, Memory, State};

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
        if let Err(error) = check(bytes, kind, Callbacks::Every, token) {
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
