//! Callouts: from where, to whom, and how they end (lines 4, 5, 9, 13).

use vaultref_harness::{
    Callback, CalloutAnswer, CalloutState, Gateway, Headers, NginxOptions, Outcome, Profile,
    Request, StreamId, Upstream, WorkerState,
};

use super::{ROOT, answer_first, died, ok, start, waits};
use crate::support::{
    Guest, RESUME, SECOND, SOON, Trickle, assert_logged, buffer, lines, nginx, serve, tick,
};

// 4

#[test]
fn nginx_continue_with_callout_outstanding_kills_worker() {
    let guest = Guest::new().on("request_headers", |g| {
        let call = g.http_call("resolver:1");
        g.note("call", call)
    });
    let mut gateway = start(nginx(), guest);
    let stream = gateway.request(0, Request::get("/"));
    assert_logged(&gateway, "call=0");
    assert!(died(&gateway));
    assert_eq!(gateway.outcome(stream), Outcome::Reset);
    let later = gateway.request(0, Request::get("/"));
    assert_eq!(gateway.outcome(later), Outcome::Reset);
    gateway.restart_worker(0).unwrap();
    assert_eq!(*gateway.worker_state(0), WorkerState::Running);
}

#[test]
fn nginx_dispatch_from_root_call_response_kills_worker() {
    let guest = Guest::new()
        .on("configure", |g| g.note("tick", tick(1000)))
        .on("tick", |g| {
            let call = g.http_call("resolver:1");
            g.note("call", call)
        })
        .on("http_call_response", |g| {
            let call = g.http_call("resolver:1");
            g.note("again", call)
        });
    let mut gateway = start(nginx(), guest);
    gateway.advance(SECOND);
    answer_first(&mut gateway, ok());
    assert!(died(&gateway), "{:?}", lines(&gateway));
}

#[test]
fn nginx_several_dispatches_in_one_tick_are_fine() {
    let guest = Guest::new()
        .on("configure", |g| g.note("tick", tick(1000)))
        .on("tick", |g| {
            let calls = [g.http_call("resolver:1"), g.http_call("resolver:1")];
            g.note("first", &calls[0]) + &g.note("second", &calls[1])
        });
    let mut gateway = start(nginx(), guest);
    gateway.advance(SECOND);
    assert_eq!(gateway.open_callouts().len(), 2);
    assert_eq!(*gateway.worker_state(0), WorkerState::Running);
}

// 5

#[test]
fn nginx_callout_while_configuring_traps() {
    for callback in ["vm_start", "configure"] {
        let guest = Guest::new().on(callback, |g| {
            let call = g.http_call("resolver:1");
            g.note("call", call)
        });
        let gateway = start(nginx(), guest);
        assert!(
            matches!(gateway.worker_state(0), WorkerState::Exited(why) if why.contains("bad step")),
            "{callback}: {:?}",
            gateway.worker_state(0)
        );
        assert!(!gateway.has_logged("call="));
    }
}

#[test]
fn nginx_callout_in_response_phase_traps_and_the_response_passes_unfiltered() {
    for callback in ["response_headers", "response_body", "log"] {
        let guest = Guest::new().on(callback, |g| {
            let key = g.text("x-filtered");
            let value = g.text("yes");
            let call = g.http_call("resolver:1");
            g.note("call", call)
                + &format!("(drop (call $proxy_add_header_map_value (i32.const 2) {key} {value}))")
        });
        let mut gateway = start(nginx(), guest);
        let stream = gateway.request(0, Request::get("/"));
        let response = gateway.client_response(stream).unwrap();
        let expected = (200, Headers::new());
        assert_eq!((response.status, response.headers), expected, "{callback}");
        assert!(gateway.has_logged("bad step"), "{callback}");
        assert!(!gateway.has_logged("call="), "{callback}");
        assert!(gateway.callouts().is_empty(), "{callback}");
        assert_eq!(*gateway.worker_state(0), WorkerState::Running);
    }
}

