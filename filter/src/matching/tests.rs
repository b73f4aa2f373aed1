//! Which rule a request gets, and which requests get none because they can be read in two ways.

use serde_json::{Value, json};

use crate::Action;
use crate::testing::Gateway;

/// Rules that say by a header which of them was used.
fn rules(matches: &[Value]) -> Value {
    let rules = matches.iter().enumerate().map(|(index, matcher)| {
        json!({"match": matcher, "request": {"set": {"headers": {"x-rule": index.to_string()}}}})
    });
    json!({"resolver": {"upstream": "u"}, "rules": rules.collect::<Vec<_>>()})
}

fn used(gateway: &mut Gateway, headers: &[(&str, &str)]) -> Result<Option<String>, u32> {
    match gateway.request(headers).1 {
        Action::Continue => Ok(gateway.header("x-rule")),
        Action::Pause => Err(gateway.status().expect("an answer")),
    }
}

#[test]
fn paths() {
    let configuration = rules(&[
        json!({"path_prefix": "/v1"}),
        json!({"path_prefix": "/a%3Ab/"}),
    ]);
    let table: &[(&str, Result<Option<&str>, u32>)] = &[
        ("/v1", Ok(Some("0"))),
        ("/v1/", Ok(Some("0"))),
        ("/v1/x", Ok(Some("0"))),
        ("/v1?x", Ok(Some("0"))),
        ("/v1?a=../%2f//", Ok(Some("0"))),
        ("/v1/%7Eada", Ok(Some("0"))),
        ("/v%31", Err(400)),
        ("/%76%31/x", Err(400)),
        ("/v1;x", Err(400)),
        ("/v1;x/y", Err(400)),
        ("/v10;x/y", Ok(None)),
        ("/a:b;x/c", Err(400)),
        ("/v10", Ok(None)),
        ("/V1", Ok(None)),
        ("/", Ok(None)),
        ("/x/v1", Ok(None)),
        ("*", Ok(None)),
        ("/a:b", Ok(Some("1"))),
        ("/a%3ab/c", Ok(Some("1"))),
        ("/a%253ab", Ok(None)),
        ("/v1/...", Ok(Some("0"))),
        ("/v1/.hidden", Ok(Some("0"))),
        ("/v1/x;y=.", Ok(Some("0"))),
        ("/v1/../admin", Err(400)),
        ("/v1/..", Err(400)),
        ("/v1/.", Err(400)),
        ("/v1/./x", Err(400)),
        ("/v1/%2e%2e/admin", Err(400)),
        ("/v1/.%2E/admin", Err(400)),
        ("/v1/..;x/admin", Err(400)),
        ("/v1/.;x/admin", Err(400)),
        ("/v1/..%3bx/admin", Err(400)),
        ("/v1%2fadmin", Err(400)),
        ("/v1%2Fadmin", Err(400)),
        ("/v1\\admin", Err(400)),
        ("/v1%5cadmin", Err(400)),
        ("/v1/%00", Err(400)),
        ("/v1/%0a", Err(400)),
        ("/v1/%7f", Err(400)),
        ("/v1/\u{1}", Err(400)),
        ("//v1", Err(400)),
        ("/v1//x", Err(400)),
        ("/v1//", Err(400)),
        ("/v1/%", Err(400)),
        ("/v1/%2", Err(400)),
        ("/v1/%zz", Err(400)),
        ("http://other/v1", Err(400)),
        ("", Err(400)),
    ];
    let mut gateway = Gateway::envoy().warm(&configuration);
    for (path, expected) in table {
        let expected = (*expected).map(|rule| rule.map(str::to_owned));
        assert_eq!(used(&mut gateway, &[(":path", path)]), expected, "{path:?}");
    }
    assert_eq!(used(&mut gateway, &[]), Ok(None), "CONNECT has no path");
}

#[test]
fn a_path_that_no_rule_looks_at_is_not_judged() {
    let mut gateway = Gateway::envoy().warm(&rules(&[json!({})]));
    assert_eq!(
        used(&mut gateway, &[(":path", "/a/../b")]),
        Ok(Some("0".into()))
    );
}

#[test]
fn the_root_prefix_takes_every_path() {
    let mut gateway = Gateway::envoy().warm(&rules(&[json!({"path_prefix": "/"})]));
    for path in ["/", "/x", "/x/"] {
        assert_eq!(
            used(&mut gateway, &[(":path", path)]),
            Ok(Some("0".into())),
            "{path}"
        );
    }
}

