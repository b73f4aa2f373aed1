//! What the scenarios, the demo and the benchmark are made of: real servers that
//! are started on free loopback ports and never outlive the program that started
//! them, a client that can send what no library would, and an upstream that
//! remembers what it was sent.
//!
//! Everything here blocks, since a scenario is a sequence: do this, wait for that,
//! look. Waiting is always for an event, with a deadline; nothing sleeps for a
//! fixed time and hopes.

pub mod certificates;
pub mod client;
pub mod component;
pub mod conjur;
pub mod daemon;
pub mod drongo;
pub mod envoy;
pub mod front;
pub mod fuzz;
pub mod gate;
pub mod keyvault;
pub mod load;
pub mod machine;
pub mod moto;
pub mod openbao;
pub mod paths;
pub mod ports;
pub mod process;
pub mod rotation;
pub mod service_account;
pub mod upstream;
pub mod wait;
pub mod world;
