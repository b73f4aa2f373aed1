//! What becomes of requests whose bodies are written.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::testing::{Gateway, ROOT, failure, known, rule, secret};
use crate::{Action, Status};

const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

fn json_rule() -> Value {
    rule(
        &json!({"set": {"headers": {"x": "{vault://v/h}"}, "body": {"/auth/key": "k-{vault://v/\"}"}}}),
    )
}

fn form_rule() -> Value {
    rule(&json!({"set": {"body": {"key": "{vault://v/s}"}}}))
}

fn gateways() -> [Gateway; 2] {
    [Gateway::envoy(), Gateway::nginx()]
}

fn with_length<'a>(kind: (&'a str, &'a str), length: &'a str) -> [(&'a str, &'a str); 2] {
    [kind, ("content-length", length)]
}

#[test]
fn the_body_is_written_when_all_of_it_is_there() {
    for gateway in gateways() {
        let mut gateway = gateway.warm(&json_rule());
        let body = r#"{"n":1.0e0,"auth":{"key":"own"}}"#;
        let (context, action) = gateway.post(&with_length(JSON, "32"), body);
        assert_eq!(action, Action::Continue);
        assert_eq!(gateway.header("x").as_deref(), Some("<h>"));
        // Its length changes; Envoy sends the headers before, nginx counts for itself.
        let length = gateway.header("content-length");
        assert_eq!(length.is_some(), gateway.host.is_nginx.get());
        assert_eq!(gateway.end_body(context), Action::Continue);
        assert_eq!(gateway.body(), r#"{"n":1.0e0,"auth":{"key":"k-<\">"}}"#);
        gateway.vm.on_delete(context);

        let mut gateway = gateways()
            .into_iter()
            .next()
            .expect("one")
            .warm(&form_rule());
        let (context, _) = gateway.post(&with_length(FORM, "7"), "key=own");
        assert_eq!(gateway.end_body(context), Action::Continue);
        assert_eq!(gateway.body(), "key=%3Cs%3E");
    }
}

#[test]
fn a_body_in_parts_is_held_until_its_end() {
    let mut gateway = Gateway::envoy().warm(&json_rule());
    let (context, _) = gateway.post(&[JSON], "{}");
    for size in [0, 1, 2] {
        assert_eq!(gateway.arrive(context, size, false), Action::Pause);
    }
    assert_eq!(gateway.body(), "{}");
    assert_eq!(gateway.end_body(context), Action::Continue);
    assert_eq!(gateway.body(), r#"{"auth":{"key":"k-<\">"}}"#);
}

#[test]
fn a_body_with_trailers_is_refused_once() {
    let mut gateway = Gateway::envoy().warm(&json_rule());
    let (context, _) = gateway.post(&[JSON], "{}");
    assert_eq!(gateway.arrive(context, 2, false), Action::Pause);
    // Envoy says so twice.
    for _ in 0..2 {
        assert_eq!(gateway.vm.on_request_trailers(context), Action::Pause);
    }
    assert_eq!(
        (gateway.status(), gateway.body().as_str()),
        (Some(503), "{}")
    );
    assert_eq!(
        gateway.calls(),
        ["set x=<h>", "remove content-length", "respond 503"]
            .map(str::to_owned)
            .as_slice()
    );
    assert_eq!(gateway.vm.on_request_trailers(999), Action::Continue);

    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&json_rule()));
    let (context, _) = gateway.post(&[JSON], "{}");
    for _ in 0..2 {
        assert_eq!(gateway.vm.on_request_trailers(context), Action::Pause);
    }
    assert_eq!(gateway.status(), Some(503));
    gateway.calls();
    gateway.answer_all(known);
    assert_eq!(gateway.calls(), [""; 0]);
}