#[test]
fn hosts() {
    let configuration = rules(&[json!({"host": ["API.example.com", "[::1]"]})]);
    let table = [
        ("api.example.com", true),
        ("API.Example.COM:8443", true),
        ("api.example.com.", true),
        ("api.example.com.:80", true),
        ("[::1]", true),
        ("[::1]:80", true),
        ("[::2]:80", false),
        ("example.com", false),
        ("x@api.example.com", false),
        ("api.example.com.evil", false),
        ("", false),
    ];
    for (host, expected) in table {
        let wanted = Ok(expected.then(|| "0".to_owned()));
        let mut envoy = Gateway::envoy().warm(&configuration);
        assert_eq!(
            used(&mut envoy, &[(":authority", host), ("host", "evil")]),
            wanted,
            "{host}"
        );
        let mut nginx = Gateway::nginx().warm(&configuration);
        assert_eq!(
            used(&mut nginx, &[(":authority", "server"), ("host", host)]),
            wanted,
            "{host}"
        );
    }
}

#[test]
fn hosts_below_a_name() {
    let configuration = rules(&[json!({"host": ["*.Example.com", "exact.org"]})]);
    let table = [
        ("a.example.com", true),
        ("A.B.Example.COM:8443", true),
        ("a-1_b.example.com.", true),
        ("exact.org", true),
        ("example.com", false),
        (".example.com", false),
        ("..example.com", false),
        ("a..example.com", false),
        ("aexample.com", false),
        ("a.example.com.evil", false),
        ("*.example.com", false),
        ("evil.org:80.example.com", false),
        ("evil.org/.example.com", false),
        ("evil.org#.example.com", false),
        ("evil.org@a.example.com", false),
        ("evil.org\\.example.com", false),
        ("evil.org%2f.example.com", false),
        ("\u{e9}.example.com", false),
        ("[::1].example.com", false),
        ("a.exact.org", false),
    ];
    let mut envoy = Gateway::envoy().warm(&configuration);
    let mut nginx = Gateway::nginx().warm(&configuration);
    for (host, expected) in table {
        let wanted = Ok(expected.then(|| "0".to_owned()));
        assert_eq!(used(&mut envoy, &[(":authority", host)]), wanted, "{host}");
        assert_eq!(used(&mut nginx, &[("host", host)]), wanted, "{host}");
    }
}

#[test]
fn whole_paths() {
    let configuration = rules(&[
        json!({"path": "/v1/keys"}),
        json!({"path": "/a%20b/"}),
        json!({"path_regex": "/users/[0-9]+(/keys)?|/teams/.+", "methods": ["GET"]}),
    ]);
    let table: &[(&str, Result<Option<&str>, u32>)] = &[
        ("/v1/keys", Ok(Some("0"))),
        ("/v1/keys?x=/", Ok(Some("0"))),
        ("/v1/keys/", Ok(None)),
        ("/v1/keys/x", Ok(None)),
        ("/v1/key%73", Err(400)),
        ("/v1/keys;x", Err(400)),
        ("/v1/x/../keys", Err(400)),
        ("//v1/keys", Err(400)),
        ("/a%20b/", Ok(Some("1"))),
        ("/a%20b", Ok(None)),
        ("/users/12", Ok(Some("2"))),
        ("/users/12/keys?x", Ok(Some("2"))),
        ("/users/12/keysx", Ok(None)),
        ("/x/users/12", Ok(None)),
        ("/users/%31", Err(400)),
        ("/users/1;x=2", Err(400)),
        ("/users/1/keys;x=2", Err(400)),
        ("/teams/a;b", Ok(Some("2"))),
        ("/teams/%c3%a9", Ok(Some("2"))),
        ("/teams/%ff", Err(400)),
        ("*", Ok(None)),
    ];
    let mut gateway = Gateway::envoy().warm(&configuration);
    for (path, expected) in table {
        let expected = (*expected).map(|rule| rule.map(str::to_owned));
        let found = used(&mut gateway, &[(":method", "GET"), (":path", path)]);
        assert_eq!(found, expected, "{path:?}");
    }
    // What is too long to be looked at is not let past the rule.
    let path = format!("/teams/{}", "a".repeat(2041));
    let found = used(&mut gateway, &[(":method", "GET"), (":path", &path)]);
    assert_eq!(found, Ok(Some("2".into())));
    let found = used(
        &mut gateway,
        &[(":method", "GET"), (":path", &format!("{path}a"))],
    );
    assert_eq!(found, Err(400));
}

#[test]
fn the_slowest_expression_on_the_longest_path_takes_a_bounded_time() {
    let mut gateway = Gateway::envoy().warm(&rules(&[json!({"path_regex": "/([^/]*a){80}b"})]));
    let path = format!("/{}", "a".repeat(2047));
    let start = std::time::Instant::now();
    assert_eq!(used(&mut gateway, &[(":path", &path)]), Ok(None));
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}

