//! Which references with parameters there can be, and what becomes of them in a request.

use serde_json::json;

use super::Parametric;
use super::parameter::Sources;
use crate::compile::Kind;
use crate::testing::Gateway;

fn parse(written: &str) -> Result<Option<Parametric>, String> {
    Parametric::parse("/place", written, Kind::Nginx).map_err(|error| {
        assert_eq!(error.place(), "/place");
        error.message().to_owned()
    })
}

/// What a request asks for: the text of the reference, or nothing if it is refused.
fn made(gateway: &Gateway, written: &str) -> Option<String> {
    let parametric = parse(written).expect(written).expect("parameters");
    let kind = match gateway.host.is_nginx.get() {
        true => Kind::Nginx,
        false => Kind::Envoy,
    };
    let reference = parametric
        .make(&mut Sources::new(&gateway.host, kind))
        .ok()?;
    super::is_plain(reference.reference()).then(|| reference.as_str().to_owned())
}

fn gateway(headers: &[(&str, &[u8])]) -> Gateway {
    let gateway = Gateway::envoy();
    let pairs = headers.iter();
    *gateway.host.headers.borrow_mut() = pairs
        .map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()))
        .collect();
    gateway
}

#[test]
fn parameters_stand_in_paths() {
    assert_eq!(parse("{vault://v/a/b?ttl=1#2}"), Ok(None));
    assert_eq!(parse("{vault://v/%24(header:x)}"), Ok(None));
    for good in [
        "{vault://v/$(header:X-Tenant)/key}",
        "{vault://v/a-$(path:1)-b/$(query:q%20r)?ttl=5#3}",
        r"{vault://v/$(property:kong.a\.b)/}",
        "{vault://v/.$(path:12)}",
    ] {
        assert!(matches!(parse(good), Ok(Some(_))), "{good}");
    }
    for (bad, why) in [
        ("{vault://$(header:x)/a}", "name of the vault"),
        ("{vault://v$(header:x)/a}", "name of the vault"),
        ("{vault://v/a?$(header:x)=1}", "option or a version"),
        ("{vault://v/a?ttl=$(header:x)}", "option or a version"),
        ("{vault://v/a#$(header:x)}", "option or a version"),
        ("{vault://v/$(header:x}", "no ')'"),
        ("{vault://v/$(x)}", "a parameter is"),
        ("{vault://v/$(header:)}", "a parameter is"),
        ("{vault://v/$(cookie:a)}", "comes from"),
        ("{vault://v/$(header:a b)}", "not a header's name"),
        ("{vault://v/$(header::path)}", "pseudo header"),
        ("{vault://v/$(header:host)}", "the host"),
        ("{vault://v/$(path:0)}", "a number from 1"),
        ("{vault://v/$(path:-1)}", "a number from 1"),
        ("{vault://v/$(property:a..b)}", "names with dots"),
        ("{vault://v/$(property:xds.route_name)}", "only Envoy"),
        ("{vault://v/../$(path:1)}", "'..'"),
        ("{vault://v/a%2F%2F$(path:1)}", "empty"),
        ("{vault://v/$(path:1)#x}", "not a number"),
    ] {
        let message = parse(bad).expect_err(bad);
        assert!(message.contains(why), "{bad}: {message}");
    }
}

#[test]
fn values_come_from_where_they_are_said_to_and_are_encoded() {
    let gateway = gateway(&[
        ("x-tenant", "Acme & Söhne+1".as_bytes()),
        (":path", b"/v1/te%20nant/x?a=1&q+r=b%20c&e="),
    ]);
    let properties = [("kong.route_name", "r-1"), ("kong.a.b", "dot")];
    for (name, value) in properties {
        let value = value.as_bytes().to_vec();
        gateway
            .host
            .properties
            .borrow_mut()
            .insert(name.to_owned(), value);
    }
    for (written, expected) in [
        (
            "{vault://v/$(header:X-Tenant)/k}",
            "{vault://v/Acme%20%26%20S%C3%B6hne%2B1/k}",
        ),
        ("{vault://v/$(path:2)/k}", "{vault://v/te%20nant/k}"),
        (
            "{vault://v/$(path:3)$(path:1)/k?ttl=9}",
            "{vault://v/xv1/k?ttl=9}",
        ),
        ("{vault://v/$(query:q r)/k}", "{vault://v/b%20c/k}"),
        (
            "{vault://v/$(property:kong.route_name)/k}",
            "{vault://v/r-1/k}",
        ),
        (r"{vault://v/$(property:kong.a\.b)}", "{vault://v/dot}"),
    ] {
        assert_eq!(
            made(&gateway, written).as_deref(),
            Some(expected),
            "{written}"
        );
    }
    for refused in [
        "$(header:y)",
        "$(path:4)",
        "$(query:e)",
        "$(query:n)",
        "$(property:no)",
    ] {
        let written = format!("{{vault://v/{refused}/k}}");
        assert_eq!(made(&gateway, &written), None, "{written}");
    }
}

