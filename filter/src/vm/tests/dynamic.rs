//! References that come with a request, and those with parameters: what is asked, what is written.

use serde_json::{Value, json};

use crate::Action;
use crate::testing::{Dispatched, Gateway, ROOT, failure, secret, unchanged, usable};

/// `x-key` and the parameter `key` may hold references, beside a header of the rule's own.
pub(super) fn resolving() -> Value {
    json!({"resolver": {"upstream": "u"},
        "request": {"set": {"headers": {"x-static": "{vault://v/static}"}}},
        "resolve": {"headers": ["x-key", "x-more"], "querystring": ["key"], "allow": ["tenants/*"]}})
}

/// The credentials of the tenant that a header names.
pub(super) fn tenants() -> Value {
    json!({"resolver": {"upstream": "u"},
        "basic_auth": {"username": "{vault://tenants/$(header:x-tenant)/user}",
                       "password": "{vault://tenants/$(header:x-tenant)/pass}"},
        "resolve": {"allow": ["tenants/*"]}})
}

/// The resolver knows everything but the tenant `none`: a value is the path, and where it stands.
pub(super) fn path(reference: &str, known: &Value) -> Value {
    if reference.contains("/none/") {
        return json!({"failure": {"kind": "not-found", "retryable": true, "retry_after": 5}});
    }
    if *known == json!("r1") {
        return unchanged();
    }
    let path = reference
        .trim_start_matches("{vault://")
        .trim_end_matches('}');
    secret(&format!("<{}>", path.replace('/', "|")), "r1")
}

pub(super) fn asked(call: &Dispatched) -> Vec<String> {
    let references = call.body["references"].as_array().expect("a list");
    references
        .iter()
        .map(|text| text.as_str().expect("a text").to_owned())
        .collect()
}

/// What is asked for with a request; nothing may be known before.
pub(super) fn one_call(gateway: &mut Gateway) -> Vec<String> {
    let mut calls = gateway.take_dispatched();
    assert_eq!(calls.len(), 1, "one call for all of them");
    let call = calls.remove(0);
    assert!(
        call.body["known"]
            .as_array()
            .is_none_or(|known| known.iter().all(Value::is_null))
    );
    gateway.answer(ROOT, &call, path);
    asked(&call)
}

fn basic(user: &str, pass: &str) -> Option<String> {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{pass}"));
    Some(format!("Basic {pair}"))
}

#[test]
fn an_unknown_reference_is_guarded_asked_for_once_and_written() {
    for nginx in [false, true] {
        let gateway = if nginx {
            Gateway::nginx()
        } else {
            Gateway::envoy()
        };
        let mut gateway = gateway.warm(&json!({"resolver": {"upstream": "u"},
            "request": {"set": {"headers": {"x-static": "{vault://v/static}"}}},
            "resolve": {"headers": ["x-key"], "allow": ["tenants/*"]}}));
        let sent = [
            ("X-Key", "Key {vault://tenants/a/k}/{vault://tenants/b/k}."),
            ("y", "other"),
        ];
        let (_, action) = gateway.request(&sent);
        assert_eq!(action, Action::Pause);
        assert_eq!(gateway.calls(), ["set x-key=", "set x-static=", "dispatch"]);
        let asked = one_call(&mut gateway);
        assert_eq!(asked, ["{vault://tenants/a/k}", "{vault://tenants/b/k}"]);
        let mut calls = gateway.calls();
        calls.retain(|call| !call.starts_with("context"));
        let written = "set x-key=Key <tenants|a|k>/<tenants|b|k>.";
        assert_eq!(calls, ["set x-static=<static>", written, "resume"]);
        // What is known by now costs no call.
        let (_, action) = gateway.request(&sent);
        assert_eq!(action, Action::Continue);
        assert_eq!(gateway.calls(), ["set x-static=<static>", written]);
        assert_eq!(gateway.header("y").as_deref(), Some("other"));
    }
}

