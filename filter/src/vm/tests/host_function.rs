//! The host's own function in place of callouts.

use serde_json::{Value, json};

use crate::Action;
use crate::testing::{Gateway, ROOT, failure, known};

fn configuration() -> Value {
    json!({"resolver": {"host_function": true, "timeout_ms": 500},
        "request": {"set": {"headers": {"authorization": "Bearer {vault://v/token}"}}}})
}

#[test]
fn what_is_in_memory_is_served_without_a_pause() {
    let mut gateway = Gateway::nginx();
    gateway.host_answers(known);
    assert!(gateway.configure(&configuration()));
    assert!(
        !gateway
            .calls()
            .contains(&"foreign vaultref.resolve".to_owned()),
        "never probed"
    );
    let (_, action) = gateway.request(&[]);
    assert_eq!(action, Action::Continue);
    assert_eq!(
        gateway.header("authorization").as_deref(),
        Some("Bearer <token>")
    );
    gateway.request(&[]);
    assert_eq!(
        gateway.calls(),
        ["set authorization=Bearer <token>"],
        "asked once"
    );
}

#[test]
fn what_is_pending_is_waited_for() {
    for by_tick in [true, false] {
        let mut gateway = Gateway::envoy();
        gateway.host_answers(|_, _| failure("pending"));
        assert!(gateway.configure(&configuration()));
        let (context, action) = gateway.request(&[("authorization", "own")]);
        assert_eq!(action, Action::Pause);
        assert_eq!(gateway.header("authorization").as_deref(), Some(""));
        gateway.tick(200);
        assert!(!gateway.calls().contains(&"resume".to_owned()));
        gateway.host_answers(known);
        if by_tick {
            gateway.tick(200);
        } else {
            gateway.vm.on_foreign_function(ROOT);
        }
        let calls = gateway.calls();
        let end = calls.len() - 4;
        assert_eq!(calls[end], format!("context {context}"));
        assert_eq!(
            calls[end + 1..],
            ["set authorization=Bearer <token>", "resume", "context 1"]
        );
    }
}

#[test]
fn what_stays_pending_meets_the_deadline_or_on_nginx_on_error_at_once() {
    let mut gateway = Gateway::envoy();
    gateway.host_answers(|_, _| failure("pending"));
    assert!(gateway.configure(&configuration()));
    gateway.request(&[]);
    gateway.tick(499);
    assert_eq!(gateway.status(), None);
    gateway.tick(1);
    assert_eq!(gateway.status(), Some(503));
    let mut gateway = Gateway::nginx();
    gateway.host_answers(|_, _| failure("pending"));
    assert!(gateway.configure(&configuration()));
    gateway.request(&[]);
    assert_eq!(gateway.status(), Some(503));
}

#[test]
fn a_function_that_fails_has_the_request_refused() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&configuration()));
    gateway.request(&[]);
    assert_eq!(gateway.status(), Some(503));
}

#[test]
fn on_nginx_a_request_tries_the_function_before_a_tick_does_and_is_guarded_first() {
    let asked = |gateway: &Gateway| {
        let calls = gateway.calls().into_iter();
        calls.filter(|call| call.starts_with("foreign")).count()
    };
    let mut gateway = Gateway::nginx();
    gateway.host_answers(known);
    assert!(gateway.configure(&configuration()));
    for _ in 0..10 {
        gateway.tick(1000);
    }
    assert_eq!(asked(&gateway), 0);
    gateway.request(&[]);
    let expected = [
        "set authorization=",
        "foreign vaultref.resolve",
        "set authorization=Bearer <token>",
    ];
    assert_eq!(gateway.calls(), expected);
    gateway.tick(1000);
    gateway.tick(1000);
    assert_eq!(asked(&gateway), 2);
    // Elsewhere an unknown function is a status like any other.
    let mut gateway = Gateway::envoy();
    gateway.host_answers(known);
    assert!(gateway.configure(&configuration()));
    gateway.tick(0);
    assert_eq!(asked(&gateway), 1);
}
