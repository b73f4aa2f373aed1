//! The logic of the Vaultref filter: it finds references in its configuration, asks the resolver
//! for their values, and puts these into requests.
//!
//! It knows no ABI. A gateway is a [`Host`]; the module in `module/` is one over Proxy-Wasm, the
//! tests have a recording one. Only that module exports callbacks, so the library can also live in
//! other people's filters: make an [`Instance`] and hand its [`Vm`] what the gateway calls.
//!
//! It never panics on what a gateway, a client, a configuration or a resolver gives it (a panic ends
//! the VM, and with it every request in it), and never lets a request go on with a reference or a
//! client's own value in a field that a rule writes.

#![forbid(unsafe_code)]
#![deny(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unreachable,
    clippy::unwrap_used
)]

mod body;
mod check;
mod clock;
mod compile;
mod config;
mod documents;
mod dynamic;
mod host;
mod instance;
mod matching;
mod metrics;
mod pairs;
mod query;
mod redact;
mod render;
mod request;
mod resolver;
#[cfg(feature = "schema")]
pub mod schema;
mod served;
mod slot;
mod table;
mod vm;
mod waiting;

#[cfg(test)]
mod testing;

pub use check::check;
pub use compile::Kind;
pub use config::{Config, ConfigError};
pub use documents::{DocumentId, Documents, News};
pub use host::{Callbacks, HeaderPair, Host, Level, MetricKind, Status};
pub use instance::Instance;
pub use pairs::{decode_pairs, encode_pairs};
pub use vm::{Action, Vm};
