//! The Vaultref resolver: reads secrets from vaults, keeps them for as long as they are good, and
//! gives them to the clients that may have them.
//!
//! ```text
//! server, embed, cli      who asks: HTTP over a Unix socket or loopback, a wasmtime guest, a person
//!   policy                may this client read this object?
//!     resolver            what is in memory, what has to be read, and how long one waits for it
//!       backend           env · fs · hcv: one object, read once
//! config                  vaultref.yaml into the above
//! ```
//!
//! The library never reads the process environment and never prints: the environment is handed to
//! [`config::load`], and what is worth telling goes to `tracing`, never with a value.

#![forbid(unsafe_code)]

pub mod backend;
pub mod cli;
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
