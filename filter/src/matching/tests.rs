//! Which rule a request gets, and which requests get none because they can be read in two ways.

use serde_json::{Value, json};

use super::{normal_host, normal_path};
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

    use super::{normal_host, normal_path};

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
