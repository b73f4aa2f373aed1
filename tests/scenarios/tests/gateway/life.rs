//! Start-up, outages and rotation: what a request carries while the resolver or a vault is not there,
//! and when a secret changes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use vaultref_scenarios::client::Request;
use vaultref_scenarios::load::Load;
use vaultref_scenarios::upstream::{Reply, Upstream};
use vaultref_scenarios::wait;
use vaultref_scenarios::world::{Kind, Plan, Seen};

use crate::in_every_gateway;

in_every_gateway!(
    a_changed_file_is_sent_after_its_ttl,
    a_daemon_that_goes_away_is_served_from_memory,
    a_gone_secret_ends_in_503,
    a_request_during_start_up_waits_and_goes_out_right,
    a_vault_that_hangs_fails_its_references_only,
    more_than_1024_references_are_resolved,
    the_daemon_may_come_up_after_the_gateway,
);

fn bearer() -> Value {
    json!({ "request": { "set": { "headers": { "authorization": "Bearer {vault://files/token}" } } } })
}

fn own() -> Request {
    Request::get("/").header("authorization", "Bearer mine")
}

fn a_request_during_start_up_waits_and_goes_out_right(kind: Kind) -> Result<()> {
    let mut world = Plan::new(kind, bearer()).file("token", "ours").start()?;
    let Some(harness) = world.harness() else {
        // In Envoy the first request comes before the first tick as well.
        let got = world.send(&own())?.upstream()?;
        assert_eq!(got.header_values("authorization"), ["Bearer ours"]);
        return Ok(());
    };
    let streams: Vec<_> = (0..6).map(|_| harness.begin(&own())).collect();
    for stream in &streams {
        assert!(harness.gateway().outcome(*stream).is_waiting());
    }
    for stream in streams {
        let got = harness.finish(stream)?.upstream()?;
        assert_eq!(got.header_values("authorization"), ["Bearer ours"]);
    }
    Ok(())
}

fn the_daemon_may_come_up_after_the_gateway(kind: Kind) -> Result<()> {
    let mut world = Plan::new(kind, bearer())
        .file("token", "ours")
        .without_daemon()
        .start()?;
    for _ in 0..3 {
        world.pass_time();
        let response = world.send(&own())?.local()?;
        assert_eq!(response.status, 503);
        let text = response.dump();
        assert!(!text.contains("vault") && !text.contains("token"), "{text}");
    }
    world.daemon().start()?;
    let right = |seen: &Seen| seen.has_authorization("Bearer ours");
    world.eventually("the right credential", &own(), right)?;
    Ok(())
}

fn a_daemon_that_goes_away_is_served_from_memory(kind: Kind) -> Result<()> {
    let mut world = Plan::new(kind, bearer()).file("token", "ours").start()?;
    world.until_every_vm_has_answers()?;
    world.daemon().kill();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        world.pass_time();
        let got = world.send(&own())?.upstream()?;
        assert_eq!(got.header_values("authorization"), ["Bearer ours"]);
    }
    world.write_secret("token", "newer")?;
    world.daemon().start()?;
    world.eventually("the newer credential", &own(), |seen| {
        seen.has_authorization("Bearer newer")
    })?;
    Ok(())
}

fn a_vault_that_hangs_fails_its_references_only(kind: Kind) -> Result<()> {
    let hanging = Upstream::answering(|_| Reply::status(200).after(Duration::from_secs(3600)))?;
    let rule = |path: &str, reference: &str| json!({ "match": { "path_prefix": path }, "request": { "set": { "headers": { "authorization": reference } } } });
    let filter = json!({
        "resolver": { "timeout_ms": 1500 },
        "rules": [rule("/hangs", "{vault://slow/x/y}"), rule("/", "Bearer {vault://files/token}")],
    });
    let mut world = Plan::new(kind, filter)
        .file("token", "ours")
        .vault(json!({ "name": "hcv", "prefix": "slow", "config": {
            "protocol": "http", "host": "127.0.0.1", "port": hanging.address().port(),
            "mount": "secret", "kv": "v2", "token": "unused",
        }}))
        .start()?;
    let hangs = Request::get("/hangs").header("authorization", "Bearer mine");
    for round in 0..3 {
        let got = world.send(&own())?.upstream()?;
        assert_eq!(got.header_values("authorization"), ["Bearer ours"]);
        let start = Instant::now();
        let response = world.send(&hangs)?.local()?;
        assert_eq!(response.status, 503, "round {round}");
        // `wait_ms` is below the 1.5 s of the configuration; the rest is a busy machine.
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{:?}",
            start.elapsed()
        );
        world.pass_time();
    }
    // The other vault's values go on changing meanwhile.
    world.write_secret("token", "newer")?;
    world.eventually("the newer credential", &own(), |seen| {
        seen.has_authorization("Bearer newer")
    })?;
    Ok(())
}