#[test]
fn in_nginx_the_path_that_counts_is_the_one_that_was_sent() {
    let mut gateway = gateway(&[(":path", b"/b?t=b")]);
    gateway.host.is_nginx.set(true);
    let sent = b"/a?t=a".to_vec();
    gateway
        .host
        .properties
        .borrow_mut()
        .insert("ngx.request_uri".into(), sent);
    let made = |written| made(&gateway, written);
    assert_eq!(
        made("{vault://v/$(path:1)}").as_deref(),
        Some("{vault://v/a}")
    );
    assert_eq!(
        made("{vault://v/$(query:t)}").as_deref(),
        Some("{vault://v/a}")
    );
    // What stands behind a hundred headers cannot be seen.
    let many = (0..100).map(|n| (format!("x-{n}").into_bytes(), b"1".to_vec()));
    *gateway.host.headers.borrow_mut() = many.collect();
    assert_eq!(made("{vault://v/$(header:x-1)}"), None);
    gateway = self::gateway(&[("x", b"1"), ("X", b"2")]);
    assert_eq!(self::made(&gateway, "{vault://v/$(header:x)}"), None);
}

/// Every value that could lead elsewhere, raw in a header and encoded in a path and a query.
#[test]
fn no_value_leads_out_of_its_place() {
    let long = "x".repeat(257);
    let values: [&[u8]; 21] = [
        b"",
        b"/",
        b"a/b",
        b"..",
        b".",
        b"../other",
        b"%2F",
        b"a%2fb",
        b"a}",
        b"{",
        b"a#1",
        b"a?ttl=1",
        b"a\\b",
        b"a\r\nb",
        b"a\0b",
        b"a\x7fb",
        "a\u{85}b".as_bytes(),
        b"\xff",
        b"%",
        b"a%00",
        long.as_bytes(),
    ];
    for value in values {
        let shown = value.escape_ascii();
        let header = gateway(&[("x", value)]);
        assert_eq!(made(&header, "{vault://v/$(header:x)/k}"), None, "{shown}");
        assert_eq!(made(&header, "{vault://v/k/$(header:x)}"), None, "{shown}");
        let encoded: String = value.iter().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/{encoded}?x={encoded}");
        let other = gateway(&[(":path", path.as_bytes())]);
        assert_eq!(made(&other, "{vault://v/$(path:1)/k}"), None, "{shown}");
        assert_eq!(made(&other, "{vault://v/$(query:x)/k}"), None, "{shown}");
    }
    // Not by two of them, nor by what stands around them.
    let dots = gateway(&[("x", b"."), ("d", b".x")]);
    assert_eq!(made(&dots, "{vault://v/.$(header:x)/k}"), None);
    assert_eq!(made(&dots, "{vault://v/$(header:x)$(header:x)/k}"), None);
    assert_eq!(
        made(&dots, "{vault://v/.$(header:d)/k}").as_deref(),
        Some("{vault://v/..x/k}")
    );
    // Of which there is more than one reading.
    for path in [
        "/a;b/c?q=1&q=2",
        "/a//b?q=1;q=2",
        "/a/../b?a=1;q=2&q=3",
        "/%61?q=1#&q=2",
        "*",
        "",
    ] {
        let odd = gateway(&[(":path", path.as_bytes())]);
        assert_eq!(made(&odd, "{vault://v/$(path:1)}"), None, "{path}");
        assert_eq!(made(&odd, "{vault://v/$(query:q)}"), None, "{path}");
    }
    let just = gateway(&[("x", &long.as_bytes()[..256])]);
    assert!(made(&just, "{vault://v/$(header:x)}").is_some());
    // What comes out must be a reference still.
    let eight = "$(header:x)".repeat(8);
    assert_eq!(made(&just, &format!("{{vault://v/{eight}}}")), None);
}