#[test]
fn nginx_callouts_are_allowed_in_headers_body_call_response_and_tick() {
    let again = |g: &mut Guest| {
        let call = g.http_call("resolver:1");
        g.note("call", call)
    };
    let guest = waits(Guest::new(), |_| String::new())
        .returns("request_body", 1, again)
        .on("http_call_response", |g| {
            let call = again(g);
            format!("(if (i32.eqz (global.get $x)) (then (global.set $x (i32.const 1)) {call}))")
        });
    let mut gateway = start(nginx(), guest);
    let stream = gateway.request(0, Request::post("/", "body"));
    for during in [
        Callback::RequestHeaders,
        Callback::HttpCallResponse,
        Callback::RequestBody,
    ] {
        let open = gateway.open_callouts();
        assert_eq!(
            open.iter().map(|call| call.during).collect::<Vec<_>>(),
            [during]
        );
        gateway.answer(open[0].id, ok());
    }
    assert!(matches!(gateway.outcome(stream), Outcome::Upstream(_)));
}

// 9

#[test]
fn nginx_set_effective_context_does_nothing() {
    let guest = Guest::new()
        .returns("request_headers", 1, |g| {
            let call = g.http_call("resolver:1");
            "(global.set $x (local.get $a))".to_owned() + &g.note("call", call)
        })
        .on("configure", |g| g.note("set", tick(1000)))
        .on("tick", |g| {
            let set = g.replace("x", "from another");
            g.note(
                "effective",
                "(call $proxy_set_effective_context (global.get $x))",
            ) + &g.note("replace", set)
                + &g.note("resume", RESUME)
        });
    let mut gateway = start(nginx(), guest);
    let stream = gateway.request(0, Request::get("/").header("x", "own"));
    gateway.open_callouts();
    gateway.advance(SECOND / 2);
    gateway.clock().set(gateway.clock().now() + 400_000_000);
    gateway.call_raw_callback(0, Callback::Tick, ROOT, &[ROOT]);
    assert_logged(&gateway, "effective=0");
    assert_logged(&gateway, "replace=2");
    assert!(gateway.outcome(stream).is_waiting());
    answer_first(&mut gateway, ok());
    assert_eq!(
        gateway.upstream_request(stream).header("x").as_deref(),
        Some("own")
    );
}

#[test]
fn nginx_pause_without_a_callout_is_never_woken() {
    let guest = Guest::new()
        .returns("request_headers", 1, |_| String::new())
        .on("configure", |g| g.note("set", tick(1000)));
    let mut gateway = start(nginx(), guest);
    let stream = gateway.request(0, Request::get("/"));
    gateway.advance(SECOND * 3600);
    assert!(gateway.outcome(stream).is_waiting());
}

#[test]
fn nginx_call_response_comes_with_the_roots_id_and_token_0_is_valid() {
    let guest = waits(Guest::new(), |g| g.note("request", "(local.get $a)")).on(
        "http_call_response",
        |g| {
            let set = g.replace("x", "set");
            g.note("context", "(local.get $a)")
                + &g.note("token", "(local.get $b)")
                + &g.note("set", set)
        },
    );
    let mut gateway = start(nginx(), guest);
    let stream = gateway.request(0, Request::get("/"));
    assert_eq!(gateway.context_of(stream, 0), Some(2));
    answer_first(&mut gateway, ok());
    assert_logged(&gateway, "request=2");
    assert_logged(&gateway, "context=1");
    assert_logged(&gateway, "token=0");
    // What it changes is the request's all the same.
    assert_eq!(
        gateway.upstream_request(stream).header("x").as_deref(),
        Some("set")
    );
}

// 13

