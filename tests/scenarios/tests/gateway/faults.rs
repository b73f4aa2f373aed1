//! Fail closed, with faults that only the harness can put in: whatever happens to an answer, a callback
//! or the VM while requests wait, neither the reference nor the client's own value of a field that a
//! rule writes reaches the upstream.

use anyhow::{Context, Result};
use vaultref_harness::{Callback, CalloutAnswer, Fault, Status};
use vaultref_scenarios::wait;
use vaultref_scenarios::world::{Harness, Kind, Plan, Seen, World};

use crate::closed::{bearer, own, right_answer};
use crate::in_both_profiles;

in_both_profiles!(
    a_callback_that_is_dropped_leaves_the_request_guarded,
    a_truncated_answer_ends_in_503,
    a_vm_that_is_replaced_leaves_waiting_requests_guarded,
    a_vm_that_traps_leaves_waiting_requests_guarded,
    an_answer_for_a_request_that_is_gone_does_no_harm,
    answers_may_come_in_any_order,
    host_functions_that_fail_do_not_open_the_gateway,
);

/// Answered here, or sent on with every field that the rule writes overwritten.
pub(crate) fn assert_guarded(seen: &Seen) {
    match seen {
        Seen::Reset => {}
        Seen::Local(response) => {
            assert!(response.status >= 400, "{}", response.dump());
            assert!(!response.dump().contains("vault://"), "{}", response.dump());
        }
        Seen::Upstream(received) => {
            let dump = received.dump();
            assert!(
                !dump.contains("mine") && !dump.contains("vault://"),
                "{dump}"
            );
            for name in ["authorization", "x-added", "x-appended"] {
                let values = received.header_values(name);
                assert!(
                    values.iter().all(String::is_empty) && !values.is_empty(),
                    "{dump}"
                );
            }
        }
    }
}

/// One worker with three requests that wait for answers which are held back.
fn three_waiting(kind: Kind) -> Result<(World, Vec<vaultref_harness::StreamId>)> {
    let mut world = Plan::new(kind, bearer())
        .file("token", "ours")
        .holding_answers()
        .workers(1)
        .start()?;
    let harness = harness(&mut world)?;
    let streams: Vec<_> = (0..3).map(|_| harness.begin(&own())).collect();
    harness
        .gateway()
        .run_until(|gateway| gateway.arrived().len() == 3, wait::SOON)?;
    for stream in &streams {
        assert!(harness.gateway().outcome(*stream).is_waiting());
    }
    Ok((world, streams))
}

pub(crate) fn harness(world: &mut World) -> Result<&mut Harness> {
    world.harness().context("this kind runs in the harness")
}

fn deliver_all(harness: &mut Harness) {
    // One at a time: a trap takes the others with it.
    while let Some(callout) = harness.gateway().arrived().first().copied() {
        harness.gateway().deliver(callout);
    }
}

fn a_truncated_answer_ends_in_503(kind: Kind) -> Result<()> {
    for keep in [0, 1, 40] {
        let mut world = Plan::new(kind, bearer())
            .file("token", "ours")
            .workers(1)
            .start()?;
        let harness = harness(&mut world)?;
        harness.gateway().inject(Fault::TruncateAnswer { keep });
        let seen = harness.send(&own())?;
        assert!(seen.has_status(503), "{keep}: {seen:?}");
        let seen = world.send(&own())?;
        assert!(seen.has_authorization("Bearer ours"), "{keep}: {seen:?}");
    }
    Ok(())
}

fn a_vm_that_traps_leaves_waiting_requests_guarded(kind: Kind) -> Result<()> {
    // At once; and in the callback of one request while the others wait.
    for in_callback in [false, true] {
        let (mut world, streams) = three_waiting(kind)?;
        let harness = harness(&mut world)?;
        if in_callback {
            harness
                .gateway()
                .inject(Fault::TrapCallback(Callback::HttpCallResponse));
            deliver_all(harness);
        } else {
            harness.gateway().trap_vms(0);
        }
        for stream in streams {
            assert_guarded(&harness.finish_or_reset(stream)?);
        }
        if kind == Kind::HarnessEnvoy {
            // FAIL_RELOAD: a new VM serves later requests, with the right credential.
            serves_again(&mut world)?;
        }
    }
    Ok(())
}

fn a_vm_that_is_replaced_leaves_waiting_requests_guarded(kind: Kind) -> Result<()> {
    let (mut world, streams) = three_waiting(kind)?;
    let harness = harness(&mut world)?;
    harness.gateway().replace_instances(0)?;
    deliver_all(harness);
    for stream in streams {
        assert_guarded(&harness.finish_or_reset(stream)?);
    }
    serves_again(&mut world)
}

