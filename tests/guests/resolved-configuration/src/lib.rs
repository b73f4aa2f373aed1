//! A filter that answers each request with its configuration, as it was handed over, and shows how the
//! rest of a root context fares inside of [`Resolving`]: its ticks, and a call of its own.
//!
//! Its VM's configuration names the fields that may hold references, one a line; a line `tick` asks for
//! a tick each half second, a line `call` for a call to the upstream `own` with each of them.

use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, LogLevel};
use vaultref_sdk::{ResolvedConfiguration, Resolving};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Resolving::new(Filter::default())));
}}

#[derive(Default)]
struct Filter {
    fields: Vec<&'static str>,
    ticks: bool,
    calls: bool,
    configuration: Vec<u8>,
}

fn log(text: &str) {
    let _ = proxy_wasm::hostcalls::log(LogLevel::Info, text);
}

impl ResolvedConfiguration for Filter {
    fn referenceable(&self) -> &[&str] {
        &self.fields
    }

    fn on_resolved_configuration(&mut self, configuration: &[u8]) -> bool {
        log("filter: handed over");
        self.configuration = configuration.to_vec();
        !configuration.starts_with(br#"{"refuse""#)
    }

    fn tick_period(&self) -> Option<Duration> {
        self.ticks.then_some(Duration::from_millis(500))
    }
}

impl Context for Filter {
    fn on_http_call_response(&mut self, _: u32, headers: usize, _: usize, _: usize) {
        log(&format!("filter: answered, {}", headers > 0));
    }
}

impl RootContext for Filter {
    fn on_vm_start(&mut self, _: usize) -> bool {
        let bytes = self.get_vm_configuration().unwrap_or_default();
        for line in String::from_utf8_lossy(&bytes).lines() {
            match line {
                "tick" => self.ticks = true,
                "call" => self.calls = true,
                // An instance has only one root here, so that is not much.
                field => self.fields.push(field.to_owned().leak()),
            }
        }
        true
    }

    fn on_tick(&mut self) {
        log("filter: tick");
        if self.calls {
            let headers = vec![(":method", "GET"), (":path", "/"), (":authority", "own")];
            let second = Duration::from_secs(1);
            let sent = self.dispatch_http_call("own:1", headers, None, vec![], second);
            log(&format!("filter: called, {}", sent.is_ok()));
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request(self.configuration.clone())))
    }
}

struct Request(Vec<u8>);

impl Context for Request {}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        self.send_http_response(200, vec![], Some(&self.0));
        Action::Pause
    }
}
