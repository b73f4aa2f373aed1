//! What is asked at the ticks, and what becomes of values that change, go or grow old.

use serde_json::json;

use super::bearer;
use crate::testing::{Gateway, ROOT, failure, known, rule, secret, unchanged, usable};
use crate::{Action, Status};

#[test]
fn nothing_is_asked_while_configuring_and_everything_at_the_first_tick() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&bearer()));
    assert_eq!(gateway.calls(), ["tick 200"]);
    gateway.tick(0);
    let calls = gateway.take_dispatched();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].upstream, "vaultref");
    assert_eq!(calls[0].timeout, 1000);
    assert_eq!(
        calls[0].body,
        json!({"references": ["{vault://v/token}"], "known": [null], "wait_ms": 800})
    );
    let headers: Vec<_> = calls[0]
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(headers, [":method", ":path", ":authority", "content-type"]);
}

#[test]
fn the_token_goes_with_the_call() {
    let mut gateway = Gateway::envoy();
    gateway
        .host
        .environment
        .borrow_mut()
        .insert("TOKEN".into(), " s3cret\n".into());
    let mut configuration = bearer();
    configuration["resolver"]["token_env"] = json!("TOKEN");
    assert!(gateway.configure(&configuration));
    gateway.tick(0);
    let call = &gateway.take_dispatched()[0];
    assert!(
        call.headers
            .contains(&("authorization".into(), b"Bearer s3cret".to_vec()))
    );
}

#[test]
fn a_poll_sends_known_revisions_and_what_changed_is_rendered_anew_together() {
    let configuration = json!({"resolver": {"upstream": "u"},
        "basic_auth": {"username": "{vault://v/user}", "password": "{vault://v/pass}"}});
    let mut gateway = Gateway::envoy().warm(&configuration);
    gateway.tick(600);
    assert_eq!(gateway.take_dispatched().len(), 0, "it is not time yet");
    // The tick before a second is over: what is new then is here within one.
    gateway.tick(200);
    let call = gateway.take_dispatched().remove(0);
    assert_eq!(call.body["known"], json!(["r1", "r1"]));
    gateway.answer(ROOT, &call, |reference, _| match reference {
        "{vault://v/user}" => secret("a", "r2"),
        _ => secret("b", "r2"),
    });
    gateway.request(&[]);
    assert_eq!(
        gateway.header("authorization").as_deref(),
        Some("Basic YTpi")
    );
    gateway.tick(1000);
    gateway.answer_all(|_, _| unchanged());
    gateway.request(&[]);
    assert_eq!(
        gateway.header("authorization").as_deref(),
        Some("Basic YTpi")
    );
}

#[test]
fn while_one_half_cannot_be_read_the_other_is_held_back_for_a_while() {
    let configuration = json!({"resolver": {"upstream": "u"},
        "basic_auth": {"username": "{vault://v/user}", "password": "{vault://v/pass}"}});
    let mut gateway = Gateway::envoy().warm(&configuration);
    let old = "Basic PHVzZXI+OjxwYXNzPg==";
    for second in 0..14 {
        gateway.tick(1000);
        gateway.answer_all(|reference, known| match reference {
            "{vault://v/user}" if *known == json!("r2") => unchanged(),
            "{vault://v/user}" => secret("new", "r2"),
            _ => failure("unavailable"),
        });
        gateway.request(&[]);
        let header = gateway.header("authorization").expect("a header");
        assert_eq!(header == old, second < 10, "second {second}: {header}");
    }
}

#[test]
fn what_is_gone_or_forbidden_is_dropped_at_once_and_comes_back() {
    for kind in [
        "not-found",
        "denied",
        "unknown-vault",
        "invalid-reference",
        "key-not-found",
        "wrong-type",
    ] {
        let mut gateway = Gateway::envoy().warm(&bearer());
        gateway.tick(1000);
        gateway.answer_all(|_, _| failure(kind));
        let (_, action) = gateway.request(&[("authorization", "own")]);
        assert_eq!(
            (action, gateway.status()),
            (Action::Pause, Some(503)),
            "{kind}"
        );
        assert_eq!(
            gateway.calls(),
            ["respond 503"],
            "{kind}: no call for each request"
        );
        let body = gateway.host.response.borrow().clone().map(|(_, body)| body);
        assert!(body.is_some_and(|body| !body.contains("vault") && !body.contains(kind)));
        gateway.tick(1000);
        let call = gateway.take_dispatched().remove(0);
        assert_eq!(call.body["known"], json!([null]), "{kind}");
        gateway.answer(ROOT, &call, known);
        gateway.request(&[]);
        assert_eq!(
            gateway.header("authorization").as_deref(),
            Some("Bearer <token>"),
            "{kind}"
        );
        let logs = gateway.logs();
        let about = logs.iter().filter(|line| line.contains(kind)).count();
        assert_eq!(about, 1, "{logs:?}");
        assert!(
            logs.iter()
                .any(|line| line.contains("has all its secrets again")),
            "{logs:?}"
        );
    }
}

