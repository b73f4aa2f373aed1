//! References that come in a request's body: which of its fields get a secret, and what clients try.

use std::cell::Cell;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use vaultref_scenarios::client::Request;
use vaultref_scenarios::world::{Kind, Plan, Seen, World};

use crate::in_every_gateway;

in_every_gateway!(
    a_body_that_asks_for_more_than_its_list_is_refused,
    a_field_of_a_form_is_resolved,
    fields_that_are_named_are_resolved_and_no_others,
    many_references_in_one_body_are_refused,
    what_is_not_there_meets_on_error,
);

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
const AWS: &str = "{vault://env/AWS_SECRET_ACCESS_KEY}";
const ACME: &str = "{vault://files/tenants/acme/key/}";
const GLOBEX: &str = "{vault://files/tenants/globex/key/}";

fn resolving() -> Value {
    json!({
        "request": { "set": { "body": { "/own": "{vault://files/own}" } } },
        "resolve": {
            "headers": ["x-key"],
            "body": ["/auth/key", "/list/1"],
            "allow": ["files/tenants/*"],
        },
        "on_error": { "status": 422 },
    })
}

fn of_form() -> Value {
    json!({ "resolve": { "body": ["api key"], "allow": ["files/tenants/*"] }})
}

fn plan(kind: Kind, mut filter: Value) -> Plan {
    // Long enough for a busy machine: nothing here is about a resolver that is slow.
    filter["resolver"]["timeout_ms"] = json!(20_000);
    Plan::new(kind.with_every_callback(), filter)
        .file("own", "our-own")
        .file("tenants/acme/key", "acme\"key")
        .file("tenants/globex/key", "globex key&")
        .env("AWS_SECRET_ACCESS_KEY", "the-aws-secret")
}

fn post(kind: &str, body: impl AsRef<[u8]>) -> Request {
    Request::post("/p", body).header("content-type", kind)
}

fn body_of(seen: Seen) -> Result<String> {
    Ok(String::from_utf8(seen.upstream()?.body)?)
}

/// Sends a request until its references are known: in nginx they cannot be asked for while it waits.
fn until_known(world: &mut World, request: &Request) -> Result<()> {
    let is_nginx = world.kind().is_nginx();
    let first = world.send(request)?;
    assert_eq!(matches!(first, Seen::Upstream(_)), !is_nginx, "{first:?}");
    // There are two workers, and each has to learn it.
    let in_a_row = Cell::new(0);
    world
        .eventually("the references' values", request, |seen| {
            in_a_row.set(match seen {
                Seen::Upstream(_) => in_a_row.get() + 1,
                _ => 0,
            });
            in_a_row.get() >= 4
        })
        .map(drop)
}

