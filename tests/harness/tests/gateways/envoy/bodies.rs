//! A request's body, and what it has to do with its headers.

use vaultref_harness::{Callback, Request};

use super::{envoy, ok, start, waits};
use crate::support::{ENTER, Guest, RESUME, lines};

#[test]
fn envoy_body_is_held_until_the_end_and_replaced() {
    let guest = Guest::new().on("request_body", |g| {
        let set = g.set_body(65536, "new");
        let set = g.note("set", set);
        g.note("size", "(local.get $b)")
            + &g.note("end", "(local.get $c)")
            + &format!(
                "(if (i32.eqz (local.get $c)) (then (return (i32.const 1))))
                 {set}"
            )
    });
    let mut gateway = start(guest);
    let stream = gateway.request(0, Request::post("/", "old body"));
    // The end is a call of its own, and shows all that is held.
    assert_eq!(
        lines(&gateway),
        ["size=8", "end=0", "size=8", "end=1", "set=0"]
    );
    let upstream = gateway.upstream_request(stream);
    assert_eq!(upstream.body, b"new");
    // Headers had left before.
    assert_eq!(upstream.header("content-length").as_deref(), Some("8"));
}

#[test]
fn envoy_hands_a_body_over_piece_by_piece() {
    let guest = Guest::new().on("request_body", |g| {
        g.note("size", "(local.get $b)")
            + &g.note("end", "(local.get $c)")
            + "(if (i32.eqz (local.get $c)) (then (return (i32.const 1))))"
    });
    let mut gateway = start(guest);
    let mut request = Request::new("POST", "/");
    request.pieces = vec![b"old".to_vec(), b" body".to_vec()];
    let stream = gateway.request(0, request);
    assert_eq!(
        lines(&gateway),
        ["size=3", "end=0", "size=8", "end=0", "size=8", "end=1"]
    );
    assert_eq!(gateway.upstream_request(stream).body, b"old body");
}

#[test]
fn envoy_headers_leave_before_the_body() {
    let guest = Guest::new().on("request_body", |g| {
        let set = g.replace("x", "too late");
        let local = g.local(500);
        g.note("set", set) + &g.note("local", local)
    });
    let mut gateway = start(guest);
    let stream = gateway.request(0, Request::post("/", "body").header("x", "early"));
    assert_eq!(gateway.local_response(stream).status, 500);
    let sent = gateway.sent_so_far(stream).unwrap();
    assert_eq!(sent.header("x").as_deref(), Some("early"));
}

#[test]
fn envoy_held_body_over_the_limit_is_a_413() {
    let guest = || Guest::new().returns("request_body", 1, |_| String::new());
    let mut gateway = envoy(guest()).buffer_limit(10).start().unwrap();
    let stream = gateway.request(0, Request::post("/", "eleven byte"));
    assert_eq!(gateway.local_response(stream).status, 413);
    let mut gateway = start(guest());
    let stream = gateway.request(0, Request::post("/", vec![b'x'; 1024 * 1024]));
    assert!(gateway.outcome(stream).is_waiting());
    let stream = gateway.request(0, Request::post("/", vec![b'x'; 1024 * 1024 + 1]));
    assert_eq!(gateway.local_response(stream).status, 413);
}

/// Holds headers on a callout, and says `action` to the end of the body.
fn holds_both(action: i32) -> Guest {
    waits(Guest::new())
        .returns("request_body", 1, |_| {
            format!("(if (local.get $c) (then (return (i32.const {action}))))")
        })
        .on("http_call_response", |g| {
            let header = g.replace("x", "secret");
            let body = g.set_body(65536, "new");
            g.note("enter", ENTER)
                + &g.note("header", header)
                + &g.note("body", body)
                + &g.note("resume", RESUME)
        })
}

#[test]
fn envoy_headers_and_body_can_both_be_set_while_both_are_held() {
    let mut gateway = envoy(holds_both(1))
        .allow_on_headers_stop_iteration()
        .start()
        .unwrap();
    let stream = gateway.request(0, Request::post("/", "old"));
    assert_eq!(gateway.sent_so_far(stream), None);
    gateway.answer(gateway.open_callouts()[0].id, ok());
    let upstream = gateway.upstream_request(stream);
    assert_eq!(upstream.header("x").as_deref(), Some("secret"));
    assert_eq!(upstream.body, b"new");
}

#[test]
fn envoy_continue_in_the_body_sends_held_headers_on_without_the_secret() {
    let mut gateway = envoy(holds_both(0))
        .allow_on_headers_stop_iteration()
        .start()
        .unwrap();
    let stream = gateway.request(0, Request::post("/", "old").header("x", "literal"));
    assert_eq!(
        gateway.upstream_request(stream).header("x").as_deref(),
        Some("literal")
    );
}

#[test]
fn envoy_pause_in_headers_usually_delivers_no_body() {
    let mut gateway = start(holds_both(1));
    let stream = gateway.request(0, Request::post("/", "old"));
    assert!(gateway.calls_of(Callback::RequestBody).is_empty());
    gateway.answer(gateway.open_callouts()[0].id, ok());
    // Only now; and nobody resumes it a second time.
    assert_eq!(gateway.calls_of(Callback::RequestBody).len(), 2);
    assert!(gateway.outcome(stream).is_waiting());
}
