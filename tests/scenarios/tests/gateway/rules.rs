//! Matching chooses a credential, so it cannot be fooled.

use anyhow::Result;
use serde_json::json;
use vaultref_scenarios::client::Request;
use vaultref_scenarios::world::{Kind, Plan, World};

use crate::in_every_gateway;

in_every_gateway!(
    hosts_are_compared_without_case_and_port,
    odd_paths_choose_no_credential,
    the_first_rule_that_matches_is_used,
);

fn three_rules(kind: Kind) -> Result<World> {
    let rule = |matches: serde_json::Value, name: &str| {
        let value = format!("Bearer {{vault://files/{name}}}");
        json!({ "match": matches, "request": { "set": { "headers": { "authorization": value } } } })
    };
    let rules = [
        rule(
            json!({ "path_prefix": "/v1", "methods": ["POST"], "headers": { "x-tier": "gold" } }),
            "gold",
        ),
        rule(json!({ "path_prefix": "/v1" }), "v1"),
        rule(json!({ "path_prefix": "/admin" }), "admin"),
    ];
    Plan::new(kind, json!({ "rules": rules }))
        .file("gold", "key-of-gold")
        .file("v1", "key-of-v1")
        .file("admin", "key-of-admin")
        .start()
}

fn the_first_rule_that_matches_is_used(kind: Kind) -> Result<()> {
    let mut world = three_rules(kind)?;
    let own = "Bearer mine";
    let table = [
        (Request::get("/v1"), "Bearer key-of-v1"),
        (Request::get("/v1/"), "Bearer key-of-v1"),
        (Request::get("/v1/x/y"), "Bearer key-of-v1"),
        (Request::get("/v1?x=/admin"), "Bearer key-of-v1"),
        (Request::get("/v1/%7Ex;y=1/%20"), "Bearer key-of-v1"),
        (
            Request::post("/v1/x", "body").header("x-tier", "gold"),
            "Bearer key-of-gold",
        ),
        (
            Request::get("/v1/x").header("x-tier", "gold"),
            "Bearer key-of-v1",
        ),
        (
            Request::post("/v1/x", "body").header("x-tier", "Gold"),
            "Bearer key-of-v1",
        ),
        (Request::get("/admin/users"), "Bearer key-of-admin"),
        (Request::get("/v10"), own),
        (Request::get("/v10/x"), own),
        (Request::get("/V1/x"), own),
        (Request::get("/"), own),
        (Request::get("/x/v1"), own),
    ];
    for (request, expected) in table {
        let got = world
            .send(&request.clone().header("authorization", own))?
            .upstream()?;
        assert_eq!(
            got.header("authorization").as_deref(),
            Some(expected),
            "{request:?}"
        );
        assert_eq!(got.path.as_bytes(), request.path());
    }
    Ok(())
}

fn odd_paths_choose_no_credential(kind: Kind) -> Result<()> {
    let mut world = three_rules(kind)?;
    let odd = [
        "/v1/../admin",
        "/v1/..",
        "/v1/./x",
        "/v1/%2e%2e/admin",
        "/v1/%2E./admin",
        "/v1/.%2e/admin",
        "/v1/..;x=1/admin",
        "/v1%2fx",
        "/v1%2F..%2Fadmin",
        "/v1/..%5cadmin",
        "/v1/x%5Cy",
        "/v%31/x",
        "/%61dmin",
        "/%2561dmin/%2e",
        "/admin;x/users",
        "/v1;x=/../admin",
        "//admin",
        "/v1//x",
    ];
    for path in odd {
        let seen = world.send(&Request::get(path).header("authorization", "Bearer mine"))?;
        let response = seen.local()?;
        assert_eq!(response.status, 400, "{path}");
        assert!(!response.text().contains("vault"), "{}", response.text());
    }
    Ok(())
}

fn hosts_are_compared_without_case_and_port(kind: Kind) -> Result<()> {
    let filter = json!({ "rules": [{
        "match": { "host": ["api.example.com", "other.example.com"] },
        "request": { "set": { "headers": { "authorization": "Bearer {vault://files/token}" } } },
    }]});
    let mut world = Plan::new(kind, filter).file("token", "ours").start()?;
    let table = [
        ("api.example.com", true),
        ("API.Example.COM", true),
        ("api.example.com:8443", true),
        ("Other.example.com:80", true),
        ("api.example.com.evil.com", false),
        ("xapi.example.com", false),
        ("example.com", false),
        ("api.example.com:x", false),
    ];
    for (host, matches) in table {
        let request = Request::get("/")
            .header("host", host)
            .header("authorization", "Bearer mine");
        let got = world.send(&request)?.upstream()?;
        let expected = if matches {
            "Bearer ours"
        } else {
            "Bearer mine"
        };
        assert_eq!(
            got.header("authorization").as_deref(),
            Some(expected),
            "{host}"
        );
    }
    Ok(())
}
