//! Bad input: a clear message that names the place and the cause, and no crash. Envoy refuses a bad
//! configuration; elsewhere that would end the worker, so the filter says why and answers 503.

use anyhow::{Result, bail};
use serde_json::json;
use vaultref_scenarios::client::Request;
use vaultref_scenarios::envoy::{Envoy, WasmFilter};
use vaultref_scenarios::world::{Harness, Kind, Plan};
use vaultref_scenarios::{paths, wait};

use crate::in_every_gateway;

in_every_gateway!(
    a_bad_configuration_is_refused_with_its_place,
    a_bad_reference_is_refused_at_once
);

/// Configurations, and what their message must contain.
fn bad_configurations() -> Vec<(&'static str, Vec<&'static str>)> {
    let set = r#"{"resolver":{"upstream":"vaultref"},"request":{"set":{"headers":"#;
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    vec![
        ("not JSON", vec!["JSON"]),
        ("{\"resolver\":", vec!["line 1"]),
        ("[]", vec!["object"]),
        (r#"{"request":{}}"#, vec!["resolver"]),
        (
            r#"{"resolver":{}}"#,
            vec!["resolver", "upstream", "host_function"],
        ),
        (
            r#"{"resolver":{"upstream":"vaultref","host_function":true},"request":{}}"#,
            vec!["resolver", "upstream", "host_function"],
        ),
        (
            r#"{"resolver":{"upstream":"vaultref"},"rules":[{},{"match":{"pathprefix":"/"}}]}"#,
            vec!["/rules/1/match/pathprefix", "unknown field"],
        ),
        (
            leak(format!(r#"{set}{{"x-a":"1","X-A":"2"}}}}}}}}"#)),
            vec![
                "/request/set/headers/X-A",
                "'x-a' is written at /request/set/headers/x-a as well",
            ],
        ),
        (
            leak(format!(
                r#"{set}{{"authorization":"1"}}}}}},"basic_auth":{{"username":"a","password":"b"}}}}"#
            )),
            vec![
                "/basic_auth",
                "'authorization' is written at /request/set/headers/authorization",
            ],
        ),
        (
            leak(format!(
                r#"{set}{{"x-a":"ok","x-b":"Bearer {{vault://env/a"}}}}}}}}"#
            )),
            vec!["/request/set/headers/x-b", "byte 7"],
        ),
        (
            leak(format!(r#"{set}{{"x-b":"{{vault://env/}}"}}}}}}}}"#)),
            vec!["/request/set/headers/x-b", "path is empty", "byte 13"],
        ),
        (
            r#"{"resolver":{"upstream":"vaultref"},"rules":[{"match":{"host":[]}}]}"#,
            vec!["/rules/0/match/host", "is empty"],
        ),
        (
            leak(format!(r#"{set}{{"bad name":"1"}}}}}}}}"#)),
            vec!["bad name"],
        ),
    ]
}

fn a_bad_configuration_is_refused_with_its_place(kind: Kind) -> Result<()> {
    for (configuration, expected) in bad_configurations() {
        let message = in_any_order(kind, &refusal(kind, configuration)?);
        for part in expected {
            let part = in_any_order(kind, part);
            assert!(
                message.contains(&part),
                "{configuration}\nwants {part:?} in:\n{message}"
            );
        }
    }
    Ok(())
}

/// Kong hands members over in any order, so which of two names that differ in case is the second one
/// is not known there.
fn in_any_order(kind: Kind, text: &str) -> String {
    match kind.is_nginx() {
        true => text.to_lowercase(),
        false => text.to_owned(),
    }
}

/// What is logged about a configuration that must be refused.
fn refusal(kind: Kind, configuration: &str) -> Result<String> {
    match kind {
        Kind::Envoy | Kind::EnvoyWithEveryGatewaysFile => {
            let filter = WasmFilter::new(paths::module(kind.module())?).text(configuration);
            match Envoy::setup()
                .filter(filter)
                .cluster("vaultref", wait_nowhere())
                .start()
            {
                Ok(_) => bail!("Envoy took {configuration}"),
                Err(error) => Ok(format!("{error:?}")),
            }
        }
        Kind::HarnessEnvoy | Kind::HarnessEnvoyWithEveryGatewaysFile => {
            let setup = Harness::setup(kind, 1)?.plugin(Harness::plugin(configuration));
            match Harness::start(setup, 1) {
                Ok(_) => bail!("the harness took {configuration}"),
                Err(error) => Ok(format!("{error:?}")),
            }
        }
        Kind::HarnessNginx => {
            let setup = Harness::setup(kind, 1)?.plugin(Harness::plugin(configuration));
            let mut harness = Harness::start(setup, 1)?;
            for _ in 0..2 {
                let request = Request::get("/").header("authorization", "Bearer mine");
                let seen = harness.send(&request)?;
                assert!(seen.has_status(503), "{configuration}: {seen:?}");
                harness.tick();
            }
            Ok(harness.log())
        }
    }
}

fn wait_nowhere() -> std::net::SocketAddr {
    ([127, 0, 0, 1], 9).into()
}

/// What only the daemon can judge: the request is refused, and the filter's log says which vault and
/// which kind of failure.
fn a_bad_reference_is_refused_at_once(kind: Kind) -> Result<()> {
    let references = [
        ("/unknown", "{vault://nowhere/x}", "unknown-vault"),
        (
            "/option",
            "{vault://files/token?prefix=/etc}",
            "invalid-reference",
        ),
        ("/missing", "{vault://files/missing}", "not-found"),
        ("/key", "{vault://files/object/missing}", "key-not-found"),
        ("/type", "{vault://files/object/number}", "wrong-type"),
        (
            "/outside",
            "{vault://files/..%2F..%2Fetc%2Fpasswd}",
            "files",
        ),
    ];
    let rules: Vec<_> = references
        .iter()
        .map(|(path, reference, _)| {
            json!({
                "match": { "path_prefix": path },
                "request": { "set": { "headers": { "authorization": reference } } },
            })
        })
        .chain([json!({ "request": { "set": { "headers": { "authorization": "Bearer {vault://files/token}" } } } })])
        .collect();
    let mut world = Plan::new(kind, json!({ "rules": rules }))
        .file("token", "ours")
        .file("object", r#"{"number":7}"#)
        .start()?;
    for (path, reference, failure) in references {
        for _ in 0..2 {
            let seen = world.send(&Request::get(path).header("authorization", "Bearer mine"))?;
            let response = seen.local()?;
            assert_eq!(response.status, 503, "{reference}");
            let text = response.dump();
            assert!(
                !text.contains("vault://") && !text.contains(failure),
                "{text}"
            );
            assert!(response.json()?.get("error").is_some(), "{text}");
        }
        wait::until_true(reference, wait::SOON, || world.log().contains(failure))?;
    }
    let seen = world.send(&Request::get("/"))?;
    assert!(seen.has_authorization("Bearer ours"), "{seen:?}");
    Ok(())
}