#[test]
fn parameters_stand_once_and_are_decoded() {
    let configuration = rules(&[json!({"querystring": {"tier": "gold", "a b": "x&y=z"}})]);
    let hit = "a+b=x%26y%3dz";
    let table = [
        (format!("/?tier=gold&{hit}"), Ok(true)),
        (format!("/?{hit}&x=1&tier=gold"), Ok(true)),
        (format!("/?t%69er=g%6Fld&{hit}"), Ok(true)),
        ("/?a%20b=x%26y=z&tier=gold".to_owned(), Ok(true)),
        (format!("/a/../b?tier=gold&{hit}"), Ok(true)),
        (format!("/?tier=gold&tier=gold&{hit}"), Ok(false)),
        (format!("/?tier=gold&tier&{hit}"), Ok(false)),
        (format!("/?tier=gold&%74ier=silver&{hit}"), Ok(false)),
        (format!("/?TIER=gold&{hit}"), Ok(false)),
        (format!("/?tier=Gold&{hit}"), Ok(false)),
        (format!("/?tier=golde&{hit}"), Ok(false)),
        (format!("/?tier=gold%00&{hit}"), Ok(false)),
        (format!("/?tier[]=gold&{hit}"), Ok(false)),
        (format!("/?tier&{hit}"), Ok(false)),
        ("/?tier=gold".to_owned(), Ok(false)),
        ("/".to_owned(), Ok(false)),
        ("*".to_owned(), Ok(false)),
        (format!("/?x=1;y=2&tier=gold&{hit}"), Ok(true)),
        (format!("/?x=1;tier=silver&tier=gold&{hit}"), Err(400)),
        (format!("/?x=1;tier=gold&{hit}"), Err(400)),
        (format!("/?tier=gold;x&{hit}"), Err(400)),
        (format!("/?tier=gold&{hit}#"), Err(400)),
        (format!("/#?tier=gold&{hit}"), Err(400)),
    ];
    let mut envoy = Gateway::envoy().warm(&configuration);
    let mut nginx = Gateway::nginx().warm(&configuration);
    for (path, expected) in table {
        let wanted = expected.map(|hit| hit.then(|| "0".to_owned()));
        assert_eq!(used(&mut envoy, &[(":path", &path)]), wanted, "{path}");
        // There the client's own line counts, not what nginx makes of it.
        let mut properties = nginx.host.properties.borrow_mut();
        properties.insert("ngx.request_uri".into(), path.clone().into_bytes());
        drop(properties);
        assert_eq!(
            used(&mut nginx, &[(":path", "/?tier=no")]),
            wanted,
            "{path}"
        );
    }
    let empty = rules(&[json!({"querystring": {"debug": ""}})]);
    let mut gateway = Gateway::envoy().warm(&empty);
    for (path, expected) in [
        ("/?debug", true),
        ("/?debug=", true),
        ("/?debug=1", false),
        ("/", false),
    ] {
        let wanted = Ok(expected.then(|| "0".to_owned()));
        assert_eq!(used(&mut gateway, &[(":path", path)]), wanted, "{path}");
    }
}

#[test]
fn properties_of_the_gateway() {
    let route = |name: &str| json!({"properties": {"xds.route_name": name}});
    let metadata = r"xds.route_metadata.filter_metadata.com\.example.tier";
    let configuration = rules(&[
        route("payments"),
        json!({"properties": {metadata: "gold"}}),
        route("reports"),
    ]);
    let mut gateway = Gateway::envoy().warm(&configuration);
    let own = |gateway: &Gateway, name: &str, value: &[u8]| {
        let mut properties = gateway.host.properties.borrow_mut();
        properties.insert(name.to_owned(), value.to_vec());
    };
    // A client that sends fields of these names changes nothing.
    let sent = [("xds.route_name", "payments"), (":path", "/payments")];
    assert_eq!(used(&mut gateway, &sent), Ok(None), "absent");
    for (value, rule) in [
        (&b"payments"[..], Some("0")),
        (b"reports", Some("2")),
        (b"Reports", None),
        (b"", None),
        (b"payments\0", None),
        (b"\xff\xfe", None),
    ] {
        own(&gateway, "xds.route_name", value);
        let before = gateway.host.count.get();
        assert_eq!(used(&mut gateway, &sent), Ok(rule.map(str::to_owned)));
        assert!(
            gateway.host.count.get() - before <= 3,
            "one read for all rules"
        );
    }
    own(
        &gateway,
        "xds.route_metadata.filter_metadata.com.example.tier",
        b"gold",
    );
    assert_eq!(used(&mut gateway, &sent), Ok(Some("1".into())));

    let kong = rules(&[json!({"properties": {"kong.route_name": "r", "kong.service_name": "s"}})]);
    let mut gateway = Gateway::nginx().warm(&kong);
    own(&gateway, "kong.route_name", b"r");
    assert_eq!(used(&mut gateway, &[]), Ok(None));
    own(&gateway, "kong.service_name", b"s");
    assert_eq!(used(&mut gateway, &[]), Ok(Some("0".into())));
}

