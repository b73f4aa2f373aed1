//! What is counted and measured, and that it costs requests nothing.

use serde_json::json;

use super::bearer;
use crate::testing::{Gateway, failure, secret, unchanged};

fn metric(gateway: &Gateway, name: &str) -> i64 {
    let metrics = gateway.host.metrics.borrow();
    let found = metrics
        .iter()
        .find(|(known, _, _)| known.strip_prefix("vaultref.") == Some(name));
    found.unwrap_or_else(|| panic!("no {name}")).2
}

#[test]
fn answers_waits_and_refusals_are_counted_at_ticks() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&bearer()), "{:?}", gateway.logs());
    gateway.tick(0);
    let poll = gateway.take_dispatched().remove(0);
    for _ in 0..3 {
        gateway.request(&[]);
    }
    assert_eq!(metric(&gateway, "waiting"), 0, "not for a request");
    gateway.tick(200);
    assert_eq!(metric(&gateway, "waiting"), 3);
    let calls = gateway.take_dispatched();
    gateway.answer(crate::testing::ROOT, &poll, |_, _| failure("denied"));
    gateway.answer(crate::testing::ROOT, &calls[0], |_, _| failure("not-found"));
    gateway.answer(crate::testing::ROOT, &calls[1], |_, _| failure("pending"));
    gateway.answer(crate::testing::ROOT, &calls[2], |_, _| {
        secret("value", "r1")
    });
    gateway.tick(200);
    for (name, value) in [
        ("waiting", 0),
        ("denied", 1),
        ("failed", 2),
        ("resolved", 1),
        ("refreshes", 0),
    ] {
        assert_eq!(metric(&gateway, name), value, "{name}");
    }
    assert_eq!(metric(&gateway, "refused"), 2);
    // A second configuration, as after a change, defines nothing twice (the host would say so).
    assert!(gateway.configure_root(9, &bearer()));
}

#[test]
fn the_age_of_what_is_stale_is_measured_from_when_it_was_due() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&bearer()));
    gateway.tick(0);
    gateway.answer_all(|_, _| secret("value", "r1"));
    gateway.tick(1000);
    assert_eq!(metric(&gateway, "stale_seconds"), 0);
    let stale = json!({"unchanged": {"fresh_for": 0, "usable_for": 3600, "stale": true}});
    for _ in 0..20 {
        gateway.answer_all(|_, _| stale.clone());
        gateway.tick(1000);
    }
    assert_eq!(metric(&gateway, "stale_seconds"), 20);
    gateway.answer_all(|_, _| unchanged());
    // It might be another VM's.
    gateway.tick(5000);
    assert_eq!(metric(&gateway, "stale_seconds"), 0);
    // Nobody answers any more: it was fresh for 300 seconds.
    gateway.tick(400_000);
    assert!((90..=110).contains(&metric(&gateway, "stale_seconds")));
}

#[test]
fn a_gateway_without_metrics_is_served_all_the_same() {
    let gateway = Gateway::envoy();
    let failure = crate::Status::Other(12);
    gateway
        .host
        .failures
        .borrow_mut()
        .insert("define_metric", failure);
    let mut gateway = gateway.warm(&bearer());
    gateway.tick(200);
    assert_eq!(gateway.request(&[]).1, crate::Action::Continue);
    // In nginx they would trap: the host panics when it is asked.
    let mut gateway = Gateway::nginx().warm(&bearer());
    gateway.tick(200);
    assert_eq!(gateway.request(&[]).1, crate::Action::Continue);
}
