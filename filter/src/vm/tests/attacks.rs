//! What clients try with references in their requests. Nothing of it may reach the resolver, and
//! nothing may go on where it would be read as something else.

use serde_json::json;

use super::dynamic::{one_call, path, resolving};
use crate::Action;
use crate::testing::{Gateway, ROOT, secret};

const AWS: &str = "{vault://env/AWS_SECRET_ACCESS_KEY}";

/// A request that must be refused with this status, before anybody is asked.
fn refused(gateway: &mut Gateway, sent: &[(&str, &str)], status: u32) {
    let (_, action) = gateway.request(sent);
    assert_eq!(
        (action, gateway.status()),
        (Action::Pause, Some(status)),
        "{sent:?}"
    );
    assert_eq!(gateway.calls(), [format!("respond {status}")], "{sent:?}");
    let body = gateway.host.response.borrow().clone().map(|(_, body)| body);
    let body = body.unwrap_or_default();
    assert!(
        !body.contains("vault") && !body.contains("tenants"),
        "{body}"
    );
}

#[test]
fn a_reference_in_a_place_that_is_not_named_is_text() {
    let encoded = "%7Bvault%3A%2F%2Fenv%2FAWS_SECRET_ACCESS_KEY%7D";
    let path = format!("/{AWS}/{encoded}?k={AWS}&{AWS}=v&keys={encoded}#{AWS}");
    let cookie = format!("key={AWS}; x-key={AWS}");
    let mut sent = vec![
        (":method", "GET"),
        (":path", path.as_str()),
        ("cookie", cookie.as_str()),
    ];
    let names = [
        ":authority",
        "authorization",
        "x-key-2",
        "x_key",
        "user-agent",
        "x-tenant",
    ];
    sent.extend(names.map(|name| (name, AWS)));
    for configuration in [resolving(), super::bearer()] {
        let mut gateway = Gateway::envoy().warm(&configuration);
        assert_eq!(gateway.request(&sent).1, Action::Continue);
        assert_eq!(gateway.calls().len(), 1, "the rule's own header alone");
        gateway.tick(1000);
        for call in gateway.take_dispatched() {
            assert!(!call.body.to_string().contains("AWS"), "{}", call.body);
        }
        for (name, value) in &sent {
            if *name != "authorization" {
                assert_eq!(gateway.values(name), [*value], "{name}");
            }
        }
    }
    // In a place that is named it is refused.
    let mut gateway = Gateway::envoy().warm(&resolving());
    refused(&mut gateway, &[("x-key", AWS), (":path", "/")], 403);
    refused(&mut gateway, &[(":path", &format!("/?key={encoded}"))], 403);
}

#[test]
fn a_second_field_behind_a_semicolon_does_not_stand_beside_what_is_resolved() {
    let reference = "{vault://tenants/a/k}";
    for is_known in [false, true] {
        let mut gateway = Gateway::envoy().warm(&resolving());
        if is_known {
            gateway.request(&[("x-key", reference), (":path", "/")]);
            gateway.answer_all(path);
        }
        let sent = format!("/?x=1;key=own&key={reference}");
        gateway.request(&[(":path", &sent)]);
        assert_eq!(gateway.status(), Some(400), "known: {is_known}");
        assert_eq!(gateway.take_dispatched().len(), 0, "known: {is_known}");
    }
}

#[test]
fn a_reference_that_is_not_plain_is_refused() {
    let mut gateway = Gateway::envoy().warm(&resolving());
    for bad in [
        "{vault://tenants/a/k?ttl=1}",
        "{vault://tenants/a/k?}",
        "{vault://tenants/a/k?base64_decode=true}",
        "{vault://tenants/a/k#1}",
        "{vault://tenants/a/k",
        "{vault://tenants}",
        "{vault://tenants/}",
        "{vault://tenants/../v/static}",
        "{vault://tenants/a/../../v/static}",
        "{vault://tenants/a%2F..%2Fb/k}",
        "{vault://tenants/%2E%2E/k}",
        "{vault://tenants/./k}",
        "{vault://tenants/a%2F%2Fb/k}",
        "{vault://tenants/a%0D%0Ab/k}",
        "{vault://tenants/a%00/k}",
        "{vault://tenants/a%5Cb/k}",
        "{vault://tenants/a/%2F..%2Fk}",
        "{vault://ten%61nts/a/k}",
        "{vault://tenants/a/{vault://tenants/b/k}}",
        "fine {vault://tenants/a/k} and {vault://tenants/%FF/k}",
        "\u{e9}{vault://}",
    ] {
        refused(&mut gateway, &[("x-key", bad), (":path", "/")], 400);
        let encoded = String::from_utf8(crate::query::encode(bad.as_bytes())).expect("ASCII");
        refused(&mut gateway, &[(":path", &format!("/?key={encoded}"))], 400);
    }
    for other in [
        "{vault://v/static}",
        "{vault://TENANTS/a/k}",
        "{vault://tenant/a/k}",
        AWS,
    ] {
        refused(&mut gateway, &[("x-key", other), (":path", "/")], 403);
        let both = format!("{{vault://tenants/a/k}}{other}");
        refused(&mut gateway, &[("x-key", &both), (":path", "/")], 403);
    }
    // Bytes that are no text, with a reference among them.
    let bytes = b"\xff{vault://tenants/a/k}".to_vec();
    *gateway.host.headers.borrow_mut() = vec![
        (b"x-key".to_vec(), bytes),
        (b":path".to_vec(), b"/".to_vec()),
    ];
    gateway.vm.on_context_create(9000, ROOT);
    gateway.host.current.set(9000);
    gateway.vm.on_request_headers(9000, true);
    assert_eq!(gateway.status(), Some(400));
    assert_eq!(gateway.take_dispatched().len(), 0);
    let logs = gateway.logs();
    let told = logs
        .iter()
        .filter(|line| line.contains("in a request"))
        .count();
    assert_eq!(told, 1, "the log is not the client's to fill: {logs:?}");
}

