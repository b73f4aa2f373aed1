//! The Vaultref resolver: reads secrets from vaults, keeps them for as long as they are good, and
//! gives them to the clients that may have them.
//!
//! ```text
//! server, cli             who asks: HTTP over a Unix socket or loopback, a person,
//! embed, component        a guest in wasmtime
//!   policy                may this client read this object?
//!     resolver            what is in memory, what has to be read, and how long one waits for it
//!       backend           env · fs · hcv: one object, read once
//! config                  vaultref.yaml into the above
//! ```
//!
//! To embed it beside wasmtime: [`config::parse`] gives the vaults and clients, a
//! [`Resolver`](resolver::Resolver) serves them, `embed` answers guests of the Proxy-Wasm ABI, and
//! `component` those that are components. `host/README.md` shows both.
//!
//! The library never reads the process environment and never prints: the environment is handed to
//! [`config::load`], and what is worth telling goes to `tracing`, never with a value.

#![forbid(unsafe_code)]

/// Its example is compiled and run.
#[cfg(all(doctest, feature = "env", feature = "wasmtime"))]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod backend;
pub mod cli;
#[cfg(feature = "wasmtime")]
pub mod component;
pub mod config;
#[cfg(feature = "wasmtime")]
pub mod embed;
pub mod environment;
mod metrics;
pub mod policy;
mod request;
pub mod resolver;
pub mod server;
mod value;
pub mod vault;
mod watch;
