//! The host's functions.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use super::ROOT;
use crate::{HeaderPair, Host, Level, MetricKind, Status};

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
    /// What is held of the request's body.
    pub(crate) body: RefCell<Vec<u8>>,
    /// Whether the body is being handed over.
    pub(crate) in_body: Cell<bool>,
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
    pub(crate) response_headers: RefCell<Vec<(String, String)>>,
    /// The upstream's, while a response is being handed over.
    pub(crate) upstream_headers: RefCell<Vec<HeaderPair>>,
    pub(crate) metrics: RefCell<Vec<(String, MetricKind, i64)>>,
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

pub(super) fn text(bytes: &[u8]) -> String {
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

    fn request_body(&self, size: usize) -> Result<Vec<u8>, Status> {
        self.count.set(self.count.get() + 1);
        self.look("request_body")?;
        let body = self.body.borrow();
        Ok(body[..size.min(body.len())].to_vec())
    }

    fn set_request_body(&self, size: usize, body: &[u8]) -> Result<(), Status> {
        self.act("set_request_body", format!("body {}", text(body)))?;
        assert!(self.in_body.get() || !self.is_nginx.get(), "would trap");
        let mut held = self.body.borrow_mut();
        assert_eq!(size, held.len(), "would leave a part of the old one");
        *held = body.to_vec();
        Ok(())
    }

    fn property(&self, path: &[&str]) -> Result<Vec<u8>, Status> {
        self.count.set(self.count.get() + 1);
        let path = path.join(".");
        if path == "plugin_vm_id" && !self.is_nginx.get() {
            return Ok(Vec::new());
        }
        self.look("property")?;
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
        headers: &[(&str, &[u8])],
        body: &[u8],
    ) -> Result<(), Status> {
        self.act("send_local_response", format!("respond {status}"))?;
        let headers = headers.iter();
        *self.response_headers.borrow_mut() = headers
            .map(|(name, value)| ((*name).to_owned(), text(value)))
            .collect();
        *self.response.borrow_mut() = Some((status, text(body)));
        Ok(())
    }

    fn response_header(&self, name: &str) -> Result<Option<Vec<u8>>, Status> {
        self.count.set(self.count.get() + 1);
        let headers = self.upstream_headers.borrow();
        let found = headers.iter().find(|(other, _)| other == name.as_bytes());
        Ok(found.map(|(_, value)| value.clone()))
    }

    fn response_headers(&self) -> Result<Vec<HeaderPair>, Status> {
        self.count.set(self.count.get() + 1);
        self.look("response_headers")?;
        Ok(self.upstream_headers.borrow().clone())
    }

    fn set_response_header(&self, name: &str, value: &[u8]) -> Result<(), Status> {
        self.look("set_response_header")?;
        let mut headers = self.upstream_headers.borrow_mut();
        headers.retain(|(other, _)| other != name.as_bytes());
        headers.push((name.as_bytes().to_vec(), value.to_vec()));
        Ok(())
    }

    fn add_response_header(&self, name: &str, value: &[u8]) -> Result<(), Status> {
        self.look("add_response_header")?;
        let pair = (name.as_bytes().to_vec(), value.to_vec());
        self.upstream_headers.borrow_mut().push(pair);
        Ok(())
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<u32, Status> {
        assert!(!self.is_nginx.get(), "would trap");
        self.look("define_metric")?;
        let mut metrics = self.metrics.borrow_mut();
        assert!(
            metrics.iter().all(|(known, _, _)| known != name),
            "twice: {name}"
        );
        metrics.push((name.to_owned(), kind, 0));
        Ok(u32::try_from(metrics.len()).expect("few"))
    }

    fn metric(&self, number: u32) -> Result<u64, Status> {
        self.look("metric")?;
        let metrics = self.metrics.borrow();
        Ok(u64::try_from(metrics[number as usize - 1].2).expect("not negative"))
    }

    fn increment_metric(&self, number: u32, change: i64) -> Result<(), Status> {
        let mut metrics = self.metrics.borrow_mut();
        let (name, kind, value) = &mut metrics[number as usize - 1];
        assert!(change > 0 || *kind == MetricKind::Gauge, "{name}");
        *value += change;
        Ok(())
    }

    fn record_metric(&self, number: u32, value: u64) -> Result<(), Status> {
        let mut metrics = self.metrics.borrow_mut();
        let (name, kind, known) = &mut metrics[number as usize - 1];
        assert_eq!(*kind, MetricKind::Gauge, "{name}");
        *known = i64::try_from(value).expect("small");
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
