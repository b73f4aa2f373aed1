//! The way back.

use vaultref_harness::{Callback, Plugin, Request, Response};

use super::{envoy, start};
use crate::support::{Guest, SECOND, assert_logged, buffer, lines, tick};

#[test]
fn envoy_response_filters_run_in_reverse() {
    let guest = Guest::new()
        .on("request_headers", |g| g.note("request", "(local.get $a)"))
        .on("response_headers", |g| g.note("response", "(local.get $a)"));
    let mut gateway = envoy(guest)
        .plugin(Plugin::new("one").vm_id("v"))
        .plugin(Plugin::new("two").vm_id("v"))
        .start()
        .unwrap();
    gateway.request(0, Request::get("/"));
    assert_eq!(
        lines(&gateway),
        ["request=3", "request=4", "response=4", "response=3"]
    );
}

#[test]
fn envoy_filters_change_the_response() {
    let guest = Guest::new()
        .on("response_headers", |g| {
            let (key, value) = (g.text("x-echo"), g.text("masked"));
            let status = g.header(2, ":status");
            let set = format!("(call $proxy_replace_header_map_value (i32.const 2) {key} {value})");
            g.show("status", status) + &g.note("set", set)
        })
        .on("response_body", |g| g.show("body", buffer(1)));
    let response = Response::new(401, [("x-echo", "secret")], "denied");
    let mut gateway = envoy(guest).response(response).start().unwrap();
    let stream = gateway.request(0, Request::get("/"));
    assert_logged(&gateway, "status=401");
    assert_logged(&gateway, "body=denied");
    let response = gateway.client_response(stream).unwrap();
    assert_eq!(
        response,
        Response::new(401, [("x-echo", "masked")], "denied")
    );
}

#[test]
fn envoy_upstream_answers_when_the_test_says_so() {
    let mut gateway = envoy(Guest::new()).respond_by_hand().start().unwrap();
    let stream = gateway.request(0, Request::get("/"));
    assert!(gateway.outcome(stream).upstream().is_some());
    assert_eq!(gateway.client_response(stream), None);
    gateway.respond(stream, Response::new(204, [], ""));
    assert_eq!(gateway.client_response(stream).unwrap().status, 204);
}

#[test]
fn envoy_done_may_be_put_off() {
    let guest = Guest::new()
        .returns("done", 0, |_| "(global.set $x (local.get $a))".into())
        .on("configure", |g| g.note("set", tick(1000)))
        .on("tick", |g| {
            g.note(
                "effective",
                "(call $proxy_set_effective_context (global.get $x))",
            ) + &g.note("done", "(call $proxy_done )")
        });
    let mut gateway = start(guest);
    gateway.request(0, Request::get("/"));
    assert!(gateway.calls_of(Callback::Delete).is_empty());
    gateway.advance(SECOND);
    assert_logged(&gateway, "done=0");
    assert_eq!(gateway.calls_of(Callback::Delete).len(), 1);
}
