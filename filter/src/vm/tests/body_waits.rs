//! Bodies that wait for what stands in them: what ends the wait, and what has changed meanwhile.

use serde_json::{Value, json};

use super::body_references::{BODY, JSON, WRITTEN, post, resolving, resumes};
use super::dynamic::{asked, one_call, path};
use crate::Action;
use crate::testing::{Gateway, ROOT, failure, known, secret};

#[test]
fn after_the_wait_nobody_answers_twice() {
    let body = r#"{"auth":{"key":"{vault://tenants/none/k}"}}"#;
    let mut gateway = Gateway::envoy().warm(&resolving());
    let (context, _) = post(&mut gateway, JSON, &[], body);
    assert_eq!(gateway.end_body(context), Action::Pause);
    one_call(&mut gateway);
    assert_eq!(gateway.status(), Some(503));
    gateway.calls();
    assert_eq!(gateway.end_body(context), Action::Pause);
    assert_eq!(gateway.vm.on_request_trailers(context), Action::Pause);
    assert_eq!(gateway.calls(), [""; 0]);
}

#[test]
fn no_more_bodies_wait_than_other_requests_may() {
    let mut gateway = Gateway::envoy().warm(&resolving());
    for number in 0..=1024 {
        let (context, _) = post(&mut gateway, JSON, &[], BODY);
        assert_eq!(gateway.end_body(context), Action::Pause);
        let refused = number == 1024;
        assert_eq!(gateway.status(), refused.then_some(503), "{number}");
    }
    assert_eq!(gateway.take_dispatched().len(), 1024);
}

#[test]
fn a_client_that_goes_away_and_one_that_sends_more_end_the_wait() {
    let mut gateway = Gateway::envoy().warm(&resolving());
    let (gone, _) = post(&mut gateway, JSON, &[], BODY);
    assert_eq!(gateway.end_body(gone), Action::Pause);
    gateway.vm.on_delete(gone);
    let call = gateway.take_dispatched().remove(0);
    gateway.calls();
    gateway.answer(ROOT, &call, path);
    assert_eq!(gateway.calls(), [""; 0]);

    for trailers in [false, true] {
        let mut gateway = Gateway::envoy().warm(&resolving());
        let (context, _) = post(&mut gateway, JSON, &[], BODY);
        assert_eq!(gateway.end_body(context), Action::Pause);
        let call = gateway.take_dispatched().remove(0);
        let action = match trailers {
            true => gateway.vm.on_request_trailers(context),
            false => gateway.end_body(context),
        };
        assert_eq!((action, gateway.status()), (Action::Pause, Some(503)));
        gateway.calls();
        gateway.answer(ROOT, &call, path);
        assert_eq!(gateway.calls(), [""; 0]);
        assert_eq!(gateway.body(), BODY);
    }
}

#[test]
fn a_wait_ends_with_its_time_and_an_answer_afterwards_is_too_late() {
    let mut configuration = resolving();
    configuration["resolver"]["timeout_ms"] = json!(1000);
    let mut gateway = Gateway::envoy().warm(&configuration);
    let (context, _) = post(&mut gateway, JSON, &[], BODY);
    assert_eq!(gateway.end_body(context), Action::Pause);
    let call = gateway.take_dispatched().remove(0);
    for _ in 0..20 {
        gateway.tick(500);
    }
    assert_eq!(gateway.status(), Some(503));
    gateway.calls();
    gateway.answer(ROOT, &call, path);
    assert!(!gateway.calls().contains(&"resume".to_owned()));
}

/// The clock of requests is that of the last callback which looked at it.
#[test]
fn a_body_may_wait_from_its_own_end_on() {
    let mut gateway = Gateway::envoy().warm(&resolving());
    let (context, _) = post(&mut gateway, JSON, &[], BODY);
    let now = gateway.host.now.get();
    gateway.host.now.set(now + 5_000_000_000);
    assert_eq!(gateway.end_body(context), Action::Pause);
    gateway.tick(500);
    assert_eq!(gateway.status(), None);
}

#[test]
fn a_body_that_came_while_the_headers_waited_waits_again_for_its_own() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&resolving()));
    let (context, action) = post(&mut gateway, JSON, &[], BODY);
    assert_eq!(action, Action::Pause);
    // `allow_on_headers_stop_iteration`
    assert_eq!(gateway.end_body(context), Action::Pause);
    let call = gateway.take_dispatched().remove(0);
    gateway.answer(ROOT, &call, known);
    assert_eq!(resumes(&gateway), 0);
    assert_eq!(one_call(&mut gateway).len(), 2);
    assert_eq!(gateway.body(), WRITTEN);
    assert_eq!(resumes(&gateway), 1);
}