#[test]
fn the_body_gets_the_values_that_the_headers_have_got() {
    let both =
        rule(&json!({"set": {"headers": {"x": "{vault://v/a}"}, "body": {"/k": "{vault://v/a}"}}}));
    let mut gateway = Gateway::envoy().warm(&both);
    let (context, _) = gateway.post(&[JSON], "{}");
    gateway.tick(1100);
    gateway.answer_all(|_, _| secret("new", "r2"));
    assert_eq!(gateway.end_body(context), Action::Continue);
    assert_eq!(gateway.body(), r#"{"k":"<a>"}"#);
    let (context, _) = gateway.post(&[JSON], "{}");
    assert_eq!(gateway.header("x").as_deref(), Some("new"));
    gateway.end_body(context);
    assert_eq!(gateway.body(), r#"{"k":"new"}"#);
}

#[test]
fn a_body_that_cannot_be_written_is_refused_by_on_error_and_unchanged() {
    let type_of = |text| ("content-type", text);
    let table: Vec<(Vec<(&str, &str)>, &str)> = vec![
        (vec![JSON], "{\"auth\":"),
        (vec![JSON], "\u{feff}{}"),
        (vec![JSON], "[]"),
        (vec![JSON], r#"{"auth":"text"}"#),
        (vec![JSON], r#"{"auth":{"key":1,"key":2}}"#),
        (vec![], "{}"),
        (vec![type_of("text/plain")], "{}"),
        (vec![FORM], "{}"),
        (vec![type_of("application/json; charset=utf-16")], "{}"),
        (vec![JSON, JSON], "{}"),
        (vec![JSON, type_of("text/plain")], "{}"),
        (vec![JSON, ("content-encoding", "gzip")], "{}"),
        (
            vec![
                JSON,
                ("content-encoding", "identity"),
                ("content-encoding", "br"),
            ],
            "{}",
        ),
    ];
    for (headers, body) in table {
        for mut gateway in gateways() {
            let mut configuration = json_rule();
            configuration["on_error"] = json!({"status": 422});
            gateway = gateway.warm(&configuration);
            let length = body.len().to_string();
            let mut headers = headers.clone();
            headers.push(("content-length", &length));
            for _ in 0..3 {
                let (context, action) = gateway.post(&headers, body);
                if action == Action::Continue {
                    assert_eq!(gateway.status(), None);
                    assert_eq!(gateway.end_body(context), Action::Pause);
                    // Whatever comes now does not go on, and nobody answers twice.
                    assert_eq!(gateway.end_body(context), Action::Pause);
                    let answers = gateway
                        .calls()
                        .iter()
                        .filter(|call| call.starts_with("respond"))
                        .count();
                    assert_eq!(answers, 1);
                }
                let status = gateway.status();
                let seen = gateway.body();
                // nginx answers a repeated header already before.
                assert!(
                    status == Some(422) || status == Some(400),
                    "{headers:?} {body}: {status:?}"
                );
                assert_eq!(seen, body);
                gateway.vm.on_delete(context);
            }
            let logs = gateway.logs();
            let about = logs
                .iter()
                .filter(|line| line.contains("a request is refused"))
                .count();
            assert!(about <= 1, "{logs:?}");
        }
    }
}

#[test]
fn too_large_is_a_413_before_anything_is_read() {
    for mut gateway in gateways() {
        let mut configuration = json_rule();
        configuration["body"] = json!({"max_bytes": 10});
        configuration["on_error"] = json!({"status": 422});
        gateway = gateway.warm(&configuration);
        gateway.post(&with_length(JSON, "11"), "{\"a\":12345}");
        assert_eq!(gateway.status(), Some(413));
        // Its length is not said, or is a lie.
        let (context, action) =
            gateway.post(&[JSON, ("transfer-encoding", "chunked")], "{\"a\":12345}");
        assert_eq!(action, Action::Continue);
        let count = gateway.host.count.get();
        assert_eq!(gateway.arrive(context, 11, false), Action::Pause);
        assert_eq!(gateway.status(), Some(413));
        assert_eq!(
            gateway.host.count.get(),
            count + 1,
            "nothing but the answer"
        );
        assert_eq!(gateway.end_body(context), Action::Pause);
        let (context, _) = gateway.post(&with_length(JSON, "10"), "{\"a\":1234}");
        assert_eq!(gateway.end_body(context), Action::Continue);
    }
}

#[test]
fn too_large_passes_where_the_rule_says_so() {
    for mut gateway in gateways() {
        let mut configuration = rule(&json!({"add": {"body": {"/k": "literal"}}}));
        configuration["body"] = json!({"max_bytes": 10, "on_excess": "pass"});
        gateway = gateway.warm(&configuration);
        let (context, action) = gateway.post(&with_length(JSON, "11"), "{\"a\":12345}");
        assert_eq!(action, Action::Continue);
        assert_eq!(gateway.header("content-length").as_deref(), Some("11"));
        assert_eq!(gateway.end_body(context), Action::Continue);
        let (context, _) = gateway.post(&[JSON, ("transfer-encoding", "chunked")], "{\"a\":12345}");
        assert_eq!(gateway.arrive(context, 11, false), Action::Continue);
        if !gateway.host.is_nginx.get() {
            assert_eq!(gateway.end_body(context), Action::Continue);
        }
        assert_eq!(
            (gateway.status(), gateway.body().as_str()),
            (None, "{\"a\":12345}")
        );
    }
}

#[test]
fn a_request_without_a_body_is_refused_only_if_a_secret_was_to_be_in_it() {
    let none: &[(&str, &str)] = &[];
    let table = [
        (json!({"set": {"body": {"/k": "{vault://v/s}"}}}), true),
        (json!({"add": {"body": {"k": "{vault://v/s}"}}}), true),
        (json!({"append": {"body": {"/k": "{vault://v/s}"}}}), true),
        (json!({"replace": {"body": {"/k": "{vault://v/s}"}}}), false),
        (json!({"remove": {"body": ["/k"]}}), false),
        (json!({"set": {"body": {"/k": "literal"}}}), false),
    ];
    for (request, refused) in table {
        for mut gateway in gateways() {
            gateway = gateway.warm(&rule(&request));
            for headers in [none, &[("content-length", "0")]] {
                let (_, action) = gateway.request(headers);
                let expected = if refused {
                    Action::Pause
                } else {
                    Action::Continue
                };
                assert_eq!(action, expected, "{request}");
                assert_eq!(gateway.status(), refused.then_some(503), "{request}");
            }
        }
        // A body that was announced and is empty.
        let mut gateway = Gateway::envoy().warm(&rule(&request));
        let kind = if request.to_string().contains('/') && request["add"].is_null() {
            JSON
        } else {
            FORM
        };
        let (context, action) = gateway.post(&[kind], "x");
        assert_eq!(action, Action::Continue, "{request}");
        gateway.arrive(context, 0, true);
        assert_eq!(gateway.status(), refused.then_some(503), "{request}");
    }
    let mut configuration = rule(&json!({"set": {"body": {"/k": "{vault://v/s}"}}}));
    configuration["on_error"] = json!({"without_field": true});
    let mut gateway = Gateway::envoy().warm(&configuration);
    assert_eq!(gateway.request(none).1, Action::Continue);
}

#[test]
fn in_nginx_a_body_that_nothing_announced_is_looked_at_when_it_comes() {
    let mut gateway = Gateway::nginx().warm(&rule(
        &json!({"replace": {"body": {"/k": "{vault://v/s}"}}}),
    ));
    let (context, action) = gateway.post(&[JSON], "{\"k\":1}");
    assert_eq!(action, Action::Continue);
    assert_eq!(gateway.end_body(context), Action::Continue);
    assert_eq!(gateway.body(), "{\"k\":\"<s>\"}");
    let (context, action) = gateway.post(&[("content-type", "text/plain")], "{\"k\":1}");
    assert_eq!(action, Action::Continue);
    assert_eq!(gateway.end_body(context), Action::Pause);
    assert_eq!(gateway.status(), Some(503));
}

#[test]
fn in_nginx_a_spooled_body_and_one_of_another_length_are_refused() {
    let mut gateway = Gateway::nginx().warm(&json_rule());
    gateway
        .host
        .failures
        .borrow_mut()
        .insert("request_body", Status::NotFound);
    let (context, _) = gateway.post(&with_length(JSON, "2"), "{}");
    assert_eq!(gateway.end_body(context), Action::Pause);
    assert_eq!(gateway.status(), Some(413));
    gateway.host.failures.borrow_mut().clear();
    let (context, _) = gateway.post(&with_length(JSON, "3"), "{}");
    assert_eq!(gateway.end_body(context), Action::Pause);
    assert_eq!(gateway.status(), Some(503));
    assert!(
        gateway
            .logs()
            .iter()
            .any(|line| line.contains("client_body_buffer_size"))
    );
}

#[test]
fn a_gateway_that_does_not_take_the_body_has_it_refused() {
    for function in ["request_body", "set_request_body"] {
        let mut gateway = Gateway::envoy().warm(&json_rule());
        let (context, _) = gateway.post(&[JSON], "{}");
        gateway
            .host
            .failures
            .borrow_mut()
            .insert(function, Status::InternalFailure);
        assert_eq!(gateway.end_body(context), Action::Pause);
        assert_eq!(gateway.status(), Some(503));
    }
}

#[test]
fn a_request_that_waits_has_its_body_written_after_the_wait() {
    for mut gateway in gateways() {
        assert!(gateway.configure(&json_rule()));
        let (context, action) = gateway.post(&with_length(JSON, "2"), "{}");
        assert_eq!(action, Action::Pause);
        let call = gateway.take_dispatched().remove(0);
        gateway.answer(ROOT, &call, known);
        assert!(gateway.calls().contains(&"resume".to_owned()));
        assert_eq!(gateway.end_body(context), Action::Continue);
        assert_eq!(gateway.body(), r#"{"auth":{"key":"k-<\">"}}"#);
    }
}

#[test]
fn what_is_refused_for_its_body_is_refused_before_it_waits() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&json_rule()));
    gateway.post(&[FORM], "{}");
    assert_eq!(gateway.status(), Some(503));
    assert!(gateway.take_dispatched().is_empty());
}

/// `allow_on_headers_stop_iteration`: the body comes while the headers wait.
mod where_envoy_delivers_bodies_of_held_requests {
    use super::*;

    #[test]
    fn a_whole_one_is_written_before_the_request_goes_on() {
        let mut gateway = Gateway::envoy();
        assert!(gateway.configure(&json_rule()));
        let (context, _) = gateway.post(&[JSON], "{}");
        assert_eq!(gateway.arrive(context, 2, false), Action::Pause);
        assert_eq!(gateway.end_body(context), Action::Pause);
        let call = gateway.take_dispatched().remove(0);
        gateway.answer(ROOT, &call, known);
        assert_eq!(gateway.body(), r#"{"auth":{"key":"k-<\">"}}"#);
        let calls = gateway.calls();
        assert_eq!(
            calls.last().map(String::as_str),
            Some("resume"),
            "{calls:?}"
        );
    }

    #[test]
    fn a_part_keeps_the_request_until_its_end() {
        let mut gateway = Gateway::envoy();
        assert!(gateway.configure(&json_rule()));
        let (context, _) = gateway.post(&[JSON], "{}");
        assert_eq!(gateway.arrive(context, 1, false), Action::Pause);
        let call = gateway.take_dispatched().remove(0);
        gateway.answer(ROOT, &call, known);
        assert!(!gateway.calls().contains(&"resume".to_owned()));
        assert_eq!(gateway.end_body(context), Action::Continue);
        assert_eq!(gateway.body(), r#"{"auth":{"key":"k-<\">"}}"#);
    }

    #[test]
    fn a_bad_one_is_refused_after_the_wait_and_a_large_one_at_once() {
        let mut configuration = json_rule();
        configuration["body"] = json!({"max_bytes": 10});
        let mut gateway = Gateway::envoy();
        assert!(gateway.configure(&configuration));
        let (context, _) = gateway.post(&[JSON], "{");
        assert_eq!(gateway.end_body(context), Action::Pause);
        let (large, _) = gateway.post(&[JSON], "{");
        assert_eq!(gateway.arrive(large, 11, false), Action::Pause);
        assert_eq!(gateway.status(), Some(413));
        assert_eq!(gateway.arrive(large, 12, false), Action::Pause);
        gateway.calls();
        for call in gateway.take_dispatched() {
            gateway.answer(ROOT, &call, known);
        }
        assert_eq!(gateway.status(), Some(503));
        assert!(!gateway.calls().contains(&"resume".to_owned()));
        assert_eq!(gateway.end_body(context), Action::Pause);
    }
}

#[test]
fn in_nginx_a_request_that_goes_on_without_an_answer_is_refused_with_its_body() {
    // Kong up to 3.8 says nothing of a call that failed.
    let mut gateway = Gateway::nginx();
    assert!(gateway.configure(&json_rule()));
    let (context, action) = gateway.post(&with_length(JSON, "2"), "{}");
    assert_eq!(action, Action::Pause);
    assert_eq!(gateway.end_body(context), Action::Pause);
    assert_eq!(gateway.status(), Some(503));
    assert_eq!(gateway.body(), "{}");
}

#[test]
fn on_error_holds_for_fields_of_bodies() {
    let body = r#"{"auth":{"key":"own"}}"#;
    for (how, expected) in [
        (json!({"without_field": true}), r#"{"auth":{}}"#),
        (json!({"default": "d\""}), r#"{"auth":{"key":"d\""}}"#),
    ] {
        let mut configuration = rule(&json!({"set": {"body": {"/auth/key": "k-{vault://v/s}"}}}));
        configuration["on_error"] = how;
        for gateway in gateways() {
            let mut gateway = gateway;
            assert!(gateway.configure(&configuration));
            gateway.tick(0);
            gateway.answer_all(|_, _| failure("denied"));
            let (context, action) = gateway.post(&with_length(JSON, "22"), body);
            assert_eq!(action, Action::Continue);
            assert_eq!(gateway.end_body(context), Action::Continue);
            assert_eq!(gateway.body(), expected);
        }
    }
}

#[test]
fn a_body_gets_values_that_depend_on_the_request() {
    for mut gateway in gateways() {
        let request =
            json!({"set": {"body": {"/key": "k-{vault://tenants/$(header:x-tenant)/key}"}}});
        let mut configuration = rule(&request);
        configuration["resolve"] = json!({"allow": ["tenants/*"]});
        assert!(gateway.configure(&configuration), "{:?}", gateway.logs());
        for tenant in ["a", "b", "a"] {
            let headers = [JSON, ("content-length", "13"), ("x-tenant", tenant)];
            let (context, _) = gateway.post(&headers, r#"{"key":"own"}"#);
            gateway.answer_all(|reference, _| secret(&format!("<{reference}>"), "r"));
            assert_eq!(gateway.end_body(context), Action::Continue);
            let key = format!("k-<{{vault://tenants/{tenant}/key}}>");
            assert_eq!(gateway.body(), json!({"key": key}).to_string());
        }
    }
}

#[test]
fn a_secret_that_is_no_text_is_none_for_json() {
    let bytes = json!({"secret": {"value": {"bytes": "/w=="}, "revision": "r",
        "lifetime": {"fresh_for": 60, "usable_for": 600, "stale": false}}});
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&json_rule()));
    gateway.tick(0);
    gateway.answer_all(|_, _| bytes.clone());
    gateway.post(&[JSON], "{}");
    assert_eq!(gateway.status(), Some(503));
    assert!(
        gateway
            .logs()
            .iter()
            .any(|line| line.contains("is no text") || line.contains("control character"))
    );

    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&form_rule()));
    gateway.tick(0);
    gateway.answer_all(|_, _| bytes.clone());
    let (context, _) = gateway.post(&[FORM], "a=1");
    gateway.end_body(context);
    assert_eq!(gateway.body(), "a=1&key=%FF");
}

#[test]
fn requests_that_end_are_forgotten_and_too_many_are_refused() {
    let mut gateway = Gateway::envoy().warm(&json_rule());
    let mut contexts = Vec::new();
    for _ in 0..4096 {
        contexts.push(gateway.post(&[JSON], "{}").0);
        assert_eq!(gateway.status(), None);
    }
    gateway.post(&[JSON], "{}");
    assert_eq!(gateway.status(), Some(503));
    for context in contexts {
        gateway.vm.on_delete(context);
    }
    let (context, action) = gateway.post(&[JSON], "{}");
    assert_eq!(action, Action::Continue);
    assert_eq!(gateway.end_body(context), Action::Continue);
}

#[test]
fn requests_of_other_rules_pay_nothing() {
    let mut gateway =
        Gateway::envoy().warm(&rule(&json!({"set": {"headers": {"x": "{vault://v/s}"}}})));
    let count = gateway.host.count.get();
    let (context, _) = gateway.post(&[], "whatever");
    assert_eq!(gateway.end_body(context), Action::Continue);
    assert_eq!(gateway.host.count.get(), count + 1);
}

/// What may come for a request, in any order.
#[derive(Clone, Copy, Debug)]
enum Event {
    Answer,
    /// So many bytes, and whether they are said to be all.
    Body(usize, bool),
    Tick,
    Trailers,
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Answer),
        (0_usize..40, any::<bool>()).prop_map(|(size, is_end)| Event::Body(size, is_end)),
        Just(Event::Body(22, true)),
        Just(Event::Tick),
        Just(Event::Trailers),
    ]
}

proptest! {
    #[test]
    fn whatever_comes_the_client_s_own_value_never_goes_on(
        is_nginx in any::<bool>(),
        is_warm in any::<bool>(),
        announced in any::<bool>(),
        events in prop::collection::vec(any_event(), 0..8),
    ) {
        const OWN: &str = r#"{"auth":{"key":"own"}}"#;
        let mut gateway = if is_nginx { Gateway::nginx() } else { Gateway::envoy() };
        if is_warm {
            gateway = gateway.warm(&json_rule());
        } else {
            prop_assert!(gateway.configure(&json_rule()));
        }
        let length = OWN.len().to_string();
        let framing = if announced { ("content-length", length.as_str()) } else { ("transfer-encoding", "chunked") };
        let (context, _) = gateway.post(&[JSON, framing], OWN);
        for event in events {
            let action = match event {
                Event::Answer => {
                    gateway.answer_all(known);
                    continue;
                }
                Event::Body(size, is_end) => gateway.arrive(context, size.min(OWN.len()), is_end),
                Event::Tick => {
                    gateway.tick(300);
                    gateway.host.current.set(context);
                    continue;
                }
                Event::Trailers if is_nginx => continue,
                Event::Trailers => {
                    gateway.host.current.set(context);
                    gateway.vm.on_request_trailers(context)
                }
            };
            if action == Action::Continue {
                prop_assert!(!gateway.body().contains("own"), "{}", gateway.body());
                prop_assert_eq!(gateway.status(), None);
            }
        }
    }
}
