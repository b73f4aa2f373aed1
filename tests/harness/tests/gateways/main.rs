//! What the harness's gateways do, held to what was seen of the real ones. One
//! binary, since each costs a link of wasmtime.

mod abi;
mod envoy;
mod faults;
mod host;
mod nginx;
mod support;
