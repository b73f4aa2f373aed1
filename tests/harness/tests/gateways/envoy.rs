//! The envoy profile: what Envoy 1.40 was seen to do.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use vaultref_harness::{
    Callback, CalloutAnswer, CalloutState, FailurePolicy, Fault, Gateway, GatewayBuilder, Headers,
    LoadError, Module, Outcome, Plugin, Profile, Request, Response, Upstream,
};

use crate::support::{
    ENTER, Guest, REMEMBER, RESUME, SECOND, SOON, assert_logged, buffer, lines, serve, tick,
};

fn envoy(guest: Guest) -> GatewayBuilder {
    Gateway::builder(&guest.compile()).upstream("resolver", Upstream::ByHand)
}

fn start(guest: Guest) -> Gateway {
    envoy(guest).start().expect("it starts")
}

/// Pauses a request's headers on a callout to `resolver`, and remembers which
/// request waits for it.
fn waits(guest: Guest) -> Guest {
    guest.returns("request_headers", 1, |g| {
        let call = g.http_call("resolver");
        g.note("call", call) + REMEMBER
    })
}

fn ok() -> CalloutAnswer {
    CalloutAnswer::response(200, [("X-Marker", "1")], "answer")
}

// Loading

#[test]
fn envoy_unknown_import_refuses_to_start_even_if_never_called() {
    let guest = Guest::new();
    let wat = guest.wat().replacen(
        "(module",
        "(module (import \"env\" \"proxy_of_tomorrow\" (func (param i32)))",
        1,
    );
    let refused = Gateway::builder(&Module::compile(wat).unwrap())
        .start()
        .err();
    assert!(
        matches!(&refused, Some(LoadError::UnknownImport { name, .. }) if name == "proxy_of_tomorrow"),
        "{refused:?}"
    );
}

#[test]
fn envoy_module_without_abi_version_refuses_to_start() {
    let module = Module::compile("(module (memory (export \"memory\") 1))").unwrap();
    assert!(matches!(
        Gateway::builder(&module).start().err(),
        Some(LoadError::UnknownAbi)
    ));
}

#[test]
fn envoy_refused_or_trapped_configuration_refuses_to_start() {
    for policy in [
        FailurePolicy::FailClosed,
        FailurePolicy::FailOpen,
        FailurePolicy::FailReload,
    ] {
        for callback in ["vm_start", "configure"] {
            for guest in [
                Guest::new().returns(callback, 0, |_| String::new()),
                Guest::new().on(callback, |_| "unreachable".into()),
            ] {
                let plugin = Plugin::new("p").failure_policy(policy);
                let refused = envoy(guest).plugin(plugin).start().err();
                assert!(
                    matches!(refused, Some(LoadError::Refused { .. })),
                    "{refused:?}"
                );
            }
        }
    }
}

#[test]
fn envoy_refused_change_leaves_the_old_configuration() {
    // Takes any configuration but one of three bytes.
    let guest = Guest::new()
        .on("configure", |_| {
            "(if (i32.eq (local.get $b) (i32.const 3)) (then (return (i32.const 0))))".into()
        })
        .on("request_headers", |g| g.show("configuration", buffer(7)));
    let mut gateway = envoy(guest).configuration("first").start().unwrap();
    assert!(gateway.reconfigure(0, "bad").is_err());
    gateway.request(0, Request::get("/"));
    gateway.reconfigure(0, "second").unwrap();
    gateway.request(0, Request::get("/"));
    let seen: Vec<String> = lines(&gateway)
        .into_iter()
        .filter(|line| line.starts_with("configuration="))
        .collect();
    assert_eq!(seen, ["configuration=first", "configuration=second"]);
}

#[test]
fn envoy_configuration_arrives_raw() {
    let bytes = b"\x0a\x07\x0a\x01a\x12\x02\x1a\x00";
    let guest = Guest::new().on("configure", |g| {
        g.note("size", "(local.get $b)") + &g.show("bytes", buffer(7))
    });
    let gateway = envoy(guest).configuration(*bytes).start().unwrap();
    assert_logged(&gateway, "size=9");
    assert_logged(
        &gateway,
        &format!("bytes={}", String::from_utf8_lossy(bytes)),
    );
    let guest = Guest::new().on("configure", |g| g.note("size", "(local.get $b)"));
    assert_logged(&start(guest), "size=0");
}

