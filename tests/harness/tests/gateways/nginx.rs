//! The nginx profile, one test for each line of what `ngx_wasm_module` was
//! seen to do.

use vaultref_harness::{
    Callback, CalloutAnswer, Gateway, Headers, LoadError, NginxOptions, Outcome, Plugin, Profile,
    Request, Upstream, WorkerState,
};

use crate::support::{
    Guest, RESUME, SECOND, SOON, assert_logged, buffer, kong, lines, nginx, serve, tick,
};

const ROOT: u32 = 1;

fn start(profile: Profile, guest: Guest) -> Gateway {
    Gateway::builder(&guest.compile())
        .profile(profile)
        .upstream("resolver:1", Upstream::ByHand)
        .start()
        .expect("it starts")
}

/// Pauses a request's headers on a callout, with `more` done before.
fn waits(guest: Guest, more: impl FnOnce(&mut Guest) -> String) -> Guest {
    guest.returns("request_headers", 1, |g| {
        let call = g.http_call("resolver:1");
        more(g) + &g.note("call", call)
    })
}

fn ok() -> CalloutAnswer {
    CalloutAnswer::response(200, [("x-marker", "1")], "answer")
}

fn answer_first(gateway: &mut Gateway, answer: CalloutAnswer) {
    let id = gateway.open_callouts()[0].id;
    gateway.answer(id, answer);
}

fn died(gateway: &Gateway) -> bool {
    matches!(gateway.worker_state(0), WorkerState::Died(_))
}

// 1

#[test]
fn nginx_trap_in_call_response_sends_the_request_as_it_stands() {
    let guest = waits(Guest::new(), |g| {
        let set = g.replace("authorization", "");
        g.note("set", set)
    })
    .on("http_call_response", |_| "unreachable".into());
    let mut gateway = start(nginx(), guest);
    let request = Request::get("/")
        .header("authorization", "{vault://a/b}")
        .header("x", "kept");
    let stream = gateway.request(0, request);
    assert!(gateway.outcome(stream).is_waiting());
    answer_first(&mut gateway, ok());
    let upstream = gateway.upstream_request(stream);
    assert_eq!(upstream.headers.all("authorization"), [b"".to_vec()]);
    assert_eq!(upstream.header("x").as_deref(), Some("kept"));
    assert_eq!(*gateway.worker_state(0), WorkerState::Running);
}

#[test]
fn nginx_trap_does_the_same_to_other_paused_requests() {
    let guest =
        waits(Guest::new(), |_| String::new()).on("http_call_response", |_| "unreachable".into());
    let mut gateway = start(nginx(), guest);
    let first = gateway.request(0, Request::get("/1").header("x", "{vault://a/b}"));
    let second = gateway.request(0, Request::get("/2").header("x", "{vault://a/c}"));
    answer_first(&mut gateway, ok());
    assert_eq!(
        gateway.upstream_request(first).header("x").as_deref(),
        Some("{vault://a/b}")
    );
    assert_eq!(
        gateway.upstream_request(second).header("x").as_deref(),
        Some("{vault://a/c}")
    );
    assert!(gateway.open_callouts().is_empty());
}

#[test]
fn nginx_all_filters_of_a_module_share_one_instance() {
    let guest = Guest::new().on("configure", |g| {
        "(global.set $x (i32.add (global.get $x) (i32.const 1)))".to_owned()
            + &g.note("configured", "(global.get $x)")
    });
    let gateway = Gateway::builder(&guest.compile())
        .profile(nginx())
        .plugin(Plugin::new("one").vm_id("a"))
        .plugin(Plugin::new("two").vm_id("b"))
        .start()
        .unwrap();
    assert_logged(&gateway, "configured=2");
}

// 2

#[test]
fn nginx_truncated_answer_makes_the_body_getter_say_2() {
    let guest = waits(Guest::new(), |_| String::new()).on("http_call_response", |g| {
        g.note("headers", "(local.get $c)") + &g.note("body", buffer(4))
    });
    let mut gateway = start(nginx(), guest);
    let stream = gateway.request(0, Request::get("/"));
    answer_first(&mut gateway, ok().truncated(3));
    assert_logged(&gateway, "headers=1");
    assert_logged(&gateway, "body=2");
    assert!(matches!(gateway.outcome(stream), Outcome::Upstream(_)));
}

// 3

