//! What a rule can be matched by beside prefix, method and header, and what a client can do about it:
//! nothing that would choose another credential.

use anyhow::Result;
use serde_json::{Value, json};
use vaultref_scenarios::client::Request;
use vaultref_scenarios::world::{Kind, Plan, Seen, World};

use crate::in_every_gateway;

in_every_gateway!(
    a_name_is_matched_below_a_suffix_only_if_it_is_one,
    a_parameter_is_matched_where_every_server_reads_the_same,
    a_whole_path_is_matched_and_odd_ones_choose_nothing,
    an_answer_in_place_of_the_upstream_s_is_the_rule_s_own,
    the_gateway_s_own_route_chooses_the_credential,
);

const OWN: &str = "Bearer mine";

/// Rules in this order, each with the name of its file as the credential.
fn world(kind: Kind, rules: &[(Value, &str)]) -> Result<World> {
    plan(kind, rules).start()
}

fn plan(kind: Kind, rules: &[(Value, &str)]) -> Plan {
    let configured = rules.iter().map(|(matches, name)| {
        let value = format!("Bearer {{vault://files/{name}}}");
        json!({ "match": matches, "request": { "set": { "headers": { "authorization": value } } } })
    });
    let filter = json!({ "rules": configured.collect::<Vec<_>>() });
    rules
        .iter()
        .fold(Plan::new(kind, filter), |plan, (_, name)| {
            plan.file(name, format!("key-of-{name}"))
        })
}

/// Sends what a client sends; `expected` is the rule, if it is one, or the answer's status.
fn check(world: &mut World, request: &Request, expected: Result<Option<&str>, u16>) -> Result<()> {
    let request = request.clone().header("authorization", OWN);
    let seen = world.send(&request)?;
    assert_seen(&seen, &format!("{request:?}"), expected);
    Ok(())
}

fn assert_seen(seen: &Seen, what: &str, expected: Result<Option<&str>, u16>) {
    match expected {
        Ok(Some(name)) => {
            let value = format!("Bearer key-of-{name}");
            assert!(seen.has_authorization(&value), "{what}: {seen:?}");
        }
        Ok(None) => assert!(seen.has_authorization(OWN), "{what}: {seen:?}"),
        Err(status) => assert!(seen.has_status(status), "{what}: {seen:?}"),
    }
}

fn a_whole_path_is_matched_and_odd_ones_choose_nothing(kind: Kind) -> Result<()> {
    let mut world = world(
        kind,
        &[
            (json!({ "path": "/v1/keys" }), "exact"),
            (
                json!({ "path_regex": "/users/[0-9]{1,9}(/keys)?" }),
                "regex",
            ),
            (json!({ "path_prefix": "/" }), "rest"),
        ],
    )?;
    let table = [
        ("/v1/keys", Ok(Some("exact"))),
        ("/v1/keys?a=b", Ok(Some("exact"))),
        ("/v1/keys/", Ok(Some("rest"))),
        ("/v1/keysx", Ok(Some("rest"))),
        ("/users/12", Ok(Some("regex"))),
        ("/users/12/keys?x", Ok(Some("regex"))),
        ("/x/users/12", Ok(Some("rest"))),
        ("/users/12/keys/x", Ok(Some("rest"))),
        ("/v1/x/../keys", Err(400)),
        ("/v1/%6beys", Err(400)),
        ("/v1%2fkeys", Err(400)),
        ("/v1/keys;x=1", Err(400)),
        ("/users/12;x=1", Err(400)),
        ("/users/%ff", Err(400)),
    ];
    for (path, expected) in table {
        check(&mut world, &Request::get(path), expected)?;
    }
    let long = format!("/users/{}", "1".repeat(3000));
    check(&mut world, &Request::get(&long), Err(400))
}

