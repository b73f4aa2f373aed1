//! Configurations that come, change, are bad, or are used no longer.

use serde_json::{Value, json};

use super::bearer;
use crate::testing::{Gateway, ROOT, known, rule};
use crate::{Action, Status};

#[test]
fn a_bad_configuration_is_refused_in_envoy_and_answered_503_on_nginx() {
    let bad =
        json!({"resolver": {"upstream": "u"}, "request": {"set": {"headers": {"x": "{vault://"}}}});
    let mut gateway = Gateway::envoy().warm(&bearer());
    assert!(!gateway.configure(&bad));
    assert!(
        gateway
            .logs()
            .iter()
            .any(|line| line.starts_with("Error") && line.contains("/request/set/headers/x"))
    );
    assert_eq!(
        gateway.request(&[]).1,
        Action::Continue,
        "the last good one stays"
    );
    let mut gateway = Gateway::nginx();
    assert!(gateway.configure(&bad));
    gateway.request(&[]);
    assert_eq!(gateway.status(), Some(503));
    assert!(gateway.configure(&bearer()));
    assert!(gateway.configure_root(2, &bearer()));
    let ticks = gateway
        .host
        .calls
        .borrow()
        .iter()
        .filter(|call| call.starts_with("tick"))
        .count();
    assert_eq!(ticks, 1, "a second setting would trap");
}

#[test]
fn roots_share_one_poller_and_values_survive_a_change_of_configuration() {
    let mut gateway = Gateway::envoy().warm(&bearer());
    let other = rule(&json!({"set": {"headers": {"x-key": "{vault://v/token}"}}}));
    assert!(gateway.configure_root(2, &other));
    let (_, action) = gateway.request_of(2, &[]);
    assert_eq!(action, Action::Continue);
    assert_eq!(gateway.header("x-key").as_deref(), Some("<token>"));
    gateway.request(&[]);
    assert_eq!(
        gateway.header("authorization").as_deref(),
        Some("Bearer <token>")
    );
    gateway.tick(1000);
    assert_eq!(gateway.take_dispatched().len(), 1);
}

#[test]
fn in_envoy_a_root_whose_ticks_have_ended_is_forgotten_and_refused() {
    let mut gateway = Gateway::envoy().warm(&bearer());
    assert!(gateway.configure_root(
        2,
        &rule(&json!({"set": {"headers": {"x": "{vault://v/x}"}}}))
    ));
    for _ in 0..700 {
        gateway.host.now.set(gateway.host.now.get() + 200_000_000);
        gateway.vm.on_tick(2);
        gateway.answer_all(known);
    }
    gateway.request_of(ROOT, &[]);
    assert_eq!(gateway.status(), Some(503));
    assert_eq!(gateway.request_of(2, &[]).1, Action::Continue);
    gateway.vm.on_tick(2);
    gateway.host.now.set(gateway.host.now.get() + 1_000_000_000);
    gateway.vm.on_tick(2);
    let polls = gateway.take_dispatched();
    assert_eq!(polls[0].body["references"], json!(["{vault://v/x}"]));
}

#[test]
fn without_ticks_a_configuration_is_not_used() {
    let refuses = |gateway: &Gateway| {
        let mut failures = gateway.host.failures.borrow_mut();
        failures.insert("set_tick_period", Status::InternalFailure);
    };
    let mut gateway = Gateway::envoy();
    refuses(&gateway);
    assert!(!gateway.configure(&bearer()));
    let logs = gateway.logs().join("\n");
    assert!(
        logs.starts_with("Error") && logs.contains("ticks"),
        "{logs}"
    );
    gateway.request(&[]);
    assert_eq!(gateway.status(), Some(503));
    // Of a change, the configuration before it stays in use.
    let mut gateway = Gateway::envoy().warm(&bearer());
    refuses(&gateway);
    assert!(!gateway.configure_root(2, &bearer()));
    assert_eq!(gateway.request(&[]).1, Action::Continue);
    gateway.request_of(2, &[]);
    assert_eq!(gateway.status(), Some(503));
    // On nginx that would end the worker.
    let mut gateway = Gateway::nginx();
    refuses(&gateway);
    assert!(gateway.configure(&bearer()));
    gateway.request(&[("authorization", "own")]);
    assert_eq!(gateway.status(), Some(503));
    assert_eq!(gateway.take_dispatched().len(), 0);
    gateway.host.failures.borrow_mut().clear();
    assert!(gateway.configure_root(2, &bearer()));
    assert_eq!(gateway.request_of(2, &[]).1, Action::Pause);
    assert_eq!(gateway.status(), None);
}