#[test]
fn nginx_unknown_foreign_function_traps() {
    let guest = Guest::new().on("request_headers", |g| {
        let call = g.foreign("nobody", "");
        g.note("foreign", call)
    });
    let mut gateway = start(nginx(), guest);
    gateway.request(0, Request::get("/"));
    assert!(
        gateway.has_logged("unknown foreign function \"nobody\""),
        "{:?}",
        lines(&gateway)
    );
    assert!(!gateway.has_logged("foreign="));
}

#[test]
fn nginx_every_foreign_function_traps_on_kong() {
    let module = Guest::new()
        .on("request_headers", |g| {
            let call = g.foreign("known", "");
            g.note("foreign", call)
        })
        .compile();
    for (profile, traps) in [(nginx(), false), (kong(), true)] {
        let mut gateway = Gateway::builder(&module)
            .profile(profile)
            .foreign(std::sync::Arc::new(
                |_: &vaultref_harness::ForeignCaller, _: &str, _: &[u8]| Ok(b"yes".to_vec()),
            ))
            .start()
            .unwrap();
        gateway.request(0, Request::get("/"));
        assert_eq!(gateway.has_logged("foreign=0"), !traps);
    }
}

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
    let guest = Guest::new().on("response_headers", |g| {
        let key = g.text("x-filtered");
        let value = g.text("yes");
        let call = g.http_call("resolver:1");
        g.note("call", call)
            + &format!("(drop (call $proxy_add_header_map_value (i32.const 2) {key} {value}))")
    });
    let mut gateway = start(nginx(), guest);
    let stream = gateway.request(0, Request::get("/"));
    let response = gateway.client_response(stream).unwrap();
    assert_eq!((response.status, response.headers), (200, Headers::new()));
    assert!(!gateway.has_logged("call="));
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

// 6

#[test]
fn nginx_log_level_is_not_linked() {
    let guest = Guest::new().on("tick", |g| {
        g.note("level", "(call $proxy_get_log_level (i32.const 16))")
    });
    let refused = Gateway::builder(&guest.compile())
        .profile(nginx())
        .start()
        .err();
    assert!(
        matches!(&refused, Some(LoadError::UnknownImport { name, .. }) if name == "proxy_get_log_level"),
        "{refused:?}"
    );
}

#[test]
fn nginx_functions_that_are_not_implemented_trap() {
    let zero = |count: usize| " (i32.const 0)".repeat(count);
    for (name, count) in [
        ("proxy_done", 0),
        ("proxy_close_stream", 1),
        ("proxy_get_status", 3),
        ("proxy_grpc_call", 12),
        ("proxy_grpc_cancel", 1),
        ("proxy_grpc_close", 1),
        ("proxy_grpc_send", 4),
        ("proxy_grpc_stream", 9),
        ("proxy_resolve_shared_queue", 5),
    ] {
        let call = format!("(call ${name} {})", zero(count));
        let guest = Guest::new().on("request_headers", |g| g.note("called", call));
        let mut gateway = start(nginx(), guest);
        gateway.request(0, Request::get("/"));
        assert!(
            gateway.has_logged("not implemented"),
            "{name}: {:?}",
            lines(&gateway)
        );
        assert!(!gateway.has_logged("called="), "{name}");
    }
}

#[test]
fn nginx_shared_data_without_a_zone_traps() {
    for getter in [true, false] {
        let guest = Guest::new().on("request_headers", |g| {
            let call = if getter {
                g.shared("k")
            } else {
                g.set_shared("k", "v", 0)
            };
            g.note("called", call)
        });
        let options = NginxOptions {
            shm_kv: false,
            ..NginxOptions::plain()
        };
        let mut gateway = start(Profile::Nginx(options), guest);
        gateway.request(0, Request::get("/"));
        assert!(
            gateway.has_logged("no shm_kv zone"),
            "{:?}",
            lines(&gateway)
        );
        assert!(!gateway.has_logged("called="));
    }
}

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

// 10

#[test]
fn nginx_body_only_inside_on_request_body() {
    let inside = Guest::new().on("request_body", |g| {
        let set = g.set_body(100, "new body");
        g.note("set", set)
    });
    let mut gateway = start(nginx(), inside);
    let stream = gateway.request(0, Request::post("/", "old"));
    let upstream = gateway.upstream_request(stream);
    assert_eq!(upstream.body, b"new body");
    assert_eq!(
        upstream.header("content-length").as_deref(),
        Some("8"),
        "it follows by itself"
    );

    let elsewhere = waits(Guest::new(), |_| String::new()).on("http_call_response", |g| {
        let set = g.set_body(100, "new body");
        g.note("set", set)
    });
    let mut gateway = start(nginx(), elsewhere);
    let stream = gateway.request(0, Request::post("/", "old"));
    answer_first(&mut gateway, ok());
    assert!(gateway.has_logged("cannot set request body"));
    assert_eq!(gateway.upstream_request(stream).body, b"old");
}