#[test]
fn only_what_is_unknown_is_asked_for_in_one_call_whatever_fields_it_stands_in() {
    let mut gateway = Gateway::envoy().warm(&resolving());
    gateway.request(&[("x-key", "{vault://tenants/a/k}"), (":path", "/")]);
    assert_eq!(one_call(&mut gateway), ["{vault://tenants/a/k}"]);
    let sent = [
        ("x-key", "{vault://tenants/a/k}"),
        ("x-more", "{vault://tenants/b/k}{vault://tenants/b/k}"),
        (
            ":path",
            "/p?x=%7B&key=%7Bvault%3A%2F%2Ftenants/c+d/k%7D&y={vault://tenants/e/k}",
        ),
    ];
    assert_eq!(gateway.request(&sent).1, Action::Pause);
    let guarded = "/p?x=%7B&key=&y={vault://tenants/e/k}";
    assert_eq!(gateway.header(":path").as_deref(), Some(guarded));
    let asked = one_call(&mut gateway);
    assert_eq!(
        asked,
        ["{vault://tenants/b/k}", "{vault://tenants/c%20d/k}"]
    );
    for known in [false, true] {
        if known {
            assert_eq!(gateway.request(&sent).1, Action::Continue);
        }
        assert_eq!(gateway.header("x-key").as_deref(), Some("<tenants|a|k>"));
        assert_eq!(
            gateway.header("x-more").as_deref(),
            Some("<tenants|b|k><tenants|b|k>")
        );
        let path = "/p?x=%7B&key=%3Ctenants%7Cc%2520d%7Ck%3E&y={vault://tenants/e/k}";
        assert_eq!(gateway.header(":path").as_deref(), Some(path));
        assert_eq!(gateway.header("x-static").as_deref(), Some("<static>"));
    }
}

/// Who may choose how a secret is spelled must not fill the table with it.
#[test]
fn one_secret_is_asked_for_once_however_it_is_spelled() {
    let mut gateway = Gateway::envoy().warm(&resolving());
    gateway.request(&[("x-key", "{vault://tenants/a/k}"), (":path", "/")]);
    assert_eq!(one_call(&mut gateway), ["{vault://tenants/a/k}"]);
    for spelled in ["tenants//a/k", "tenants/%61///%6B", "tenants/a/%6b"] {
        let sent = [
            ("x-key", &*format!("{{vault://{spelled}}}")),
            (":path", "/"),
        ];
        assert_eq!(gateway.request(&sent).1, Action::Continue, "{spelled}");
        assert_eq!(gateway.header("x-key").as_deref(), Some("<tenants|a|k>"));
    }
}

#[test]
fn a_field_without_a_reference_goes_on_unchanged() {
    let mut gateway = Gateway::envoy().warm(&resolving());
    for value in [
        "",
        "plain",
        "{{vault://tenants/a/k}",
        "{VAULT://tenants/a/k}",
        "vault://tenants/a/k",
    ] {
        let path = format!("/p?key={value}&key=2");
        let sent = [
            ("x-key", value),
            ("X-KEY", "second"),
            (":path", path.as_str()),
        ];
        assert_eq!(gateway.request(&sent).1, Action::Continue, "{value}");
        assert_eq!(gateway.calls(), ["set x-static=<static>"], "{value}");
    }
    assert_eq!(gateway.take_dispatched().len(), 0);
}

#[test]
fn a_rule_that_still_waits_for_its_own_asks_for_both_at_once() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&resolving()));
    gateway.request(&[("x-key", "{vault://tenants/a/k}"), (":path", "/")]);
    assert_eq!(
        one_call(&mut gateway),
        ["{vault://v/static}", "{vault://tenants/a/k}"]
    );
    assert_eq!(gateway.header("x-static").as_deref(), Some("<v|static>"));
    assert_eq!(gateway.header("x-key").as_deref(), Some("<tenants|a|k>"));
}