fn a_parameter_is_matched_where_every_server_reads_the_same(kind: Kind) -> Result<()> {
    let mut world = world(
        kind,
        &[
            (
                json!({ "querystring": { "tier": "gold", "lang": "d e" } }),
                "gold",
            ),
            (json!({}), "rest"),
        ],
    )?;
    let table = [
        ("/?tier=gold&lang=d+e", Ok(Some("gold"))),
        ("/x?lang=d%20e&a=1&t%69er=%67old", Ok(Some("gold"))),
        ("/?tier=gold", Ok(Some("rest"))),
        ("/?tier=gold&tier=gold&lang=d+e", Ok(Some("rest"))),
        ("/?tier=gold&%74ier=x&lang=d+e", Ok(Some("rest"))),
        ("/?tier=Gold&lang=d+e", Ok(Some("rest"))),
        ("/?tier[]=gold&lang=d+e", Ok(Some("rest"))),
        ("/", Ok(Some("rest"))),
        ("/?a=1;b=2&tier=gold&lang=d+e", Ok(Some("gold"))),
        ("/?a=1;tier=x&tier=gold&lang=d+e", Err(400)),
        ("/?a=1;tier=gold&lang=d+e", Err(400)),
    ];
    for (path, expected) in table {
        check(&mut world, &Request::get(path), expected)?;
    }
    Ok(())
}

fn a_name_is_matched_below_a_suffix_only_if_it_is_one(kind: Kind) -> Result<()> {
    let mut world = world(kind, &[(json!({ "host": ["*.example.com"] }), "tenant")])?;
    let table = [
        ("a.example.com", true),
        ("A.b.Example.COM:8443", true),
        ("example.com", false),
        ("aexample.com", false),
        ("a.example.com.evil.org", false),
        ("evil.org:1.example.com", false),
        ("a..example.com", false),
        ("evil.org%2f.example.com", false),
    ];
    for (host, matches) in table {
        let request = Request::get("/").header("host", host);
        let seen = world.send(&request.clone().header("authorization", OWN))?;
        // Envoy itself refuses some of these, which is as good.
        if matches || !seen.has_status(400) {
            assert_seen(&seen, host, Ok(matches.then_some("tenant")));
        }
    }
    Ok(())
}

fn an_answer_in_place_of_the_upstream_s_is_the_rule_s_own(kind: Kind) -> Result<()> {
    let rule = |path: &str, on_error: Value| {
        json!({
            "match": { "path": path },
            "request": { "set": { "headers": { "authorization": "Bearer {vault://files/none}" } } },
            "on_error": on_error,
        })
    };
    let rules = [
        rule("/json", json!({ "status": 429, "body": "{\"code\": 7}" })),
        rule("/text", json!({ "body": "come back\nlater" })),
        rule("/default", json!({ "default": "Bearer nobody" })),
        rule("/plain", json!({})),
    ];
    let mut world = Plan::new(kind, json!({ "rules": rules })).start()?;
    // The first waits for its answer, the others have it.
    for _ in 0..3 {
        for (path, status, content_type, body) in [
            ("/json", 429, "application/json", "{\"code\": 7}"),
            (
                "/text",
                503,
                "text/plain; charset=utf-8",
                "come back\nlater",
            ),
        ] {
            let response = world.send(&Request::get(path))?.local()?;
            assert_eq!(response.status, status, "{path}");
            assert_eq!(
                response.header("content-type").as_deref(),
                Some(content_type)
            );
            assert_eq!(response.text(), body);
        }
        let response = world.send(&Request::get("/plain"))?.local()?;
        assert_eq!(response.status, 503);
        assert!(
            response.text().contains("not available"),
            "{}",
            response.text()
        );
        let seen = world.send(&Request::get("/default").header("authorization", OWN))?;
        assert!(seen.has_authorization("Bearer nobody"), "{seen:?}");
        world.pass_time();
    }
    Ok(())
}

