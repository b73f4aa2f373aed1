//! Vault references in the configuration of any Proxy-Wasm filter that is written in Rust with the SDK
//! `proxy-wasm`.
//!
//! A filter's author names the fields that may hold references (`ResolvedConfiguration::referenceable`)
//! and takes the configuration when all of them are resolved
//! (`ResolvedConfiguration::on_resolved_configuration`): for the first time soon after the gateway has
//! started, and again whenever a secret changes. `Resolving` stands around the author's root context
//! and does the rest.
//!
//! ```ignore
//! proxy_wasm::main! {{
//!     proxy_wasm::set_root_context(|_| Box::new(Resolving::new(Filter::default())));
//! }}
//!
//! impl ResolvedConfiguration for Filter {
//!     fn referenceable(&self) -> &[&str] {
//!         &["auth.header_value", "redis.password"]
//!     }
//!
//!     fn on_resolved_configuration(&mut self, configuration: &[u8]) -> bool {
//!         self.config = serde_json::from_slice(configuration).ok();
//!         self.config.is_some()
//!     }
//! }
//! ```
//!
//! The configuration is a JSON object (in Envoy also a `Struct`) with the author's own fields, and one
//! member for this crate, which is not handed over: `"vaultref": {"upstream": "vaultref"}`, with what
//! the filter's own configuration has under `resolver`.
//!
//! A configuration that cannot be used is refused: in Envoy that ends its load, and what was in force
//! stays so; elsewhere it would end the worker, so the root answers 503 until it gets a good one.
//!
//! It fails closed: as long as a secret is missing, requests are answered with 503 and the author's
//! filter does not see them. It never panics, although the SDK does: what it needs of the gateway it
//! asks for itself, except for one function (see `host`). It shows no value to anybody but the filter.

#![cfg(target_family = "wasm")]
#![forbid(unsafe_code)]
#![deny(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unreachable,
    clippy::unwrap_used
)]

mod host;
mod resolving;
mod unavailable;

use std::time::Duration;

use proxy_wasm::traits::RootContext;

pub use resolving::Resolving;

/// A root context whose configuration may hold references.
///
/// Two methods of [`RootContext`] are not called: `on_configure`, in whose place
/// [`Self::on_resolved_configuration`] is, and `get_type`, since every filter here is one of HTTP.
/// Requests get their contexts from `create_http_context`, so `proxy_wasm::set_http_context`, which
/// goes past it, must not be used.
pub trait ResolvedConfiguration: RootContext {
    /// The fields that may hold references, as dotted paths from the top of the configuration:
    /// `auth.header_value`. A path goes through lists, and a field may be a text, a list of texts or a
    /// map of texts. A reference anywhere else is left as it is.
    fn referenceable(&self) -> &[&str];

    /// The configuration is there with all its secrets, as JSON. It comes again, whole, when one has
    /// changed. False refuses it: then requests are answered with 503 until the next one comes.
    ///
    /// What is made of it is the author's to guard: the buffer is wiped after the call, copies are not.
    fn on_resolved_configuration(&mut self, configuration: &[u8]) -> bool;

    /// How often `on_tick` is wanted. `set_tick_period` must not be used: it would stop or, in nginx,
    /// end what keeps the secrets fresh.
    fn tick_period(&self) -> Option<Duration> {
        None
    }
}
