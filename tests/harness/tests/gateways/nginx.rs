//! The nginx profile, one test for each line of what `ngx_wasm_module` was
//! seen to do; the numbers are those of the lines, the most severe first.

use vaultref_harness::{CalloutAnswer, Gateway, Profile, Upstream, WorkerState};

use crate::support::Guest;

mod callbacks;
mod callouts;
mod configuration;
mod fields;
mod shared_data;
mod traps;

const ROOT: u32 = 1;

fn start(profile: Profile, guest: Guest) -> Gateway {
    Gateway::builder(&guest.compile())
        .profile(profile)
        .upstream("resolver:1", Upstream::ByHand)
        .start()
        .expect("it starts")
}

/// Pauses a request's headers on a callout, with `more` done before.
fn waits(guest: Guest, more: impl FnOnce(&mut Guest) -> String) -> Guest {
    guest.returns("request_headers", 1, |g| {
        let call = g.http_call("resolver:1");
        more(g) + &g.note("call", call)
    })
}

fn ok() -> CalloutAnswer {
    CalloutAnswer::response(200, [("x-marker", "1")], "answer")
}

fn answer_first(gateway: &mut Gateway, answer: CalloutAnswer) {
    let id = gateway.open_callouts()[0].id;
    gateway.answer(id, answer);
}

fn died(gateway: &Gateway) -> bool {
    matches!(gateway.worker_state(0), WorkerState::Died(_))
}
