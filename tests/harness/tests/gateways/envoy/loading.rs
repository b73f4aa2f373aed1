//! What Envoy loads, and how a filter is configured.

use vaultref_harness::{
    FailurePolicy, Gateway, GatewayBuilder, LoadError, Module, Plugin, Request, Response,
};

use super::{envoy, start};
use crate::support::{Guest, assert_logged, buffer, lines};

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
