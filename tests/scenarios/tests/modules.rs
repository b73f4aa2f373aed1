//! The two files as shipped: what they import and export, how large they are, and how many
//! instructions one request costs.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use vaultref_harness::{Callback, Module, NginxOptions, Profile, Upstream};
use vaultref_scenarios::client::Request;
use vaultref_scenarios::paths;
use vaultref_scenarios::world::{Harness, Kind};

const EVERY: &str = "vaultref.wasm";
const ENVOY: &str = "vaultref-envoy.wasm";

/// What both gateways have, and the filter may therefore import. `proxy_get_log_level` is missing on
/// purpose: no worker of nginx starts with it.
const IMPORTS: &[&str] = &[
    "env.proxy_add_header_map_value",
    "env.proxy_call_foreign_function",
    "env.proxy_continue_stream",
    "env.proxy_define_metric",
    "env.proxy_get_buffer_bytes",
    "env.proxy_get_current_time_nanoseconds",
    "env.proxy_get_header_map_pairs",
    "env.proxy_get_header_map_value",
    "env.proxy_get_metric",
    "env.proxy_get_property",
    "env.proxy_http_call",
    "env.proxy_increment_metric",
    "env.proxy_log",
    "env.proxy_record_metric",
    "env.proxy_remove_header_map_value",
    "env.proxy_replace_header_map_value",
    "env.proxy_send_local_response",
    "env.proxy_set_buffer_bytes",
    "env.proxy_set_effective_context",
    "env.proxy_set_property",
    "env.proxy_set_tick_period_milliseconds",
    "wasi_snapshot_preview1.environ_get",
    "wasi_snapshot_preview1.environ_sizes_get",
    "wasi_snapshot_preview1.fd_write",
    "wasi_snapshot_preview1.proc_exit",
    // For a hash map in the regular expressions, when one is compiled.
    "wasi_snapshot_preview1.random_get",
];

/// What Envoy needs. Every further callback would be called, and paid for, with each request.
const ENVOY_EXPORTS: &[&str] = &[
    "_initialize",
    "memory",
    "proxy_abi_version_0_2_1",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_foreign_function",
    "proxy_on_http_call_response",
    "proxy_on_memory_allocate",
    "proxy_on_request_headers",
    "proxy_on_tick",
    "proxy_on_vm_start",
];

/// What nginx's engine calls without looking whether it is there, beside what Envoy needs.
const CALLED_BLINDLY: &[&str] = &[
    "proxy_on_delete",
    "proxy_on_done",
    "proxy_on_log",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_response_body",
    "proxy_on_response_headers",
];

fn load(name: &str) -> Result<Module> {
    Ok(Module::from_file(paths::module(name)?)?)
}

#[test]
fn imports_are_what_every_gateway_has() -> Result<()> {
    for name in [EVERY, ENVOY] {
        let module = load(name)?;
        for (from, import) in module.imports() {
            let import = format!("{from}.{import}");
            assert!(
                IMPORTS.contains(&import.as_str()),
                "{name} imports {import}"
            );
        }
        module.check(&Profile::Envoy)?;
        module.check(&Profile::Nginx(NginxOptions::plain()))?;
    }
    Ok(())
}

#[test]
fn the_envoy_file_exports_only_what_is_used() -> Result<()> {
    let mut exports = load(ENVOY)?.exports();
    exports.sort();
    assert_eq!(exports, ENVOY_EXPORTS);
    Ok(())
}

#[test]
fn the_file_for_every_gateway_has_what_nginx_calls_blindly() -> Result<()> {
    let exports = load(EVERY)?.exports();
    for name in ENVOY_EXPORTS.iter().chain(CALLED_BLINDLY) {
        assert!(
            exports.iter().any(|export| export == name),
            "{name} is missing"
        );
    }
    assert_eq!(
        exports.len(),
        ENVOY_EXPORTS.len() + CALLED_BLINDLY.len(),
        "{exports:?}"
    );
    Ok(())
}

#[test]
fn the_files_stay_small() -> Result<()> {
    // Envoy compiles every function before it serves, for each worker's VM.
    // The regular expressions of `match.path_regex` take 63,000 bytes of it.
    // Fields of bodies take 45,000: JSON that is edited in its bytes, and more to compile.
    // What requests bring takes 85,000, bodies that wait among it.
    for (name, bound) in [(EVERY, 615_000), (ENVOY, 600_000)] {
        let size = std::fs::metadata(paths::module(name)?)?.len();
        assert!(size < bound, "{name} has {size} bytes, more than {bound}");
    }
    Ok(())
}

/// A gateway with one worker in which the values are ready, with answers made by hand.
fn ready(kind: Kind, mut filter: Value) -> Result<Harness> {
    filter["resolver"]["upstream"] = json!("resolver:1");
    let setup = Harness::setup(kind, 1)?
        .plugin(Harness::plugin(&filter.to_string()))
        .upstream("resolver:1", Upstream::ByHand);
    let mut harness = Harness::start(setup, 1)?;
    harness.begin(&Request::get("/v1/x"));
    answer(&mut harness)?;
    for _ in 0..2 {
        pass_second(&mut harness)?;
    }
    Ok(harness)
}

