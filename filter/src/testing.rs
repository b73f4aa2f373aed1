//! A gateway for tests: it records every call, and answers as it is told.

use std::rc::Rc;

use serde_json::{Value, json};

use crate::{Action, Callbacks, Vm};

mod host;
mod replies;

use host::text;
pub(crate) use host::{Dispatched, FakeHost};
pub(crate) use replies::{failure, known, reply, secret, unchanged, usable};

pub(crate) const ROOT: u32 = 1;
const MILLISECOND: u64 = 1_000_000;

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
            vm: Vm::new(Rc::clone(&host), Callbacks::Every),
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

    /// A request with a body, of which these headers come first.
    pub(crate) fn post(&mut self, headers: &[(&str, &str)], body: &str) -> (u32, Action) {
        *self.host.body.borrow_mut() = body.as_bytes().to_vec();
        self.begin(ROOT, headers)
    }

    /// All of the body is there.
    pub(crate) fn end_body(&mut self, context: u32) -> Action {
        let size = self.host.body.borrow().len();
        self.arrive(context, size, true)
    }

    /// So much of the body is there.
    pub(crate) fn arrive(&mut self, context: u32, size: usize, is_end: bool) -> Action {
        self.host.current.set(context);
        self.host.in_body.set(true);
        let action = self.vm.on_request_body(context, size, is_end);
        self.host.in_body.set(false);
        action
    }

    pub(crate) fn body(&self) -> String {
        String::from_utf8_lossy(&self.host.body.borrow()).into_owned()
    }

    pub(crate) fn request_of(&mut self, root: u32, headers: &[(&str, &str)]) -> (u32, Action) {
        self.host.body.borrow_mut().clear();
        self.begin(root, headers)
    }

    fn begin(&mut self, root: u32, headers: &[(&str, &str)]) -> (u32, Action) {
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
        let action = self.vm.on_request_headers(
            context,
            self.host.body.borrow().is_empty() && !self.host.is_nginx.get(),
        );
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

    /// The host has the function from now on, and answers with this for each reference and what is known.
    pub(crate) fn host_answers(&self, outcome: fn(&str, &Value) -> Value) {
        let function = move |question: &Value| reply(question, outcome);
        *self.host.function.borrow_mut() = Some(Box::new(function));
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

/// One rule for everything, with this request block.
pub(crate) fn rule(request: &Value) -> Value {
    json!({"resolver": {"upstream": "vaultref"}, "request": request})
}
