//! References that come with the request, and those with parameters: who gets whose credential, and
//! what clients try.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use vaultref_scenarios::client::Request;
use vaultref_scenarios::openbao::{KV2_MOUNT, OpenBao};
use vaultref_scenarios::world::{Harness, Kind, Plan, Seen, World};

use crate::{in_both_profiles, in_every_gateway};

in_every_gateway!(
    a_header_is_not_injected_through_a_secret_of_a_request,
    a_parameter_leads_nowhere_else,
    a_reference_in_a_place_that_is_not_named_is_text,
    a_request_that_asks_for_more_than_its_list_is_refused,
    references_in_named_fields_are_resolved,
    ten_thousand_references_in_one_request_are_refused,
    tenants_get_their_own_credentials_from_openbao,
);

in_both_profiles!(
    a_missing_tenant_does_not_make_every_request_call,
    what_is_known_costs_no_call_and_what_is_not_one,
);

const AWS: &str = "{vault://env/AWS_SECRET_ACCESS_KEY}";

fn resolving() -> Value {
    json!({
        "request": { "set": { "headers": { "x-own": "{vault://files/own}" } } },
        "resolve": {
            "headers": ["x-upstream-key", "x-second"],
            "querystring": ["key"],
            "allow": ["files/tenants/*"],
        },
    })
}

/// Long enough for a busy machine: nothing here is about a resolver that is slow.
fn patient(mut filter: Value) -> Value {
    filter["resolver"]["timeout_ms"] = json!(20_000);
    filter
}

fn start(kind: Kind, filter: Value) -> Result<World> {
    Plan::new(kind, patient(filter))
        .file("own", "our-own")
        .file("tenants/acme/key", "acme-key")
        .file("tenants/globex/key", "globex key&")
        .file("tenants/evil/key", "evil-key\r\nx-injected: 1")
        .file("other/key", "other-key")
        .env("AWS_SECRET_ACCESS_KEY", "the-aws-secret")
        .start()
}

/// Whether it was answered here with this status, or the gateway would not even read it.
fn is_refused(seen: &Seen, status: u16) -> bool {
    match seen {
        Seen::Upstream(_) => false,
        // What a gateway makes of bytes that are no text is its own: often another value.
        Seen::Local(response) => [status, 431, 503].contains(&response.status),
        Seen::Reset => true,
    }
}

fn references_in_named_fields_are_resolved(kind: Kind) -> Result<()> {
    let mut world = start(kind, resolving())?;
    let query = "/p?a=%7B&key=K%20%7Bvault%3A//files/tenants/globex/key/%7D&b={vault://files/own}";
    let request = Request::get(query)
        .header(
            "X-Upstream-Key",
            "Key {vault://files/tenants/acme/key/}, {vault://files/tenants/globex/key/}",
        )
        .header("x-second", "no reference")
        .header("x-third", "{vault://files/tenants/acme/key/}");
    // The first waits for one call, later ones are served from memory.
    for _ in 0..4 {
        let got = world.send(&request)?.upstream()?;
        let value = got.header("x-upstream-key");
        assert_eq!(value.as_deref(), Some("Key acme-key, globex key&"));
        assert_eq!(got.header("x-second").as_deref(), Some("no reference"));
        let third = got.header("x-third");
        assert_eq!(third.as_deref(), Some("{vault://files/tenants/acme/key/}"));
        assert_eq!(got.header("x-own").as_deref(), Some("our-own"));
        let path = "/p?a=%7B&key=K%20globex%20key%26&b={vault://files/own}";
        assert_eq!(got.path, path);
    }
    world.write_secret("tenants/acme/key", "acme-newer")?;
    world.eventually("the newer key", &request, |seen| match seen {
        Seen::Upstream(got) => {
            got.header("x-upstream-key").as_deref() == Some("Key acme-newer, globex key&")
        }
        _ => false,
    })?;
    let missing = Request::get("/").header("x-second", "{vault://files/tenants/none/key/}");
    for _ in 0..3 {
        let seen = world.send(&missing)?;
        assert!(seen.has_status(503), "{seen:?}");
    }
    Ok(())
}

