//! What a request gets: at once, after a wait, or in the upstream's place.

use serde_json::json;

use super::bearer;
use crate::testing::{Gateway, ROOT, known, rule};
use crate::{Action, Status};

#[test]
fn a_rendered_header_costs_one_call_of_the_host_and_no_clock() {
    let mut gateway = Gateway::envoy().warm(&bearer());
    let (calls, clocks) = (gateway.host.count.get(), gateway.host.clocks.get());
    let (_, action) = gateway.request(&[("authorization", "mine"), ("authorization", "twice")]);
    assert_eq!(action, Action::Continue);
    assert_eq!(
        gateway.header("authorization").as_deref(),
        Some("Bearer <token>")
    );
    assert_eq!(gateway.host.count.get() - calls, 1);
    assert_eq!(gateway.host.clocks.get(), clocks);
}

#[test]
fn a_request_before_the_first_answer_is_guarded_waits_and_goes_out_right() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&bearer()));
    let (context, action) = gateway.request(&[("authorization", "the client's own")]);
    assert_eq!(action, Action::Pause);
    assert_eq!(gateway.calls(), ["set authorization=", "dispatch"]);
    let call = gateway.take_dispatched().remove(0);
    // In Envoy too the answer comes with the root's context.
    gateway.answer(ROOT, &call, known);
    let entered = format!("context {context}");
    let expected = [
        entered.as_str(),
        "set authorization=Bearer <token>",
        "resume",
    ];
    assert_eq!(gateway.calls(), expected);
    // What came that way serves all requests after it.
    let (_, action) = gateway.request(&[]);
    assert_eq!(action, Action::Continue);
    assert_eq!(
        gateway.header("authorization").as_deref(),
        Some("Bearer <token>")
    );
}

#[test]
fn on_nginx_the_answer_comes_with_the_root_s_context() {
    let mut gateway = Gateway::nginx();
    assert!(gateway.configure(&bearer()));
    let (_, action) = gateway.request(&[]);
    assert_eq!(action, Action::Pause);
    gateway.answer_all(known);
    assert_eq!(
        gateway.header("authorization").as_deref(),
        Some("Bearer <token>")
    );
}

#[test]
fn a_stream_whose_root_is_unknown_is_refused() {
    let mut gateway = Gateway::envoy().warm(&bearer());
    gateway.host.current.set(999);
    assert_eq!(gateway.vm.on_request_headers(999, true), Action::Pause);
    assert_eq!(gateway.status(), Some(503));
    let (_, action) = gateway.request_of(55, &[]);
    assert_eq!((action, gateway.status()), (Action::Pause, Some(503)));
}

#[test]
fn a_callback_that_never_comes_stops_neither_polls_nor_requests() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&bearer()));
    gateway.tick(0);
    let (context, _) = gateway.request(&[("authorization", "own")]);
    gateway.take_dispatched();
    gateway.calls();
    gateway.tick(1900);
    assert_eq!(gateway.calls(), [""; 0]);
    gateway.tick(200);
    assert_eq!(
        gateway.calls(),
        [
            format!("context {context}"),
            "respond 503".into(),
            format!("context {ROOT}")
        ]
    );
    gateway.tick(200);
    assert_eq!(gateway.take_dispatched().len(), 1, "the poll goes on");
}

#[test]
fn waiting_is_bounded() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&bearer()));
    for _ in 0..1024 {
        assert_eq!(gateway.request(&[]).1, Action::Pause);
        assert_eq!(gateway.status(), None);
    }
    gateway.request(&[]);
    assert_eq!(gateway.status(), Some(503));
    assert_eq!(gateway.calls(), ["respond 503"]);
}

#[test]
fn more_references_than_one_question_may_hold_go_in_batches() {
    let headers: serde_json::Map<_, _> = (0..3000)
        .map(|index| {
            (
                format!("x-{index}"),
                json!(format!("{{vault://v/n{index}}}")),
            )
        })
        .collect();
    let configuration = rule(&json!({"set": {"headers": headers}}));
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&configuration));
    let (_, action) = gateway.request(&[]);
    assert_eq!(action, Action::Pause);
    let calls = gateway.take_dispatched();
    let sizes: Vec<_> = calls
        .iter()
        .map(|call| call.body["references"].as_array().map(Vec::len))
        .collect();
    assert_eq!(sizes, [Some(1024), Some(1024), Some(952)]);
    for (index, call) in calls.iter().enumerate() {
        assert!(
            !gateway.calls().contains(&"resume".to_owned()),
            "before answer {index}"
        );
        gateway.answer(ROOT, call, known);
    }
    assert!(gateway.calls().contains(&"resume".to_owned()));
    assert_eq!(gateway.header("x-2999").as_deref(), Some("<n2999>"));
    gateway.tick(0);
    assert_eq!(gateway.take_dispatched().len(), 3);
}

#[test]
fn when_one_of_several_calls_cannot_be_made_the_others_are_waited_for() {
    let headers: serde_json::Map<_, _> = (0..1100)
        .map(|index| {
            (
                format!("x-{index}"),
                json!(format!("{{vault://v/n{index}}}")),
            )
        })
        .collect();
    let mut gateway = Gateway::nginx();
    assert!(gateway.configure(&rule(&json!({"set": {"headers": headers}}))));
    gateway.host.dispatches_left.set(Some(1));
    // Going on with a call outstanding crashes nginx, so the answer of the first is awaited.
    assert_eq!(gateway.request(&[]).1, Action::Pause);
    assert_eq!(gateway.status(), None);
    let calls = gateway.take_dispatched();
    assert_eq!(calls.len(), 1);
    gateway.answer(ROOT, &calls[0], known);
    assert_eq!(gateway.status(), Some(503));
}

#[test]
fn a_request_of_a_client_that_has_gone_is_dropped() {
    let mut gateway = Gateway::envoy();
    assert!(gateway.configure(&bearer()));
    let (context, _) = gateway.request(&[]);
    assert_eq!(gateway.vm.on_request_body(context, 1, false), Action::Pause);
    gateway.vm.on_delete(context);
    assert_eq!(
        gateway.vm.on_request_body(context, 1, false),
        Action::Continue
    );
    gateway.calls();
    gateway.answer_all(known);
    assert_eq!(gateway.calls(), [""; 0]);
}

#[test]
fn a_host_that_refuses_to_write_has_the_request_refused() {
    let mut gateway = Gateway::envoy().warm(&bearer());
    gateway
        .host
        .failures
        .borrow_mut()
        .insert("set_request_header", Status::Other(99));
    for _ in 0..3 {
        gateway.request(&[]);
        assert_eq!(gateway.status(), Some(503));
    }
    let logs = gateway.logs();
    let about = logs
        .iter()
        .filter(|line| line.contains("status 99"))
        .count();
    assert_eq!(about, 1, "{logs:?}");
}
