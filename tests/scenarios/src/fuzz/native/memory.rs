//! A host that is nothing but memory: what a gateway does with the filter's calls, as far as the
//! filter can tell.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use vaultref_filter::{HeaderPair, Host, Level, MetricKind, Status};
use vaultref_harness::{Headers, Request, Response, UpstreamRequest};

use crate::fuzz::report::Report;
use crate::fuzz::resolver::Resolver;
use crate::fuzz::steps::{TOKEN, TOKEN_NAME};

/// A host of which nothing goes out.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) is_nginx: bool,
    pub(super) is_kong: bool,
    pub(super) now: Cell<u64>,
    pub(super) current: Cell<u32>,
    pub(super) configuration: RefCell<Vec<u8>>,
    pub(super) requests: RefCell<BTreeMap<u32, Held>>,
    pub(super) calls: RefCell<Vec<Call>>,
    pub(super) answer: RefCell<(Vec<HeaderPair>, Vec<u8>)>,
    pub(super) resolver: RefCell<Resolver>,
    pub(super) faults: RefCell<Vec<(String, u32, u32)>>,
    pub(super) report: RefCell<Report>,
    pub(super) lines: RefCell<Vec<String>>,
    /// Requests that the upstream has got and not answered.
    pub(super) due: RefCell<Vec<u32>>,
}

pub(super) struct Held {
    pub(super) sent: Request,
    pub(super) headers: Vec<HeaderPair>,
    pub(super) path: Vec<u8>,
    pub(super) body: Vec<u8>,
    /// The headers of the upstream's answer.
    pub(super) response: Vec<HeaderPair>,
    pub(super) state: State,
}

pub(super) enum State {
    Answered(Response),
    /// Past its headers.
    Leaving,
    Upstream(UpstreamRequest),
    Waiting,
}

#[derive(Clone)]
pub(super) struct Call {
    pub(super) token: u32,
    pub(super) context: u32,
    pub(super) question: Vec<u8>,
    pub(super) is_open: bool,
}

impl Memory {
    /// A call that is open, or any; it is over then.
    pub(super) fn call(&self, at: usize, any: bool) -> Option<Call> {
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

    pub(super) fn open_calls_of(&self, context: u32) -> usize {
        let calls = self.calls.borrow();
        let mut open = calls.iter().filter(|call| call.is_open);
        open.by_ref().filter(|call| call.context == context).count()
    }

    pub(super) fn drop_calls(&self, context: u32) {
        let mut calls = self.calls.borrow_mut();
        calls.retain(|call| call.context != context || !self.is_nginx);
    }

    /// The headers of a request that waits go on.
    pub(super) fn go_on(&self, context: u32) {
        if let Some(held) = self.requests.borrow_mut().get_mut(&context)
            && matches!(held.state, State::Waiting)
        {
            held.state = State::Leaving;
            self.due.borrow_mut().push(context);
        }
    }

    /// A request leaves as it stands.
    pub(super) fn leave(&self, context: u32) {
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
    pub(super) fn ask(&self, function: &str) -> Result<(), Status> {
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

    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Held) -> T) -> Result<T, Status> {
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

    fn metric(&self, _: u32) -> Result<u64, Status> {
        self.ask("proxy_get_metric").map(|()| 0)
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