/// From here on answers are delivered, and later requests get the right credential.
fn serves_again(world: &mut World) -> Result<()> {
    harness(world)?.release_answers();
    world.eventually("the right credential", &own(), |seen| {
        seen.has_authorization("Bearer ours")
    })?;
    Ok(())
}

fn a_callback_that_is_dropped_leaves_the_request_guarded(kind: Kind) -> Result<()> {
    let (mut world, streams) = three_waiting(kind)?;
    let harness = harness(&mut world)?;
    harness
        .gateway()
        .inject(Fault::DropCallback(Callback::HttpCallResponse));
    deliver_all(harness);
    for stream in streams {
        // In Envoy the filter's tick ends the wait of the one that lost its callback.
        let seen = harness.finish_or_reset(stream)?;
        if !seen.has_authorization("Bearer ours") {
            assert_guarded(&seen);
        }
    }
    Ok(())
}

fn an_answer_for_a_request_that_is_gone_does_no_harm(kind: Kind) -> Result<()> {
    let (mut world, streams) = three_waiting(kind)?;
    let harness = harness(&mut world)?;
    let callouts = harness.gateway().arrived();
    harness.gateway().disconnect(streams[1]);
    let marker = [("x-vaultref-contract", "1")];
    let right = right_answer().replace("forged", "ours");
    let late = CalloutAnswer::response(200, marker, right);
    harness.gateway().deliver_late(callouts[1], late);
    // A second answer under a token that was answered, and tokens that never were.
    deliver_all(harness);
    let forged = CalloutAnswer::response(200, marker, right_answer());
    harness.gateway().deliver_late(callouts[0], forged);
    for token in [u32::MAX, 4711] {
        let parameters = [1, token, 1, 2, 0];
        harness
            .gateway()
            .call_raw_callback(0, Callback::HttpCallResponse, 1, &parameters);
    }
    for stream in [streams[0], streams[2]] {
        let seen = harness.finish(stream)?;
        assert!(seen.has_authorization("Bearer ours"), "{seen:?}");
    }
    let traps = harness
        .gateway()
        .calls()
        .iter()
        .filter(|call| call.trapped)
        .count();
    assert_eq!(traps, 0);
    harness.release_answers();
    let seen = world.send(&own())?;
    assert!(seen.has_authorization("Bearer ours"), "{seen:?}");
    Ok(())
}

fn answers_may_come_in_any_order(kind: Kind) -> Result<()> {
    let (mut world, streams) = three_waiting(kind)?;
    let harness = harness(&mut world)?;
    for callout in harness.gateway().arrived().into_iter().rev() {
        harness.gateway().deliver(callout);
    }
    for stream in streams {
        let seen = harness.finish(stream)?;
        assert!(seen.has_authorization("Bearer ours"), "{seen:?}");
    }
    Ok(())
}

/// Each host function that the filter uses fails once, with each status, at each point of a
/// request's way: it may be refused, and nothing else.
fn host_functions_that_fail_do_not_open_the_gateway(kind: Kind) -> Result<()> {
    let functions = [
        "proxy_add_header_map_value",
        "proxy_continue_stream",
        "proxy_get_buffer_bytes",
        "proxy_get_header_map_pairs",
        "proxy_get_header_map_value",
        "proxy_get_property",
        "proxy_http_call",
        "proxy_replace_header_map_value",
    ];
    // Among them some that the function is not documented to return.
    let statuses = [
        Status::BadArgument,
        Status::CasMismatch,
        Status::InternalFailure,
        Status::InvalidMemoryAccess,
        Status::NotFound,
        Status::Unimplemented,
    ];
    for function in functions {
        for status in statuses {
            let mut world = Plan::new(kind, bearer())
                .file("token", "ours")
                .workers(1)
                .start()?;
            let harness = harness(&mut world)?;
            for _ in 0..2 {
                harness.gateway().inject(Fault::HostStatus {
                    function: function.to_owned(),
                    status,
                    times: 1,
                });
                let seen = harness.send(&own())?;
                if !seen.has_authorization("Bearer ours") {
                    assert_never_open(function, &seen);
                }
                harness.tick();
            }
            harness.gateway().clear_faults();
            let traps = harness
                .gateway()
                .calls()
                .iter()
                .filter(|call| call.trapped)
                .count();
            assert_eq!(traps, 0, "{function} returned {status:?}");
        }
    }
    Ok(())
}

/// A host that refuses to overwrite leaves no way but to answer; one that refuses even that has the
/// last word.
fn assert_never_open(function: &str, seen: &Seen) {
    if let Seen::Upstream(received) = seen {
        let dump = received.dump();
        assert!(
            !dump.contains("vault://") && !dump.contains("Bearer mine"),
            "{function}: {dump}"
        );
    }
}
