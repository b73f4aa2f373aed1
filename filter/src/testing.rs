//! A gateway for tests: it records every call, and answers as it is told.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};

use crate::{Action, HeaderPair, Host, Level, Status, Vm};

pub(crate) const ROOT: u32 = 1;
const MILLISECOND: u64 = 1_000_000;

/// What a host function was told to answer instead of doing its work.
type Failures = BTreeMap<&'static str, Status>;
type Function = Box<dyn Fn(&Value) -> Value>;

#[derive(Default)]
pub(crate) struct FakeHost {
    /// Every call that changes something, in order.
    pub(crate) calls: RefCell<Vec<String>>,
    /// Every call, also those that only read.
    pub(crate) count: Cell<usize>,
    pub(crate) logs: RefCell<Vec<String>>,
    pub(crate) headers: RefCell<Vec<HeaderPair>>,
    pub(crate) properties: RefCell<BTreeMap<String, Vec<u8>>>,
    pub(crate) environment: RefCell<BTreeMap<String, String>>,
    pub(crate) configuration: RefCell<Vec<u8>>,
    pub(crate) now: Cell<u64>,
    pub(crate) failures: RefCell<Failures>,
    pub(crate) dispatched: RefCell<Vec<Dispatched>>,
    pub(crate) next_token: Cell<u32>,
    pub(crate) answer: RefCell<(Vec<HeaderPair>, Vec<u8>)>,
    pub(crate) function: RefCell<Option<Function>>,
    pub(crate) response: RefCell<Option<(u32, String)>>,
    pub(crate) is_nginx: Cell<bool>,
    pub(crate) clocks: Cell<usize>,
    /// The current context, as the gateway sees it.
    pub(crate) current: Cell<u32>,
    /// How many calls can still be made, if that is limited.
    pub(crate) dispatches_left: Cell<Option<usize>>,
}

pub(crate) struct Dispatched {
    pub(crate) token: u32,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Value,
    pub(crate) upstream: String,
    pub(crate) timeout: u32,
}

impl FakeHost {
    fn act(&self, function: &'static str, text: String) -> Result<(), Status> {
        self.count.set(self.count.get() + 1);
        self.calls.borrow_mut().push(text);
        let of_request = function.contains("request") || function == "send_local_response";
        if of_request && !self.is_nginx.get() && self.current.get() == ROOT {
            return Err(Status::BadArgument);
        }
        self.look(function)
    }