#[test]
fn nginx_set_buffer_takes_as_many_bytes_as_it_is_told() {
    for (length, expected) in [(3, "new"), (8, "new body"), (100, "new body")] {
        let guest = Guest::new().on("request_body", |g| {
            let set = g.set_body(length, "new body");
            g.note("set", set)
        });
        let mut gateway = start(nginx(), guest);
        let stream = gateway.request(0, Request::post("/", "old"));
        assert_eq!(gateway.upstream_request(stream).body, expected.as_bytes());
    }
}

#[test]
fn nginx_spooled_body_is_appended_to() {
    let guest = Guest::new().on("request_body", |g| {
        let set = g.set_body(100, "new");
        g.note("get", buffer(0)) + &g.note("set", set)
    });
    let options = NginxOptions {
        client_body_buffer_size: 4,
        ..NginxOptions::plain()
    };
    let mut gateway = start(Profile::Nginx(options), guest);
    let stream = gateway.request(0, Request::post("/", "older"));
    assert_eq!(gateway.upstream_request(stream).body, b"oldernew");
    assert_logged(&gateway, "get=1");
}

// 11

#[test]
fn nginx_path_change_does_not_arrive_but_upstream_uri_does() {
    let guest = || {
        Guest::new().on("request_headers", |g| {
            let set = g.replace(":path", "/changed");
            let show = g.header(0, ":path");
            g.note("set", set) + &g.show("path", show)
        })
    };
    for profile in [nginx(), kong()] {
        let mut gateway = start(profile, guest());
        let stream = gateway.request(0, Request::get("/path?q=1"));
        assert_eq!(gateway.upstream_request(stream).path, b"/path?q=1");
        assert_logged(&gateway, "path=/changed");
    }
    let guest = Guest::new().on("request_headers", |g| {
        let show = g.property(&["ngx", "upstream_uri"]);
        let set = g.set_property(&["ngx", "upstream_uri"], "/path?key=secret");
        g.show("uri", show) + &g.note("set", set)
    });
    let mut gateway = start(kong(), guest);
    let stream = gateway.request(0, Request::get("/path?q=1"));
    assert_logged(&gateway, "uri=/path?q=1");
    assert_logged(&gateway, "set=0");
    assert_eq!(gateway.upstream_request(stream).path, b"/path?key=secret");
}

#[test]
fn nginx_set_of_absent_upstream_uri_traps() {
    let guest = Guest::new().on("request_headers", |g| {
        let show = g.property(&["ngx", "upstream_uri"]);
        let set = g.set_property(&["ngx", "upstream_uri"], "/x");
        g.show("uri", show) + &g.note("set", set)
    });
    let mut gateway = start(nginx(), guest);
    let stream = gateway.request(0, Request::get("/"));
    assert_logged(&gateway, "uri:=1");
    assert!(!gateway.has_logged("set="));
    assert_eq!(gateway.local_response(stream).status, 500);
}

// 12

#[test]
fn nginx_removed_header_still_reaches_upstream() {
    let guest = Guest::new().on("request_headers", |g| {
        let remove = g.remove("x-gone");
        let show = g.header(0, "x-gone");
        let set = g.replace("x-empty", "");
        g.note("remove", remove) + &g.show("gone", show) + &g.note("set", set)
    });
    let mut gateway = start(nginx(), guest);
    let request = Request::get("/")
        .header("x-gone", "there")
        .header("x-empty", "full");
    let stream = gateway.request(0, request);
    assert_logged(&gateway, "remove=0");
    assert_logged(&gateway, "gone:=1");
    let upstream = gateway.upstream_request(stream);
    assert_eq!(upstream.header("x-gone").as_deref(), Some("there"));
    assert_eq!(
        upstream.header("x-empty").as_deref(),
        Some(""),
        "overwriting does arrive"
    );
}