#[test]
fn nginx_failed_callout_has_no_headers_though_dispatch_status_may_say_ok() {
    for answer in [
        CalloutAnswer::Refused,
        CalloutAnswer::Closed,
        CalloutAnswer::NotHttp,
        CalloutAnswer::Timeout,
    ] {
        let guest = waits(Guest::new(), |_| String::new()).on("http_call_response", |g| {
            let status = g.header(6, ":dispatch_status");
            g.note("headers", "(local.get $c)")
                + &g.note("size", "(local.get $d)")
                + &g.show("status", status)
        });
        let mut gateway = start(nginx(), guest);
        let stream = gateway.request(0, Request::get("/"));
        answer_first(&mut gateway, answer.clone());
        assert_logged(&gateway, "headers=0");
        assert_logged(&gateway, "size=0");
        assert_eq!(
            gateway.has_logged("status=ok"),
            matches!(answer, CalloutAnswer::Closed | CalloutAnswer::NotHttp)
        );
        assert!(matches!(gateway.outcome(stream), Outcome::Upstream(_)));
    }
}

#[test]
fn nginx_no_callback_on_failure_up_to_kong_38() {
    let guest = waits(Guest::new(), |_| String::new());
    let mut gateway = start(Profile::Nginx(NginxOptions::kong_38()), guest);
    let stream = gateway.request(0, Request::get("/").header("x", "{vault://a/b}"));
    answer_first(&mut gateway, CalloutAnswer::Refused);
    assert!(gateway.calls_of(Callback::HttpCallResponse).is_empty());
    assert_eq!(
        gateway.upstream_request(stream).header("x").as_deref(),
        Some("{vault://a/b}")
    );
}

// Also

#[test]
fn nginx_upstream_of_a_callout_is_an_address() {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let address = serve(vec![answer]);
    let name = address.to_string();
    let guest = Guest::new()
        .returns("request_headers", 1, |g| {
            let map = Headers::from([
                (":method", "POST"),
                (":path", "/v1/resolve"),
                (":authority", "vaultref"),
                ("x-own", "1"),
            ]);
            let call = g.http_call_with(&name, &map, "{}");
            g.note("call", call)
        })
        .on("http_call_response", |g| g.show("body", buffer(4)));
    let mut gateway = start(nginx(), guest);
    let stream = gateway.request(0, Request::get("/"));
    gateway.settle(stream, SOON).unwrap();
    assert_logged(&gateway, "body=ok");
    assert_eq!(
        String::from_utf8_lossy(&gateway.callouts()[0].wire),
        "POST /v1/resolve HTTP/1.1\r\nHost: vaultref\r\nConnection: close\r\nx-own: 1\r\n\
         content-length: 2\r\n\r\n{}"
    );
}

#[test]
fn nginx_name_without_resolver_fails_and_a_url_traps() {
    for (upstream, traps) in [
        ("vaultref", false),
        ("http://127.0.0.1:1", true),
        ("127.0.0.1:65536", true),
    ] {
        let guest = Guest::new()
            .returns("request_headers", 1, |g| {
                let call = g.http_call(upstream);
                g.note("call", call)
            })
            .on("http_call_response", |g| {
                g.note("headers", "(local.get $c)")
            });
        let mut gateway = start(nginx(), guest);
        let stream = gateway.request(0, Request::get("/"));
        gateway.settle(stream, SOON).unwrap();
        assert_eq!(gateway.has_logged("headers=0"), !traps, "{upstream}");
        assert_eq!(gateway.has_logged("bad host"), traps, "{upstream}");
    }
}

#[test]
fn nginx_callout_needs_method_and_path() {
    for map in [
        Headers::from([(":path", "/")]),
        Headers::from([(":method", "GET")]),
    ] {
        let guest = Guest::new().returns("request_headers", 1, |g| {
            let call = g.http_call_with("resolver:1", &map, "");
            g.note("call", call)
        });
        let mut gateway = start(nginx(), guest);
        gateway.request(0, Request::get("/"));
        assert!(gateway.has_logged("dispatch failed: no :"));
    }
}

