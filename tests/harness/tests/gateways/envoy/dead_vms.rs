//! What becomes of requests when a VM has died.

use vaultref_harness::{Callback, FailurePolicy, Fault, Gateway, Plugin, Profile, Request};

use super::{envoy, ok, start, waits};
use crate::support::{Guest, SECOND, lines};

fn dies_once(policy: FailurePolicy) -> Gateway {
    let mut gateway = envoy(Guest::new())
        .plugin(Plugin::new("p").failure_policy(policy))
        .workers(2)
        .start()
        .expect("it starts");
    gateway.inject(Fault::TrapCallback(Callback::RequestHeaders));
    gateway
}

#[test]
fn envoy_fail_closed_answers_503_until_a_restart() {
    let mut gateway = dies_once(FailurePolicy::FailClosed);
    for _ in 0..3 {
        let stream = gateway.request(0, Request::get("/"));
        assert_eq!(gateway.local_response(stream).status, 503);
        gateway.advance(SECOND * 60);
    }
    assert!(gateway.vm_failed(0));
    let other = gateway.request(1, Request::get("/"));
    assert!(
        gateway.outcome(other).upstream().is_some(),
        "the other worker has its own VM"
    );
}

#[test]
fn envoy_fail_open_sends_the_literal_reference() {
    let mut gateway = dies_once(FailurePolicy::FailOpen);
    for _ in 0..2 {
        let stream = gateway.request(0, Request::get("/").header("x", "{vault://a/b}"));
        assert!(gateway.upstream_request(stream).contains_bytes("{vault://"));
    }
}

#[test]
fn envoy_fail_reload_starts_a_new_vm_at_most_once_a_second() {
    let mut gateway = dies_once(FailurePolicy::FailReload);
    let status = |gateway: &mut Gateway| {
        let stream = gateway.request(0, Request::get("/"));
        gateway
            .outcome(stream)
            .local()
            .map(|response| response.status)
    };
    assert_eq!(status(&mut gateway), Some(503));
    assert_eq!(status(&mut gateway), None, "a new VM");
    gateway.inject(Fault::TrapCallback(Callback::RequestHeaders));
    assert_eq!(status(&mut gateway), Some(503));
    assert_eq!(status(&mut gateway), Some(503), "too soon");
    gateway.advance(SECOND);
    assert_eq!(status(&mut gateway), None);
}

#[test]
fn envoy_requests_that_wait_in_a_dead_vm_stay_held() {
    let guest = waits(Guest::new()).on("http_call_response", |_| "unreachable".into());
    let mut gateway = start(guest);
    let first = gateway.request(0, Request::get("/"));
    let second = gateway.request(0, Request::get("/"));
    gateway.answer(gateway.open_callouts()[0].id, ok());
    assert_eq!(gateway.waiting(), [first, second]);
    assert!(gateway.vm_failed(0));
}

#[test]
fn envoy_shared_data_is_one_map_a_vm_id() {
    let guest = Guest::new().on("request_headers", |g| {
        let all = [
            g.shared("k"),
            g.set_shared("k", "1", 0),
            g.set_shared("k", "2", 0),
            g.set_shared("k", "3", 1),
            g.shared("k"),
        ];
        g.show("before", &all[0])
            + &g.note("set", &all[1])
            + &g.note("without cas", &all[2])
            + &g.note("old cas", &all[3])
            + &g.show("after", &all[4])
    });
    let mut gateway = envoy(guest)
        .plugin(Plugin::new("one").vm_id("a"))
        .plugin(Plugin::new("two").vm_id("b"))
        .profile(Profile::Envoy)
        .start()
        .unwrap();
    gateway.request(0, Request::get("/"));
    let seen = lines(&gateway);
    let once = [
        "before:=1",
        "before=",
        "set=0",
        "without cas=0",
        "old cas=8",
        "after:=0",
        "after=2",
    ];
    assert_eq!(seen, [once, once].concat());
}