    fn look(&self, function: &'static str) -> Result<(), Status> {
        self.failures
            .borrow()
            .get(function)
            .copied()
            .map_or(Ok(()), Err)
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

impl Host for Rc<FakeHost> {
    fn log(&self, level: Level, message: &str) {
        self.logs.borrow_mut().push(format!("{level:?} {message}"));
    }

    fn now(&self) -> u64 {
        self.clocks.set(self.clocks.get() + 1);
        self.now.get()
    }

    fn environment(&self, name: &str) -> Option<String> {
        self.environment.borrow().get(name).cloned()
    }

    fn configuration(&self, size: usize) -> Result<Vec<u8>, Status> {
        self.look("configuration")?;
        let bytes = self.configuration.borrow();
        Ok(bytes[..size.min(bytes.len())].to_vec())
    }

    fn set_tick_period(&self, milliseconds: u32) -> Result<(), Status> {
        self.act("set_tick_period", format!("tick {milliseconds}"))
    }

    fn request_header(&self, name: &str) -> Result<Option<Vec<u8>>, Status> {
        self.count.set(self.count.get() + 1);
        self.look("request_header")?;
        let headers = self.headers.borrow();
        let found = headers
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
        Ok(found.map(|(_, value)| value.clone()))
    }

    fn request_headers(&self) -> Result<Vec<HeaderPair>, Status> {
        self.count.set(self.count.get() + 1);
        self.look("request_headers")?;
        Ok(self.headers.borrow().clone())
    }

    fn set_request_header(&self, name: &str, value: &[u8]) -> Result<(), Status> {
        self.act("set_request_header", format!("set {name}={}", text(value)))?;
        let mut headers = self.headers.borrow_mut();
        let is_same = |pair: &HeaderPair| pair.0.eq_ignore_ascii_case(name.as_bytes());
        let at = headers.iter().position(is_same);
        if let (Some(at), true) = (at, self.is_nginx.get()) {
            headers[at].1 = value.to_vec();
        } else {
            headers.retain(|pair| !is_same(pair));
            headers.push((name.as_bytes().to_vec(), value.to_vec()));
        }
        Ok(())
    }

    fn add_request_header(&self, name: &str, value: &[u8]) -> Result<(), Status> {
        self.act("add_request_header", format!("add {name}={}", text(value)))?;
        self.headers
            .borrow_mut()
            .push((name.as_bytes().to_vec(), value.to_vec()));
        Ok(())
    }

    fn remove_request_header(&self, name: &str) -> Result<(), Status> {
        self.act("remove_request_header", format!("remove {name}"))?;
        let mut headers = self.headers.borrow_mut();
        headers.retain(|pair| !pair.0.eq_ignore_ascii_case(name.as_bytes()));
        Ok(())
    }

    fn property(&self, path: &[&str]) -> Result<Vec<u8>, Status> {
        self.count.set(self.count.get() + 1);
        let path = path.join(".");
        if path == "plugin_vm_id" && !self.is_nginx.get() {
            return Ok(Vec::new());
        }
        self.properties
            .borrow()
            .get(&path)
            .cloned()
            .ok_or(Status::NotFound)
    }

    fn set_property(&self, path: &[&str], value: &[u8]) -> Result<(), Status> {
        let path = path.join(".");
        self.act("set_property", format!("property {path}={}", text(value)))?;
        assert!(
            self.properties.borrow().contains_key(&path),
            "would end the request"
        );
        self.properties.borrow_mut().insert(path, value.to_vec());
        Ok(())
    }

    fn dispatch(
        &self,
        upstream: &str,
        headers: &[(&str, &[u8])],
        body: &[u8],
        timeout: u32,
    ) -> Result<u32, Status> {
        self.act("dispatch", "dispatch".to_owned())?;
        if let Some(left) = self.dispatches_left.get() {
            let left = left.checked_sub(1).ok_or(Status::InternalFailure)?;
            self.dispatches_left.set(Some(left));
        }
        let token = self.next_token.get();
        self.next_token.set(token + 1);
        self.dispatched.borrow_mut().push(Dispatched {
            token,
            headers: headers
                .iter()
                .map(|(n, v)| ((*n).to_owned(), v.to_vec()))
                .collect(),
            body: serde_json::from_slice(body).expect("a question is JSON"),
            upstream: upstream.to_owned(),
            timeout,
        });
        Ok(token)
    }

    fn callout_header(&self, name: &str) -> Result<Option<Vec<u8>>, Status> {
        let answer = self.answer.borrow();
        assert!(
            !answer.0.is_empty(),
            "a getter that panics without headers in some hosts"
        );
        let found = answer.0.iter().find(|(other, _)| other == name.as_bytes());
        Ok(found.map(|(_, value)| value.clone()))
    }

    fn callout_body(&self, _: usize) -> Result<Vec<u8>, Status> {
        self.look("callout_body")?;
        Ok(self.answer.borrow().1.clone())
    }

    fn call_foreign_function(&self, name: &str, argument: &[u8]) -> Result<Vec<u8>, Status> {
        self.act("call_foreign_function", format!("foreign {name}"))?;
        let question = serde_json::from_slice(argument).expect("a question is JSON");
        let function = self.function.borrow();
        let function = function.as_ref().ok_or(Status::NotFound)?;
        Ok(function(&question).to_string().into_bytes())
    }

    fn send_local_response(
        &self,
        status: u32,
        _: &[(&str, &[u8])],
        body: &[u8],
    ) -> Result<(), Status> {
        self.act("send_local_response", format!("respond {status}"))?;
        *self.response.borrow_mut() = Some((status, text(body)));
        Ok(())
    }

    fn resume_request(&self) -> Result<(), Status> {
        self.act("resume_request", "resume".to_owned())
    }

    fn set_effective_context(&self, context: u32) -> Result<(), Status> {
        self.act("set_effective_context", format!("context {context}"))?;
        self.current.set(context);
        Ok(())
    }
}

/// A VM in a fake gateway.
pub(crate) struct Gateway {
    pub(crate) host: Rc<FakeHost>,
    pub(crate) vm: Vm<Rc<FakeHost>>,
    next_context: u32,
}

impl Gateway {
    pub(crate) fn envoy() -> Self {
        let host = Rc::new(FakeHost::default());
        host.now.set(1_700_000_000_000_000_000);
        Self {
            vm: Vm::new(Rc::clone(&host)),
            host,
            next_context: 100,
        }
    }

    pub(crate) fn nginx() -> Self {
        let gateway = Self::envoy();
        gateway.host.is_nginx.set(true);
        gateway
    }

    pub(crate) fn configure(&mut self, configuration: &Value) -> bool {
        self.configure_root(ROOT, configuration)
    }

    pub(crate) fn configure_root(&mut self, root: u32, configuration: &Value) -> bool {
        let bytes = configuration.to_string().into_bytes();
        let size = bytes.len();
        *self.host.configuration.borrow_mut() = bytes;
        self.vm.on_context_create(root, 0);
        self.vm.on_configure(root, size)
    }

    /// A configured gateway whose first poll was answered by [`known`].
    pub(crate) fn warm(mut self, configuration: &Value) -> Self {
        assert!(self.configure(configuration), "{:?}", self.logs());
        self.tick(0);
        self.answer_all(known);
        self.host.calls.borrow_mut().clear();
        self
    }

    pub(crate) fn tick(&mut self, milliseconds: u64) {
        self.host
            .now
            .set(self.host.now.get() + milliseconds * MILLISECOND);
        self.host.current.set(ROOT);
        self.vm.on_tick(ROOT);
    }

    /// A request with these headers; gives its context.
    pub(crate) fn request(&mut self, headers: &[(&str, &str)]) -> (u32, Action) {
        self.request_of(ROOT, headers)
    }

    pub(crate) fn request_of(&mut self, root: u32, headers: &[(&str, &str)]) -> (u32, Action) {
        let pairs = headers
            .iter()
            .map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec()));
        *self.host.headers.borrow_mut() = pairs.collect();
        *self.host.response.borrow_mut() = None;
        self.host.calls.borrow_mut().clear();
        self.next_context += 1;
        let context = self.next_context;
        self.vm.on_context_create(context, root);
        self.host.current.set(context);
        let action = self.vm.on_request_headers(context);
        (context, action)
    }