#[test]
fn a_field_that_occurs_twice_is_refused_if_one_has_a_reference() {
    for mut gateway in [Gateway::envoy(), Gateway::nginx()] {
        gateway
            .host
            .properties
            .borrow_mut()
            .insert("ngx.upstream_uri".into(), b"/".to_vec());
        gateway = gateway.warm(&resolving());
        let good = "{vault://tenants/a/k}";
        for sent in [[good, "x"], ["x", good], [good, good]] {
            let sent = [("x-key", sent[0]), ("X-Key", sent[1]), (":path", "/")];
            refused(&mut gateway, &sent, 400);
        }
    }
    let mut gateway = Gateway::envoy().warm(&resolving());
    refused(
        &mut gateway,
        &[(":path", "/?key=1&k%65y={vault://tenants/a/k}")],
        400,
    );
}

#[test]
fn in_nginx_a_field_that_cannot_be_seen_is_refused() {
    let mut gateway = Gateway::nginx();
    let query = b"/?key=plain".to_vec();
    gateway
        .host
        .properties
        .borrow_mut()
        .insert("ngx.upstream_uri".into(), query);
    let configuration = json!({"resolver": {"upstream": "u"},
        "resolve": {"headers": ["x-key"], "querystring": ["key"], "allow": ["tenants/*"]}});
    gateway = gateway.warm(&configuration);
    let mut sent: Vec<(String, &str)> = (0..99).map(|n| (format!("x-{n}"), "1")).collect();
    let names = |sent: &[(String, &'static str)]| -> Vec<(String, &'static str)> { sent.to_vec() };
    let request = |gateway: &mut Gateway, sent: &[(String, &'static str)]| {
        let sent = names(sent);
        let sent: Vec<(&str, &str)> = sent.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        gateway.request(&sent).1
    };
    assert_eq!(request(&mut gateway, &sent), Action::Continue);
    sent.push(("x-last".into(), "1"));
    assert_eq!(request(&mut gateway, &sent), Action::Pause);
    assert_eq!(gateway.status(), Some(400));
    // Where a query string has no place from which it goes upstream, none is let through.
    gateway.host.properties.borrow_mut().clear();
    assert_eq!(gateway.request(&[]).1, Action::Pause);
    assert_eq!(gateway.status(), Some(503));
}

#[test]
fn ten_thousand_references_in_one_request_are_refused_and_cost_nothing() {
    let mut gateway = Gateway::envoy().warm(&resolving());
    let many = |count: usize| -> String {
        (0..count)
            .map(|n| format!("{{vault://tenants/t{n}/k}}"))
            .collect()
    };
    refused(
        &mut gateway,
        &[("x-key", &many(10_000)), (":path", "/")],
        400,
    );
    refused(&mut gateway, &[("x-key", &many(17)), (":path", "/")], 400);
    let same = "{vault://tenants/a/k}".repeat(17);
    refused(&mut gateway, &[("x-key", &same), (":path", "/")], 400);
    // Counted over all fields.
    let path = format!("/?key={}", many(8));
    refused(&mut gateway, &[("x-key", &many(9)), (":path", &path)], 400);
    gateway.request(&[("x-key", &many(8)), (":path", &path)]);
    assert_eq!(one_call(&mut gateway).len(), 8);
}

#[test]
fn no_header_is_injected_through_a_secret() {
    let mut gateway = Gateway::envoy().warm(&resolving());
    for evil in ["a\r\nx-evil: 1", "a\nb", "a\0b"] {
        let sent = [
            ("x-key", "{vault://tenants/a/k}"),
            (":path", "/?key={vault://tenants/a/k}"),
        ];
        gateway.request(&sent);
        gateway.answer_all(|_, _| secret(evil, "r1"));
        assert_eq!(gateway.status(), Some(503));
        assert_eq!(gateway.header("x-key").as_deref(), Some(""));
        assert!(!gateway.calls().contains(&"resume".to_owned()));
        gateway.request(&[("x-key", "{vault://tenants/a/k}"), (":path", "/")]);
        assert_eq!(gateway.status(), Some(503), "known by now");
        // In a query string it is encoded.
        gateway.request(&[(":path", "/?key={vault://tenants/a/k}")]);
        assert_eq!(gateway.status(), None);
        gateway = Gateway::envoy().warm(&resolving());
    }
}

#[test]
fn a_parameter_of_a_client_s_own_reference_is_text() {
    let mut gateway = Gateway::envoy().warm(&resolving());
    gateway.request(&[
        ("x-key", "{vault://tenants/$(header:x-tenant)/k}"),
        ("x-tenant", "a"),
        (":path", "/"),
    ]);
    assert_eq!(
        one_call(&mut gateway),
        ["{vault://tenants/$(header:x-tenant)/k}"]
    );
}

#[test]
fn a_secret_that_looks_like_a_reference_is_a_secret() {
    let mut gateway = Gateway::envoy().warm(&resolving());
    let sent = [("x-key", "{vault://tenants/a/k}"), (":path", "/")];
    gateway.request(&sent);
    gateway.answer_all(|_, _| secret("{vault://tenants/b/k}", "r1"));
    assert_eq!(
        gateway.header("x-key").as_deref(),
        Some("{vault://tenants/b/k}")
    );
    assert_eq!(gateway.request(&sent).1, Action::Continue);
    assert_eq!(gateway.take_dispatched().len(), 0);
    gateway.tick(1000);
    gateway.answer_all(path);
}