#[test]
fn nginx_set_changes_first_of_duplicates_only() {
    let guest = Guest::new().on("request_headers", |g| {
        let show = g.header(0, "x");
        let set = g.replace("x", "new");
        g.show("x", show) + &g.note("set", set)
    });
    let mut gateway = start(nginx(), guest);
    let stream = gateway.request(0, Request::get("/").header("x", "1").header("X", "2"));
    assert_logged(&gateway, "x=1");
    let values = gateway.upstream_request(stream).headers.all("x");
    assert_eq!(values, [b"new".to_vec(), b"2".to_vec()]);
}

#[test]
fn nginx_header_value_with_newline_is_not_set_and_said_to_be() {
    let guest = Guest::new().on("request_headers", |g| {
        let set = g.replace("x", "a\r\nb");
        g.note("set", set)
    });
    let mut gateway = start(nginx(), guest);
    let stream = gateway.request(0, Request::get("/").header("x", "old"));
    assert_logged(&gateway, "set=0");
    assert_eq!(
        gateway.upstream_request(stream).header("x").as_deref(),
        Some("old")
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

// 14

#[test]
fn nginx_configure_false_ends_the_workers() {
    for callback in ["vm_start", "configure"] {
        let mut gateway = start(
            nginx(),
            Guest::new().returns(callback, 0, |_| String::new()),
        );
        assert!(matches!(gateway.worker_state(0), WorkerState::Exited(_)));
        let stream = gateway.request(0, Request::get("/"));
        assert!(gateway.outcome(stream).is_waiting(), "clients hang");
    }
}

#[test]
fn nginx_configure_false_fails_the_load_under_kong() {
    let module = Guest::new()
        .returns("configure", 0, |_| String::new())
        .compile();
    let refused = Gateway::builder(&module).profile(kong()).start().err();
    assert!(
        matches!(refused, Some(LoadError::Refused { .. })),
        "{refused:?}"
    );
}

// 15

#[test]
fn nginx_shared_data_keys_are_compared_by_crc32() {
    let guest = Guest::new().on("request_headers", |g| {
        let set = g.set_shared("plumless", "one", 0);
        let show = g.shared("buckeroo");
        g.note("set", set) + &g.show("other", show)
    });
    let mut gateway = start(nginx(), guest);
    gateway.request(0, Request::get("/"));
    assert_logged(&gateway, "other=one");
}

#[test]
fn nginx_set_shared_data_without_cas_on_an_existing_key_is_a_mismatch() {
    let guest = Guest::new().on("request_headers", |g| {
        let first = g.set_shared("k", "1", 0);
        let second = g.set_shared("k", "2", 0);
        let third = g.set_shared("k", "3", 1);
        g.note("first", first) + &g.note("second", second) + &g.note("third", third)
    });
    let mut gateway = start(nginx(), guest);
    gateway.request(0, Request::get("/"));
    assert_logged(&gateway, "first=0");
    assert_logged(&gateway, "second=8");
    assert_logged(&gateway, "third=0");
}

#[test]
fn nginx_shared_data_is_lost_on_reload() {
    let guest = Guest::new().on("request_headers", |g| {
        let show = g.shared("k");
        let set = g.set_shared("k", "v", 0);
        g.note("get", show) + &g.note("set", set)
    });
    let mut gateway = start(nginx(), guest);
    gateway.request(0, Request::get("/"));
    gateway.clear_shared_data();
    gateway.request(0, Request::get("/"));
    assert_eq!(
        lines(&gateway)
            .iter()
            .filter(|line| *line == "get=1")
            .count(),
        2
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
fn nginx_authority_is_the_server_and_host_the_clients() {
    let guest = Guest::new().on("request_headers", |g| {
        let (authority, host) = (g.header(0, ":authority"), g.header(0, "host"));
        let set = g.replace(":authority", "changed");
        g.show("authority", authority) + &g.show("host", host) + &g.note("set", set)
    });
    let mut gateway = start(nginx(), guest);
    let stream = gateway.request(0, Request::get("/").authority("Api.Example.com:81"));
    assert_logged(&gateway, "authority=localhost:8000");
    assert_logged(&gateway, "host=Api.Example.com:81");
    assert_logged(&gateway, "set=0");
    assert_eq!(
        gateway.upstream_request(stream).authority,
        b"Api.Example.com:81"
    );
}

#[test]
fn nginx_properties_of_the_host() {
    let guest = Guest::new().on("request_headers", |g| {
        let all = [
            g.property(&["plugin_vm_id"]),
            g.property(&["ngx", "hostname"]),
            g.property(&["kong", "route_name"]),
            g.property(&["request", "path"]),
        ];
        g.show("vm", &all[0])
            + &g.show("hostname", &all[1])
            + &g.show("route", &all[2])
            + &g.show("path", &all[3])
    });
    let module = guest.compile();
    for (options, route) in [
        (NginxOptions::plain(), "route:=1"),
        (NginxOptions::kong(), "route=r"),
    ] {
        let variables = vec![("hostname".to_owned(), "box".to_owned())];
        let mut gateway = Gateway::builder(&module)
            .profile(Profile::Nginx(NginxOptions {
                variables,
                ..options
            }))
            .property(&["kong", "route_name"], "r")
            .start()
            .unwrap();
        gateway.request(0, Request::get("/p"));
        assert_logged(&gateway, "vm:=1");
        assert_logged(&gateway, "hostname=box");
        assert_logged(&gateway, "path=/p");
        assert_logged(&gateway, route);
    }
}

#[test]
fn nginx_setting_an_unknown_property_is_a_500() {
    let guest = Guest::new().on("request_headers", |g| {
        let set = g.set_property(&["nobody", "knows"], "x");
        g.note("set", set)
    });
    let mut gateway = start(kong(), guest);
    let stream = gateway.request(0, Request::get("/"));
    assert_eq!(gateway.local_response(stream).status, 500);
}

#[test]
fn nginx_kong_shared_context_can_be_set() {
    let guest = Guest::new().on("request_headers", |g| {
        let set = g.set_property(&["kong", "ctx", "shared", "a"], "v");
        let show = g.property(&["kong", "ctx", "shared", "a"]);
        g.note("set", set) + &g.show("get", show)
    });
    let mut gateway = start(kong(), guest);
    gateway.request(0, Request::get("/"));
    assert_logged(&gateway, "get=v");
}

#[test]
fn nginx_log_line_is_cut_at_2047_bytes() {
    let guest = Guest::new().on("request_headers", |g| {
        let text = g.text("x".repeat(3000));
        format!("(drop (call $proxy_log (i32.const 2) {text}))")
    });
    let mut gateway = start(nginx(), guest);
    gateway.request(0, Request::get("/"));
    assert_eq!(lines(&gateway)[0].len(), 2047);
}

#[test]
fn nginx_configuration_is_a_parameter_of_4_kb_but_not_under_kong() {
    let module = Guest::new().compile();
    for (profile, size, starts) in [
        (nginx(), 4096, true),
        (nginx(), 4097, false),
        (kong(), 100_000, true),
    ] {
        let gateway = Gateway::builder(&module)
            .profile(profile)
            .configuration(vec![b'x'; size])
            .start();
        assert_eq!(gateway.is_ok(), starts, "{size}: {:?}", gateway.err());
    }
}

#[test]
fn nginx_environment_is_visible() {
    let wat = Guest::new()
        .on("configure", |g| {
            "(drop (call $environ_sizes_get (i32.const 40) (i32.const 44)))".to_owned()
                + &g.note("variables", "(i32.load (i32.const 40))")
        })
        .wat()
        .replacen(
            "(module",
            "(module (import \"wasi_snapshot_preview1\" \"environ_sizes_get\"
               (func $environ_sizes_get (param i32 i32) (result i32)))",
            1,
        );
    let module = vaultref_harness::Module::compile(wat).unwrap();
    let gateway = Gateway::builder(&module)
        .profile(nginx())
        .env("X", "1")
        .start()
        .unwrap();
    assert_logged(&gateway, "variables=1");
}

#[test]
fn nginx_response_callbacks_come_even_for_an_empty_response() {
    let guest = Guest::new().on("response_body", |g| g.note("size", "(local.get $b)"));
    let mut gateway = start(nginx(), guest);
    gateway.request(0, Request::get("/"));
    assert_logged(&gateway, "size=0");
}

#[test]
fn nginx_on_configure_runs_in_every_worker() {
    let guest = Guest::new().on("configure", |g| g.note("configured", "(local.get $a)"));
    let gateway = Gateway::builder(&guest.compile())
        .profile(nginx())
        .workers(3)
        .start()
        .unwrap();
    let workers: Vec<usize> = gateway.logs().iter().map(|line| line.worker).collect();
    assert_eq!(workers, [0, 1, 2]);
}