fn a_reference_in_a_place_that_is_not_named_is_text(kind: Kind) -> Result<()> {
    let mut world = start(kind, resolving())?;
    let encoded = "%7Bvault%3A%2F%2Fenv%2FAWS_SECRET_ACCESS_KEY%7D";
    let path = format!("/{encoded}/x?k={AWS}&{encoded}=1&keys={encoded}&{AWS}");
    let mut request = Request::post(&path, format!("{{\"key\":\"{AWS}\"}} {AWS}"))
        .header("content-type", "application/json")
        .header("cookie", format!("x-upstream-key={AWS}; key={AWS}"));
    let names = [
        "authorization",
        "proxy-authorization",
        "x-upstream-key-2",
        "x-api-key",
        "user-agent",
        "x-tenant",
    ];
    for name in names {
        request = request.header(name, AWS);
    }
    for _ in 0..3 {
        let got = world.send(&request)?.upstream()?;
        for name in names {
            assert_eq!(got.header_values(name), [AWS], "{name}");
        }
        let cookie = got.header("cookie").context("a cookie")?;
        assert!(cookie.contains(AWS), "{cookie}");
        assert_eq!(got.path, path);
        let body = String::from_utf8_lossy(&got.body);
        assert_eq!(body.matches(AWS).count(), 2, "{body}");
        assert!(!got.dump().contains("the-aws-secret"), "{}", got.dump());
        world.pass_time();
    }
    // What the gateway will not take there goes nowhere.
    for request in [
        Request::get("/").header("host", AWS),
        Request::new(AWS, "/"),
        Request::get(AWS),
        Request::get("/").header(AWS, "1"),
    ] {
        if let Ok(Seen::Upstream(got)) = world.send(&request) {
            assert!(!got.dump().contains("the-aws-secret"), "{}", got.dump());
        }
    }
    // Where one may stand it is not on the list. It was never asked for: the daemon logs what it reads.
    let named = Request::get(format!("/?key={encoded}")).header("x-upstream-key", AWS);
    let seen = world.send(&named)?;
    assert!(seen.has_status(403), "{seen:?}");
    let log = world.log();
    assert!(!log.contains("AWS_SECRET_ACCESS_KEY"), "{log}");
    Ok(())
}

fn a_request_that_asks_for_more_than_its_list_is_refused(kind: Kind) -> Result<()> {
    let mut world = start(kind, resolving())?;
    let good = "{vault://files/tenants/acme/key/}";
    for (value, status) in [
        ("{vault://files/own}", 403),
        ("{vault://files/other/key/}", 403),
        ("{vault://fs/tenants/acme/key/}", 403),
        (AWS, 403),
        ("{vault://files/tenants/../other/key/}", 400),
        ("{vault://files/tenants/%2E%2E/other/key/}", 400),
        ("{vault://files/tenants/acme%2F..%2F..%2Fown}", 400),
        ("{vault://files/tenants/acme/key/?ttl=1}", 400),
        ("{vault://files/tenants/acme/key/?base64_decode=true}", 400),
        ("{vault://files/tenants/acme/key/#1}", 400),
        ("{vault://files/tenants/acme/key/", 400),
        ("{vault://}", 400),
    ] {
        let refused = |seen: Seen| assert!(seen.has_status(status), "{value}: {seen:?}");
        refused(world.send(&Request::get("/").header("x-second", value))?);
        let beside = Request::get("/").header("x-second", value);
        refused(world.send(&beside.header("x-upstream-key", good))?);
        refused(world.send(&Request::get("/").header("x-second", format!("{good}{value}")))?);
        let encoded: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
        refused(world.send(&Request::get(format!("/?key={encoded}")))?);
    }
    let twice = Request::get("/")
        .header("x-second", "plain")
        .header("X-Second", good);
    let seen = world.send(&twice)?;
    assert!(seen.has_status(400), "{seen:?}");
    let seen = world.send(&Request::get(format!("/?key=1&k%65y={good}")))?;
    assert!(seen.has_status(400), "{seen:?}");
    Ok(())
}