    /// Answers every call that is under way, with this function of a reference and what is known.
    pub(crate) fn answer_all(&mut self, outcome: impl Fn(&str, &Value) -> Value) {
        let dispatched: Vec<Dispatched> = self.host.dispatched.borrow_mut().drain(..).collect();
        for call in dispatched {
            self.answer(ROOT, &call, &outcome);
        }
    }

    pub(crate) fn answer(
        &mut self,
        context: u32,
        call: &Dispatched,
        outcome: impl Fn(&str, &Value) -> Value,
    ) {
        let body = reply(&call.body, outcome).to_string();
        self.answer_raw(
            context,
            call.token,
            &[("x-vaultref-contract", "1")],
            "200",
            body.as_bytes(),
        );
    }

    pub(crate) fn answer_raw(
        &mut self,
        context: u32,
        token: u32,
        headers: &[(&str, &str)],
        status: &str,
        body: &[u8],
    ) {
        let mut pairs = vec![(b":status".to_vec(), status.as_bytes().to_vec())];
        pairs.extend(
            headers
                .iter()
                .map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())),
        );
        let count = pairs.len();
        self.host.current.set(context);
        *self.host.answer.borrow_mut() = (pairs, body.to_vec());
        self.vm
            .on_http_call_response(context, token, count, body.len());
        *self.host.answer.borrow_mut() = (Vec::new(), Vec::new());
    }

    pub(crate) fn take_dispatched(&self) -> Vec<Dispatched> {
        self.host.dispatched.borrow_mut().drain(..).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let values = self.values(name);
        assert!(values.len() < 2, "{name} stands {} times", values.len());
        values.first().cloned()
    }

    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let headers = self.host.headers.borrow();
        let same = headers.iter().filter(|(other, _)| other == name.as_bytes());
        same.map(|(_, value)| text(value)).collect()
    }

    pub(crate) fn status(&self) -> Option<u32> {
        self.host
            .response
            .borrow()
            .as_ref()
            .map(|(status, _)| *status)
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.host.calls.borrow_mut().drain(..).collect()
    }

    pub(crate) fn logs(&self) -> Vec<String> {
        self.host.logs.borrow().clone()
    }
}

/// The answer to a question.
pub(crate) fn reply(question: &Value, outcome: impl Fn(&str, &Value) -> Value) -> Value {
    let references = question["references"].as_array().expect("a list");
    let known = question["known"].as_array().expect("a list");
    let results = references.iter().enumerate().map(|(index, reference)| {
        outcome(
            reference.as_str().expect("a text"),
            known.get(index).unwrap_or(&Value::Null),
        )
    });
    json!({"results": results.collect::<Vec<_>>()})
}

pub(crate) fn secret(value: &str, revision: &str) -> Value {
    usable(value, revision, 3600)
}

pub(crate) fn usable(value: &str, revision: &str, usable_for: u64) -> Value {
    json!({"secret": {"value": {"text": value}, "revision": revision,
        "lifetime": {"fresh_for": 300, "usable_for": usable_for, "stale": false}}})
}

pub(crate) fn unchanged() -> Value {
    json!({"unchanged": {"fresh_for": 300, "usable_for": 3600, "stale": false}})
}

pub(crate) fn failure(kind: &str) -> Value {
    json!({"failure": {"kind": kind, "retryable": true}})
}

/// A resolver that knows everything: the value of `{vault://v/name}` is `<name>`.
pub(crate) fn known(reference: &str, known: &Value) -> Value {
    if *known == json!("r1") {
        return unchanged();
    }
    let name = reference
        .trim_end_matches('}')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    secret(&format!("<{name}>"), "r1")
}

/// One rule for everything, with this request block.
pub(crate) fn rule(request: &Value) -> Value {
    json!({"resolver": {"upstream": "vaultref"}, "request": request})
}
