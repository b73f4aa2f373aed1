//! One kit of checks, run over every backend: whatever a vault is, the same question gets the same
//! kind of answer. Each backend has a file here with its [`kit::Fixture`]; where a real server
//! written by others can be had, it is that.

mod conjur;
mod gcp;
mod kit;
mod vault;