fn ten_thousand_references_in_one_request_are_refused(kind: Kind) -> Result<()> {
    let mut world = start(kind, resolving())?;
    let many = |count: usize| -> String {
        let references = (0..count).map(|n| format!("{{vault://files/tenants/t{n}/k/}}"));
        references.collect()
    };
    for count in [10_000, 1_000, 17] {
        let seen = world.send(&Request::get("/").header("x-second", many(count)));
        // Envoy closes the connection over so many bytes, while they are still being sent.
        if seen.is_err() && kind == Kind::Envoy && count == 10_000 {
            continue;
        }
        let seen = seen?;
        assert!(is_refused(&seen, 400), "{count}: {seen:?}");
    }
    let request = Request::get(format!("/?key={}", many(9))).header("x-second", many(8));
    let seen = world.send(&request)?;
    assert!(seen.has_status(400), "{seen:?}");
    let request = Request::get("/").header("x-second", "{vault://files/tenants/acme/key/}");
    let got = world.send(&request)?.upstream()?;
    assert_eq!(got.header("x-second").as_deref(), Some("acme-key"));
    Ok(())
}

fn a_header_is_not_injected_through_a_secret_of_a_request(kind: Kind) -> Result<()> {
    let mut world = start(kind, resolving())?;
    let evil = Request::get("/").header("x-second", "{vault://files/tenants/evil/key/}");
    for _ in 0..3 {
        let response = world.send(&evil)?.local()?;
        assert_eq!(response.status, 503);
        assert!(!response.dump().contains("evil"), "{}", response.dump());
    }
    let query = Request::get("/?key={vault://files/tenants/evil/key/}");
    let got = world.send(&query)?.upstream()?;
    assert_eq!(got.path, "/?key=evil-key%0D%0Ax-injected%3A%201");
    assert_eq!(got.header("x-injected"), None);
    Ok(())
}

/// Each way in which a parameter gets its value, for a tenant whose credential it chooses.
fn tenants() -> Value {
    let value = |parameter: &str| format!("Bearer {{vault://tenants/{parameter}/api-key}}");
    let rule = |prefix: &str, request: Value| {
        json!({
            "match": { "path_prefix": prefix },
            "request": { "set": request },
            "resolve": { "allow": ["tenants/*/api-key"] },
        })
    };
    json!({ "rules": [
        rule("/header", json!({ "headers": { "authorization": value("$(header:x-tenant)") } })),
        rule("/query", json!({ "headers": { "authorization": value("$(query:tenant)") } })),
        rule("/path", json!({ "headers": { "authorization": value("$(path:2)") } })),
        rule("/into-query", json!({ "querystring": {
            "key": "{vault://tenants/$(header:x-tenant)/api-key}",
        }})),
        {
            "match": { "path_prefix": "/basic" },
            "basic_auth": {
                "username": "{vault://tenants/$(header:x-tenant)/user}",
                "password": "{vault://tenants/$(header:x-tenant)/api-key}",
            },
            "resolve": { "allow": ["tenants/*"] },
        },
    ]})
}

/// Requests of a tenant, one for each way.
fn requests_of(tenant: &str) -> [Request; 3] {
    [
        Request::get("/header").header("x-tenant", tenant),
        Request::get(format!("/query?a=1&tenant={tenant}")),
        Request::get(format!("/path/{tenant}/x")),
    ]
}

