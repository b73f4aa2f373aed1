//! The rest of the ABI, the same in both profiles, and what tests look at.

use std::sync::{Arc, Mutex};

use vaultref_harness::{
    Callback, ForeignCaller, Gateway, GatewayBuilder, LogLevel, Profile, Request, Status,
};

use crate::support::{Guest, SECOND, SOON, assert_logged, buffer, lines, nginx, tick};

fn start(guest: Guest) -> Gateway {
    Gateway::builder(&guest.compile())
        .start()
        .expect("it starts")
}

#[test]
fn gateway_can_be_moved_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Gateway>();
}

#[test]
fn clock_is_in_the_tests_hand() {
    let guest = Guest::new()
        .on("configure", |g| g.note("set", tick(1000)))
        .on("tick", |g| {
            "(i64.store (i32.const 40) (i64.const 0))
         (drop (call $proxy_get_current_time_nanoseconds (i32.const 40)))"
                .to_owned()
                + &g.note(
                    "second",
                    "(i32.wrap_i64 (i64.rem_u (i64.div_u (i64.load (i32.const 40))
                 (i64.const 1000000000)) (i64.const 60)))",
                )
        });
    let mut gateway = start(guest);
    gateway.advance(SECOND / 2);
    assert_eq!(lines(&gateway), ["set=0"]);
    gateway.advance(SECOND * 2);
    assert_eq!(lines(&gateway), ["set=0", "second=1", "second=2"]);
}

#[test]
fn tick_period_is_replaced_and_ended_in_envoy() {
    let guest = Guest::new()
        .on("configure", |g| g.note("set", tick(1000)))
        .on("tick", |g| {
            "(global.set $x (i32.add (global.get $x) (i32.const 1)))".to_owned()
                + &g.note(
                    "next",
                    "(call $proxy_set_tick_period_milliseconds
                 (select (i32.const 0) (i32.const 100) (i32.eq (global.get $x) (i32.const 3))))",
                )
        });
    let mut gateway = start(guest);
    gateway.advance(SECOND * 10);
    assert_eq!(gateway.calls_of(Callback::Tick).len(), 3);
    assert_eq!(gateway.host_calls("proxy_set_tick_period_milliseconds"), 4);
}

#[test]
fn foreign_function_answers_and_the_host_calls_back() {
    let kept: Arc<Mutex<Option<ForeignCaller>>> = Arc::default();
    let keep = Arc::clone(&kept);
    let functions = move |caller: &ForeignCaller, name: &str, arguments: &[u8]| match name {
        "echo" => {
            *keep.lock().unwrap() = Some(caller.clone());
            Ok(arguments.to_vec())
        }
        "bad" => Err(Status::BadArgument),
        _ => Err(Status::NotFound),
    };
    let guest = Guest::new()
        .on("request_headers", |g| {
            let (echo, bad, none) = (
                g.foreign("echo", "hello"),
                g.foreign("bad", ""),
                g.foreign("none", ""),
            );
            g.show("echo", echo) + &g.note("bad", bad) + &g.note("none", none)
        })
        .on("foreign_function", |g| {
            g.note("context", "(local.get $a)")
                + &g.note("function", "(local.get $b)")
                + &g.note("size", "(local.get $c)")
                + &g.show("arguments", buffer(8))
        });
    let mut gateway = Gateway::builder(&guest.compile())
        .foreign(Arc::new(functions))
        .start()
        .unwrap();
    gateway.request(0, Request::get("/"));
    for line in ["echo=hello", "bad=2", "none=1"] {
        assert_logged(&gateway, line);
    }
    let caller = kept.lock().unwrap().take().unwrap();
    std::thread::spawn(move || caller.notify(5, "news"));
    gateway
        .run_until(
            |gateway| !gateway.calls_of(Callback::ForeignFunction).is_empty(),
            SOON,
        )
        .unwrap();
    for line in ["context=1", "function=5", "size=4", "arguments=news"] {
        assert_logged(&gateway, line);
    }
}