#[test]
fn a_configuration_that_goes_takes_no_open_body_with_it() {
    let mut gateway = Gateway::envoy().warm(&resolving());
    let (early, _) = post(&mut gateway, JSON, &[], BODY);
    let mut other = resolving();
    other["resolver"]["upstream"] = json!("another");
    assert!(gateway.configure(&other));
    gateway.answer_all(known);
    gateway.host.current.set(early);
    *gateway.host.body.borrow_mut() = BODY.into();
    assert_eq!(gateway.end_body(early), Action::Pause);
    assert_eq!(gateway.status(), None);
    one_call(&mut gateway);
    assert_eq!(gateway.body(), WRITTEN);
}

#[test]
fn an_object_never_comes_in_two_halves() {
    let mut gateway = Gateway::envoy().warm(&json!({"resolver": {"upstream": "u"},
        "resolve": {"body": ["/user", "/pass"], "allow": ["tenants/*"]}}));
    let user = r#"{"user":"{vault://tenants/a/user}"}"#;
    let (context, _) = post(&mut gateway, JSON, &[], user);
    assert_eq!(gateway.end_body(context), Action::Pause);
    one_call(&mut gateway);
    let both = r#"{"user":"{vault://tenants/a/user}","pass":"{vault://tenants/a/pass}"}"#;
    let (context, _) = post(&mut gateway, JSON, &[], both);
    assert_eq!(gateway.end_body(context), Action::Pause);
    let call = gateway.take_dispatched().remove(0);
    assert_eq!(asked(&call).len(), 2, "the known one is asked for again");
    gateway.answer(ROOT, &call, |reference, _| match reference {
        "{vault://tenants/a/user}" => secret("new-user", "r2"),
        _ => secret("new-pass", "r2"),
    });
    assert_eq!(gateway.body(), r#"{"user":"new-user","pass":"new-pass"}"#);
    // An answer that was overtaken brings one of them back, and the next one does not bring both.
    let (context, _) = post(&mut gateway, JSON, &[], &user.replace("/user}", "/more}"));
    gateway.end_body(context);
    let call = gateway.take_dispatched().remove(0);
    gateway.answer(ROOT, &call, |reference, _| match reference {
        "{vault://tenants/a/user}" => secret("old-user", "r1"),
        _ => failure("unavailable"),
    });
    let (context, _) = post(&mut gateway, JSON, &[], both);
    assert_eq!(gateway.end_body(context), Action::Pause);
    gateway.answer_all(|_, _| failure("unavailable"));
    assert_eq!(
        (gateway.status(), gateway.body().as_str()),
        (Some(503), both)
    );
}

/// The header and the body of a request have one half each.
fn halves() -> Value {
    json!({"resolver": {"upstream": "u"},
        "request": {"set": {"body": {"/own": "{vault://tenants/b/user}"}}},
        "resolve": {"headers": ["x-user"], "body": ["/pass"], "allow": ["tenants/*"]}})
}

pub(super) fn in_revision(revision: &'static str) -> impl Fn(&str, &Value) -> Value {
    move |reference, _| {
        let key = reference.rsplit('/').next().unwrap_or_default();
        secret(
            &format!("{}{revision}", key.trim_end_matches('}')),
            revision,
        )
    }
}

#[test]
fn a_body_gets_no_half_that_is_newer_than_that_of_its_headers() {
    let user = ("x-user", "{vault://tenants/a/user}");
    let body = r#"{"pass":"{vault://tenants/a/pass}"}"#;
    // The two calls meet two revisions.
    for (second, expected) in [
        ("r2", None),
        ("r1", Some(r#"{"pass":"passr1","own":"<user>"}"#)),
    ] {
        let mut gateway = Gateway::envoy().warm(&halves());
        let (context, _) = post(&mut gateway, JSON, &[user], body);
        gateway.answer_all(in_revision("r1"));
        assert_eq!(gateway.header("x-user").as_deref(), Some("userr1"));
        assert_eq!(gateway.end_body(context), Action::Pause);
        gateway.answer_all(in_revision(second));
        assert_eq!(gateway.status(), expected.is_none().then_some(503));
        assert_eq!(gateway.body(), expected.unwrap_or(body));
    }
    // The half of the headers could not be read again.
    let mut gateway = Gateway::envoy().warm(&halves());
    let (context, _) = post(&mut gateway, JSON, &[user], body);
    gateway.answer_all(in_revision("r1"));
    gateway.end_body(context);
    gateway.answer_all(|reference, known| match reference.contains("user") {
        true => failure("unavailable"),
        false => in_revision("r2")(reference, known),
    });
    assert_eq!(gateway.status(), Some(503));
    // Both are known, and rotate while the body comes.
    let mut gateway = Gateway::envoy().warm(&halves());
    let (context, _) = post(&mut gateway, JSON, &[user], body);
    gateway.answer_all(in_revision("r1"));
    gateway.end_body(context);
    gateway.answer_all(in_revision("r1"));
    for rotates in [true, false] {
        let (context, action) = post(&mut gateway, JSON, &[user], body);
        assert_eq!(action, Action::Continue);
        if rotates {
            gateway.tick(1000);
            gateway.answer_all(in_revision("r2"));
        }
        assert_eq!(gateway.end_body(context) == Action::Pause, rotates);
        assert_eq!(gateway.status(), rotates.then_some(503));
    }
    let logs = gateway.logs().join("\n");
    assert!(logs.contains("has changed while a request came"), "{logs}");
}

#[test]
fn a_body_s_own_value_and_one_that_stands_in_it_are_of_one_time() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&halves()));
    gateway.tick(0);
    gateway.answer_all(in_revision("r1"));
    for (name, refused) in [("b", true), ("c", false)] {
        let body = format!(r#"{{"pass":"{{vault://tenants/{name}/pass}}"}}"#);
        let (context, _) = post(&mut gateway, JSON, &[], &body);
        assert_eq!(gateway.end_body(context), Action::Pause);
        gateway.answer_all(in_revision("r2"));
        assert_eq!(gateway.status(), refused.then_some(503), "{name}");
    }
}

/// A rule whose new value is held back, since another of its vaults is away, is sent with the old one.
#[test]
fn a_body_s_own_value_counts_as_it_is_sent() {
    let mut configuration = halves();
    configuration["request"]["set"]["body"]["/other"] = json!("{vault://v/other}");
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&configuration));
    gateway.tick(0);
    gateway.answer_all(in_revision("r1"));
    gateway.tick(1000);
    gateway.answer_all(|reference, known| match reference.contains("other") {
        true => failure("unavailable"),
        false => in_revision("r2")(reference, known),
    });
    for (name, refused) in [("b", true), ("c", false)] {
        let body = format!(r#"{{"pass":"{{vault://tenants/{name}/pass}}"}}"#);
        let (context, _) = post(&mut gateway, JSON, &[], &body);
        assert_eq!(gateway.end_body(context), Action::Pause);
        gateway.answer_all(in_revision("r2"));
        assert_eq!(gateway.status(), refused.then_some(503), "{name}");
        assert_eq!(gateway.body().contains("userr1"), !refused, "{name}");
    }
}

