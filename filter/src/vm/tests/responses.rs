//! What an upstream's answer brings about: values that it refuses are asked for anew, secrets that it
//! repeats are masked.

use std::rc::Rc;

use serde_json::{Value, json};

use crate::testing::{Gateway, known, rule, secret, unchanged};
use crate::{Action, Callbacks, Status, Vm};

const SENT: [(&str, &str); 2] = [(":path", "/p"), ("x", "own")];

fn bearer() -> Value {
    rule(
        &json!({"set": {"headers": {"x": "Bearer {vault://v/long-secret}", "y": "{vault://v/s}"}}}),
    )
}

fn refreshing() -> Value {
    let mut configuration = bearer();
    configuration["refresh_on_status"] = json!([401, 403]);
    configuration
}

fn redacting() -> Value {
    let mut configuration = bearer();
    configuration["response"] = json!({"redact_headers": true});
    configuration
}

/// The upstream answers a request.
pub(super) fn answer(
    gateway: &mut Gateway,
    context: u32,
    status: &str,
    headers: &[(&str, &str)],
) -> Action {
    let status = [(":status", status)];
    let pairs = status.iter().chain(headers);
    *gateway.host.upstream_headers.borrow_mut() = pairs
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect();
    let mut properties = gateway.host.properties.borrow_mut();
    properties.insert("response.code_details".into(), b"via_upstream".to_vec());
    properties.insert("ngx.status".into(), status[0].1.into());
    properties.insert(
        "ngx.upstream_status".into(),
        format!("502, {}", status[0].1).into(),
    );
    drop(properties);
    gateway.host.current.set(context);
    gateway.vm.on_response_headers(context)
}

fn headers(gateway: &Gateway) -> Vec<(String, String)> {
    let headers = gateway.host.upstream_headers.borrow();
    let shown = headers.iter().map(|(name, value)| {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        (text(name), text(value))
    });
    shown.skip(1).collect()
}

/// What the polls of the next second say is to be read anew.
fn refreshed(gateway: &mut Gateway) -> Vec<Value> {
    let mut refreshed = Vec::new();
    for _ in 0..5 {
        gateway.tick(200);
        for call in gateway.take_dispatched() {
            refreshed.push(call.body["refresh"].clone());
            gateway.answer(crate::testing::ROOT, &call, |_, _| unchanged());
        }
    }
    refreshed
}

fn warm(gateway: Gateway, configuration: &Value) -> Gateway {
    let mut gateway = gateway.warm(configuration);
    let _ = refreshed(&mut gateway);
    gateway
}

#[test]
fn a_status_that_the_rule_names_has_its_secrets_read_anew_with_the_next_tick() {
    for gateway in [Gateway::envoy(), Gateway::nginx()] {
        let mut gateway = warm(gateway, &refreshing());
        let (context, _) = gateway.request(&SENT);
        assert_eq!(answer(&mut gateway, context, "200", &[]), Action::Continue);
        assert_eq!(refreshed(&mut gateway), [Value::Null]);
        let (context, _) = gateway.request(&SENT);
        assert_eq!(answer(&mut gateway, context, "403", &[]), Action::Continue);
        gateway.tick(200);
        let calls = gateway.take_dispatched();
        assert_eq!(calls.len(), 1, "at once");
        assert_eq!(calls[0].body["refresh"], json!([0, 1]));
        gateway.answer(crate::testing::ROOT, &calls[0], |_, _| {
            secret("newer-secret", "r2")
        });
        gateway.request(&SENT);
        assert_eq!(gateway.header("x").as_deref(), Some("Bearer newer-secret"));
        assert_eq!(refreshed(&mut gateway), [Value::Null], "said once");
        let logs = gateway.logs().join("\n");
        assert!(
            logs.contains("answered 403") && logs.contains("'v'"),
            "{logs}"
        );
        assert!(!logs.contains("secret>"), "{logs}");
    }
}

/// Of a rule with parameters the values of the tenant are, and those alone; where a field may hold
/// references, what it held.
#[test]
fn what_a_request_brought_is_read_anew_as_well() {
    let configuration = json!({"resolver": {"upstream": "u"}, "refresh_on_status": [401],
        "request": {"set": {"headers": {"x": "Bearer {vault://v/$(header:x-tenant)}"}}},
        "resolve": {"headers": ["x-key"], "allow": ["v/*"]}});
    let mut gateway = warm(Gateway::envoy(), &configuration);
    for tenant in ["a", "b"] {
        gateway.request(&[("x-tenant", tenant), ("x-key", "{vault://v/key}")]);
        gateway.answer_all(known);
    }
    refreshed(&mut gateway);
    let (context, action) = gateway.request(&[("x-tenant", "b"), ("x-key", "{vault://v/key}")]);
    assert_eq!(action, Action::Continue);
    answer(&mut gateway, context, "401", &[]);
    gateway.tick(200);
    let poll = gateway.take_dispatched().remove(0);
    let known = json!(["{vault://v/a}", "{vault://v/b}", "{vault://v/key}"]);
    assert_eq!(poll.body["references"], known);
    assert_eq!(poll.body["refresh"], json!([1, 2]));
}

