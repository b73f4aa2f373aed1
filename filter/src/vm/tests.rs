//! The life of a VM: start-up, polls, waiting requests, and what goes wrong.

use serde_json::{Value, json};

use crate::testing::rule;

mod answers;
mod attacks;
mod bodies;
mod body_references;
mod body_waits;
mod brought;
mod dynamic;
mod host_function;
mod laws;
mod metrics;
mod polls;
mod requests;
mod responses;
mod roots;
mod together;

fn bearer() -> Value {
    rule(&json!({"set": {"headers": {"authorization": "Bearer {vault://v/token}"}}}))
}