#[test]
fn an_outage_is_bridged_for_as_long_as_values_are_usable_whatever_the_clock_does() {
    let configuration = bearer();
    for failing in [true, false] {
        let mut gateway = Gateway::envoy();
        assert!(gateway.configure(&configuration));
        gateway.tick(0);
        gateway.answer_all(|_, _| usable("t", "r1", 60));
        let answer_all = |gateway: &mut Gateway| match failing {
            true => gateway.answer_all(|_, _| failure("unavailable")),
            false => {
                for call in gateway.take_dispatched() {
                    gateway.vm.on_http_call_response(ROOT, call.token, 0, 0);
                }
            }
        };
        for second in 0..59 {
            gateway.tick(1000);
            answer_all(&mut gateway);
            // The clock jumps back a day, which neither prolongs nor ends a value's life.
            let now = gateway.host.now.get();
            gateway.host.now.set(now - 86_400_000_000_000);
            gateway.tick(0);
            answer_all(&mut gateway);
            let (_, action) = gateway.request(&[]);
            assert_eq!(action, Action::Continue, "second {second}");
        }
        gateway.tick(2000);
        answer_all(&mut gateway);
        let (_, action) = gateway.request(&[("authorization", "own")]);
        assert_eq!(action, Action::Pause);
        if failing {
            assert_eq!(gateway.status(), Some(503));
        } else {
            assert_eq!(gateway.calls(), ["set authorization=", "dispatch"]);
        }
    }
}

#[test]
fn a_resolver_that_cannot_be_reached_is_asked_quickly_at_first_then_each_second() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&bearer()));
    gateway
        .host
        .failures
        .borrow_mut()
        .insert("dispatch", Status::BadArgument);
    gateway.calls();
    let mut asked = Vec::new();
    for tick in 0..20 {
        gateway.tick(if tick == 0 { 0 } else { 200 });
        if gateway.calls().contains(&"dispatch".to_owned()) {
            asked.push(tick * 200);
        }
    }
    assert_eq!(asked, [0, 200, 400, 600, 800, 1000, 2000, 3000]);
    let about = gateway
        .logs()
        .iter()
        .filter(|line| line.contains("cannot be asked"))
        .count();
    assert_eq!(about, 1, "{:?}", gateway.logs());
    let (_, action) = gateway.request(&[("authorization", "own")]);
    assert_eq!((action, gateway.status()), (Action::Pause, Some(503)));
    gateway.host.failures.borrow_mut().clear();
    gateway.tick(1000);
    gateway.answer_all(known);
    let (_, action) = gateway.request(&[]);
    assert_eq!(action, Action::Continue);
}

#[test]
fn without_references_nothing_is_asked() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&rule(&json!({"set": {"headers": {"x": "literal"}}}))));
    gateway.tick(0);
    gateway.tick(5000);
    assert_eq!(gateway.take_dispatched().len(), 0);
    assert_eq!(gateway.request(&[]).1, Action::Continue);
    assert_eq!(gateway.header("x").as_deref(), Some("literal"));
}

#[test]
fn a_call_is_waited_for_as_long_as_the_gateway_may_take() {
    // In nginx the timeout of a second holds for connecting, sending and each read.
    for (mut gateway, patience) in [(Gateway::envoy(), 2), (Gateway::nginx(), 5)] {
        assert!(gateway.configure(&bearer()));
        gateway.tick(0);
        let call = gateway.take_dispatched().remove(0);
        for _ in 1..patience {
            gateway.tick(1000);
            assert_eq!(gateway.take_dispatched().len(), 0, "one at a time");
        }
        gateway.answer(ROOT, &call, known);
        assert_eq!(gateway.request(&[]).1, Action::Continue);
        gateway.tick(1000);
        let lost = gateway.take_dispatched().remove(0);
        for _ in 0..patience {
            gateway.tick(1000);
        }
        assert_eq!(gateway.take_dispatched().len(), 0);
        gateway.tick(200);
        assert_eq!(gateway.take_dispatched().len(), 1, "given up");
        gateway.answer(ROOT, &lost, |_, _| secret("late", "r9"));
        gateway.request(&[]);
        let header = gateway.header("authorization");
        assert_eq!(header.as_deref(), Some("Bearer <token>"));
    }
}
