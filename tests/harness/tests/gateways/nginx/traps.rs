//! What traps or kills, and what becomes of the requests (lines 1, 2, 3, 6).

use vaultref_harness::{
    Gateway, LoadError, NginxOptions, Outcome, Plugin, Profile, Request, WorkerState,
};

use super::{answer_first, ok, start, waits};
use crate::support::{Guest, assert_logged, buffer, kong, lines, nginx};

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
        ("proxy_define_metric", 4),
        ("proxy_get_metric", 2),
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
