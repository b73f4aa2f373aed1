//! Fail closed: whatever the resolver answers, neither the reference nor the client's own value of a
//! field that a rule writes reaches the upstream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use serde_json::{Value, json};
use vaultref_scenarios::client::Request;
use vaultref_scenarios::upstream::{Reply, Upstream};
use vaultref_scenarios::wait;
use vaultref_scenarios::world::{Kind, Plan, World};

use crate::in_every_gateway;

in_every_gateway!(
    a_client_that_is_no_longer_served_loses_its_secrets,
    a_token_opens_the_daemon_over_tcp_and_a_wrong_one_does_not,
    an_answer_that_only_looks_right_is_not_believed,
    an_outage_of_the_vault_of_its_token_is_bridged,
    bytes_that_are_no_text_do_no_harm,
    every_answer_that_cannot_be_used_ends_in_503,
);

pub(crate) fn bearer() -> Value {
    json!({ "request": {
        "set": { "headers": { "authorization": "Bearer {vault://files/token}" } },
        "add": { "headers": { "x-added": "{vault://files/token}" } },
        "append": { "headers": { "x-appended": "{vault://files/token}" } },
    }})
}

pub(crate) fn own() -> Request {
    Request::get("/")
        .header("authorization", "Bearer mine")
        .header("x-appended", "mine-too")
}

fn bytes_that_are_no_text_do_no_harm(kind: Kind) -> Result<()> {
    let filter = json!({ "rules": [{
        "match": { "headers": { "x-tier": "gold" }, "path_prefix": "/v1" },
        "request": {
            "set": { "headers": { "authorization": "Bearer {vault://files/token}" } },
            "append": { "headers": { "x-appended": "{vault://files/token}" } },
            "add": { "querystring": { "key": "{vault://files/token}" } },
        },
    }]});
    let mut world = Plan::new(kind, filter).file("token", "ours").start()?;
    let odd = b"\xff\xfe\x80 odd";
    let request = Request::get("/v1")
        .header("authorization", odd)
        .header("x-odd", odd)
        .header("x-appended", odd)
        .header("x-tier", "gold");
    for _ in 0..4 {
        let got = world.send(&request)?.upstream()?;
        assert_eq!(got.header_values("authorization"), ["Bearer ours"]);
        let values: Vec<_> = got
            .headers
            .iter()
            .filter(|(name, _)| name == "x-appended")
            .collect();
        assert_eq!(values.len(), 2, "{}", got.dump());
        assert_eq!(values[0].1, odd);
        assert_eq!(values[1].1, b"ours");
        // No rule matches on bytes that are not what it says.
        let other = Request::get("/v1")
            .header("x-tier", odd)
            .header("authorization", "Bearer mine");
        let got = world.send(&other)?.upstream()?;
        assert_eq!(got.header_values("authorization"), ["Bearer mine"]);
    }
    Ok(())
}

fn a_token_opens_the_daemon_over_tcp_and_a_wrong_one_does_not(kind: Kind) -> Result<()> {
    let token = "a-token-of-the-edge";
    let plan = || Plan::new(kind, bearer()).file("token", "ours");
    let mut world = plan().over_tcp(token, token)?.start()?;
    let seen = world.send(&own())?;
    assert!(seen.has_authorization("Bearer ours"), "{seen:?}");
    let mut world = plan().over_tcp(token, "another-token")?.start()?;
    for _ in 0..2 {
        let seen = world.send(&own())?;
        assert!(seen.has_status(503), "{seen:?}");
        world.pass_time();
    }
    // That neither token is logged or shown is looked for at the end of each scenario.
    Ok(())
}

fn a_client_that_is_no_longer_served_loses_its_secrets(kind: Kind) -> Result<()> {
    let token = "a-token-of-the-edge";
    let mut world = Plan::new(kind, bearer())
        .file("token", "ours")
        .over_tcp(token, token)?
        .start()?;
    let seen = world.send(&own())?;
    assert!(seen.has_authorization("Bearer ours"), "{seen:?}");
    let config = std::fs::read_to_string(world.daemon().config_file())?;
    let config: Value = serde_json::from_str(&config.replace(token, "the-next-token"))?;
    world.daemon().write_config(&config)?;
    world.daemon().restart()?;
    world.eventually("a refusal", &own(), |seen| seen.has_status(503))?;
    Ok(())
}

