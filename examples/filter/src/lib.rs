//! A filter that adds a credential to each request: what its author writes, and nothing else.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::Action;
use serde::Deserialize;
use vaultref_sdk::{ResolvedConfiguration, Resolving};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Resolving::new(Filter(None))));
}}

#[derive(Deserialize)]
struct Auth {
    header_name: String,
    header_value: String,
}

#[derive(Deserialize)]
struct Config {
    auth: Auth,
}

struct Filter(Option<Rc<Config>>);

impl ResolvedConfiguration for Filter {
    fn referenceable(&self) -> &[&str] {
        &["auth.header_name", "auth.header_value"]
    }

    fn on_resolved_configuration(&mut self, configuration: &[u8]) -> bool {
        self.0 = serde_json::from_slice(configuration).ok().map(Rc::new);
        self.0.is_some()
    }
}

impl Context for Filter {}

impl RootContext for Filter {
    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request(self.0.clone()?)))
    }
}

struct Request(Rc<Config>);

impl Context for Request {}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let auth = &self.0.auth;
        self.set_http_request_header(&auth.header_name, Some(&auth.header_value));
        Action::Continue
    }
}