#[test]
fn a_parameter_chooses_the_credential() {
    for nginx in [false, true] {
        let mut gateway = if nginx {
            Gateway::nginx()
        } else {
            Gateway::envoy()
        };
        assert!(gateway.configure(&tenants()));
        for tenant in ["a", "b c"] {
            let sent = [("x-tenant", tenant), ("authorization", "mine")];
            assert_eq!(gateway.request(&sent).1, Action::Pause);
            assert_eq!(gateway.calls(), ["set authorization=", "dispatch"]);
            one_call(&mut gateway);
            let tenant = tenant.replace(' ', "%20");
            let of = |key: &str| format!("<tenants|{tenant}|{key}>");
            assert_eq!(
                gateway.header("authorization"),
                basic(&of("user"), &of("pass"))
            );
            assert_eq!(gateway.request(&sent).1, Action::Continue);
            assert_eq!(
                gateway.header("authorization"),
                basic(&of("user"), &of("pass"))
            );
        }
        for (sent, status) in [
            (&[("authorization", "mine")][..], 400),
            (&[("x-tenant", "a"), ("x-tenant", "b")], 400),
            (&[("x-tenant", "a/b")], 400),
        ] {
            assert_eq!(gateway.request(sent).1, Action::Pause);
            assert_eq!(gateway.status(), Some(status), "{sent:?}");
        }
        assert_eq!(gateway.take_dispatched().len(), 0);
        assert!(
            gateway
                .logs()
                .iter()
                .any(|line| line.contains("rule /: a reference"))
        );
    }
}

#[test]
fn a_reference_after_substitution_is_held_to_the_list() {
    let mut configuration = tenants();
    configuration["resolve"]["allow"] = json!(["tenants/a*/*"]);
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&configuration));
    gateway.request(&[("x-tenant", "b")]);
    assert_eq!(
        (gateway.status(), gateway.take_dispatched().len()),
        (Some(403), 0)
    );
    gateway.request(&[("x-tenant", "ab")]);
    assert_eq!(
        (gateway.status(), gateway.take_dispatched().len()),
        (None, 1)
    );
}

#[test]
fn what_cannot_be_had_meets_on_error() {
    let key = [
        ("x-key", "K {vault://tenants/none/k}"),
        (":path", "/?a=1&key={vault://tenants/none/k}"),
    ];
    for (on_error, status, header, path) in [
        (json!({}), Some(503), Some(""), "/?a=1&key="),
        (json!({"status": 502}), Some(502), Some(""), "/?a=1&key="),
        (
            json!({"default": "d&d"}),
            None,
            Some("d&d"),
            "/?a=1&key=d%26d",
        ),
        (json!({"without_field": true}), None, None, "/?a=1"),
    ] {
        let mut configuration = resolving();
        configuration["on_error"] = on_error;
        let mut gateway = Gateway::envoy().warm(&configuration);
        gateway.request(&key);
        one_call(&mut gateway);
        // At once too, while the failure holds.
        for known in [false, true] {
            if known {
                gateway.request(&key);
                assert_eq!(gateway.take_dispatched().len(), 0);
            }
            assert_eq!(gateway.status(), status);
            if status.is_none() || !known {
                assert_eq!(gateway.header("x-key").as_deref(), header);
                assert_eq!(gateway.header(":path").as_deref(), Some(path));
            }
        }
        let logs = gateway.logs().join("\n");
        assert!(
            logs.contains("/resolve/headers/0 from the vault 'tenants': not-found"),
            "{logs}"
        );
        assert!(!logs.contains("none"), "{logs}");
    }
}

#[test]
fn a_call_that_fails_has_the_request_refused_and_the_next_one_ask_again() {
    let mut gateway = Gateway::envoy().warm(&resolving());
    let sent = [("x-key", "{vault://tenants/a/k}"), (":path", "/")];
    for _ in 0..2 {
        gateway.request(&sent);
        let token = gateway.take_dispatched()[0].token;
        gateway.vm.on_http_call_response(ROOT, token, 0, 0);
        assert_eq!(gateway.status(), Some(503));
        assert_eq!(gateway.header("x-key").as_deref(), Some(""));
    }
    gateway.request(&sent);
    one_call(&mut gateway);
    assert_eq!(gateway.header("x-key").as_deref(), Some("<tenants|a|k>"));
}

