//! Which callbacks there are, and ticks (lines 7, 8).

use vaultref_harness::{Callback, Gateway, Outcome, Plugin, Request, WorkerState};

use super::{ROOT, answer_first, died, ok, start, waits};
use crate::support::{Guest, SECOND, assert_logged, lines, nginx, tick};

// 7

#[test]
fn nginx_second_tick_period_traps() {
    let guest = Guest::new()
        .on("configure", |g| g.note("first", tick(1000)))
        .on("tick", |g| g.note("second", tick(500)));
    let mut gateway = start(nginx(), guest);
    gateway.advance(SECOND);
    assert!(
        gateway.has_logged("tick_period already set"),
        "{:?}",
        lines(&gateway)
    );
    assert!(!gateway.has_logged("second="));
}

#[test]
fn nginx_second_tick_period_of_0_does_not_trap() {
    let guest = Guest::new()
        .on("configure", |g| g.note("first", tick(1000)))
        .on("tick", |g| g.note("second", tick(0)));
    let mut gateway = start(nginx(), guest);
    gateway.advance(SECOND);
    assert_logged(&gateway, "second=0");
    assert!(gateway.calls().iter().all(|call| !call.trapped));
}

#[test]
fn nginx_tick_period_from_a_request_traps() {
    let guest = Guest::new().on("request_headers", |g| g.note("set", tick(1000)));
    let mut gateway = start(nginx(), guest);
    gateway.request(0, Request::get("/"));
    assert!(gateway.has_logged("not a root context"));
    assert!(!gateway.has_logged("set="));
}

#[test]
fn nginx_ticks_multiply_with_each_trap_in_a_tick() {
    let guest = Guest::new().on("configure", |g| g.note("set", tick(1000)));
    let mut gateway = start(nginx(), guest);
    gateway.inject(vaultref_harness::Fault::TrapCallback(Callback::Tick));
    gateway.advance(SECOND);
    gateway.forget_history();
    gateway.advance(SECOND);
    assert_eq!(gateway.calls_of(Callback::Tick).len(), 2);
}

#[test]
fn nginx_old_root_context_keeps_ticking_after_a_configuration_change() {
    let guest = Guest::new().on("configure", |g| g.note("set", tick(1000)));
    let mut gateway = start(nginx(), guest);
    gateway.reconfigure(0, "new").unwrap();
    gateway.advance(SECOND);
    let contexts: Vec<u32> = gateway
        .calls_of(Callback::Tick)
        .iter()
        .map(|call| call.context)
        .collect();
    assert_eq!(contexts, [ROOT, ROOT + 1]);
    assert_eq!(gateway.root_context(0, 0), Some(ROOT + 1));
}

// 8

#[test]
fn nginx_missing_callback_kills_worker() {
    for name in [
        "request_headers",
        "request_body",
        "response_headers",
        "response_body",
        "done",
        "log",
        "delete",
    ] {
        let mut gateway = start(nginx(), Guest::new().without(name));
        gateway.request(0, Request::post("/", "body"));
        let WorkerState::Died(why) = gateway.worker_state(0) else {
            panic!("{name}: the worker lives");
        };
        assert!(why.contains(name), "{why}");
    }
    let guest = waits(Guest::new(), |_| String::new()).without("http_call_response");
    let mut gateway = start(nginx(), guest);
    gateway.request(0, Request::get("/"));
    answer_first(&mut gateway, ok());
    assert!(died(&gateway));
}

#[test]
fn nginx_looks_for_four_callbacks_before_it_calls_them() {
    for name in ["context_create", "vm_start", "configure"] {
        let mut gateway = start(nginx(), Guest::new().without(name));
        let stream = gateway.request(0, Request::get("/"));
        assert!(
            matches!(gateway.outcome(stream), Outcome::Upstream(_)),
            "{name}"
        );
    }
    let guest = Guest::new()
        .on("configure", |g| g.note("set", tick(1000)))
        .without("tick");
    let mut gateway = start(nginx(), guest);
    gateway.advance(SECOND);
    assert_eq!(*gateway.worker_state(0), WorkerState::Running);
}

// Also

#[test]
fn nginx_end_of_stream_is_always_false_in_header_callbacks() {
    let guest = Guest::new()
        .on("request_headers", |g| g.note("request", "(local.get $c)"))
        .on("response_headers", |g| g.note("response", "(local.get $c)"));
    let mut gateway = start(nginx(), guest);
    gateway.request(0, Request::get("/"));
    assert_logged(&gateway, "request=0");
    assert_logged(&gateway, "response=0");
}

#[test]
fn nginx_request_and_response_filters_run_in_the_listed_order() {
    let guest = Guest::new()
        .on("request_headers", |g| g.note("request", "(local.get $a)"))
        .on("response_headers", |g| g.note("response", "(local.get $a)"));
    let mut gateway = Gateway::builder(&guest.compile())
        .profile(nginx())
        .plugin(Plugin::new("one"))
        .plugin(Plugin::new("two"))
        .start()
        .unwrap();
    gateway.request(0, Request::get("/"));
    assert_eq!(
        lines(&gateway),
        ["request=3", "request=4", "response=3", "response=4"]
    );
}

#[test]
fn nginx_response_callbacks_come_even_for_an_empty_response() {
    let guest = Guest::new().on("response_body", |g| g.note("size", "(local.get $b)"));
    let mut gateway = start(nginx(), guest);
    gateway.request(0, Request::get("/"));
    assert_logged(&gateway, "size=0");
}
