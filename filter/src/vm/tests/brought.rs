//! What requests bring into memory: kept fresh while it is used, and never more than so much.

use serde_json::json;

use super::dynamic::{asked, path, tenants};
use crate::Action;
use crate::testing::{Gateway, ROOT, failure, unchanged};

fn request(gateway: &mut Gateway, tenant: &str) -> Action {
    gateway.request(&[("x-tenant", tenant)]).1
}

/// A request of a tenant that is not known, and its answer.
fn bring(gateway: &mut Gateway, tenant: &str) {
    assert_eq!(request(gateway, tenant), Action::Pause, "{tenant}");
    assert_eq!(gateway.host.dispatched.borrow().len(), 1, "{tenant}");
    gateway.answer_all(path);
}

/// How many references the next poll asks for.
fn polled(gateway: &mut Gateway, milliseconds: u64) -> usize {
    gateway.tick(milliseconds);
    let calls = gateway.take_dispatched();
    let count = calls.iter().map(|call| asked(call).len()).sum();
    for call in &calls {
        gateway.answer(ROOT, call, |_, known| match known.is_null() {
            true => failure("not-found"),
            false => unchanged(),
        });
    }
    count
}

fn gateway() -> Gateway {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&tenants()));
    gateway
}

#[test]
fn a_missing_tenant_costs_one_call_for_as_long_as_the_resolver_says() {
    let mut gateway = gateway();
    bring(&mut gateway, "none");
    for millisecond in 0..50 {
        assert_eq!(polled(&mut gateway, 100), 0, "a failure is not polled");
        request(&mut gateway, "none");
        let again = millisecond == 49;
        assert_eq!(gateway.status(), (!again).then_some(503));
        assert_eq!(gateway.take_dispatched().len(), usize::from(again));
    }
}

#[test]
fn what_no_request_needs_any_more_is_dropped() {
    let mut gateway = gateway();
    bring(&mut gateway, "a");
    bring(&mut gateway, "b");
    assert_eq!(polled(&mut gateway, 1000), 4);
    assert_eq!(polled(&mut gateway, 200_000), 4);
    assert_eq!(request(&mut gateway, "b"), Action::Continue);
    assert_eq!(polled(&mut gateway, 100_000), 2);
    assert_eq!(request(&mut gateway, "b"), Action::Continue);
    bring(&mut gateway, "a");
    assert_eq!(polled(&mut gateway, 300_000), 0);
    assert_eq!(request(&mut gateway, "b"), Action::Pause);
}

#[test]
fn there_are_so_many_at_most_and_the_one_unused_for_longest_goes() {
    let mut gateway = gateway();
    for tenant in 0..512 {
        bring(&mut gateway, &format!("t{tenant}"));
    }
    assert_eq!(polled(&mut gateway, 1000), 1024);
    assert_eq!(request(&mut gateway, "t0"), Action::Continue);
    assert_eq!(polled(&mut gateway, 1000), 1024);
    bring(&mut gateway, "new");
    assert_eq!(polled(&mut gateway, 1000), 1024);
    assert_eq!(
        request(&mut gateway, "t0"),
        Action::Continue,
        "used a moment ago"
    );
    bring(&mut gateway, "t1");
    // Failures make no way for themselves among values.
    for tenant in 0..600 {
        assert_eq!(
            request(&mut gateway, &format!("none/{tenant}").replace('/', "-")),
            Action::Pause
        );
        gateway.answer_all(|_, _| failure("not-found"));
    }
    assert_eq!(polled(&mut gateway, 1000), 1022);
}

#[test]
fn what_a_waiting_request_needs_stays_and_what_has_no_room_is_refused() {
    let mut gateway = gateway();
    for tenant in 0..256 {
        assert_eq!(request(&mut gateway, &format!("t{tenant}")), Action::Pause);
        assert_eq!(gateway.status(), None);
    }
    let calls = gateway.take_dispatched();
    request(&mut gateway, "more");
    assert_eq!(
        (gateway.status(), gateway.take_dispatched().len()),
        (Some(503), 0)
    );
    gateway.tick(1000);
    for call in &calls {
        gateway.calls();
        gateway.answer(ROOT, call, path);
        assert!(gateway.calls().contains(&"resume".to_owned()));
    }
    bring(&mut gateway, "more");
}