#[test]
fn envoy_plugin_properties_are_set() {
    let guest = Guest::new().on("configure", |g| {
        let all = [
            g.property(&["plugin_vm_id"]),
            g.property(&["plugin_root_id"]),
            g.property(&["plugin_name"]),
            g.property(&["ngx", "upstream_uri"]),
        ];
        g.show("vm", &all[0])
            + &g.show("root", &all[1])
            + &g.show("name", &all[2])
            + &g.show("ngx", &all[3])
    });
    let plugin = Plugin::new("n").vm_id("v").root_id("r");
    let gateway = envoy(guest).plugin(plugin).start().unwrap();
    for line in ["vm=v", "root=r", "name=n", "ngx:=1"] {
        assert_logged(&gateway, line);
    }
}

#[test]
fn envoy_properties_of_a_request_and_its_route() {
    let guest = Guest::new().on("request_headers", |g| {
        let all = [
            g.property(&["request", "path"]),
            g.property(&["request", "host"]),
            g.property(&["xds", "route_metadata", "filter_metadata", "vaultref"]),
            g.property(&["source", "address"]),
        ];
        let set = g.set_property(&["my", "own"], "mine");
        let own = g.property(&["my", "own"]);
        g.show("path", &all[0])
            + &g.show("host", &all[1])
            + &g.show("metadata", &all[2])
            + &g.show("source", &all[3])
            + &g.note("set", set)
            + &g.show("own", own)
    });
    let mut gateway = envoy(guest)
        .property(&["source", "address"], "10.0.0.1:5")
        .start()
        .unwrap();
    gateway.request(
        0,
        Request::get("/p?q").property(
            &["xds", "route_metadata", "filter_metadata", "vaultref"],
            "m",
        ),
    );
    for line in [
        "path=/p?q",
        "host=example.com",
        "metadata=m",
        "source=10.0.0.1:5",
        "set=0",
        "own=mine",
    ] {
        assert_logged(&gateway, line);
    }
}

#[test]
fn envoy_workers_have_memories_of_their_own_and_one_vm_id_is_one_vm() {
    let count = |guest: Guest| {
        guest.on("configure", |g| {
            "(global.set $x (i32.add (global.get $x) (i32.const 1)))".to_owned()
                + &g.note("roots", "(global.get $x)")
        })
    };
    let plugins = |builder: GatewayBuilder, ids: [&str; 2]| {
        let [one, two] = ids.map(|id| Plugin::new("p").vm_id(id));
        builder.plugin(one).plugin(two).workers(2).start().unwrap()
    };
    let shared = plugins(envoy(count(Guest::new())), ["a", "a"]);
    assert_eq!(lines(&shared), ["roots=1", "roots=2", "roots=1", "roots=2"]);
    let apart = plugins(envoy(count(Guest::new())), ["a", "b"]);
    assert_eq!(lines(&apart), ["roots=1"; 4]);
    assert_eq!(shared.memory_size(0) * 2, apart.memory_size(0));
}

#[test]
fn envoy_calls_a_callback_only_if_it_is_exported() {
    let all = [
        "context_create",
        "request_headers",
        "request_body",
        "response_headers",
        "response_body",
        "done",
        "log",
        "delete",
    ];
    for missing in all {
        let guest = Guest::new().without(missing);
        let mut gateway = envoy(guest)
            .response(Response::new(200, [], "body"))
            .start()
            .unwrap();
        let stream = gateway.request(0, Request::post("/", "body"));
        assert_eq!(gateway.upstream_request(stream).body, b"body");
        let called: Vec<&str> = gateway
            .calls()
            .iter()
            .map(|call| call.callback.export())
            .collect();
        for name in all {
            let export = format!("proxy_on_{name}");
            assert_eq!(called.contains(&export.as_str()), name != missing, "{name}");
        }
    }
}

// Callouts

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

// In a request

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

// When a VM dies

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