#[test]
fn wasi_has_environment_clock_random_and_output() {
    let fields = r#"
      (func $wasi
        (drop (call $environ_sizes_get (i32.const 40) (i32.const 44)))
        (drop (call $environ_get (i32.const 48) (i32.const 512)))
        (i32.store (i32.const 64) (i32.load (i32.const 48)))
        (i32.store (i32.const 68) (i32.load (i32.const 44)))
        (drop (call $fd_write (i32.const 2) (i32.const 64) (i32.const 1) (i32.const 72)))
        (drop (call $random_get (i32.const 80) (i32.const 8)))
        (drop (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 96))))"#;
    let imports = r#"(module
      (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
      (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))"#;
    let guest = Guest::new()
        .on("configure", |g| {
            "(call $wasi)".to_owned()
                + &g.note("random", "(i64.ne (i64.load (i32.const 80)) (i64.const 0))")
                + &g.note(
                    "clock",
                    "(i64.gt_u (i64.load (i32.const 96)) (i64.const 0))",
                )
        })
        .on("request_headers", |_| {
            "(call $proc_exit (i32.const 3))".into()
        })
        .with(fields);
    let wat = guest.wat().replacen("(module", imports, 1);
    let module = vaultref_harness::Module::compile(wat).unwrap();
    let mut gateway = Gateway::builder(&module)
        .env("A", "1")
        .env("B", "2")
        .start()
        .unwrap();
    assert_logged(&gateway, "A=1\0B=2\0");
    assert_eq!(gateway.logs()[0].level, LogLevel::Error);
    assert_logged(&gateway, "random=1");
    assert_logged(&gateway, "clock=1");
    gateway.request(0, Request::get("/"));
    assert!(gateway.has_logged("proc_exit(3)"));
}

#[test]
fn initialize_runs_before_everything_and_start_where_it_is_missing() {
    for name in ["_initialize", "_start"] {
        let guest = Guest::new()
            .on("context_create", |g| {
                g.note("initialized", "(global.get $x)")
            })
            .with(&format!(
                "(func (export \"{name}\") (global.set $x (i32.const 7)))"
            ));
        assert_logged(&start(guest), "initialized=7");
    }
}

#[test]
fn fuel_is_exact_and_repeatable() {
    let guest = || {
        Guest::new().on("request_headers", |g| {
            let set = g.replace("x", "y");
            g.note("set", set)
        })
    };
    let module = guest().compile();
    let mut gateway = Gateway::builder(&module).start().unwrap();
    let first = gateway.request(0, Request::get("/"));
    let second = gateway.request(0, Request::get("/"));
    let mut another = Gateway::builder(&module).start().unwrap();
    let third = another.request(0, Request::get("/"));
    assert!(gateway.fuel_of(first) > 0);
    assert_eq!(gateway.fuel_of(first), gateway.fuel_of(second));
    assert_eq!(gateway.fuel_of(first), another.fuel_of(third));
    let mut more = start(guest().on("response_headers", |_| "(drop (i32.const 1))".into()));
    let fourth = more.request(0, Request::get("/"));
    assert!(more.fuel_of(fourth) > gateway.fuel_of(first));
    let of_headers = &gateway.calls_of(Callback::RequestHeaders)[0];
    assert!(of_headers.fuel < gateway.fuel_of(first) && of_headers.fuel > 10);
}

#[test]
fn endless_callback_runs_out_of_fuel() {
    let guest = Guest::new().on("request_headers", |_| "(loop $l (br $l))".into());
    let mut gateway = Gateway::builder(&guest.compile())
        .fuel_limit(100_000)
        .start()
        .unwrap();
    let stream = gateway.request(0, Request::get("/"));
    assert_eq!(gateway.local_response(stream).status, 503);
    assert!(gateway.has_logged("fuel"));
}

#[test]
fn memory_size_is_the_vms() {
    assert_eq!(start(Guest::new()).memory_size(0), 4 * 65536);
}

#[test]
fn a_filter_cannot_resume_itself_before_it_pauses() {
    for profile in [Profile::Envoy, nginx()] {
        let guest = Guest::new().returns("request_headers", 1, |g| {
            g.note("resume", crate::support::RESUME)
        });
        let mut gateway = Gateway::builder(&guest.compile())
            .profile(profile)
            .start()
            .unwrap();
        let stream = gateway.request(0, Request::get("/"));
        assert!(gateway.outcome(stream).is_waiting());
    }
}

#[test]
fn without_sockets_a_callout_to_any_address_waits_for_the_test() {
    let guest = Guest::new()
        .on("configure", |g| g.note("set", tick(1000)))
        .on("tick", |g| {
            let call = g.http_call("127.0.0.1:1");
            g.note("call", call)
        });
    let module = guest.compile();
    let gateway = |builder: GatewayBuilder| builder.profile(nginx()).start().expect("it starts");
    let mut with = gateway(Gateway::builder(&module));
    with.advance(SECOND);
    with.run_until_idle(SOON).expect("nobody listens there");
    let mut without = gateway(Gateway::builder(&module).no_sockets());
    without.advance(SECOND);
    assert!(without.run_until_idle(SECOND / 100).is_err());
    assert_eq!(without.open_callouts().len(), 1);
}

#[test]
fn exported_memories_are_seen() {
    let guest =
        Guest::new().with(r#"(memory (export "marks") 1) (data (memory 1) (i32.const 3) "x")"#);
    let mut gateway = start(guest);
    let memories = gateway.exported_memories(0, "marks");
    assert_eq!(memories.len(), 1);
    assert_eq!(memories[0].get(..5), Some(&b"\0\0\0x\0"[..]));
    assert!(gateway.exported_memories(0, "other").is_empty());
}
