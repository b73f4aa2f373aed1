//! What answers a request for which there is no configuration.

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use vaultref_filter::Host as _;

use crate::host::GATEWAY;

/// Says neither which secret nor why: that is for the log.
const BODY: &[u8] = br#"{"error":"a credential for this request is not available"}"#;

pub(crate) struct Unavailable;

impl Context for Unavailable {}

impl HttpContext for Unavailable {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        // If that fails the request stays paused, which is still better than going on.
        let _ = GATEWAY.send_local_response(503, &[("content-type", b"application/json")], BODY);
        Action::Pause
    }

    fn on_http_request_body(&mut self, _: usize, _: bool) -> Action {
        Action::Pause
    }
}