fn fields_that_are_named_are_resolved_and_no_others(kind: Kind) -> Result<()> {
    let mut world = plan(kind, resolving()).start()?;
    world.until_every_vm_has_answers()?;
    let sent = format!(
        r#"{{"n":1.0e0,"auth":{{"key":"\u007bvault:\/\/files/tenants/acme/key/}}, {GLOBEX}","k":"{ACME}"}},"list":["{AWS}","{GLOBEX}",{{"x":"{AWS}"}}],"{AWS}":1}}"#
    );
    let expected = format!(
        r#"{{"n":1.0e0,"auth":{{"key":"acme\"key, globex key&","k":"{ACME}"}},"list":["{AWS}","globex key&",{{"x":"{AWS}"}}],"{AWS}":1,"own":"our-own"}}"#
    );
    let (first, rest) = sent.split_at(30);
    let (second, third) = rest.split_at(40);
    let chunked = Request::new("POST", "/p")
        .header("content-type", JSON)
        .chunked(&[first.as_bytes(), second.as_bytes(), third.as_bytes()]);
    until_known(&mut world, &chunked)?;
    for _ in 0..3 {
        for request in [post(JSON, &sent), chunked.clone()] {
            assert_eq!(body_of(world.send(&request)?)?, expected);
        }
        // What has none costs nothing and goes on.
        let plain = r#"{"auth":{"key":"plain"},"own":1}"#;
        let got = body_of(world.send(&post(JSON, plain))?)?;
        assert_eq!(got, r#"{"auth":{"key":"plain"},"own":"our-own"}"#);
    }
    world.write_secret("tenants/acme/key", "acme-newer")?;
    let newer = expected.replace(r#"acme\"key"#, "acme-newer");
    world.eventually("the newer key", &post(JSON, &sent), |seen| {
        body_of(seen.clone()).is_ok_and(|body| body == newer)
    })?;
    let log = world.log();
    assert!(!log.contains("AWS_SECRET_ACCESS_KEY"), "{log}");
    Ok(())
}

fn a_field_of_a_form_is_resolved(kind: Kind) -> Result<()> {
    let mut world = plan(kind, of_form()).start()?;
    let sent = format!("a=%41&api+key=K+%7Bvault://files/tenants/globex/key/%7D&b={AWS}");
    let request = post(FORM, &sent);
    until_known(&mut world, &request)?;
    for _ in 0..3 {
        let got = body_of(world.send(&request)?)?;
        assert_eq!(got, format!("a=%41&api%20key=K%20globex%20key%26&b={AWS}"));
    }
    Ok(())
}

fn a_body_that_asks_for_more_than_its_list_is_refused(kind: Kind) -> Result<()> {
    let mut world = plan(kind, resolving()).start()?;
    world.until_every_vm_has_answers()?;
    for (value, status) in [
        (AWS, 403),
        ("{vault://files/own}", 403),
        ("{vault://files/tenants/../own}", 400),
        ("{vault://files/tenants/%2E%2E/own/}", 400),
        ("{vault://files/tenants/acme%2F..%2F..%2Fown}", 400),
        ("{vault://files/tenants/acme/key/?ttl=1}", 400),
        ("{vault://files/tenants/acme/key/#1}", 400),
        ("{vault://files/tenants/acme/key/", 400),
        ("{vault://}", 400),
    ] {
        let refused = |seen: Seen| assert!(seen.has_status(status), "{value}: {seen:?}");
        let body = json!({ "auth": { "key": value } });
        refused(world.send(&post(JSON, body.to_string()))?);
        let beside = json!({ "auth": { "key": format!("{ACME}{value}") }, "list": [0, GLOBEX] });
        refused(world.send(&post(JSON, beside.to_string()))?);
        let escaped: String = value
            .chars()
            .map(|one| format!("\\u{:04x}", u32::from(one)))
            .collect();
        let escaped = format!(r#"{{"auth":{{"\u006bey":"{escaped}"}}}}"#);
        refused(world.send(&post(JSON, escaped))?);
    }
    // Which of two counts is the reader's choice.
    let twice = format!(r#"{{"auth":{{"key":"plain","k\u0065y":"{ACME}"}}}}"#);
    let seen = world.send(&post(JSON, twice))?;
    assert!(seen.has_status(422), "{seen:?}");
    let broken = format!(r#"{{"auth":{{"key":"{ACME}"}}"#);
    let seen = world.send(&post(JSON, broken))?;
    assert!(seen.has_status(422), "{seen:?}");
    let log = world.log();
    assert!(!log.contains("AWS_SECRET_ACCESS_KEY"), "{log}");
    Ok(())
}

fn many_references_in_one_body_are_refused(kind: Kind) -> Result<()> {
    let mut world = plan(kind, resolving()).start()?;
    world.until_every_vm_has_answers()?;
    let many = |count: usize| -> String {
        let references = (0..count).map(|n| format!("{{vault://files/tenants/t{n}/k/}}"));
        references.collect()
    };
    for count in [10_000, 17] {
        let body = json!({ "auth": { "key": many(count) } });
        // nginx has put the larger one into a file.
        let status = if kind.is_nginx() && count == 10_000 {
            413
        } else {
            400
        };
        let seen = world.send(&post(JSON, body.to_string()))?;
        assert!(seen.has_status(status), "{count}: {seen:?}");
        let body = json!({ "auth": { "key": many(count - 9) }, "list": [0, many(9)] });
        let seen = world.send(&post(JSON, body.to_string()))?;
        assert!(seen.has_status(status), "{count}: {seen:?}");
    }
    // Those of the other fields count as well.
    let key = ACME.repeat(8);
    let body = json!({ "auth": { "key": ACME.repeat(9) } }).to_string();
    let seen = world.send(&post(JSON, body).header("x-key", key))?;
    assert!(seen.has_status(400), "{seen:?}");
    Ok(())
}

fn what_is_not_there_meets_on_error(kind: Kind) -> Result<()> {
    let body = r#"{"auth":{"key":"{vault://files/tenants/nobody/key/}"},"own":1}"#;
    for (on_error, expected) in [
        (json!({ "status": 422 }), Err(422)),
        (
            json!({ "default": "none" }),
            Ok(r#"{"auth":{"key":"none"},"own":"our-own"}"#),
        ),
    ] {
        let mut filter = resolving();
        filter["on_error"] = on_error;
        let mut world = plan(kind, filter).start()?;
        world.until_every_vm_has_answers()?;
        for _ in 0..4 {
            let seen = world.send(&post(JSON, body))?;
            match expected {
                Err(status) => assert!(seen.has_status(status), "{seen:?}"),
                Ok(expected) => assert_eq!(body_of(seen)?, expected),
            }
        }
    }
    Ok(())
}

/// Headers and body wait one after the other, in Envoy also when the body comes early.
#[test]
fn in_envoy_headers_and_body_wait_for_their_own() -> Result<()> {
    for kind in [Kind::Envoy, Kind::HarnessEnvoy] {
        for stopping in [false, true] {
            let mut plan = plan(kind, resolving());
            if stopping {
                plan = plan.stopping_iteration();
            }
            let mut world = plan.start()?;
            let body = json!({ "auth": { "key": ACME } }).to_string();
            for _ in 0..4 {
                let request = post(JSON, &body).header("x-key", GLOBEX);
                let got = world.send(&request)?.upstream()?;
                assert_eq!(got.header("x-key").as_deref(), Some("globex key&"));
                let body: Value = serde_json::from_slice(&got.body)?;
                assert_eq!(
                    body,
                    json!({ "auth": { "key": "acme\"key" }, "own": "our-own" })
                );
            }
        }
    }
    Ok(())
}

/// A daemon that does not answer costs the request its patience and no more, and nothing of the body.
#[test]
fn in_envoy_a_body_is_not_held_for_longer_than_the_resolver_may_take() -> Result<()> {
    for kind in [Kind::Envoy, Kind::HarnessEnvoy] {
        let mut filter = resolving();
        filter["request"] = json!({});
        let mut plan = plan(kind, filter.clone());
        filter["resolver"]["timeout_ms"] = json!(300);
        plan = plan.without_daemon();
        let mut world = plan.start().context("a gateway without its daemon")?;
        let body = json!({ "auth": { "key": ACME } }).to_string();
        for _ in 0..2 {
            let seen = world.send(&post(JSON, &body))?;
            assert!(seen.has_status(422), "{seen:?}");
        }
    }
    Ok(())
}