/// Envoy's routes, with names and metadata of each kind.
fn routes(listener: &mut Value) {
    let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    let route = |prefix: &str, name: &str, metadata: Value| {
        json!({
            "name": name,
            "match": { "prefix": prefix },
            "metadata": { "filter_metadata": { "com.example": metadata } },
            "route": { "cluster": "upstream" },
        })
    };
    manager["route_config"]["virtual_hosts"][0]["routes"] = json!([
        route("/pay", "payments", json!({})),
        route("/gold", "other", json!({ "tier": "gold" })),
        route("/number", "other", json!({ "tier": 1 })),
        route("/bool", "other", json!({ "tier": true })),
        route("/list", "other", json!({ "tier": ["gold"] })),
        route("/object", "other", json!({ "tier": { "gold": "gold" } })),
        route("/", "", json!({})),
    ]);
}

fn the_gateway_s_own_route_chooses_the_credential(kind: Kind) -> Result<()> {
    if kind.is_nginx() {
        return kong_s_route_chooses(kind);
    }
    let metadata = r"xds.route_metadata.filter_metadata.com\.example.tier";
    let rules = [
        (
            json!({ "properties": { "xds.route_name": "payments" } }),
            "pay",
        ),
        (json!({ "properties": { metadata: "gold" } }), "gold"),
        (json!({ "properties": { metadata: "1" } }), "number"),
        (json!({ "properties": { metadata: "true" } }), "bool"),
    ];
    let mut world = plan(kind, &rules).adjust_listener(routes).start()?;
    let gold: &[&str] = &[
        "xds",
        "route_metadata",
        "filter_metadata",
        "com.example",
        "tier",
    ];
    let table = [
        (
            "/pay",
            Some((&["xds", "route_name"][..], "payments")),
            Some("pay"),
        ),
        ("/gold", Some((gold, "gold")), Some("gold")),
        // What is no text is no text of that spelling either.
        ("/number", None, None),
        ("/bool", None, None),
        ("/list", None, None),
        ("/object", None, None),
        ("/", None, None),
    ];
    for (path, property, expected) in table {
        let request = Request::get(path)
            .header("authorization", OWN)
            .header("xds.route_name", "payments");
        let seen = match world.harness() {
            None => world.send(&request)?,
            Some(harness) => {
                let mut request = vaultref_harness::Request::from(&request);
                if let Some((path, value)) = property {
                    request = request.property(path, value);
                }
                let stream = harness.gateway().request(0, request);
                harness.finish(stream)?
            }
        };
        assert_seen(&seen, path, Ok(expected));
    }
    Ok(())
}

fn kong_s_route_chooses(kind: Kind) -> Result<()> {
    let rules = [
        (
            json!({ "properties": { "kong.route_name": "r", "kong.service_name": "s" } }),
            "both",
        ),
        (
            json!({ "properties": { "kong.service_name": "s" } }),
            "service",
        ),
        (
            json!({ "properties": { "ngx.server_port": "8000" } }),
            "port",
        ),
    ];
    let options = vaultref_harness::NginxOptions {
        variables: vec![("server_port".to_owned(), "8000".to_owned())],
        ..vaultref_harness::NginxOptions::kong()
    };
    let mut world = plan(kind, &rules).nginx(options).start()?;
    let harness = crate::faults::harness(&mut world)?;
    for (names, expected) in [
        (&[("route_name", "r"), ("service_name", "s")][..], "both"),
        (&[("route_name", "x"), ("service_name", "s")], "service"),
        (&[("route_name", "r"), ("service_name", "x")], "port"),
        (&[], "port"),
    ] {
        let request = Request::get("/").header("authorization", OWN);
        let request = vaultref_harness::Request::from(&request);
        let request = names.iter().fold(request, |request, (name, value)| {
            request.property(&["kong", name], *value)
        });
        let stream = harness.gateway().request(0, request);
        let seen = harness.finish(stream)?;
        assert_seen(&seen, expected, Ok(Some(expected)));
    }
    Ok(())
}