#[test]
fn a_client_that_provokes_refusals_causes_no_more_polls() {
    let mut gateway = warm(Gateway::envoy(), &refreshing());
    let mut polls = Vec::new();
    for _ in 0..50 {
        for _ in 0..20 {
            let (context, _) = gateway.request(&SENT);
            answer(&mut gateway, context, "401", &[]);
            gateway.vm.on_delete(context);
        }
        gateway.tick(200);
        for call in gateway.take_dispatched() {
            polls.push(call.body["refresh"].clone());
            gateway.answer(crate::testing::ROOT, &call, |_, _| unchanged());
        }
    }
    // No more than there would be without them: one in each fourth tick.
    assert!((12..=13).contains(&polls.len()), "{polls:?}");
    let metrics = gateway.host.metrics.borrow();
    let counted = metrics
        .iter()
        .find(|(name, _, _)| name == "vaultref.refreshes");
    let counted = counted.map(|(_, _, value)| usize::try_from(*value).expect("a count"));
    assert_eq!(counted, Some(2 * polls.len()));
    drop(metrics);
    let lines = gateway
        .logs()
        .iter()
        .filter(|line| line.contains("answered 401"))
        .count();
    assert!(lines <= 14, "{lines} lines");
}

#[test]
fn only_the_upstream_s_own_answer_counts() {
    let mut gateway = warm(Gateway::envoy(), &refreshing());
    let (context, _) = gateway.request(&SENT);
    let other = |gateway: &mut Gateway, name: &str, value: &str| {
        gateway
            .host
            .properties
            .borrow_mut()
            .insert(name.into(), value.into());
        gateway.vm.on_response_headers(context)
    };
    answer(&mut gateway, context, "200", &[]);
    *gateway.host.upstream_headers.borrow_mut() = vec![(b":status".to_vec(), b"401".to_vec())];
    other(&mut gateway, "response.code_details", "ext_authz_denied");
    assert_eq!(refreshed(&mut gateway), [Value::Null]);
    // One that no rule served, and one that nobody knows.
    answer(&mut gateway, context + 77, "401", &[]);
    assert_eq!(refreshed(&mut gateway), [Value::Null]);

    let mut gateway = warm(Gateway::nginx(), &refreshing());
    let (context, _) = gateway.request(&SENT);
    answer(&mut gateway, context, "200", &[]);
    let mut properties = gateway.host.properties.borrow_mut();
    properties.insert("ngx.status".into(), b"401".to_vec());
    drop(properties);
    gateway.vm.on_response_headers(context);
    assert_eq!(refreshed(&mut gateway), [Value::Null]);
}

#[test]
fn a_request_that_waited_is_remembered_as_well() {
    let mut configuration = refreshing();
    configuration["response"] = json!({"redact_headers": true});
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&configuration), "{:?}", gateway.logs());
    let (context, action) = gateway.request(&SENT);
    assert_eq!(action, Action::Pause);
    let call = gateway.take_dispatched().remove(0);
    gateway.answer(crate::testing::ROOT, &call, known);
    answer(&mut gateway, context, "401", &[("x-echo", "<long-secret>")]);
    assert_eq!(headers(&gateway), [("x-echo".into(), "***".into())]);
    assert_eq!(refreshed(&mut gateway).first(), Some(&json!([0, 1])));
}

