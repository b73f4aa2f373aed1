//! Changes of configuration in nginx, where the root of the one before never ends: what it asked for
//! is asked for no longer, and the worker's memory stays what it was.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use vaultref_harness::{Callback, CalloutState, Upstream};
use vaultref_scenarios::client::Request;
use vaultref_scenarios::world::{Harness, Kind, Plan, World};

use crate::faults::harness;

fn configuration(world: &mut World, name: &str) -> String {
    json!({
        "resolver": { "upstream": format!("unix:{}", world.daemon().socket().display()) },
        "request": { "set": { "headers": {
            "authorization": format!("Bearer {{vault://files/{name}}}"),
        }}},
    })
    .to_string()
}

fn own() -> Request {
    Request::get("/").header("authorization", "Bearer mine")
}

/// Lets the gateway's clock jump, and a second pass after that.
fn jump(world: &mut World, by: Duration) -> Result<()> {
    let clock = harness(world)?.gateway().clock().clone();
    let by = u64::try_from(by.as_nanos()).context("a short time")?;
    clock.set(clock.now() + by);
    for _ in 0..6 {
        world.pass_time();
    }
    Ok(())
}

/// What the next second's poll asks for.
fn polled(world: &mut World) -> Result<Vec<String>> {
    let before = harness(world)?.gateway().callouts().len();
    for _ in 0..6 {
        world.pass_time();
    }
    let calls = harness(world)?.gateway().callouts();
    let poll = calls.get(before).context("there is a poll")?;
    assert_eq!(poll.state, CalloutState::Delivered);
    let question: Value = serde_json::from_slice(&poll.body)?;
    let references = question["references"].as_array().context("references")?;
    let texts = references.iter().filter_map(Value::as_str);
    Ok(texts.map(str::to_owned).collect())
}

#[test]
fn what_only_a_former_configuration_asked_for_is_asked_for_no_longer() -> Result<()> {
    const CHANGES: usize = 30;
    let start = json!({ "request": { "set": { "headers": {
        "authorization": "Bearer {vault://files/k0}",
    }}}});
    let mut plan = Plan::new(Kind::HarnessNginx, start).workers(1);
    for n in 0..=CHANGES {
        plan = plan.file(&format!("k{n}"), format!("value-{n}"));
    }
    let mut world = plan.start()?;
    let seen = world.send(&own())?;
    assert!(seen.has_authorization("Bearer value-0"), "{seen:?}");
    for n in 1..=CHANGES {
        jump(&mut world, Duration::from_secs(20))?;
        let new = configuration(&mut world, &format!("k{n}"));
        harness(&mut world)?.gateway().reconfigure(0, new)?;
        let seen = world.send(&own())?;
        let right = format!("Bearer value-{n}");
        assert!(seen.has_authorization(&right), "{n}: {seen:?}");
    }
    // Those that may still have requests under way, and not one for each change.
    let asked = polled(&mut world)?;
    assert!((5..=20).contains(&asked.len()), "{asked:?}");
    jump(&mut world, Duration::from_secs(360))?;
    let newest = format!("{{vault://files/k{CHANGES}}}");
    assert_eq!(polled(&mut world)?, [newest]);
    // The polls go on: a rotation arrives.
    world.write_secret(&format!("k{CHANGES}"), "rotated")?;
    world.eventually("the rotated value", &own(), |seen| {
        seen.has_authorization("Bearer rotated")
    })?;
    let gateway = harness(&mut world)?.gateway();
    assert!(gateway.calls().iter().all(|call| !call.trapped));
    Ok(())
}

/// The filter keeps the configuration of 4,096 roots that seem to have ended, in case one of them has
/// not; here each is made to rest with the next change, and none has a request.
#[test]
fn memory_is_bounded_however_often_the_configuration_changes() -> Result<()> {
    let new = |n: usize| {
        let reference = format!("Bearer {{vault://files/k{n}}}");
        let set = json!({ "set": { "headers": { "authorization": reference } } });
        json!({ "resolver": { "upstream": "resolver:1" }, "request": set }).to_string()
    };
    let setup = Harness::setup(Kind::HarnessNginx, 1)?
        .plugin(Harness::plugin(&new(0)))
        .upstream("resolver:1", Upstream::ByHand);
    let mut harness = Harness::start(setup, 1)?;
    let root = harness.gateway().root_context(0, 0).context("a root")?;
    let mut change = |n: usize| -> Result<usize> {
        let gateway = harness.gateway();
        let clock = gateway.clock().clone();
        clock.set(clock.now() + 360_000_000_000);
        gateway.reconfigure(0, new(n))?;
        // One tick, and not all that were due while the clock jumped.
        gateway.call_raw_callback(0, Callback::Tick, root, &[root]);
        harness.answer_calls(|_| Some("value"))?;
        harness.gateway().forget_history();
        Ok(harness.gateway().memory_size(0))
    };
    let mut sizes = Vec::new();
    for n in 1..=5_200 {
        sizes.push(change(n)?);
    }
    let (full, last) = (sizes[4_300], sizes[5_199]);
    assert_eq!(full, last, "it grows on");
    // About a kilobyte for each of those that are kept.
    assert!(last < 8 * 1024 * 1024, "{last}");
    Ok(())
}