/// Also while requests wait for them.
#[test]
fn names_that_nobody_knows_do_not_drive_out_those_that_serve() {
    let mut gateway = gateway();
    for tenant in 0..512 {
        bring(&mut gateway, &format!("t{tenant}"));
    }
    let mut refused = 0;
    for tenant in 0..512 {
        request(&mut gateway, &format!("none-{tenant}"));
        refused += usize::from(gateway.status() == Some(503));
    }
    let calls = gateway.take_dispatched();
    assert_eq!((calls.len(), refused), (256, 256));
    let served = |gateway: &mut Gateway| {
        let of = |tenant: &i32| {
            let action = request(gateway, &format!("t{tenant}"));
            gateway.take_dispatched();
            action == Action::Continue
        };
        (0..512).filter(of).count()
    };
    // Those that were not needed for longest made way for as many as may be without a value.
    assert_eq!(polled(&mut gateway, 1000), 512);
    for call in &calls {
        gateway.answer(ROOT, call, |_, _| failure("not-found"));
    }
    assert_eq!(served(&mut gateway), 256);
}

#[test]
fn what_stands_in_a_rule_several_times_takes_one_place() {
    let value = "{vault://tenants/$(header:x-tenant)/key}";
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&json!({"resolver": {"upstream": "u"},
        "request": {"set": {"headers": {"a": value, "b": value, "c": value}}},
        "resolve": {"allow": ["tenants/*"]}})));
    for tenant in 0..=512 {
        assert_eq!(request(&mut gateway, &format!("t{tenant}")), Action::Pause);
        let refused = tenant == 512;
        assert_eq!(gateway.status(), refused.then_some(503), "{tenant}");
    }
    let logs = gateway.logs().join("\n");
    assert!(
        logs.contains("there is no room for what a request brings"),
        "{logs}"
    );
}

#[test]
fn waiting_is_bounded_here_too() {
    let mut gateway = gateway();
    for _ in 0..1024 {
        request(&mut gateway, "same");
        assert_eq!(gateway.status(), None);
    }
    gateway.take_dispatched();
    request(&mut gateway, "same");
    assert_eq!(
        (gateway.status(), gateway.take_dispatched().len()),
        (Some(503), 0)
    );
}

#[test]
fn what_a_configuration_names_is_never_dropped_and_shared() {
    let mut gateway = gateway();
    bring(&mut gateway, "a");
    let own = json!({"resolver": {"upstream": "u"},
        "request": {"set": {"headers": {"x": "{vault://tenants/a/user}"}}}});
    assert!(gateway.configure_root(2, &own));
    assert_eq!(gateway.request_of(2, &[]).1, Action::Continue);
    assert_eq!(polled(&mut gateway, 301_000), 1);
    assert_eq!(gateway.request_of(2, &[]).1, Action::Continue);
    // The half that was dropped is asked for with the other one.
    request(&mut gateway, "a");
    let call = gateway.take_dispatched().remove(0);
    assert_eq!(
        asked(&call),
        ["{vault://tenants/a/user}", "{vault://tenants/a/pass}"]
    );
    gateway.answer(ROOT, &call, path);
    // With the last configuration everything goes.
    gateway.vm.on_delete(2);
    assert_eq!(polled(&mut gateway, 1000), 1);
    gateway.vm.on_delete(ROOT);
    assert_eq!(polled(&mut gateway, 1000), 0);
}

#[test]
fn questions_are_cut_where_an_object_ends() {
    let headers: serde_json::Map<_, _> = (0..1023)
        .map(|n| (format!("x-{n}"), json!(format!("{{vault://a/n{n}}}"))))
        .collect();
    let mut configuration = tenants();
    configuration["request"] = json!({"set": {"headers": headers}});
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&configuration));
    request(&mut gateway, "a");
    gateway.answer_all(path);
    gateway.tick(1000);
    let sizes: Vec<usize> = gateway
        .take_dispatched()
        .iter()
        .map(|call| asked(call).len())
        .collect();
    assert_eq!(sizes, [1023, 2]);
}