#[test]
fn on_nginx_ticks_are_asked_for_again_only_after_the_root_that_had_them_has_ended() {
    let mut gateway = Gateway::nginx();
    assert!(gateway.configure(&bearer()));
    assert!(gateway.configure_root(2, &bearer()));
    assert_eq!(gateway.calls(), ["tick 200"]);
    gateway.vm.on_delete(2);
    assert!(gateway.configure_root(3, &bearer()));
    assert_eq!(gateway.calls(), [""; 0]);
    gateway.vm.on_delete(ROOT);
    assert!(gateway.configure_root(4, &bearer()));
    assert_eq!(gateway.calls(), ["tick 200"]);
}

#[test]
fn on_nginx_a_stream_with_the_number_of_a_root_ends_alone() {
    let mut gateway = Gateway::nginx().warm(&bearer());
    for _ in 0..2 {
        gateway.vm.on_context_create(ROOT, ROOT);
        gateway.host.current.set(ROOT);
        let action = gateway.vm.on_request_headers(ROOT, false);
        assert_eq!((action, gateway.status()), (Action::Continue, None));
        gateway.vm.on_delete(ROOT);
    }
    assert_eq!(gateway.request(&[]).1, Action::Continue);
    gateway.calls();
    assert!(gateway.configure_root(2, &bearer()));
    assert_eq!(gateway.calls(), [""; 0], "a second period would trap");
}

mod on_nginx {
    //! Nobody says there that a root has ended.

    use super::*;

    const MINUTE: u64 = 60_000;

    fn uses(name: &str) -> Value {
        rule(&json!({"set": {"headers": {"x": format!("{{vault://v/{name}}}")}}}))
    }

    /// A tick, and which references it asked for.
    fn polled(gateway: &mut Gateway, milliseconds: u64) -> Vec<String> {
        gateway.tick(milliseconds);
        let calls = gateway.take_dispatched();
        let mut asked = Vec::new();
        for call in &calls {
            let references = call.body["references"].as_array().expect("a list");
            asked.extend(
                references
                    .iter()
                    .filter_map(Value::as_str)
                    .map(str::to_owned),
            );
            gateway.answer(ROOT, call, known);
        }
        asked
    }

    /// Root 1 was replaced by root 2 a minute later.
    fn replaced() -> Gateway {
        let mut gateway = Gateway::nginx().warm(&uses("old"));
        polled(&mut gateway, MINUTE);
        assert!(gateway.configure_root(2, &uses("new")));
        gateway
    }

    #[test]
    fn a_root_that_was_replaced_and_has_no_requests_is_polled_no_longer() {
        let mut gateway = replaced();
        let both = ["{vault://v/new}", "{vault://v/old}"];
        assert_eq!(polled(&mut gateway, 1000), both);
        assert_eq!(polled(&mut gateway, 3 * MINUTE), both);
        // A request keeps it going, and the time counts anew.
        assert_eq!(gateway.request(&[]).1, Action::Continue);
        assert_eq!(polled(&mut gateway, 4 * MINUTE), both);
        assert_eq!(polled(&mut gateway, MINUTE), ["{vault://v/new}"]);
        assert_eq!(polled(&mut gateway, 60 * MINUTE), ["{vault://v/new}"]);
        assert_eq!(gateway.request_of(2, &[]).1, Action::Continue);
        assert_eq!(gateway.header("x").as_deref(), Some("<new>"));
    }

