//! A request's headers: pauses, contexts, and what is written.

use vaultref_harness::{Callback, CalloutState, Headers, Outcome, Request};

use super::{ok, start, waits};
use crate::support::{ENTER, Guest, RESUME, SECOND, assert_logged, tick};

#[test]
fn envoy_pause_callout_set_header_resume() {
    let guest = waits(Guest::new()).on("http_call_response", |g| {
        let set = g.replace("authorization", "Bearer secret");
        g.note("enter", ENTER) + &g.note("set", set) + &g.note("resume", RESUME)
    });
    let mut gateway = start(guest);
    let request = Request::get("/")
        .header("Authorization", "a")
        .header("authorization", "b");
    let stream = gateway.request(0, request);
    gateway.answer(gateway.open_callouts()[0].id, ok());
    let upstream = gateway.upstream_request(stream);
    assert_eq!(
        upstream.headers.all("authorization"),
        [b"Bearer secret".to_vec()]
    );
}

#[test]
fn envoy_local_response_from_a_call_response() {
    let guest = waits(Guest::new()).on("http_call_response", |g| {
        let local = g.local(503);
        g.note("enter", ENTER) + &g.note("local", local)
    });
    let mut gateway = start(guest);
    let stream = gateway.request(0, Request::get("/"));
    gateway.answer(gateway.open_callouts()[0].id, ok());
    let response = gateway.local_response(stream);
    assert_eq!(
        (response.status, response.body.as_slice()),
        (503, &b"local"[..])
    );
    assert_eq!(gateway.sent_so_far(stream), None);
}

#[test]
fn envoy_one_call_for_many_waiters() {
    let guest = Guest::new()
        .returns("request_headers", 1, |_| {
            "(if (i32.eqz (global.get $x)) (then (global.set $x (local.get $a))))
             (global.set $y (local.get $a))"
                .into()
        })
        .on("configure", |g| g.note("set", tick(1000)))
        .on("tick", |g| {
            let call = g.http_call("resolver");
            g.note("call", call)
        })
        .on("http_call_response", |g| {
            let set = g.replace("x", "secret");
            let set = g.note("set", set);
            let resume = g.note("resume", RESUME);
            format!(
                "(loop $each
                   (drop (call $proxy_set_effective_context (global.get $x)))
                   {set} {resume}
                   (global.set $x (i32.add (global.get $x) (i32.const 1)))
                   (br_if $each (i32.le_u (global.get $x) (global.get $y))))"
            )
        });
    let mut gateway = start(guest);
    let streams = [1, 2, 3].map(|_| gateway.request(0, Request::get("/")));
    gateway.advance(SECOND);
    gateway.answer(gateway.open_callouts()[0].id, ok());
    for stream in streams {
        assert_eq!(
            gateway.upstream_request(stream).header("x").as_deref(),
            Some("secret")
        );
    }
}

#[test]
fn envoy_unknown_effective_context_is_a_bad_argument() {
    let guest = Guest::new().on("configure", |g| {
        g.note(
            "effective",
            "(call $proxy_set_effective_context (i32.const 77))",
        )
    });
    assert_logged(&start(guest), "effective=2");
}

#[test]
fn envoy_header_getter_joins_duplicates_and_host_is_the_authority() {
    let guest = Guest::new().on("request_headers", |g| {
        let (x, host) = (g.header(0, "X"), g.header(0, "host"));
        let add = g.add("X-New", "1");
        let remove = g.remove("x-gone");
        g.show("x", x) + &g.show("host", host) + &g.note("add", add) + &g.note("remove", remove)
    });
    let mut gateway = start(guest);
    let request = Request::get("/")
        .header("x", "1")
        .header("X", "2")
        .header("x-gone", "3");
    let stream = gateway.request(0, request);
    assert_logged(&gateway, "x=1,2");
    assert_logged(&gateway, "host=example.com");
    let upstream = gateway.upstream_request(stream);
    assert_eq!(
        upstream.headers,
        Headers::from([("x", "1"), ("x", "2"), ("x-new", "1")])
    );
}

#[test]
fn envoy_header_value_with_newline_is_a_503_and_nothing_is_sent() {
    for value in ["a\nb", "a\rb", "a\0b"] {
        let guest = Guest::new().on("request_headers", |g| {
            let set = g.replace("x", value);
            g.note("set", set)
        });
        let mut gateway = start(guest);
        let stream = gateway.request(0, Request::get("/"));
        assert_eq!(gateway.local_response(stream).status, 503);
        assert_eq!(gateway.sent_so_far(stream), None);
    }
}

#[test]
fn envoy_changed_path_arrives() {
    let guest = Guest::new().on("request_headers", |g| {
        let set = g.replace(":path", "/new?key=v");
        g.note("set", set)
    });
    let mut gateway = start(guest);
    let stream = gateway.request(0, Request::get("/old"));
    assert_eq!(gateway.upstream_request(stream).path, b"/new?key=v");
}

#[test]
fn envoy_bytes_that_are_no_utf8_pass_unchanged() {
    let mut gateway = start(Guest::new());
    let stream = gateway.request(0, Request::get("/").header("x", b"\xff\xfe".to_vec()));
    assert_eq!(
        gateway.upstream_request(stream).headers.first("x"),
        Some(&b"\xff\xfe"[..])
    );
}

#[test]
fn envoy_client_that_goes_away_while_paused_does_not_end_its_callout() {
    let mut gateway = start(waits(Guest::new()));
    let stream = gateway.request(0, Request::get("/"));
    let callout = gateway.open_callouts()[0].id;
    gateway.disconnect(stream);
    assert_eq!(gateway.outcome(stream), Outcome::Reset);
    let ends: Vec<Callback> = gateway
        .calls()
        .iter()
        .rev()
        .take(3)
        .map(|c| c.callback)
        .collect();
    assert_eq!(ends, [Callback::Delete, Callback::Done, Callback::Log]);
    gateway.answer(callout, ok());
    assert_eq!(gateway.callout(callout).state, CalloutState::Delivered);
    assert_eq!(gateway.calls_of(Callback::HttpCallResponse).len(), 1);
}
