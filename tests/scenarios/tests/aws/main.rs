//! The `aws` backend against moto, which checks signatures and policies, and against fakes of what
//! moto does not have: the endpoints that give credentials to containers and instances, and answers
//! that AWS documents and moto never gives.

#![allow(
    unreachable_pub,
    reason = "nothing of a test can be reached from outside"
)]

mod batch;
mod credentials;
mod faults;
mod front;
mod metadata;
mod secrets;
mod vault;