    #[test]
    fn a_request_of_a_root_that_rests_asks_for_itself_and_wakes_it() {
        let mut gateway = replaced();
        polled(&mut gateway, 1000);
        polled(&mut gateway, 6 * MINUTE);
        let (_, action) = gateway.request(&[("x", "own")]);
        assert_eq!(action, Action::Pause);
        assert_eq!(gateway.calls(), ["set x=", "dispatch"]);
        gateway.answer_all(known);
        assert_eq!(gateway.header("x").as_deref(), Some("<old>"));
        assert_eq!(gateway.request(&[]).1, Action::Continue);
        let asked = polled(&mut gateway, 1000);
        assert_eq!(asked, ["{vault://v/new}", "{vault://v/old}"]);
        assert_eq!(polled(&mut gateway, 6 * MINUTE), ["{vault://v/new}"]);
    }

    #[test]
    fn what_another_configuration_keeps_fresh_serves_at_once() {
        let mut gateway = Gateway::nginx().warm(&uses("both"));
        polled(&mut gateway, MINUTE);
        let more = json!({"set": {"headers": {"y": "{vault://v/both}{vault://v/new}"}}});
        assert!(gateway.configure_root(2, &rule(&more)));
        polled(&mut gateway, 1000);
        polled(&mut gateway, 6 * MINUTE);
        assert_eq!(gateway.request(&[]).1, Action::Continue);
        assert_eq!(gateway.header("x").as_deref(), Some("<both>"));
    }

    #[test]
    fn as_long_as_nothing_was_replaced_everything_stays_fresh() {
        let mut gateway = Gateway::nginx().warm(&uses("seldom"));
        // The chains of one start come one after the other.
        gateway.tick(2000);
        assert!(gateway.configure_root(2, &uses("often")));
        for _ in 0..10 {
            gateway.request_of(2, &[]);
            polled(&mut gateway, 60 * MINUTE);
        }
        assert_eq!(gateway.request(&[]).1, Action::Continue);
        assert_eq!(gateway.header("x").as_deref(), Some("<seldom>"));
    }

    #[test]
    fn while_the_resolver_is_away_what_is_in_memory_stays() {
        let mut gateway = replaced();
        polled(&mut gateway, 1000);
        let away = |gateway: &mut Gateway, milliseconds| {
            gateway.tick(milliseconds);
            for call in gateway.take_dispatched() {
                gateway.vm.on_http_call_response(ROOT, call.token, 0, 0);
            }
        };
        for _ in 0..10 {
            away(&mut gateway, 2 * MINUTE);
        }
        assert_eq!(gateway.request(&[]).1, Action::Continue);
        assert_eq!(gateway.header("x").as_deref(), Some("<old>"));
    }

    #[test]
    fn a_request_that_waits_when_its_root_goes_to_rest_gets_its_value() {
        let mut gateway = Gateway::nginx();
        assert!(gateway.configure(&uses("old")));
        let (context, action) = gateway.request(&[]);
        assert_eq!(action, Action::Pause);
        let call = gateway.take_dispatched().remove(0);
        polled(&mut gateway, 0);
        assert!(gateway.configure_root(2, &uses("new")));
        polled(&mut gateway, MINUTE);
        assert!(gateway.configure_root(3, &uses("newer")));
        polled(&mut gateway, 6 * MINUTE);
        gateway.host.current.set(context);
        gateway.answer(ROOT, &call, known);
        assert_eq!(gateway.header("x").as_deref(), Some("<old>"));
    }

    #[test]
    fn configurations_that_rest_are_bounded() {
        let mut gateway = Gateway::nginx();
        for root in 1..=4200 {
            let now = gateway.host.now.get();
            gateway.host.now.set(now + 20_000_000_000);
            assert!(gateway.configure_root(root, &uses("always")));
        }
        polled(&mut gateway, 0);
        polled(&mut gateway, 6 * MINUTE);
        let serves = |gateway: &mut Gateway, root| {
            gateway.request_of(root, &[]);
            gateway.status().is_none()
        };
        // The newest never rests, so 4,096 and that one are left.
        assert!(!serves(&mut gateway, 103));
        for root in [104, 2000, 4200] {
            assert!(serves(&mut gateway, root), "{root}");
        }
        let logs = gateway.logs();
        assert!(
            logs.iter()
                .any(|line| line.starts_with("Warn more than 4096"))
        );
    }
}
