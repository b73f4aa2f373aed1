//! The filter's own metrics, where the gateway has some.

use anyhow::{Context, Result};
use serde_json::json;
use vaultref_harness::Metric;
use vaultref_scenarios::client::Request;
use vaultref_scenarios::wait;
use vaultref_scenarios::world::{Kind, Plan, World};

use crate::in_every_gateway;

in_every_gateway!(answers_and_refusals_are_counted);

/// One of the filter's metrics, over all VMs.
fn metric(world: &mut World, name: &str) -> Result<Option<u64>> {
    if let Some((envoy, _)) = world.envoy() {
        // As Prometheus reads it; counters of no value are there as well.
        let text = envoy.admin("GET", "/stats/prometheus")?;
        let start = format!("vaultref_{name}{{");
        let line = text.lines().find(|line| line.starts_with(&start));
        let value = line.and_then(|line| line.rsplit(' ').next());
        return Ok(value.map(str::parse).transpose()?);
    }
    let harness = world.harness().context("a harness")?;
    let metrics = harness.gateway().metrics();
    Ok(match metrics.get(&format!("vaultref.{name}")) {
        Some(Metric::Counter(value) | Metric::Gauge(value)) => Some(*value),
        _ => None,
    })
}

fn answers_and_refusals_are_counted(kind: Kind) -> Result<()> {
    let rule = |path: &str, name: &str| {
        let value = format!("Bearer {{vault://files/{name}}}");
        json!({
            "match": { "path_prefix": path },
            "request": { "set": { "headers": { "authorization": value } } },
        })
    };
    let filter = json!({ "rules": [rule("/there", "token"), rule("/missing", "none")] });
    let mut world = Plan::new(kind, filter).file("token", "ours").start()?;
    world.until_every_vm_has_answers()?;
    world.send(&Request::get("/there"))?.upstream()?;
    assert!(world.send(&Request::get("/missing"))?.has_status(503));
    if kind.is_nginx() {
        // There are none, and nothing that asks for them: that would trap.
        world.pass_time();
        assert_eq!(metric(&mut world, "resolved")?, None);
        world.send(&Request::get("/there"))?.upstream()?;
        return Ok(());
    }
    let vms = u64::from(world.workers());
    wait::until("all is counted", wait::SOON, || {
        world.pass_time();
        let at_least = |world: &mut World, name: &str, least: u64| -> Result<bool> {
            Ok(metric(world, name)?.is_some_and(|value| value >= least))
        };
        let all = at_least(&mut world, "resolved", vms)?
            && at_least(&mut world, "failed", vms)?
            && at_least(&mut world, "refused", 1)?;
        Ok(all.then_some(()))
    })?;
    for name in ["denied", "refreshes", "waiting", "stale_seconds"] {
        assert_eq!(metric(&mut world, name)?.unwrap_or(0), 0, "{name}");
    }
    Ok(())
}
