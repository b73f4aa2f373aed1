//! Every scenario ends with a look for its values in all that was logged or shown. Here: that the look
//! finds what it should.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::Result;
use serde_json::json;
use vaultref_scenarios::client::Request;
use vaultref_scenarios::wait;
use vaultref_scenarios::world::{Kind, Plan, World};

use crate::in_every_gateway;

in_every_gateway!(
    what_a_daemon_logged_before_it_was_killed_is_looked_at,
    what_the_gateway_logs_is_looked_at,
);

/// A world in which this word, which stands somewhere, is a value.
fn world(kind: Kind, value: &str) -> Result<World> {
    let set = json!({ "x-marked": "a-marked-literal", "authorization": "{vault://files/token}" });
    Plan::new(kind, json!({ "request": { "set": { "headers": set } } }))
        .file("token", value)
        .quiet()
        .start()
}

/// The end of a scenario that nothing else is wrong with.
fn fails_at_its_end(world: World) -> bool {
    catch_unwind(AssertUnwindSafe(|| drop(world))).is_err()
}

fn what_a_daemon_logged_before_it_was_killed_is_looked_at(kind: Kind) -> Result<()> {
    let mut world = world(kind, "vaultref is ready")?;
    let process = world.daemon().process()?;
    process.wait_for_line("vaultref is ready", wait::SOON)?;
    world.daemon().kill();
    assert!(fails_at_its_end(world));
    Ok(())
}

fn what_the_gateway_logs_is_looked_at(kind: Kind) -> Result<()> {
    let mut world = world(kind, "the resolver has answered for all")?;
    world.until_every_vm_has_answers()?;
    assert!(fails_at_its_end(world));
    Ok(())
}

/// Which has the filter's configuration in it, but no token.
#[test]
fn what_envoys_admin_interface_shows_is_looked_at() -> Result<()> {
    assert!(fails_at_its_end(world(Kind::Envoy, "a-marked-literal")?));
    let mut world = world(Kind::Envoy, "ours")?;
    world.send(&Request::get("/"))?.upstream()?;
    assert!(!fails_at_its_end(world));
    Ok(())
}