#[test]
fn a_property_that_the_gateway_fails_to_give_has_the_request_refused() {
    let configuration = rules(&[json!({"properties": {"xds.route_name": "r"}}), json!({})]);
    let mut gateway = Gateway::envoy().warm(&configuration);
    for (status, expected) in [(3, Ok(Some("1".to_owned()))), (12, Err(503))] {
        let failure = crate::Status::Other(status);
        gateway
            .host
            .failures
            .borrow_mut()
            .insert("property", failure);
        assert_eq!(used(&mut gateway, &[]), expected, "{status}");
    }
}

#[test]
fn methods_and_headers_are_exact() {
    let configuration = rules(&[json!({"methods": ["POST"], "headers": {"X-Tier": "gold"}})]);
    let mut gateway = Gateway::envoy().warm(&configuration);
    let hit = Ok(Some("0".to_owned()));
    assert_eq!(
        used(&mut gateway, &[(":method", "POST"), ("x-tier", "gold")]),
        hit
    );
    for headers in [
        &[(":method", "post"), ("x-tier", "gold")][..],
        &[(":method", "GET"), ("x-tier", "gold")],
        &[(":method", "POST"), ("x-tier", "Gold")],
        &[(":method", "POST")],
        &[(":method", "POST"), ("x-tier", "gold"), ("x-tier", "gold")],
    ] {
        assert_eq!(used(&mut gateway, headers), Ok(None), "{headers:?}");
    }
}

#[test]
fn the_first_rule_that_matches_is_used() {
    let configuration = rules(&[
        json!({"path_prefix": "/a", "methods": ["PUT"]}),
        json!({"path_prefix": "/a"}),
        json!({}),
    ]);
    let mut gateway = Gateway::envoy().warm(&configuration);
    for (method, path, rule) in [("PUT", "/a", "0"), ("GET", "/a", "1"), ("PUT", "/b", "2")] {
        let found = used(&mut gateway, &[(":method", method), (":path", path)]);
        assert_eq!(found, Ok(Some(rule.to_owned())));
    }
}

#[test]
fn on_nginx_a_header_that_decides_or_is_written_must_not_come_twice() {
    let configuration = rules(&[
        json!({"host": ["a"]}),
        json!({"headers": {"x-tier": "gold"}}),
    ]);
    let mut gateway = Gateway::nginx().warm(&configuration);
    for headers in [
        &[("host", "a"), ("Host", "b")][..],
        &[("host", "b"), ("x-tier", "gold"), ("X-Tier", "gold")],
        &[("host", "a"), ("x-rule", "1"), ("x-rule", "2")],
    ] {
        assert_eq!(used(&mut gateway, headers), Err(400), "{headers:?}");
    }
    assert_eq!(
        used(&mut gateway, &[("host", "c"), ("x-rule", "1")]),
        Ok(Some("1".into())),
        "no rule"
    );
    assert_eq!(
        used(&mut gateway, &[("host", "a"), ("y", "1"), ("y", "2")]),
        Ok(Some("0".into()))
    );
}

#[test]
fn a_host_that_cannot_say_has_the_request_refused() {
    let mut gateway = Gateway::nginx().warm(&rules(&[json!({})]));
    gateway
        .host
        .failures
        .borrow_mut()
        .insert("request_headers", crate::Status::Other(12));
    assert_eq!(used(&mut gateway, &[]), Err(503));
}

mod properties {
    use proptest::prelude::*;

    use super::super::host::normal as normal_host;
    use super::super::path::normal as normal_path;

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = normal_host(&bytes);
            if let Some(path) = normal_path(&bytes) {
                prop_assert!(path.starts_with(b"/"));
                prop_assert!(!path.windows(2).any(|pair| pair == b"//"));
                let mut segments = path.split(|byte| *byte == b'/');
                prop_assert!(!segments.any(|segment| segment == b".." || segment == b"."));
            }
        }

        #[test]
        fn encoding_a_byte_changes_no_path_or_is_refused(
            path in "/[a-z0-9:@!$&()*+,=~-]{1,12}",
            at in 1usize..12,
        ) {
            let at = at.min(path.len() - 1);
            let (before, rest) = path.split_at(at);
            let (byte, after) = rest.split_at(1);
            let encoded = format!("{before}%{:02x}{after}", byte.as_bytes()[0]);
            let expected = normal_path(path.as_bytes());
            let needless = byte.as_bytes()[0].is_ascii_alphanumeric() || byte == "-";
            let expected = expected.filter(|_| !needless);
            prop_assert_eq!(expected, normal_path(encoded.as_bytes()));
        }
    }
}
