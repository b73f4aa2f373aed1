//! Callouts: from where, and what comes of them.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use vaultref_harness::{Callback, CalloutAnswer, Headers, Request, Upstream};

use super::{envoy, ok, start, waits};
use crate::support::{
    ENTER, Guest, RESUME, SECOND, SOON, assert_logged, buffer, lines, serve, tick,
};

#[test]
fn envoy_unknown_or_warming_cluster_is_a_bad_argument_and_no_endpoint_a_failure() {
    let guest = Guest::new()
        .on("configure", |g| g.note("set", tick(1000)))
        .on("tick", |g| {
            let calls = [
                g.http_call("unknown"),
                g.http_call("warming"),
                g.http_call("empty"),
            ];
            g.note("unknown", &calls[0])
                + &g.note("warming", &calls[1])
                + &g.note("empty", &calls[2])
        });
    let mut gateway = envoy(guest)
        .upstream("warming", Upstream::Warming)
        .upstream("empty", Upstream::NoEndpoint)
        .start()
        .unwrap();
    gateway.advance(SECOND);
    assert_eq!(
        lines(&gateway),
        ["set=0", "unknown=2", "warming=2", "empty=10"]
    );
    gateway.set_upstream("warming", Upstream::ByHand);
    gateway.advance(SECOND);
    assert_logged(&gateway, "warming=0");
}

#[test]
fn envoy_callouts_work_from_every_root_callback() {
    let call = |g: &mut Guest| {
        let call = g.http_call("resolver");
        g.note("call", call)
    };
    let guest = Guest::new()
        .on("vm_start", call)
        .on("configure", |g| g.note("set", tick(1000)) + &call(g))
        .on("tick", call)
        .on("http_call_response", |g| {
            let more = call(g);
            format!("(if (i32.eq (local.get $b) (i32.const 1)) (then {more}))")
        });
    let mut gateway = start(guest);
    gateway.advance(SECOND / 2);
    gateway.answer(gateway.open_callouts()[0].id, ok());
    gateway.advance(SECOND / 2);
    let during: Vec<Callback> = gateway.callouts().iter().map(|call| call.during).collect();
    assert_eq!(
        during,
        [
            Callback::VmStart,
            Callback::Configure,
            Callback::HttpCallResponse,
            Callback::Tick
        ]
    );
}

#[test]
fn envoy_callout_needs_method_path_and_authority() {
    for missing in [":method", ":path", ":authority"] {
        let mut map = Headers::from([
            (":method", "GET"),
            (":path", "/"),
            (":authority", "resolver"),
        ]);
        map.remove(missing);
        let guest = Guest::new().on("configure", |g| {
            let call = g.http_call_with("resolver", &map, "");
            g.note("call", call)
        });
        assert_logged(&start(guest), "call=2");
    }
}

/// A guest that waits for its callout and then logs all it can see of it.
fn sees_answer() -> Guest {
    waits(Guest::new()).on("http_call_response", |g| {
        let status = g.header(6, ":status");
        let marker = g.header(6, "x-marker");
        g.note("headers", "(local.get $c)")
            + &g.show("status", status)
            + &g.show("marker", marker)
            + &g.show("body", buffer(4))
            + &g.note("enter", ENTER)
            + &g.note("resume", RESUME)
    })
}

#[test]
fn envoy_makes_answers_of_its_own_for_failed_callouts() {
    let refused = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Upstream::Tcp(listener.local_addr().unwrap())
    };
    for (upstream, status) in [
        (refused, 503),
        (Upstream::Unix("/nowhere/at.sock".into()), 503),
        (Upstream::Tcp(serve(vec![b""])), 503),
        (Upstream::Tcp(serve(vec![b"SSH-2.0-nobody\r\n"])), 502),
    ] {
        let mut gateway = envoy(sees_answer())
            .upstream("resolver", upstream)
            .start()
            .unwrap();
        let stream = gateway.request(0, Request::get("/"));
        gateway.settle(stream, SOON).unwrap();
        assert_logged(&gateway, &format!("status={status}"));
        assert_logged(&gateway, "marker:=1");
    }
}

#[test]
fn envoy_callout_time_limit_is_a_504_by_the_tests_clock() {
    let mut gateway = start(sees_answer());
    let stream = gateway.request(0, Request::get("/"));
    gateway.advance(SECOND - SECOND / 1000);
    assert!(gateway.outcome(stream).is_waiting());
    gateway.advance(SECOND / 1000);
    assert_logged(&gateway, "status=504");
    assert!(gateway.outcome(stream).upstream().is_some());
}