/// Lets a second pass, in which there is a poll.
fn pass_second(harness: &mut Harness) -> Result<()> {
    for _ in 0..5 {
        harness.gateway().advance(Duration::from_millis(200));
        answer(harness)?;
    }
    Ok(())
}

fn answer(harness: &mut Harness) -> Result<()> {
    harness.answer_calls(|_| Some("0123456789abcdef"))
}

/// The instructions of all callbacks of one request, and the host calls that it made.
fn one_request(harness: &mut Harness) -> Result<(u64, u64)> {
    let calls = |harness: &mut Harness| -> u64 {
        IMPORTS
            .iter()
            .filter_map(|import| import.strip_prefix("env."))
            .map(|function| harness.gateway().host_calls(function))
            .sum()
    };
    let before = calls(harness);
    let request = Request::get("/v1/x")
        .header("host", "api.example.com")
        .header("x-tier", "gold");
    let stream = harness.begin(&request);
    let fuel = harness.gateway().fuel_of(stream);
    harness.finish(stream)?.upstream()?;
    Ok((fuel, calls(harness) - before))
}

fn one_header(value: &str) -> Value {
    json!({ "request": { "set": { "headers": { "authorization": value } } } })
}

#[test]
fn a_request_costs_the_same_few_instructions_whatever_the_references() -> Result<()> {
    let many: String = (0..64)
        .map(|n| format!("{{vault://files/many/k{n}}}"))
        .collect();
    for (kind, most_fuel, most_calls) in
        [(Kind::HarnessEnvoy, 600, 1), (Kind::HarnessNginx, 6_000, 2)]
    {
        let mut seen = Vec::new();
        for value in ["Bearer {vault://files/token}", &many, "no reference at all"] {
            let samples = || -> Result<Vec<(u64, u64)>> {
                let mut harness = ready(kind, one_header(value))?;
                (0..3).map(|_| one_request(&mut harness)).collect()
            };
            let first = samples()?;
            assert_eq!(first, samples()?, "{kind:?}: {value}");
            seen.extend(first);
        }
        // In nginx all headers are looked at. That takes memory, and what the allocator has to do
        // for it depends on what lies there: the configuration, and the request before.
        let (fuel, calls) = seen[0];
        for (other, other_calls) in &seen {
            assert!(*other <= most_fuel, "{kind:?}: {seen:?}");
            assert!(kind.is_nginx() || *other == fuel, "{kind:?}: {seen:?}");
            assert_eq!(*other_calls, calls, "{kind:?}: {seen:?}");
        }
        assert!(calls <= most_calls, "{kind:?}: {calls} host calls");
    }
    Ok(())
}

#[test]
fn a_request_that_is_matched_costs_little_more() -> Result<()> {
    let rule = json!({
        "match": { "host": ["api.example.com"], "path_prefix": "/v1", "methods": ["GET"], "headers": { "x-tier": "gold" } },
        "request": { "set": { "headers": { "authorization": "Bearer {vault://files/token}" } } },
    });
    for (kind, most_fuel) in [(Kind::HarnessEnvoy, 9_500), (Kind::HarnessNginx, 14_000)] {
        let mut harness = ready(kind, json!({ "rules": [rule] }))?;
        let (fuel, calls) = one_request(&mut harness)?;
        assert!(fuel <= most_fuel, "{kind:?}: {fuel} instructions");
        assert!(calls <= 7, "{kind:?}: {calls} host calls");
    }
    Ok(())
}

#[test]
fn requests_need_no_call_and_leave_nothing_behind() -> Result<()> {
    for kind in [Kind::HarnessEnvoy, Kind::HarnessNginx] {
        let mut harness = ready(kind, one_header("Bearer {vault://files/token}"))?;
        let callouts = harness.gateway().callouts().len();
        let memory = harness.gateway().memory_size(0);
        for _ in 0..5_000 {
            one_request(&mut harness)?;
            harness.gateway().forget_history();
        }
        assert_eq!(harness.gateway().callouts().len(), callouts);
        assert_eq!(harness.gateway().memory_size(0), memory);
    }
    Ok(())
}

#[test]
fn an_idle_poll_costs_little() -> Result<()> {
    let mut harness = ready(
        Kind::HarnessEnvoy,
        one_header("Bearer {vault://files/token}"),
    )?;
    harness.gateway().forget_history();
    for _ in 0..4 {
        pass_second(&mut harness)?;
    }
    let ticks = harness.gateway().calls_of(Callback::Tick);
    assert_eq!(
        harness.gateway().calls_of(Callback::HttpCallResponse).len(),
        5,
        "one in each fourth tick"
    );
    let most = ticks.iter().map(|call| call.fuel).max();
    assert!(most.is_some_and(|fuel| fuel < 60_000), "{most:?}");
    Ok(())
}
