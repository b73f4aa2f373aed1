//! A small Proxy-Wasm host on wasmtime, for tests of filters.
//!
//! Filters are written for gateways that cannot be had in a unit test, and that
//! differ where it hurts: in Envoy a dead VM answers 503, in nginx it lets the
//! request through. This host runs a filter's real module (ABI 0.2.1) under the
//! rules of one gateway or the other, chosen by [`Profile`], with everything
//! else in the test's hand: the clock, the order of answers, the faults.
//! Callouts go to real sockets. It knows nothing of any particular filter.
//!
//! What each profile does was seen on the real gateway and is held to it by a
//! test of the same name in `tests/gateways`.
//!
//! It never sleeps, never looks at the wall clock but for the deadline of
//! [`Gateway::run_until`], and never runs a filter in another thread.
//!
//! What it has not: TCP filters, gRPC callouts, TLS to upstreams (in nginx a
//! callout over `https` fails as one that is refused does, and no byte of it
//! leaves), Envoy's main-thread VM (a further worker that gets no request stands
//! for it).
//!
//! # Example
//!
//! A filter that calls out, and sets a header once the answer is there; here in
//! the text format, usually `Module::from_file`. The answer comes to the root
//! context, so the filter enters its request's before it acts on it:
//!
//! ```
//! use vaultref_harness::{CalloutAnswer, Gateway, Headers, Module, Request, Upstream};
//!
//! # fn main() -> anyhow::Result<()> {
//! let call = Headers::from([(":method", "GET"), (":path", "/"), (":authority", "a")]);
//! let call: String = call.to_wire().iter().map(|byte| format!("\\{byte:02x}")).collect();
//! let size = call.len() / 3;
//! let module = Module::compile(format!(
//!     r#"(module
//!     (import "env" "proxy_http_call"
//!       (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
//!     (import "env" "proxy_replace_header_map_value"
//!       (func $replace (param i32 i32 i32 i32 i32) (result i32)))
//!     (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
//!     (import "env" "proxy_set_effective_context" (func $enter (param i32) (result i32)))
//!     (memory (export "memory") 1)
//!     (global $waits (mut i32) (i32.const 0))
//!     (func (export "proxy_abi_version_0_2_1"))
//!     (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
//!       (global.set $waits (local.get 0))
//!       (drop (call $call (i32.const 0) (i32.const 8) (i32.const 32) (i32.const {size})
//!         (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 500) (i32.const 16)))
//!       (i32.const 1)) ;; pause
//!     (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
//!       (drop (call $enter (global.get $waits)))
//!       (drop (call $replace (i32.const 0) (i32.const 20) (i32.const 5) (i32.const 26) (i32.const 4)))
//!       (drop (call $continue (i32.const 0))))
//!     (data (i32.const 0) "resolver")
//!     (data (i32.const 20) "x-key") (data (i32.const 26) "real")
//!     (data (i32.const 32) "{call}"))"#
//! ))?;
//!
//! let mut gateway = Gateway::builder(&module)
//!     .upstream("resolver", Upstream::ByHand)
//!     .start()?;
//! let stream = gateway.request(0, Request::get("/").header("x-key", "{vault://a/b}"));
//! assert!(gateway.outcome(stream).is_waiting());
//!
//! let callout = gateway.open_callouts()[0].id;
//! gateway.answer(callout, CalloutAnswer::response(200, [], ""));
//! assert_eq!(gateway.upstream_request(stream).header("x-key").as_deref(), Some("real"));
//! # Ok(())
//! # }
//! ```

mod abi;
mod callout;
mod clock;
mod fault;
mod foreign;
mod gateway;
mod headers;
mod kong;
mod message;
mod metrics;
mod module;
mod profile;
mod shared;
mod state;
mod stream;
mod upstream;
mod vm;

pub use abi::types::{Callback, LogLevel, Status};
pub use callout::CalloutAnswer;
pub use clock::ManualClock;
pub use fault::Fault;
pub use foreign::{ForeignCaller, ForeignFunctions};
pub use gateway::{CallRecord, DeadlineExceeded, Gateway, GatewayBuilder, Plugin, WorkerState};
pub use headers::Headers;
pub use message::{CalloutId, Outcome, Request, Response, StreamId, UpstreamRequest};
pub use metrics::Metric;
pub use module::{LoadError, Module};
pub use profile::{FailurePolicy, Isolation, NginxOptions, Profile};
pub use state::{CalloutRecord, CalloutState, LogLine};
pub use upstream::Upstream;