/// The daemon starts while the vault that holds the filter's token is away: it cannot tell who asks,
/// which is no reason to take away what the filter has.
fn an_outage_of_the_vault_of_its_token_is_bridged(kind: Kind) -> Result<()> {
    let token = "a-token-of-the-edge";
    let is_away = Arc::new(AtomicBool::new(false));
    let vault = Upstream::answering({
        let is_away = Arc::clone(&is_away);
        move |_| match is_away.load(Ordering::SeqCst) {
            true => Reply::status(503),
            false => kv2_answer(&json!({ "token": token })),
        }
    })?;
    let mut world = Plan::new(kind, bearer())
        .file("token", "ours")
        .vault(json!({ "name": "hcv", "prefix": "tokens", "config": {
            "host": "127.0.0.1", "port": vault.address().port(), "kv": "v2",
            "token": "token-of-nobody", "neg_ttl": 1,
        }}))
        .over_tcp("{vault://tokens/edge/token}", token)?
        .start()?;
    world.until_every_vm_has_answers()?;
    is_away.store(true, Ordering::SeqCst);
    world.daemon().restart()?;
    let refused = |world: &World| world.log().matches("so who asks is not known").count();
    wait::until("polls that were refused", wait::SOON, || {
        world.pass_time();
        let seen = world.send(&own())?;
        assert!(seen.has_authorization("Bearer ours"), "{seen:?}");
        Ok((refused(&world) > 5).then_some(()))
    })?;
    is_away.store(false, Ordering::SeqCst);
    world.write_secret("token", "our-newer")?;
    world.eventually("the newer credential", &own(), |seen| {
        seen.has_authorization("Bearer our-newer")
    })?;
    Ok(())
}

/// What a key-value engine of version 2 answers.
pub(crate) fn kv2_answer(data: &Value) -> Reply {
    let body = json!({
        "request_id": "", "lease_id": "", "lease_duration": 0, "renewable": false,
        "data": {
            "data": data,
            "metadata": {
                "created_time": "2026-01-01T00:00:00Z", "deletion_time": "",
                "destroyed": false, "version": 1,
            },
        },
    });
    Reply::status(200)
        .header("content-type", "application/json")
        .body(body.to_string())
}

pub(crate) fn right_answer() -> String {
    json!({ "results": [{ "secret": {
        "value": { "text": "forged" },
        "revision": "1",
        "lifetime": { "fresh_for": 300, "usable_for": 300, "stale": false },
    }}]})
    .to_string()
}

fn an_answer_that_only_looks_right_is_not_believed(kind: Kind) -> Result<()> {
    // It has all but the header by which the filter knows the daemon.
    let forger = Upstream::answering(|_| {
        Reply::status(200)
            .header("content-type", "application/json")
            .body(right_answer())
    })?;
    let mut world = Plan::new(kind, bearer())
        .resolver(forger.address())
        .start()?;
    for _ in 0..3 {
        world.pass_time();
        let seen = world.send(&own())?;
        assert!(seen.has_status(503), "{seen:?}");
    }
    assert!(!forger.requests().is_empty(), "the forger was never asked");
    Ok(())
}

fn every_answer_that_cannot_be_used_ends_in_503(kind: Kind) -> Result<()> {
    let marked = || Reply::status(200).header("x-vaultref-contract", "1");
    let answers: Vec<(&str, Reply)> = vec![
        ("no JSON", marked().body("<html>")),
        ("nothing", marked()),
        ("bytes", marked().body(b"\xff\xfe\x00")),
        ("too few results", marked().body(r#"{"results":[]}"#)),
        (
            "an unknown outcome",
            marked().body(r#"{"results":[{"magic":{}}]}"#),
        ),
        (
            "another version",
            Reply::status(200)
                .header("x-vaultref-contract", "2")
                .body(right_answer()),
        ),
        (
            "an error",
            Reply::status(500)
                .header("x-vaultref-contract", "1")
                .body(right_answer()),
        ),
        (
            "a gateway's 503",
            Reply::status(503).body("upstream connect error"),
        ),
        ("no HTTP", Reply::raw("SSH-2.0-OpenSSH_9.2\r\n")),
        ("closed at once", Reply::raw("")),
        (
            "cut short",
            Reply::raw(
                "HTTP/1.1 200 OK\r\nx-vaultref-contract: 1\r\ncontent-length: 500\r\n\r\n{\"results\"",
            ),
        ),
    ];
    for (name, reply) in answers {
        let garbage = Upstream::answering(move |_| reply.clone())?;
        let mut world = Plan::new(kind, bearer())
            .resolver(garbage.address())
            .workers(1)
            .start()?;
        for _ in 0..2 {
            let seen = world.send(&own())?;
            assert!(seen.has_status(503), "{name}: {seen:?}");
            world.pass_time();
        }
        assert!(!garbage.requests().is_empty(), "{name}: never asked");
    }
    Ok(())
}