#[test]
fn keys_of_an_object_are_never_from_two_answers() {
    let mut gateway = Gateway::envoy();
    let mut configuration = tenants();
    configuration["resolve"]["headers"] = json!(["x-key"]);
    assert!(gateway.configure(&configuration));
    let tenant = ("x-tenant", "a");
    // One of the two is known already, of an older state of the object.
    gateway.request(&[("x-tenant", "other"), ("x-key", "{vault://tenants/a/user}")]);
    one_call(&mut gateway);
    gateway.request(&[tenant]);
    let call = gateway.take_dispatched().remove(0);
    assert_eq!(
        asked(&call),
        ["{vault://tenants/a/user}", "{vault://tenants/a/pass}"]
    );
    gateway.answer(ROOT, &call, |reference, _| match reference {
        "{vault://tenants/a/user}" => secret("new-user", "r2"),
        _ => secret("new-pass", "r2"),
    });
    assert_eq!(
        gateway.header("authorization"),
        basic("new-user", "new-pass")
    );
    // Somebody asks for a third key; the other two come along.
    gateway.request(&[("x-tenant", "other"), ("x-key", "{vault://tenants/a/id}")]);
    let mut texts = asked(&gateway.take_dispatched().remove(0));
    texts.sort();
    let all = [
        "{vault://tenants/a/id}",
        "{vault://tenants/a/pass}",
        "{vault://tenants/a/user}",
    ];
    assert_eq!(texts, all);
    // An answer that was overtaken brings one of them back: they are asked for anew.
    gateway.request(&[("x-tenant", "other"), ("x-key", "{vault://tenants/a/more}")]);
    let call = gateway.take_dispatched().remove(0);
    gateway.answer(ROOT, &call, |reference, _| match reference {
        "{vault://tenants/a/user}" => secret("old-user", "r1"),
        _ => failure("unavailable"),
    });
    gateway.request(&[tenant]);
    let call = gateway.take_dispatched().remove(0);
    // If even that does not bring them together, the request is refused.
    gateway.answer(ROOT, &call, |_, _| failure("unavailable"));
    assert_eq!(gateway.status(), Some(503));
    gateway.tick(1000);
    gateway.answer_all(|reference, _| match reference {
        "{vault://tenants/a/user}" => secret("new-user", "r3"),
        _ => unchanged(),
    });
    assert_eq!(gateway.request(&[tenant]).1, Action::Continue);
    assert_eq!(
        gateway.header("authorization"),
        basic("new-user", "new-pass")
    );
}

#[test]
fn values_of_a_rule_with_parameters_live_as_long_as_others() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&tenants()));
    let sent = [("x-tenant", "a")];
    gateway.request(&sent);
    gateway.answer_all(|_, _| usable("v", "r1", 3));
    assert_eq!(gateway.header("authorization"), basic("v", "v"));
    gateway.tick(1000);
    let poll = gateway.take_dispatched().remove(0);
    assert_eq!(poll.body["known"], json!(["r1", "r1"]), "polled as all are");
    gateway.answer(ROOT, &poll, |_, _| usable("w", "r2", 2));
    gateway.request(&sent);
    assert_eq!(gateway.header("authorization"), basic("w", "w"));
    for _ in 0..2 {
        gateway.tick(1000);
        for call in gateway.take_dispatched() {
            gateway.vm.on_http_call_response(ROOT, call.token, 0, 0);
        }
    }
    assert_eq!(gateway.request(&sent).1, Action::Pause);
    assert_eq!(gateway.take_dispatched().len(), 1);
}

#[test]
fn the_host_s_function_is_asked_as_well() {
    for nginx in [false, true] {
        let mut gateway = if nginx {
            Gateway::nginx()
        } else {
            Gateway::envoy()
        };
        let mut configuration = tenants();
        configuration["resolver"] = json!({"host_function": true});
        gateway.host_answers(path);
        assert!(gateway.configure(&configuration));
        let sent = [("x-tenant", "a")];
        assert_eq!(gateway.request(&sent).1, Action::Continue);
        let expected = basic("<tenants|a|user>", "<tenants|a|pass>");
        assert_eq!(gateway.header("authorization"), expected);
        gateway.request(&sent);
        assert_eq!(gateway.calls().len(), 1, "the header alone");
        gateway.host_answers(|_, _| failure("pending"));
        let (_, action) = gateway.request(&[("x-tenant", "b")]);
        assert_eq!(action, Action::Pause);
        // Nothing wakes a request in nginx that has no call of its own.
        assert_eq!(gateway.status(), nginx.then_some(503));
        if !nginx {
            gateway.host_answers(path);
            gateway.vm.on_foreign_function(ROOT);
            let expected = basic("<tenants|b|user>", "<tenants|b|pass>");
            assert_eq!(gateway.header("authorization"), expected);
        }
    }
}