fn a_changed_file_is_sent_after_its_ttl(kind: Kind) -> Result<()> {
    let mut world = Plan::new(kind, bearer()).file("token", "first").start()?;
    let got = world.send(&own())?.upstream()?;
    assert_eq!(got.header_values("authorization"), ["Bearer first"]);
    world.write_secret("token", "second")?;
    world.eventually("the second credential", &own(), |seen| {
        seen.has_authorization("Bearer second")
    })?;
    Ok(())
}

fn a_gone_secret_ends_in_503(kind: Kind) -> Result<()> {
    let mut world = Plan::new(kind, bearer()).file("token", "first").start()?;
    world.send(&own())?.upstream()?;
    world.remove_secret("token")?;
    world.eventually("a refusal", &own(), |seen| seen.has_status(503))?;
    world.write_secret("token", "again")?;
    world.eventually("the credential that is there again", &own(), |seen| {
        seen.has_authorization("Bearer again")
    })?;
    Ok(())
}

fn more_than_1024_references_are_resolved(kind: Kind) -> Result<()> {
    let headers: serde_json::Map<String, Value> = (0..2100)
        .map(|n| {
            (
                format!("x-{n}"),
                json!(format!("{{vault://files/many/k{n}}}")),
            )
        })
        .collect();
    // More headers than a gateway lets through, so they are spread over rules.
    let rules: Vec<Value> = headers
        .iter()
        .collect::<Vec<_>>()
        .chunks(50)
        .enumerate()
        .map(|(n, chunk)| {
            let chunk: serde_json::Map<String, Value> =
                chunk.iter().map(|(name, value)| ((*name).clone(), (*value).clone())).collect();
            json!({ "match": { "path_prefix": format!("/r{n}") }, "request": { "set": { "headers": chunk } } })
        })
        .collect();
    let count = rules.len();
    let object: serde_json::Map<String, Value> = (0..2100)
        .map(|n| (format!("k{n}"), json!(format!("v{n}"))))
        .collect();
    let mut world = Plan::new(kind, json!({ "rules": rules }))
        .file("many", Value::Object(object).to_string())
        .start()?;
    let mut seen = 0;
    for rule in [0, 20, 21, count - 1] {
        let got = world.send(&Request::get(format!("/r{rule}")))?.upstream()?;
        for (name, value) in got
            .headers
            .iter()
            .filter(|(name, _)| headers.contains_key(name))
        {
            assert_eq!(String::from_utf8_lossy(value), name.replace("x-", "v"));
            seen += 1;
        }
    }
    assert_eq!(seen, 200);
    Ok(())
}

/// The whole of a rotation under load: every worker gets the new value, and no request fails.
#[test]
fn rotation_reaches_every_worker_of_envoy_under_load_without_a_failed_request() -> Result<()> {
    let world = Plan::new(Kind::Envoy, bearer())
        .file("token", "first")
        .tallying("authorization")
        .start()?;
    let (envoy, upstream) = world.envoy().context("a real Envoy")?;
    let count = |value: &str| upstream.tally().get(value).copied().unwrap_or(0);
    let load = Load::on(envoy.address(), "/")
        .connections(16)
        .duration(Duration::from_secs(12))
        .start()?;
    wait::until_true("load with the first value", wait::SOON, || {
        count("Bearer first") > 500
    })?;
    world.write_secret("token", "second")?;
    wait::until_true("the second value", wait::SOON, || {
        count("Bearer second") > 0
    })?;
    // Every worker has it once thousands of requests in a row carried no other.
    wait::until("the end of the first value", wait::SOON, || {
        let (first, second) = (count("Bearer first"), count("Bearer second"));
        wait::until_true("more load", wait::SOON, || {
            count("Bearer second") > second + 2000
        })?;
        Ok((count("Bearer first") == first).then_some(()))
    })?;
    let report = load.finish()?;
    assert!(report.is_clean(), "{report:?}\n{}", world.log());
    let mut values: Vec<_> = upstream.tally().into_keys().collect();
    values.sort();
    assert_eq!(values, ["Bearer first", "Bearer second"]);
    Ok(())
}
