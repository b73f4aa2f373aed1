//! One kit of checks, run over every backend: whatever a vault is, the same question gets the same
//! kind of answer. Each backend has a file here with its [`kit::Fixture`]; where a real server
//! written by others can be had, it is that.

#![allow(
    unreachable_pub,
    reason = "nothing of a test can be reached from outside"
)]

mod aws;
mod kit;