fn tenants_get_their_own_credentials_from_openbao(kind: Kind) -> Result<()> {
    let bao = OpenBao::start()?;
    let put = |tenant: &str, user: &str, key: &str| {
        bao.put(KV2_MOUNT, tenant, &json!({ "user": user, "api-key": key }))
    };
    put("acme", "wile", "acme-one")?;
    put("globex", "hank", "globex-one")?;
    let token = bao.create_reader("edge", &["secret/data"])?;
    let mut config = bao.vault_config(KV2_MOUNT, "v2", &token);
    config["ttl"] = json!(1);
    config["neg_ttl"] = json!(1);
    let mut world = Plan::new(kind, patient(tenants()))
        .vault(json!({ "name": "hcv", "prefix": "tenants", "config": config }))
        .start()?;
    for value in ["acme-one", "acme-two", "globex-one", "late-one"] {
        world.keep(value);
    }
    // Both in turns: nobody gets the other's.
    for _ in 0..3 {
        for (tenant, key) in [("acme", "acme-one"), ("globex", "globex-one")] {
            for request in requests_of(tenant) {
                let seen = world.send(&request.header("authorization", "mine"))?;
                let expected = format!("Bearer {key}");
                assert!(seen.has_authorization(&expected), "{tenant}: {seen:?}");
            }
            let request = Request::get("/into-query?x=1").header("x-tenant", tenant);
            let got = world.send(&request)?.upstream()?;
            assert_eq!(got.path, format!("/into-query?x=1&key={key}"));
        }
        for request in requests_of("nobody") {
            let seen = world.send(&request.header("authorization", "mine"))?;
            assert!(seen.has_status(503), "{seen:?}");
        }
    }
    // A rotation swaps both halves together.
    let request = Request::get("/basic").header("x-tenant", "acme");
    let basic = |user: &str, key: &str| {
        use base64::Engine as _;
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{key}"));
        format!("Basic {pair}")
    };
    let (old, new) = (basic("wile", "acme-one"), basic("road", "acme-two"));
    let seen = world.send(&request)?;
    assert!(seen.has_authorization(&old), "{seen:?}");
    put("acme", "road", "acme-two")?;
    world.eventually("the rotated pair", &request, |seen| {
        let is_new = seen.has_authorization(&new);
        assert!(is_new || seen.has_authorization(&old), "torn: {seen:?}");
        is_new
    })?;
    // A tenant that comes later is there when its failure is over.
    put("nobody", "late", "late-one")?;
    let [request, ..] = requests_of("nobody");
    world.eventually("the new tenant", &request, |seen| {
        seen.has_authorization("Bearer late-one")
    })?;
    Ok(())
}