#[test]
fn a_secret_that_the_upstream_repeats_is_masked_everywhere() {
    let mut gateway = warm(Gateway::envoy(), &redacting());
    let (context, _) = gateway.request(&SENT);
    let sent = [
        ("x-echo", "Bearer <long-secret>"),
        ("set-cookie", "a=1"),
        ("location", "/?k=%3Clong-secret%3E&k=%3clong%2dsecret%3e"),
        ("set-cookie", "b=<long-secret><long-secret>"),
        ("set-cookie", "c=3"),
        ("content-length", "12"),
        ("x-short", "<s>"),
    ];
    assert_eq!(
        answer(&mut gateway, context, "200", &sent),
        Action::Continue
    );
    let mut found = headers(&gateway);
    found.sort();
    let mut expected = [
        ("x-echo", "Bearer ***"),
        ("location", "/?k=***&k=***"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=******"),
        ("set-cookie", "c=3"),
        ("content-length", "12"),
        ("x-short", "<s>"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    expected.sort();
    assert_eq!(found, expected);
    let cookies = headers(&gateway)
        .into_iter()
        .filter(|(name, _)| name == "set-cookie");
    let cookies: Vec<_> = cookies.map(|(_, value)| value).collect();
    assert_eq!(cookies, ["a=1", "b=******", "c=3"], "in their order");
    // Once in the log, and never the value.
    let (context, _) = gateway.request(&SENT);
    answer(&mut gateway, context, "200", &sent);
    let logs = gateway.logs();
    assert_eq!(
        logs.iter().filter(|line| line.contains("masked")).count(),
        1,
        "{logs:?}"
    );
    assert!(!logs.join("\n").contains("long-secret>"));
}

#[test]
fn the_value_that_was_sent_is_masked_also_when_it_has_changed_meanwhile() {
    let mut gateway = warm(Gateway::envoy(), &redacting());
    let (context, _) = gateway.request(&SENT);
    gateway.tick(1000);
    gateway.answer_all(|_, _| secret("another-secret", "r2"));
    answer(
        &mut gateway,
        context,
        "200",
        &[("x-echo", "<long-secret> another-secret")],
    );
    assert_eq!(
        headers(&gateway),
        [("x-echo".into(), "*** another-secret".into())]
    );
    let (context, _) = gateway.request(&SENT);
    answer(
        &mut gateway,
        context,
        "200",
        &[("x-echo", "<long-secret> another-secret")],
    );
    assert_eq!(
        headers(&gateway),
        [("x-echo".into(), "<long-secret> ***".into())]
    );
}

#[test]
fn basic_auth_is_masked_as_it_was_sent() {
    let configuration = json!({"resolver": {"upstream": "u"}, "response": {"redact_headers": true},
        "basic_auth": {"username": "ada", "password": "{vault://v/a-password}"}});
    let mut gateway = warm(Gateway::envoy(), &configuration);
    let (context, _) = gateway.request(&SENT);
    let sent = gateway.header("authorization").expect("a header");
    let echo = format!("{sent}, <a-password>");
    answer(&mut gateway, context, "200", &[("x-echo", &echo)]);
    assert_eq!(
        headers(&gateway),
        [("x-echo".into(), "Basic ***, ***".into())]
    );
}

#[test]
fn a_response_that_cannot_be_masked_is_withheld() {
    for function in [
        "response_headers",
        "set_response_header",
        "add_response_header",
    ] {
        let mut gateway = warm(Gateway::envoy(), &redacting());
        let (context, _) = gateway.request(&SENT);
        let failure = Status::BadArgument;
        gateway.host.failures.borrow_mut().insert(function, failure);
        let sent = [("x", "<long-secret>"), ("x", "<long-secret>")];
        assert_eq!(answer(&mut gateway, context, "200", &sent), Action::Pause);
        assert_eq!(gateway.status(), Some(502), "{function}");
    }
}

#[test]
fn what_ends_is_forgotten_and_a_request_for_which_there_is_no_room_is_refused() {
    let mut gateway = warm(Gateway::envoy(), &redacting());
    for _ in 0..65_536 {
        gateway.request(&SENT);
    }
    let (context, action) = gateway.request(&SENT);
    assert_eq!((action, gateway.status()), (Action::Pause, Some(503)));
    gateway.vm.on_delete(context - 1);
    assert_eq!(gateway.request(&SENT).1, Action::Continue);

    let mut gateway = warm(Gateway::envoy(), &refreshing());
    for _ in 0..65_540 {
        assert_eq!(
            gateway.request(&SENT).1,
            Action::Continue,
            "that is no reason"
        );
    }
}

#[test]
fn the_file_without_the_callback_refuses_both() {
    for (configuration, place) in [
        (redacting(), "/response/redact_headers"),
        (refreshing(), "/refresh_on_status"),
    ] {
        let mut gateway = Gateway::envoy();
        gateway.vm = Vm::new(Rc::clone(&gateway.host), Callbacks::Headers);
        assert!(!gateway.configure(&configuration));
        let logs = gateway.logs().join("\n");
        assert!(
            logs.contains(place) && logs.contains("use vaultref.wasm"),
            "{logs}"
        );
    }
}
