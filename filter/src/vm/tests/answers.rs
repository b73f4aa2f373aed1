//! Which answers are believed, and for whom.

use serde_json::json;

use super::bearer;
use crate::testing::{Gateway, ROOT, known, rule, secret, unchanged, usable};
use crate::{Action, Status};

#[test]
fn answers_that_are_not_the_daemon_s_refuse_the_request() {
    let good = json!({"results": [secret("hunter2", "r")]}).to_string();
    let two = json!({"results": [secret("hunter2", "r"), secret("x", "r")]}).to_string();
    let marker = [("x-vaultref-contract", "1")];
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let half = good.split_at(20).0;
    let table: [(&str, Headers<'_>, &str, &str); 8] = [
        ("no marker", &[], "200", &good),
        (
            "another version",
            &[("x-vaultref-contract", "2")],
            "200",
            &good,
        ),
        ("not 200", &marker, "503", &good),
        ("made by Envoy", &[], "503", "upstream connect error"),
        ("too many", &marker, "200", &two),
        ("garbage", &marker, "200", "hunter2"),
        ("cut off", &marker, "200", half),
        ("empty", &marker, "200", ""),
    ];
    for (name, headers, status, body) in table {
        let mut gateway = Gateway::envoy();
        assert!(gateway.configure(&bearer()));
        gateway.request(&[("authorization", "own")]);
        let token = gateway.take_dispatched()[0].token;
        gateway.answer_raw(ROOT, token, headers, status, body.as_bytes());
        assert_eq!(gateway.status(), Some(503), "{name}");
        assert_eq!(
            gateway.header("authorization").as_deref(),
            Some(""),
            "{name}"
        );
        assert!(!gateway.calls().contains(&"resume".to_owned()), "{name}");
        let logs = gateway.logs().join("\n");
        assert!(!logs.contains("hunter2"), "{name}: {logs}");
    }
}

#[test]
fn a_call_without_headers_is_asked_for_nothing() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&bearer()));
    gateway.request(&[]);
    let token = gateway.take_dispatched()[0].token;
    gateway.vm.on_http_call_response(ROOT, token, 0, 0);
    assert_eq!(gateway.status(), Some(503));
}

#[test]
fn a_body_that_is_shorter_than_announced_is_not_believed() {
    for shorter in [true, false] {
        let mut gateway = Gateway::nginx();
        assert!(gateway.configure(&bearer()));
        gateway.request(&[]);
        let token = gateway.take_dispatched()[0].token;
        let body = json!({"results": [secret("x", "r")]})
            .to_string()
            .into_bytes();
        let pairs = vec![
            (b":status".to_vec(), b"200".to_vec()),
            (b"x-vaultref-contract".to_vec(), b"1".to_vec()),
        ];
        let length = body.len() + 1;
        *gateway.host.answer.borrow_mut() = (pairs, body);
        if !shorter {
            gateway
                .host
                .failures
                .borrow_mut()
                .insert("callout_body", Status::BadArgument);
        }
        gateway.vm.on_http_call_response(ROOT, token, 2, length);
        assert_eq!(gateway.status(), Some(503));
    }
}

#[test]
fn late_and_unknown_answers_change_nothing_or_refuse() {
    let mut gateway = Gateway::envoy().warm(&bearer());
    gateway.answer_raw(ROOT, 4711, &[("x-vaultref-contract", "1")], "200", b"{}");
    assert_eq!(gateway.calls(), [""; 0]);
    // A request that nobody knows must not go on.
    gateway.answer_raw(77, 4711, &[("x-vaultref-contract", "1")], "200", b"{}");
    assert_eq!(gateway.calls(), ["respond 503"]);
}

#[test]
fn a_token_that_is_given_out_twice_is_believed_for_neither() {
    let configuration = json!({"resolver": {"upstream": "u"}, "rules": [
        {"match": {"path_prefix": "/a"}, "request": {"set": {"headers": {"x": "{vault://v/a}"}}}},
        {"match": {"path_prefix": "/b"}, "request": {"set": {"headers": {"x": "{vault://v/b}"}}}}]});
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&configuration));
    gateway.request(&[(":path", "/a")]);
    let first = gateway.take_dispatched().remove(0);
    gateway.host.next_token.set(first.token);
    gateway.request(&[(":path", "/b")]);
    gateway.answer(ROOT, &first, known);
    assert_eq!(gateway.status(), Some(503));
    // The same for a poll that is given the token of a request.
    gateway.request(&[(":path", "/a")]);
    let request = gateway.take_dispatched().remove(0);
    gateway.host.next_token.set(request.token);
    gateway.tick(0);
    let poll = gateway.take_dispatched().pop().expect("a poll");
    assert_eq!(poll.token, request.token);
    gateway.answer(ROOT, &poll, |_, _| secret("wrong", "r"));
    gateway.answer(ROOT, &request, |_, _| secret("wrong", "r"));
    assert_eq!(gateway.status(), Some(503));
    assert_eq!(gateway.header("x").as_deref(), Some(""));
    gateway.request(&[(":path", "/a")]);
    assert_eq!(
        gateway.header("x").as_deref(),
        Some(""),
        "nothing of it was kept"
    );
}

#[test]
fn an_answer_that_was_overtaken_prolongs_nothing() {
    let mut gateway = Gateway::envoy().warm(&bearer());
    gateway.tick(1000);
    let poll = gateway.take_dispatched().remove(0);
    let both = json!({"set": {"headers": {"x": "{vault://v/token}{vault://v/other}"}}});
    assert!(gateway.configure_root(2, &rule(&both)));
    gateway.request_of(2, &[]);
    let call = gateway.take_dispatched().remove(0);
    gateway.answer(ROOT, &call, |_, _| usable("new", "r2", 1));
    assert_eq!(gateway.header("x").as_deref(), Some("newnew"));
    // This speaks of the value before.
    gateway.answer(ROOT, &poll, |_, _| unchanged());
    gateway.request(&[]);
    assert_eq!(
        gateway.header("authorization").as_deref(),
        Some("Bearer new")
    );
    gateway.tick(1000);
    assert_eq!(gateway.request(&[]).1, Action::Pause);
}
