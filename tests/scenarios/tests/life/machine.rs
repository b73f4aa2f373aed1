//! What the machine does to us: names that cannot be looked up, and a wall clock that jumps.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use vaultref_scenarios::front::Front;
use vaultref_scenarios::machine::{Machine, NAME};
use vaultref_scenarios::openbao::{KV2_MOUNT, OpenBao};
use vaultref_scenarios::world::Plan;

use crate::bed::{Bed, Lost, put};

fn on(machine: &Machine) -> impl FnOnce(Plan) -> Plan {
    let variables = machine.variables();
    move |plan| {
        let add = |plan: Plan, (name, value): &(&str, String)| plan.env(name, value);
        variables.iter().fold(plan, add)
    }
}

#[test]
fn a_name_that_cannot_be_looked_up_is_bridged_until_it_can() -> Result<()> {
    let machine = Machine::new()?;
    let bao = OpenBao::start()?;
    machine.name_is(Some(bao.address().ip()))?;
    put(&bao, 0)?;
    let reader = bao.create_reader("edge", &["secret/data"])?;
    let mut config = bao.vault_config(KV2_MOUNT, "v2", &reader);
    let front = Front::of(bao.address())?;
    config["host"] = json!(NAME);
    config["port"] = json!(front.address().port());
    let mut bed = Bed::start(config, on(&machine))?;
    let mut lost = Lost::default();
    let load = bed.load()?;
    bed.until_sent(0)?;
    machine.name_is(None)?;
    // What is connected already needs no name.
    front.hang_up();
    bed.only_stale(0, 0)?;
    let says = bed.says();
    machine.name_is(Some(bao.address().ip()))?;
    bed.over();
    bed.put(&bao)?;
    let fresh = bed.until_fresh()?;
    lost.none_of(load, "no name", &bed)?;
    lost.show(
        "the vault's name cannot be looked up",
        "the old value",
        &says,
        Some(fresh),
    );
    bed.only_values()
}

/// Both the daemon's clock and Envoy's. Nothing in the daemon lives by the wall clock; the filter, which
/// is given no other, stands still when it goes back, and asks anew when it has jumped ahead.
#[test]
fn a_wall_clock_that_jumps_loses_no_request_and_stops_no_rotation() -> Result<()> {
    const DAY: i64 = 86_400;
    let machine = Machine::new()?;
    let bao = OpenBao::start()?;
    put(&bao, 0)?;
    let reader = bao.create_reader("edge", &["secret/data"])?;
    let config = bao.vault_config(KV2_MOUNT, "v2", &reader);
    let variables = machine.variables();
    let mut bed = Bed::start(config, |plan| {
        let plan = on(&machine)(plan);
        let add = |plan: Plan, (name, value): &(&str, String)| plan.gateway_env(name, value);
        variables.iter().fold(plan, add)
    })?;
    let mut lost = Lost::default();
    let load = bed.load()?;
    bed.until_sent(0)?;
    let mut slowest = Duration::ZERO;
    for off in [-DAY, 0, DAY / 24, -10 * 365 * DAY, 2 * DAY] {
        machine.jump(off)?;
        bed.over();
        bed.put(&bao)?;
        slowest = slowest.max(bed.until_fresh()?);
    }
    lost.none_of(load, "a clock that jumps", &bed)?;
    let what = "the wall clock jumps: back a day, ahead a day, ahead an hour, back ten years, ahead ten years and two days";
    lost.show(
        what,
        "the old value, then the new",
        "nothing",
        Some(slowest),
    );
    bed.only_values()
}