#[test]
fn nginx_pause_ends_by_itself_when_the_last_callout_is_done() {
    let guest = waits(Guest::new(), |g| {
        let call = g.http_call("resolver:1");
        g.note("one more", call)
    });
    let mut gateway = start(nginx(), guest);
    let stream = gateway.request(0, Request::get("/"));
    answer_first(&mut gateway, ok());
    assert!(gateway.outcome(stream).is_waiting());
    answer_first(&mut gateway, ok());
    assert!(matches!(gateway.outcome(stream), Outcome::Upstream(_)));
}

/// A request that waits for a callout to `server`, once the callout has sent its own.
fn waits_for(profile: Profile, server: &Trickle) -> (Gateway, StreamId) {
    let name = server.address.to_string();
    let guest = Guest::new()
        .returns("request_headers", 1, |g| {
            let call = g.http_call(&name);
            g.note("call", call)
        })
        .on("http_call_response", |g| {
            g.note("headers", "(local.get $c)") + &g.show("body", buffer(4))
        });
    let mut gateway = Gateway::builder(&guest.compile())
        .profile(profile)
        .upstream(&name, Upstream::Tcp(server.address))
        .start()
        .expect("it starts");
    let stream = gateway.request(0, Request::get("/"));
    (gateway, stream)
}

#[test]
fn nginx_time_limit_of_a_callout_holds_for_each_part_of_the_answer() {
    let server = Trickle::start();
    let (mut gateway, stream) = waits_for(nginx(), &server);
    for piece in [
        &b"HTTP/1.1 200 OK\r\n"[..],
        b"content-length: 2\r\n\r\n",
        b"o",
    ] {
        // All but the whole second that the call may take.
        gateway.advance(SECOND * 9 / 10);
        let due = gateway.callouts()[0].due;
        server.send(piece);
        gateway
            .run_until(|gateway| gateway.callouts()[0].due > due, SOON)
            .unwrap();
    }
    assert!(gateway.outcome(stream).is_waiting());
    server.send(b"k");
    gateway.settle(stream, SOON).unwrap();
    assert_logged(&gateway, "body=ok");
}

#[test]
fn nginx_time_limit_of_a_callout_passes_when_nothing_comes() {
    let server = Trickle::start();
    let (mut gateway, _) = waits_for(nginx(), &server);
    server.send(b"HTTP/1.1 200 OK\r\n");
    let due = gateway.callouts()[0].due;
    gateway.advance(SECOND / 2);
    gateway
        .run_until(|gateway| gateway.callouts()[0].due > due, SOON)
        .unwrap();
    gateway.advance(SECOND);
    assert_logged(&gateway, "headers=0");
}

#[test]
fn nginx_callout_over_https_fails_as_if_refused_and_sends_nothing() {
    // Where this profile is no image of the real thing, which speaks TLS (and verifies no
    // certificate unless configured): there is none here, and no secret is to leave without it.
    let server = Trickle::start();
    let name = server.address.to_string();
    let map = Headers::from([(":method", "GET"), (":path", "/"), (":scheme", "https")]);
    let guest = Guest::new()
        .returns("request_headers", 1, |g| {
            let call = g.http_call_with(&name, &map, "");
            g.note("call", call)
        })
        .on("http_call_response", |g| {
            let status = g.header(6, ":dispatch_status");
            g.note("headers", "(local.get $c)") + &g.show("status", status)
        });
    let mut gateway = start(nginx(), guest);
    let stream = gateway.request(0, Request::get("/"));
    gateway.settle(stream, SOON).unwrap();
    for line in ["call=0", "headers=0", "status=broken connection"] {
        assert_logged(&gateway, line);
    }
    assert!(matches!(gateway.outcome(stream), Outcome::Upstream(_)));
    assert_eq!(gateway.callouts()[0].state, CalloutState::Delivered);
}
