//! Functions of the ABI that are the same in both gateways, or that only one has.

use vaultref_harness::{
    Gateway, Headers, LoadError, LogLevel, Metric, Outcome, Plugin, Profile, Request,
};

use crate::support::{Guest, IMPORTS, assert_logged, nginx};

fn start(guest: Guest) -> Gateway {
    Gateway::builder(&guest.compile())
        .start()
        .expect("it starts")
}

#[test]
fn every_function_of_the_abi_is_linked() {
    // Named in a function that nobody calls: a gateway looks for them all the same.
    let mut calls = String::new();
    for (name, count) in IMPORTS {
        let mut arguments = " (i32.const 0)".repeat(count);
        if matches!(name, "proxy_increment_metric" | "proxy_record_metric") {
            arguments = " (i32.const 0) (i64.const 0)".into();
        }
        calls += &format!("(drop (call ${name} {arguments}))\n");
    }
    let module = Guest::new()
        .with(&format!("(func $never {calls})"))
        .compile();
    let mut names: Vec<String> = module.imports().into_iter().map(|(_, name)| name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 39, "{names:?}");
    Gateway::builder(&module).start().expect("all are linked");
    let refused = Gateway::builder(&module).profile(nginx()).start().err();
    assert!(
        matches!(&refused, Some(LoadError::UnknownImport { name, .. }) if name == "proxy_get_log_level"),
        "nginx has all but one: {refused:?}"
    );
}

#[test]
fn header_map_has_a_size_and_is_set_as_a_whole() {
    // In Envoy nothing else is left; in nginx what is removed still reaches the upstream.
    let mut sent = Headers::new();
    for (name, value) in [
        (":path", "/"),
        (":method", "GET"),
        (":authority", "a"),
        ("X-New", "1"),
    ] {
        sent.add(name, value);
    }
    for (profile, left) in [(Profile::Envoy, None), (nginx(), Some("old"))] {
        let guest = Guest::new().on("request_headers", |g| {
            let size = |map: u32| {
                format!("(call $proxy_get_header_map_size (i32.const {map}) (i32.const 40))")
            };
            let map = g.text(sent.to_wire());
            let broken = g.text(&sent.to_wire()[..20]);
            let set = |map: &str| format!("(call $proxy_set_header_map_pairs (i32.const 0) {map})");
            g.note("before", size(0))
                + &g.note(
                    "some",
                    "(i32.gt_u (i32.load (i32.const 40)) (i32.const 20))",
                )
                + &g.note("broken", set(&broken))
                + &g.note("set", set(&map))
                + &g.note("unknown", size(99))
        });
        let nginx = profile.is_nginx();
        let mut gateway = Gateway::builder(&guest.compile())
            .profile(profile)
            .start()
            .unwrap();
        let stream = gateway.request(0, Request::get("/").header("x-old", "old"));
        for line in ["before=0", "some=1", "broken=2", "set=0", "unknown=2"] {
            assert_logged(&gateway, line);
        }
        let upstream = gateway.upstream_request(stream);
        assert_eq!(upstream.header("x-new").as_deref(), Some("1"), "{nginx}");
        assert_eq!(upstream.header("x-old").as_deref(), left, "{nginx}");
    }
}

#[test]
fn header_map_size_is_that_of_its_wire_form() {
    let guest = Guest::new().on("request_headers", |g| {
        let get = "(call $proxy_get_header_map_pairs (i32.const 0) (i32.const 16) (i32.const 20))";
        let size = "(call $proxy_get_header_map_size (i32.const 0) (i32.const 40))";
        g.note("pairs", get)
            + &g.note("size", size)
            + &g.note(
                "same",
                "(i32.eq (i32.load (i32.const 20)) (i32.load (i32.const 40)))",
            )
    });
    let mut gateway = start(guest);
    gateway.request(0, Request::get("/").header("x", "value"));
    assert_logged(&gateway, "size=0");
    assert_logged(&gateway, "same=1");
}

#[test]
fn buffer_status_is_the_size() {
    let guest = Guest::new().on("request_body", |g| {
        let status = |kind: u32| {
            format!(
                "(call $proxy_get_buffer_status (i32.const {kind}) (i32.const 40) (i32.const 44))"
            )
        };
        g.note("status", status(0))
            + &g.note("size", "(i32.load (i32.const 40))")
            + &g.note("flags", "(i32.load (i32.const 44))")
            + &g.note("configuration", status(7))
            + &g.note("its size", "(i32.load (i32.const 40))")
            + &g.note("unknown", status(99))
    });
    let module = guest.compile();
    for profile in [Profile::Envoy, nginx()] {
        let mut gateway = Gateway::builder(&module)
            .profile(profile)
            .configuration("abc")
            .start()
            .unwrap();
        gateway.request(0, Request::post("/", "body"));
        let expected = [
            "status=0",
            "size=4",
            "flags=0",
            "configuration=0",
            "its size=3",
            "unknown=2",
        ];
        for line in expected {
            assert_logged(&gateway, line);
        }
    }
}

#[test]
fn a_stream_that_is_closed_is_reset_in_envoy() {
    for (kind, status) in [(0, "close=0"), (1, "close=0"), (2, "close=12")] {
        let guest = Guest::new().on("request_headers", |g| {
            g.note(
                "close",
                format!("(call $proxy_close_stream (i32.const {kind}))"),
            )
        });
        let mut gateway = start(guest);
        let stream = gateway.request(0, Request::get("/"));
        assert_logged(&gateway, status);
        let is_reset = gateway.outcome(stream) == Outcome::Reset;
        assert_eq!(is_reset, kind < 2, "{kind}: {:?}", gateway.outcome(stream));
    }
}

