//! The envoy profile: what Envoy 1.40 was seen to do.

use vaultref_harness::{CalloutAnswer, Gateway, GatewayBuilder, Upstream};

use crate::support::{Guest, REMEMBER};

mod bodies;
mod callouts;
mod dead_vms;
mod loading;
mod requests;
mod responses;

fn envoy(guest: Guest) -> GatewayBuilder {
    Gateway::builder(&guest.compile()).upstream("resolver", Upstream::ByHand)
}

fn start(guest: Guest) -> Gateway {
    envoy(guest).start().expect("it starts")
}

/// Pauses a request's headers on a callout to `resolver`, and remembers which
/// request waits for it.
fn waits(guest: Guest) -> Guest {
    guest.returns("request_headers", 1, |g| {
        let call = g.http_call("resolver");
        g.note("call", call) + REMEMBER
    })
}

fn ok() -> CalloutAnswer {
    CalloutAnswer::response(200, [("X-Marker", "1")], "answer")
}