/// What a client wrote around its references is not kept beside the body, so it is looked at anew.
#[test]
fn a_body_that_is_another_after_the_wait_is_refused() {
    let other = r#"{"auth":{"key":"{vault://tenants/evil/k}"}}"#;
    let of_same_size = format!("{other}{}", " ".repeat(BODY.len() - other.len()));
    let without = " ".repeat(BODY.len() - 2) + "{}";
    let shorter = BODY.replace(r#""n":1.0e0,"#, "");
    for body in [of_same_size, without, shorter] {
        let mut gateway = Gateway::envoy().warm(&resolving());
        let (context, _) = post(&mut gateway, JSON, &[], BODY);
        assert_eq!(gateway.end_body(context), Action::Pause);
        let mut waiting = gateway.vm.waiting.iter();
        assert!(waiting.all(|waiting| waiting.found.is_none()));
        *gateway.host.body.borrow_mut() = body.clone().into_bytes();
        gateway.answer_all(path);
        assert_eq!(gateway.status(), Some(503));
        assert_eq!(gateway.body(), body);
    }
}

#[test]
fn a_resolver_that_was_replaced_goes_with_its_last_body() {
    let mut gateway = Gateway::envoy().warm(&resolving());
    let (context, _) = post(&mut gateway, JSON, &[], BODY);
    let mut other = resolving();
    other["resolver"]["upstream"] = json!("another");
    assert!(gateway.configure(&other));
    gateway.tick(1000);
    assert_eq!(gateway.vm.pollers.len(), 2);
    gateway.vm.on_delete(context);
    gateway.tick(1000);
    assert_eq!(gateway.vm.pollers.len(), 1);
}

/// `allow_on_headers_stop_iteration`: a part of the body comes before the answer for the headers, the
/// rest after it.
#[test]
fn a_body_that_came_in_part_while_the_headers_waited_waits_at_its_end() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&resolving()));
    let (context, _) = post(&mut gateway, JSON, &[], BODY);
    assert_eq!(gateway.arrive(context, 10, false), Action::Pause);
    gateway.answer_all(known);
    assert_eq!(resumes(&gateway), 0);
    assert_eq!(gateway.end_body(context), Action::Pause);
    assert_eq!(one_call(&mut gateway).len(), 2);
    assert_eq!(gateway.body(), WRITTEN);
    assert_eq!(resumes(&gateway), 1);
}