fn a_parameter_leads_nowhere_else(kind: Kind) -> Result<()> {
    let filter = json!({ "rules": [
        {
            "match": { "path_prefix": "/path" },
            "request": { "set": { "headers": {
                "authorization": "{vault://files/tenants/$(path:2)/key/}",
            }}},
            "resolve": { "allow": ["files/*"] },
        },
        {
            "match": { "path_prefix": "/query" },
            "request": { "set": { "headers": {
                "authorization": "{vault://files/tenants/$(query:tenant)/key/}",
            }}},
            "resolve": { "allow": ["files/*"] },
        },
        {
            "request": { "set": { "headers": {
                "authorization": "{vault://files/tenants/$(header:x-tenant)/key/}",
            }}},
            "resolve": { "allow": ["files/*"] },
        },
    ]});
    let mut world = start(kind, filter)?;
    let values: [&[u8]; 20] = [
        b"",
        b"/",
        b"..",
        b".",
        b"../other",
        b"acme/../../other",
        b"%2F",
        b"..%2Fother",
        b"%2e%2e",
        b"acme}",
        b"x}{vault://env/AWS_SECRET_ACCESS_KEY",
        b"acme#1",
        b"acme?ttl=1",
        b"acme\\..",
        b"acme\rx",
        b"acme\r\nx-injected: 1",
        b"acme\nx",
        b"acme\0",
        b"acme\x7f",
        b"\xff\xfe",
    ];
    for value in values {
        let shown = value.escape_ascii();
        // What the gateway itself will not read is refused all the same.
        let header = Request::get("/header").header("x-tenant", value);
        // On a real connection a line break ends the header, and the value is another one.
        if kind != Kind::Envoy || !value.contains(&b'\n') {
            let seen = world.send(&header);
            assert!(
                seen.is_err() || seen.is_ok_and(|seen| is_refused(&seen, 400)),
                "header {shown}"
            );
        }
        let encoded: String = value.iter().map(|byte| format!("%{byte:02X}")).collect();
        let twice: String = encoded.replace('%', "%25");
        for path in [
            format!("/query?tenant={encoded}"),
            format!("/query?tenant={twice}"),
            format!("/path/{encoded}/x"),
            format!("/path/{twice}/x"),
        ] {
            let seen = world.send(&Request::get(&path))?;
            assert!(is_refused(&seen, 400), "{path}: {seen:?}");
        }
    }
    for request in [
        Request::get("/header"),
        Request::get("/query?tenant=acme&tenant=globex"),
        Request::get("/query?tenant=acme;tenant=globex"),
        Request::get("/path"),
        Request::get("/path/acme;x/y"),
        Request::get("/header").header("x-tenant", "a".repeat(257)),
        Request::get("/header")
            .header("x-tenant", "acme")
            .header("X-Tenant", "globex"),
    ] {
        let seen = world.send(&request.header("authorization", "mine"))?;
        assert!(seen.has_status(400), "{seen:?}");
    }
    let request = Request::get("/header").header("x-tenant", "acme");
    let seen = world.send(&request)?;
    assert!(seen.has_authorization("acme-key"), "{seen:?}");
    Ok(())
}

fn a_missing_tenant_does_not_make_every_request_call(kind: Kind) -> Result<()> {
    let mut world = start(kind, resolving())?;
    world.until_every_vm_has_answers()?;
    let request = Request::get("/").header("x-second", "{vault://files/tenants/none/key/}");
    for _ in 0..100 {
        let seen = world.send(&request)?;
        assert!(seen.has_status(503), "{seen:?}");
    }
    // Once for each worker.
    let workers = world.workers() as usize;
    let harness = world.harness().context("a harness")?;
    assert_eq!(calls_of_requests(harness), workers);
    Ok(())
}

/// How many calls were made for what requests brought. (A poll knows what it asks for.)
fn calls_of_requests(harness: &mut Harness) -> usize {
    let calls = harness.gateway().callouts().into_iter();
    let calls = calls.filter(|call| {
        let question: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        let is_unknown = |known: &Value| {
            known
                .as_array()
                .is_some_and(|it| it.iter().all(Value::is_null))
        };
        question["references"].to_string().contains("tenants/") && is_unknown(&question["known"])
    });
    calls.count()
}

fn what_is_known_costs_no_call_and_what_is_not_one(kind: Kind) -> Result<()> {
    let mut world = start(kind, resolving())?;
    world.until_every_vm_has_answers()?;
    let mut sent = |request: Request| -> Result<(usize, Seen)> {
        let harness = world.harness().context("a harness")?;
        let before = calls_of_requests(harness);
        let seen = harness.send_to(0, &request)?;
        Ok((calls_of_requests(harness) - before, seen))
    };
    let (acme, globex) = (
        "{vault://files/tenants/acme/key/}",
        "{vault://files/tenants/globex/key/}",
    );
    let one = || Request::get("/").header("x-second", acme);
    let both = || Request::get(format!("/?key={globex}")).header("x-second", acme);
    for (request, calls) in [(one(), 1), (one(), 0), (both(), 1), (both(), 0)] {
        let (made, seen) = sent(request)?;
        let got = seen.upstream()?;
        assert_eq!(made, calls);
        assert_eq!(got.header("x-second").as_deref(), Some("acme-key"));
    }
    Ok(())
}