#[test]
fn envoy_reset_after_the_headers_has_no_headers_and_no_body() {
    let address = serve(vec![
        b"HTTP/1.1 200 OK\r\nx-marker: 1\r\ncontent-length: 9\r\n\r\nhalf",
    ]);
    let mut gateway = envoy(sees_answer())
        .upstream("resolver", Upstream::Tcp(address))
        .start()
        .unwrap();
    let stream = gateway.request(0, Request::get("/"));
    gateway.settle(stream, SOON).unwrap();
    assert_logged(&gateway, "headers=0");
    assert_logged(&gateway, "status:=2");
    assert_logged(&gateway, "body:=1");
}

#[test]
fn envoy_answer_over_32_mib_is_a_reset() {
    let mut gateway = start(sees_answer());
    for (size, headers) in [(16 << 20, "headers=2"), ((32 << 20) + 1, "headers=0")] {
        gateway.request(0, Request::get("/"));
        let id = gateway.open_callouts()[0].id;
        gateway.forget_history();
        // The guest reads the first 64 KiB of it.
        gateway.answer(
            id,
            CalloutAnswer::response(200, [("x", "y")], vec![b'x'; size]),
        );
        assert_logged(&gateway, headers);
    }
}

#[test]
fn envoy_answers_over_tcp_and_over_a_unix_socket() {
    let plain = b"HTTP/1.1 200 OK\r\nX-Marker: 1\r\ncontent-length: 2\r\n\r\nok";
    let chunked =
        b"HTTP/1.1 200 OK\r\nx-marker: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n";
    let path = std::env::temp_dir().join(format!("harness-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let unix = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut socket, _) = unix.accept().unwrap();
        let _ = socket.read(&mut [0; 4096]);
        let _ = socket.write_all(plain);
    });
    for upstream in [
        Upstream::Tcp(serve(vec![chunked])),
        Upstream::Unix(path.clone()),
    ] {
        let mut gateway = envoy(sees_answer())
            .upstream("resolver", upstream)
            .start()
            .unwrap();
        let stream = gateway.request(0, Request::get("/"));
        gateway.settle(stream, SOON).unwrap();
        for line in ["status=200", "marker=1", "body=ok"] {
            assert_logged(&gateway, line);
        }
        assert_eq!(
            String::from_utf8_lossy(&gateway.callouts()[0].wire),
            "GET /v1 HTTP/1.1\r\nhost: resolver\r\nx-envoy-internal: true\r\n\
             x-envoy-expected-rq-timeout-ms: 1000\r\n\r\n"
        );
    }
    let _ = std::fs::remove_file(&path);
}

#[test]
fn envoy_call_response_comes_to_the_root_whoever_called() {
    let guest = waits(Guest::new()).on("http_call_response", |g| {
        let set = g.replace("x", "1");
        g.note("context", "(local.get $a)")
            + &g.note("token", "(local.get $b)")
            + &g.note("set", &set)
            + &g.note("resume", RESUME)
            + &g.note("enter", ENTER)
            + &g.note("set within", &set)
    });
    let mut gateway = start(guest);
    let stream = gateway.request(0, Request::get("/"));
    gateway.answer(gateway.open_callouts()[0].id, ok());
    let root = gateway.root_context(0, 0).unwrap();
    assert_logged(&gateway, &format!("context={root}"));
    assert_logged(&gateway, "token=1");
    // The root has no request: BadArgument, until the request's context is entered.
    assert_logged(&gateway, "set=2");
    assert_logged(&gateway, "enter=0");
    assert_logged(&gateway, "set within=0");
    assert!(
        gateway.outcome(stream).is_waiting(),
        "a pause does not end by itself, nor by what the root resumes"
    );
}

#[test]
fn envoy_answers_are_delivered_in_any_order() {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let address = serve(vec![answer, answer, answer]);
    let guest = waits(Guest::new()).on("http_call_response", |g| {
        g.note("enter", ENTER) + &g.note("resume", RESUME)
    });
    let mut gateway = envoy(guest)
        .upstream("resolver", Upstream::Tcp(address))
        .hold_answers()
        .start()
        .unwrap();
    let streams = [1, 2, 3].map(|_| gateway.request(0, Request::get("/")));
    gateway
        .run_until(|gateway| gateway.arrived().len() == 3, SOON)
        .unwrap();
    assert_eq!(gateway.waiting(), streams);
    let held = gateway.arrived();
    gateway.deliver(held[2]);
    assert_eq!(gateway.waiting(), [streams[0], streams[1]]);
    gateway.deliver(held[0]);
    assert_eq!(gateway.waiting(), [streams[1]]);
    gateway.release_answers();
    assert!(gateway.waiting().is_empty());
}
