//! One constant request header, written as plainly as the SDK's own examples are:
//! what a filter of this kind costs when nobody has thought about its cost.

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

proxy_wasm::main! {{
    proxy_wasm::set_http_context(|_, _| -> Box<dyn HttpContext> { Box::new(ConstantHeader) });
}}

struct ConstantHeader;

impl Context for ConstantHeader {}

impl HttpContext for ConstantHeader {
    fn on_http_request_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        self.set_http_request_header("authorization", Some("Bearer bench-value-0123456789abcdef"));
        Action::Continue
    }
}
