//! Start-up, outages and rotation: what a request carries while the resolver or a vault is not there,
//! and when a secret changes.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use vaultref_scenarios::client::Request;
use vaultref_scenarios::gate::Gate;
use vaultref_scenarios::load::Load;
use vaultref_scenarios::upstream::{Reply, Upstream};
use vaultref_scenarios::wait;
use vaultref_scenarios::world::{Kind, Plan};

use crate::{in_both_profiles, in_every_gateway};

in_every_gateway!(
    a_changed_file_is_sent_after_its_ttl,
    a_daemon_that_goes_away_is_served_from_memory,
    a_gone_secret_ends_in_503,
    a_request_during_start_up_waits_and_goes_out_right,
    a_value_is_served_from_memory_while_it_is_usable,
    a_vault_that_hangs_fails_its_references_only,
    more_than_1024_references_are_resolved,
    the_daemon_may_come_up_after_the_gateway,
);

in_both_profiles!(
    a_clock_that_jumps_loses_no_request,
    rotation_reaches_every_worker_without_a_failed_request,
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
        return in_envoy_it_waits_for_the_resolver(kind);
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

/// With a resolver that answers when it is told to.
fn in_envoy_it_waits_for_the_resolver(kind: Kind) -> Result<()> {
    let gate = Gate::closed();
    let resolver = Upstream::answering({
        let gate = gate.clone();
        move |_| {
            gate.pass();
            right_answer("ours")
        }
    })?;
    let mut filter = bearer();
    filter["resolver"] = json!({ "timeout_ms": 20_000 });
    let world = Plan::new(kind, filter)
        .resolver(resolver.address())
        .start()?;
    let (envoy, upstream) = world.envoy().context("a real Envoy")?;
    // Each VM polls once, the main thread's among them, and no more while its poll is open.
    let polls = world.workers() as usize + 1;
    wait::until_true("every poll", wait::SOON, || gate.waiting() == polls)?;
    let address = envoy.address();
    let client = thread::spawn(move || own().send(address));
    wait::until_true("the request's own call", wait::SOON, || {
        gate.waiting() > polls
    })?;
    assert!(!client.is_finished(), "it was answered before the resolver");
    assert_eq!(upstream.requests().len(), 0, "it went out unanswered");
    gate.open();
    let response = client.join().expect("no panic")?;
    assert_eq!(response.status, 200, "{}", response.dump());
    let got = upstream.last()?;
    assert_eq!(got.header_values("authorization"), ["Bearer ours"]);
    Ok(())
}

/// What the daemon would say to a question for one value.
fn right_answer(value: &str) -> Reply {
    let answer = json!({ "results": [{ "secret": {
        "value": { "text": value },
        "revision": "1",
        "lifetime": { "fresh_for": 300, "usable_for": 300, "stale": false },
    }}]});
    Reply::status(200)
        .header("x-vaultref-contract", "1")
        .body(answer.to_string())
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
    // The very next one: it asks by itself, whenever the filter's next poll comes.
    let got = world.send(&own())?.upstream()?;
    assert_eq!(got.header_values("authorization"), ["Bearer ours"]);
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
    world.write_secret("token", "our-newer")?;
    world.daemon().start()?;
    world.eventually("the newer credential", &own(), |seen| {
        seen.has_authorization("Bearer our-newer")
    })?;
    Ok(())
}

/// The value is used for as long as the daemon said, and then no longer.
fn a_value_is_served_from_memory_while_it_is_usable(kind: Kind) -> Result<()> {
    let mut world = Plan::new(kind, bearer())
        .terms(json!({ "ttl": 1, "resurrect_ttl": 2 }))
        .file("token", "ours")
        .start()?;
    world.until_every_vm_has_answers()?;
    world.daemon().kill();
    let got = world.send(&own())?.upstream()?;
    assert_eq!(got.header_values("authorization"), ["Bearer ours"]);
    // Which worker gets a request is chance in Envoy, and each counts for itself.
    let mut refused = 0;
    wait::until("the end of its use in every worker", wait::SOON, || {
        world.pass_time();
        let seen = world.send(&own())?;
        if seen.has_authorization("Bearer ours") {
            refused = 0;
            return Ok(None);
        }
        assert!(seen.has_status(503), "{seen:?}");
        refused += 1;
        Ok((refused == 20).then_some(()))
    })?;
    world.daemon().start()?;
    let got = world.send(&own())?.upstream()?;
    assert_eq!(got.header_values("authorization"), ["Bearer ours"]);
    Ok(())
}

fn a_vault_that_hangs_fails_its_references_only(kind: Kind) -> Result<()> {
    const TIMEOUT: Duration = Duration::from_secs(5);
    let hanging = Upstream::answering(|_| Reply::status(200).after(Duration::from_secs(3600)))?;
    let rule = |path: &str, reference: &str| json!({ "match": { "path_prefix": path }, "request": { "set": { "headers": { "authorization": reference } } } });
    let filter = json!({
        "resolver": { "timeout_ms": TIMEOUT.as_millis() },
        "rules": [rule("/hangs", "{vault://slow/x/y}"), rule("/", "Bearer {vault://files/token}")],
    });
    let mut world = Plan::new(kind, filter)
        .file("token", "ours")
        .vault(json!({ "name": "hcv", "prefix": "slow", "config": {
            "protocol": "http", "host": "127.0.0.1", "port": hanging.address().port(),
            "mount": "secret", "kv": "v2", "token": "token-of-nobody", "timeout": 60,
        }}))
        .start()?;
    let hangs = Request::get("/hangs").header("authorization", "Bearer mine");
    for round in 0..2 {
        let got = world.send(&own())?.upstream()?;
        assert_eq!(got.header_values("authorization"), ["Bearer ours"]);
        let start = Instant::now();
        let response = world.send(&hangs)?.local()?;
        assert_eq!(response.status, 503, "round {round}");
        // The daemon answers within `wait_ms`, which is below the call's timeout.
        let took = start.elapsed();
        assert!(took < TIMEOUT, "round {round}: {took:?}");
        world.pass_time();
    }
    let log = world.log();
    assert!(log.contains(": unavailable;"), "{log}");
    assert!(!log.contains("cannot be asked"), "a call failed:\n{log}");
    // The other vault's values go on changing meanwhile.
    world.write_secret("token", "our-newer")?;
    world.eventually("the newer credential", &own(), |seen| {
        seen.has_authorization("Bearer our-newer")
    })?;
    Ok(())
}

fn a_changed_file_is_sent_after_its_ttl(kind: Kind) -> Result<()> {
    let mut world = Plan::new(kind, bearer())
        .file("token", "our-first")
        .start()?;
    let got = world.send(&own())?.upstream()?;
    assert_eq!(got.header_values("authorization"), ["Bearer our-first"]);
    world.write_secret("token", "our-second")?;
    world.eventually("the second credential", &own(), |seen| {
        seen.has_authorization("Bearer our-second")
    })?;
    Ok(())
}

fn a_gone_secret_ends_in_503(kind: Kind) -> Result<()> {
    let mut world = Plan::new(kind, bearer())
        .file("token", "our-first")
        .start()?;
    world.send(&own())?.upstream()?;
    world.remove_secret("token")?;
    world.eventually("a refusal", &own(), |seen| seen.has_status(503))?;
    world.write_secret("token", "our-later")?;
    world.eventually("the credential that is there again", &own(), |seen| {
        seen.has_authorization("Bearer our-later")
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
        .map(|n| (format!("k{n}"), json!(format!("value-{n}"))))
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
            assert_eq!(String::from_utf8_lossy(value), name.replace("x-", "value-"));
            seen += 1;
        }
    }
    assert_eq!(seen, 200);
    Ok(())
}

/// The gateway's clock is all that the filter has, and it may be set while it runs. Back: the filter's
/// own time stands still, and then goes on. Ahead: values may be too old now, so they are asked for.
fn a_clock_that_jumps_loses_no_request(kind: Kind) -> Result<()> {
    const DAY: i64 = 86_400_000_000_000;
    let mut world = Plan::new(kind, bearer()).file("token", "our-0").start()?;
    world.until_every_vm_has_answers()?;
    for (number, jump) in [-DAY, DAY / 24, -3650 * DAY, 3652 * DAY]
        .into_iter()
        .enumerate()
    {
        let harness = world.harness().context("the harness")?;
        harness.gateway().clock().jump(jump);
        let old = format!("Bearer our-{number}");
        let new = format!("Bearer our-{}", number + 1);
        for _ in 0..4 {
            let seen = world.send(&own())?;
            assert!(seen.has_authorization(&old), "after {jump}: {seen:?}");
        }
        world.write_secret("token", format!("our-{}", number + 1))?;
        wait::until(&new, wait::SOON, || {
            world.pass_time();
            let seen = [world.send(&own())?, world.send(&own())?];
            let served = seen
                .iter()
                .all(|seen| seen.has_authorization(&old) || seen.has_authorization(&new));
            assert!(served, "after {jump}: {seen:?}");
            Ok(seen
                .iter()
                .all(|seen| seen.has_authorization(&new))
                .then_some(()))
        })?;
    }
    Ok(())
}

/// Request by request, with the clock in hand: each is served, with the one value or the other, and
/// once a worker has the new one it never goes back.
fn rotation_reaches_every_worker_without_a_failed_request(kind: Kind) -> Result<()> {
    let mut world = Plan::new(kind, bearer())
        .file("token", "our-first")
        .start()?;
    world.until_every_vm_has_answers()?;
    world.write_secret("token", "our-second")?;
    let workers = world.workers() as usize;
    let mut has_second = vec![false; workers];
    wait::until("the second value in every worker", wait::SOON, || {
        world.pass_time();
        for (worker, has_second) in has_second.iter_mut().enumerate() {
            let harness = world.harness().context("the harness")?;
            let seen = harness.send_to(worker, &own())?;
            let is_second = seen.has_authorization("Bearer our-second");
            let is_first = seen.has_authorization("Bearer our-first");
            assert!(
                is_second || (is_first && !*has_second),
                "{worker}: {seen:?}"
            );
            *has_second = is_second;
        }
        Ok(has_second.iter().all(|has| *has).then_some(()))
    })?;
    let log = world.log();
    assert!(!log.contains("cannot be asked"), "a call failed:\n{log}");
    Ok(())
}

/// The whole of a rotation under load: every worker gets the new value, and no request fails.
#[test]
fn rotation_reaches_every_worker_of_envoy_under_load_without_a_failed_request() -> Result<()> {
    let world = Plan::new(Kind::Envoy, bearer())
        .file("token", "our-first")
        .tallying("authorization")
        .start()?;
    let (envoy, upstream) = world.envoy().context("a real Envoy")?;
    let count = |value: &str| upstream.tally().get(value).copied().unwrap_or(0);
    let load = Load::on(envoy.address(), "/")
        .connections(16)
        .duration(Duration::from_secs(12))
        .start()?;
    wait::until_true("load with the first value", wait::SOON, || {
        count("Bearer our-first") > 500
    })?;
    world.write_secret("token", "our-second")?;
    wait::until_true("the second value", wait::SOON, || {
        count("Bearer our-second") > 0
    })?;
    // Every worker has it once thousands of requests in a row carried no other.
    wait::until("the end of the first value", wait::SOON, || {
        let (first, second) = (count("Bearer our-first"), count("Bearer our-second"));
        wait::until_true("more load", wait::SOON, || {
            count("Bearer our-second") > second + 2000
        })?;
        Ok((count("Bearer our-first") == first).then_some(()))
    })?;
    let report = load.finish()?;
    assert!(report.is_clean(), "{report:?}\n{}", world.log());
    let mut values: Vec<_> = upstream.tally().into_keys().collect();
    values.sort();
    assert_eq!(values, ["Bearer our-first", "Bearer our-second"]);
    Ok(())
}
