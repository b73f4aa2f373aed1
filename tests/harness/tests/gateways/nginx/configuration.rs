//! How a filter is configured and what it sees of its host (line 14).

use vaultref_harness::{
    CalloutAnswer, Gateway, Isolation, LoadError, NginxOptions, Outcome, Profile, Request,
    WorkerState,
};

use super::{ROOT, answer_first, ok, start, waits};
use crate::support::{Guest, assert_logged, buffer, kong, lines, nginx};

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
fn nginx_configure_trap_ends_the_workers() {
    let guest = Guest::new().on("configure", |_| "unreachable".into());
    let mut gateway = start(nginx(), guest);
    assert!(matches!(gateway.worker_state(0), WorkerState::Exited(_)));
    let stream = gateway.request(0, Request::get("/"));
    assert!(gateway.outcome(stream).is_waiting(), "clients hang");
}

#[test]
fn nginx_configure_false_or_trap_fails_the_load_under_kong() {
    for guest in [
        Guest::new().returns("configure", 0, |_| String::new()),
        Guest::new().on("configure", |_| "unreachable".into()),
    ] {
        let refused = Gateway::builder(&guest.compile()).profile(kong()).start();
        let refused = refused.err();
        assert!(
            matches!(refused, Some(LoadError::Refused { .. })),
            "{refused:?}"
        );
    }
}

/// Refuses a configuration of another size than 3, by a trap or by false, and says with each
/// request in whose root it is.
fn takes_three(by_trap: bool) -> Guest {
    let refusal = if by_trap {
        "unreachable"
    } else {
        "(return (i32.const 0))"
    };
    Guest::new()
        .on("configure", |_| {
            format!("(if (i32.ne (local.get $b) (i32.const 3)) (then {refusal}))")
        })
        .on("context_create", |g| g.note("root", "(local.get $b)"))
}

#[test]
fn nginx_change_that_is_refused_fails_and_the_gateway_lives_under_kong() {
    for by_trap in [false, true] {
        let mut gateway = Gateway::builder(&takes_three(by_trap).compile())
            .profile(kong())
            .configuration("old")
            .start()
            .unwrap();
        let refused = gateway.reconfigure(0, "newer").err();
        assert!(
            matches!(&refused, Some(LoadError::Refused { reason, .. }) if reason.contains("unreachable") == by_trap),
            "{refused:?}"
        );
        assert_eq!(*gateway.worker_state(0), WorkerState::Running);
        // In the configuration before: of the same instance, or of the one after the trap.
        assert_eq!(gateway.root_context(0, 0), Some(ROOT));
        gateway.forget_history();
        let stream = gateway.request(0, Request::get("/"));
        assert!(matches!(gateway.outcome(stream), Outcome::Upstream(_)));
        assert_eq!(lines(&gateway), ["root=1"]);
        gateway.reconfigure(0, "new").unwrap();
    }
}

#[test]
fn nginx_kong_writes_a_configuration_that_is_an_object_anew() {
    let guest = Guest::new().on("configure", |g| {
        g.show("configuration", buffer(7)) + &g.note("size", "(local.get $b)")
    });
    let module = guest.compile();
    let given = r#"{"a/b": [], "c": {"d": [1, "/e"]}}"#;
    let start = |profile, given: &str| {
        Gateway::builder(&module)
            .profile(profile)
            .workers(8)
            .configuration(given)
            .start()
            .unwrap()
    };
    assert_logged(&start(nginx(), given), &format!("configuration={given}"));
    assert_logged(&start(kong(), "a/b"), "configuration=a/b");
    let gateway = start(kong(), given);
    assert_logged(&gateway, "size=31");
    // Each worker decodes it for itself, in whatever order.
    assert_logged(&gateway, r#"configuration={"a\/b":{},"c":{"d":[1,"\/e"]}}"#);
    assert_logged(&gateway, r#"configuration={"c":{"d":[1,"\/e"]},"a\/b":{}}"#);
}

// Also

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
fn nginx_on_configure_runs_for_each_request_under_isolation_stream() {
    let guest = Guest::new()
        .on("configure", |g| {
            "(global.set $x (i32.add (global.get $x) (i32.const 1)))".to_owned()
                + &g.note("configured", "(global.get $x)")
        })
        .on("request_headers", |g| {
            "(global.set $y (i32.add (global.get $y) (i32.const 1)))".to_owned()
                + &g.note("request", "(global.get $y)")
        });
    let options = NginxOptions {
        isolation: Isolation::Stream,
        ..NginxOptions::plain()
    };
    let mut gateway = start(Profile::Nginx(options), guest);
    let memory = gateway.memory_size(0);
    gateway.forget_history();
    for _ in 0..2 {
        let stream = gateway.request(0, Request::get("/"));
        assert!(matches!(gateway.outcome(stream), Outcome::Upstream(_)));
    }
    // A memory of its own each time, which ends with the request.
    let expected = ["configured=1", "request=1", "configured=1", "request=1"];
    assert_eq!(lines(&gateway), expected);
    assert_eq!(gateway.memory_size(0), memory);
}

#[test]
fn nginx_trap_concerns_its_own_request_only_under_isolation_stream() {
    let guest = waits(Guest::new(), |_| String::new()).on("http_call_response", |g| {
        let set = g.replace("x", "set");
        "(if (i32.eq (local.get $c) (i32.const 0)) (then unreachable))".to_owned()
            + &g.note("set", set)
    });
    let options = NginxOptions {
        isolation: Isolation::Stream,
        ..NginxOptions::plain()
    };
    let mut gateway = start(Profile::Nginx(options), guest);
    let first = gateway.request(0, Request::get("/").header("x", "own"));
    let second = gateway.request(0, Request::get("/").header("x", "own"));
    answer_first(&mut gateway, CalloutAnswer::Refused);
    let sent = gateway.upstream_request(first);
    assert_eq!(sent.header("x").as_deref(), Some("own"));
    assert!(gateway.outcome(second).is_waiting());
    answer_first(&mut gateway, ok());
    let sent = gateway.upstream_request(second);
    assert_eq!(sent.header("x").as_deref(), Some("set"));
}