#[test]
fn a_configuration_says_what_may_come() {
    let error = |rule: serde_json::Value| {
        let mut configuration = json!({"resolver": {"upstream": "u"}});
        configuration["rules"] = json!([rule]);
        crate::check(
            configuration.to_string().as_bytes(),
            Kind::Nginx,
            crate::Callbacks::Every,
            |_| None,
        )
        .map_err(|error| (error.place().to_owned(), error.message().to_owned()))
    };
    let value = "{vault://v/$(header:x)/k}";
    let set = json!({"set": {"headers": {"a": value}}});
    let many_parameters = |count: usize| {
        let headers = (0..count).map(|number| (format!("x-{number:03}"), json!(value)));
        let headers: serde_json::Map<_, _> = headers.collect();
        json!({"request": {"set": {"headers": headers}}, "resolve": {"allow": ["v/*"]}})
    };
    for (rule, place, why) in [
        (
            json!({"request": set}),
            "/rules/0/request/set/headers/a",
            "needs 'resolve.allow'",
        ),
        (
            json!({"basic_auth": {"username": "u", "password": value}}),
            "/rules/0/basic_auth/password",
            "needs 'resolve.allow'",
        ),
        (
            json!({"resolve": {"headers": ["x"]}}),
            "/rules/0/resolve/allow",
            "must say",
        ),
        (
            json!({"resolve": {"headers": ["x"], "allow": []}}),
            "/rules/0/resolve/allow",
            "is empty",
        ),
        (
            json!({"resolve": {"headers": ["x"], "allow": ["*"]}}),
            "/rules/0/resolve/allow/0",
            "vault",
        ),
        (
            json!({"resolve": {"allow": ["v/*"]}}),
            "/rules/0/resolve",
            "names no field",
        ),
        (
            json!({"resolve": {"headers": ["x"], "allow": ["v/*"], "max": 0}}),
            "/rules/0/resolve/max",
            "1 to 256",
        ),
        (
            json!({"resolve": {"headers": ["host"], "allow": ["v/*"]}}),
            "/rules/0/resolve/headers/0",
            "belongs to the message",
        ),
        (
            json!({"resolve": {"headers": ["x", "X"], "allow": ["v/*"]}}),
            "/rules/0/resolve/headers/1",
            "as well",
        ),
        (
            json!({"request": set, "resolve": {"headers": ["a"], "allow": ["v/*"]}}),
            "/rules/0/resolve/headers/0",
            "as well",
        ),
        (
            json!({"resolve": {"querystring": [""], "allow": ["v/*"]}}),
            "/rules/0/resolve/querystring/0",
            "no name",
        ),
        (
            json!({"resolve": {"headers": ["x"], "allow": ["v/*"]}, "on_error": {"without_field": true}}),
            "/rules/0/resolve/headers/0",
            "without_field",
        ),
        (
            many_parameters(257),
            "/rules/0/request/set/headers/x-256",
            "256 references with parameters",
        ),
        (
            json!({"resolve": {"body": ["/x"]}}),
            "/rules/0/resolve/allow",
            "must say",
        ),
        (
            json!({"resolve": {"body": ["/x", "k"], "allow": ["v/*"]}}),
            "/rules/0/resolve/body/1",
            "cannot stand in one rule",
        ),
        (
            json!({"request": {"set": {"body": {"/a/b": "x"}}}, "resolve": {"body": ["/a"], "allow": ["v/*"]}}),
            "/rules/0/resolve/body/0",
            "as well",
        ),
        (
            json!({"resolve": {"body": ["k", "k"], "allow": ["v/*"]}}),
            "/rules/0/resolve/body/1",
            "as well",
        ),
        (
            json!({"resolve": {"body": [""], "allow": ["v/*"]}}),
            "/rules/0/resolve/body/0",
            "no name",
        ),
        (
            json!({"resolve": {"body": ["/k"], "allow": ["v/*"]}, "body": {"on_excess": "pass"}}),
            "/rules/0/body/on_excess",
            "possible only",
        ),
        (
            json!({"resolve": {"header": ["x"]}}),
            "/rules/0/resolve/header",
            "unknown field",
        ),
    ] {
        let (at, message) = error(rule.clone()).expect_err(place);
        assert_eq!(at, place, "{rule}");
        assert!(message.contains(why), "{rule}: {message}");
    }
    let good = json!({"request": set, "resolve": {"allow": ["v/*"]}});
    assert_eq!(error(good), Ok(()));
    assert_eq!(error(many_parameters(256)), Ok(()));
}