#[test]
fn status_of_the_last_call_is_ok_in_envoy() {
    let guest = Guest::new().on("request_headers", |g| {
        g.show(
            "status",
            "(call $proxy_get_status (i32.const 40) (i32.const 16) (i32.const 20))",
        ) + &g.note("code", "(i32.load (i32.const 40))")
    });
    let mut gateway = start(guest);
    gateway.request(0, Request::get("/"));
    for line in ["status:=0", "status=", "code=0"] {
        assert_logged(&gateway, line);
    }
}

#[test]
fn log_level_is_what_the_builder_says() {
    let guest = Guest::new().on("configure", |g| {
        g.note("get", "(call $proxy_get_log_level (i32.const 40))")
            + &g.note("level", "(i32.load (i32.const 40))")
    });
    let gateway = Gateway::builder(&guest.compile())
        .log_level(LogLevel::Warn)
        .start()
        .unwrap();
    assert_logged(&gateway, "level=3");
}

#[test]
fn grpc_is_unimplemented_in_envoy() {
    let guest = Guest::new().on("configure", |g| {
        g.note("cancel", "(call $proxy_grpc_cancel (i32.const 1))")
    });
    assert_logged(&start(guest), "cancel=12");
}

#[test]
fn addresses_beyond_the_memory_are_refused_not_fatal() {
    let guest = Guest::new().on("configure", |g| {
        g.note(
            "read",
            "(call $proxy_set_property (i32.const -8) (i32.const 64) (i32.const 0) (i32.const 0))",
        ) + &g.note(
            "write",
            "(call $proxy_get_current_time_nanoseconds (i32.const -4))",
        )
    });
    let gateway = start(guest);
    assert_logged(&gateway, "read=6");
    assert_logged(&gateway, "write=6");
}

#[test]
fn metrics_are_counted_over_all_vms() {
    let guest = Guest::new().on("request_headers", |g| {
        let names = [g.text("count"), g.text("level"), g.text("times")];
        let define = |kind: usize, name: &str| {
            format!(
                "(drop (call $proxy_define_metric (i32.const {kind}) {name} (i32.const {})))",
                40 + kind * 4
            )
        };
        let of = |kind: usize| format!("(i32.load (i32.const {}))", 40 + kind * 4);
        (0..3)
            .map(|kind| define(kind, &names[kind]))
            .collect::<String>()
            + &g.note(
                "count",
                format!("(call $proxy_increment_metric {} (i64.const 2))", of(0)),
            )
            + &g.note(
                "level",
                format!("(call $proxy_record_metric {} (i64.const 7))", of(1)),
            )
            + &g.note(
                "lower",
                format!("(call $proxy_increment_metric {} (i64.const -3))", of(1)),
            )
            + &g.note(
                "times",
                format!("(call $proxy_record_metric {} (i64.const 9))", of(2)),
            )
            + &g.note(
                "wrong",
                format!("(call $proxy_increment_metric {} (i64.const 1))", of(2)),
            )
            + &g.note(
                "none",
                "(call $proxy_get_metric (i32.const 99) (i32.const 64))",
            )
            + &g.note(
                "read",
                format!("(call $proxy_get_metric {} (i32.const 64))", of(1)),
            )
            + &g.note("value", "(i32.load (i32.const 64))")
    });
    let mut gateway = Gateway::builder(&guest.compile())
        .workers(2)
        .start()
        .unwrap();
    gateway.request(0, Request::get("/"));
    gateway.request(1, Request::get("/"));
    assert_eq!(gateway.metrics()["count"], Metric::Counter(4));
    assert_eq!(gateway.metrics()["level"], Metric::Gauge(4));
    assert_eq!(gateway.metrics()["times"], Metric::Histogram(vec![9, 9]));
    for line in ["wrong=2", "none=1", "value=4"] {
        assert_logged(&gateway, line);
    }
}

#[test]
fn queues_tell_their_owner() {
    let guest = Guest::new()
        .on("configure", |g| {
            let name = g.text("q");
            g.note(
                "register",
                format!("(call $proxy_register_shared_queue {name} (i32.const 40))"),
            )
        })
        .on("request_headers", |g| {
            let (vm, name, item) = (g.text("v"), g.text("q"), g.text("item"));
            g.note(
                "resolve",
                format!("(call $proxy_resolve_shared_queue {vm} {name} (i32.const 44))"),
            ) + &g.note(
                "enqueue",
                format!("(call $proxy_enqueue_shared_queue (i32.load (i32.const 44)) {item})"),
            ) + &g.note(
                "none",
                format!("(call $proxy_enqueue_shared_queue (i32.const 9) {item})"),
            )
        })
        .on("queue_ready", |g| {
            let take =
                "(call $proxy_dequeue_shared_queue (local.get $b) (i32.const 16) (i32.const 20))";
            g.show("item", take) + &g.note("empty", take)
        });
    let mut gateway = Gateway::builder(&guest.compile())
        .plugin(Plugin::new("p").vm_id("v"))
        .start()
        .unwrap();
    gateway.request(0, Request::get("/"));
    for line in [
        "register=0",
        "resolve=0",
        "enqueue=0",
        "none=1",
        "item=item",
        "empty=7",
    ] {
        assert_logged(&gateway, line);
    }
}
