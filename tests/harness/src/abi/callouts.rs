//! `proxy_http_call`: who may call out, when, and what goes over the wire.

use std::time::Duration;

use wasmtime::{Caller, Linker};

use super::types::{Callback, Status};
use super::{Stop, host};
use crate::callout::{CalloutAnswer, Flight, News};
use crate::headers::Headers;
use crate::profile::Profile;
use crate::state::{Callout, CalloutState, Event, State};
use crate::upstream::Route;
use crate::vm::VmData;

pub(super) fn define(linker: &mut Linker<VmData>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        "proxy_http_call",
        |guest: Caller<'_, VmData>,
         upstream: u32,
         upstream_size: u32,
         headers: u32,
         headers_size: u32,
         body: u32,
         body_size: u32,
         trailers: u32,
         trailers_size: u32,
         timeout: u32,
         token: u32| {
            host(guest, "proxy_http_call", |call| {
                let upstream = call.read_text(upstream, upstream_size)?;
                let read = |at, size| -> Result<Headers, Stop> {
                    Ok(Headers::from_wire(&call.read(at, size)?).ok_or(Status::BadArgument)?)
                };
                let headers = read(headers, headers_size)?;
                let trailers = read(trailers, trailers_size)?;
                let body = call.read(body, body_size)?;
                let timeout = Duration::from_millis(timeout.into());
                let dispatch = Dispatch {
                    upstream,
                    headers,
                    trailers,
                    body,
                    timeout,
                };
                let number = call.with(|state, vm| match state.profile {
                    Profile::Envoy => dispatch.in_envoy(state, vm),
                    Profile::Nginx(_) => dispatch.in_nginx(state, vm),
                })?;
                call.write_u32(token, number)
            })
        },
    )?;
    Ok(())
}

struct Dispatch {
    upstream: String,
    headers: Headers,
    trailers: Headers,
    body: Vec<u8>,
    timeout: Duration,
}

impl Dispatch {
    fn in_envoy(self, state: &mut State, vm: &VmData) -> Result<u32, Stop> {
        let route = Route::in_envoy(&state.upstreams, &self.upstream);
        if matches!(route, Route::Unknown | Route::Malformed) {
            return Err(Status::BadArgument.into());
        }
        for name in [":method", ":path", ":authority"] {
            self.headers.first(name).ok_or(Status::BadArgument)?;
        }
        if route == Route::NoEndpoint {
            return Err(Status::InternalFailure.into());
        }
        let mut wire = self.request_line();
        field(&mut wire, b"host", &self.pseudo(":authority"));
        for (name, value) in self.headers.without_pseudo().lowercased().pairs() {
            if name != b"host" {
                field(&mut wire, name, value);
            }
        }
        let expected = self.timeout.as_millis().to_string();
        field(&mut wire, b"x-envoy-internal", b"true");
        field(
            &mut wire,
            b"x-envoy-expected-rq-timeout-ms",
            expected.as_bytes(),
        );
        self.finish(&mut wire);
        Ok(self.send(state, vm, route, wire))
    }

    fn in_nginx(self, state: &mut State, vm: &VmData) -> Result<u32, Stop> {
        let of_request = state
            .context(vm.vm, vm.context)
            .is_some_and(|c| c.stream.is_some());
        match vm.callback {
            Callback::RequestBody | Callback::RequestHeaders | Callback::Tick => {}
            Callback::HttpCallResponse if of_request => {}
            Callback::HttpCallResponse => {
                return Err(Stop::death(
                    "dispatch from the root's call response: SIGSEGV",
                ));
            }
            other => return Err(Stop::trap(format!("dispatch failed: bad step ({other})"))),
        }
        let route = Route::in_nginx(&state.upstreams, &self.upstream);
        if matches!(route, Route::Malformed | Route::Unknown) {
            return Err(Stop::trap(format!(
                "dispatch failed: bad host \"{}\"",
                self.upstream
            )));
        }
        for name in [":method", ":path"] {
            if self.headers.first(name).is_none() {
                return Err(Stop::trap(format!("dispatch failed: no {name}")));
            }
        }
        // There is no TLS here: a callout over https fails as if refused.
        let route = match self.headers.first(":scheme") {
            Some(b"https") => Route::Fails,
            _ => route,
        };
        let mut wire = self.request_line();
        let host = match self.headers.first(":authority") {
            Some(authority) => authority.to_vec(),
            None => self.upstream.clone().into_bytes(),
        };
        field(&mut wire, b"Host", &host);
        field(&mut wire, b"Connection", b"close");
        for (name, value) in self.headers.without_pseudo().pairs() {
            field(&mut wire, name, value);
        }
        self.finish(&mut wire);
        Ok(self.send(state, vm, route, wire))
    }

    fn pseudo(&self, name: &str) -> Vec<u8> {
        self.headers.first(name).unwrap_or_default().to_vec()
    }

    fn request_line(&self) -> Vec<u8> {
        [
            &self.pseudo(":method")[..],
            b" ",
            &self.pseudo(":path"),
            b" HTTP/1.1\r\n",
        ]
        .concat()
    }

    fn finish(&self, wire: &mut Vec<u8>) {
        if !self.body.is_empty() && self.headers.first("content-length").is_none() {
            field(
                wire,
                b"content-length",
                self.body.len().to_string().as_bytes(),
            );
        }
        wire.extend(b"\r\n");
        wire.extend_from_slice(&self.body);
        // Trailers would need chunks; no gateway here is asked for them, and the
        // record keeps what the filter gave.
        let _ = &self.trailers;
    }

    fn send(self, state: &mut State, vm: &VmData, route: Route, wire: Vec<u8>) -> u32 {
        let id = state.callouts.len();
        let stream = state
            .context(vm.vm, vm.effective)
            .and_then(|context| context.stream);
        let token = state.vms.get_mut(&vm.vm).map_or(0, |vm| {
            let token = vm.next_token;
            vm.next_token += 1;
            token
        });
        let head = self.pseudo(":method") == b"HEAD";
        let events = state.events.clone();
        let tell = move |news| {
            let event = Event::Callout { callout: id, news };
            // Nobody listens once the gateway is gone; that is no error.
            let _ = events.send(event);
        };
        let flight = match route {
            Route::To(_) if state.no_sockets => None,
            Route::To(target) => Some(Flight::start(target, wire.clone(), head, tell)),
            Route::ByHand => None,
            Route::Fails | Route::Malformed | Route::NoEndpoint | Route::Unknown => {
                tell(News::Answer(CalloutAnswer::Refused));
                None
            }
        };
        let due = state.clock.after(self.timeout);
        // In Envoy a callout is the root context's, whoever makes it: the answer
        // comes to the root, and comes also if the request is gone by then.
        let context = match state.profile {
            Profile::Envoy => state
                .context(vm.vm, vm.effective)
                .map_or(vm.effective, |known| known.root),
            Profile::Nginx(_) => vm.effective,
        };
        state.callouts.push(Callout {
            vm: vm.vm,
            worker: vm.worker,
            context,
            stream,
            token,
            upstream: self.upstream,
            headers: self.headers,
            body: self.body,
            timeout: self.timeout,
            due,
            wire,
            during: vm.callback,
            state: CalloutState::InFlight,
            arrived: None,
            flight,
        });
        state.open_callouts.insert(id);
        token
    }
}

fn field(wire: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    wire.extend_from_slice(name);
    wire.extend(b": ");
    wire.extend_from_slice(value);
    wire.extend(b"\r\n");
}
