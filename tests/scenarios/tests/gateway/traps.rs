//! Host functions that trap, as nginx has them do: in the middle of a callback, with the filter's state
//! in use and other requests waiting. The real modules run here; the resolver's answers are made by
//! hand.
//!
//! What a trap leaves in nginx is the request as it stands, so what waits has to be guarded by then. In
//! Envoy the VM is dead, and a new one serves the next request. In both the filter must serve again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use vaultref_harness::{
    Callback, Fault, ForeignCaller, LoadError, NginxOptions, Profile, Status, StreamId, Upstream,
    WorkerState,
};
use vaultref_scenarios::client::Request;
use vaultref_scenarios::world::{Harness, Kind, Seen};

/// All functions of the gateway that the modules import.
const FUNCTIONS: [&str; 16] = [
    "proxy_add_header_map_value",
    "proxy_call_foreign_function",
    "proxy_continue_stream",
    "proxy_get_buffer_bytes",
    "proxy_get_current_time_nanoseconds",
    "proxy_get_header_map_pairs",
    "proxy_get_header_map_value",
    "proxy_get_property",
    "proxy_http_call",
    "proxy_log",
    "proxy_remove_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_send_local_response",
    "proxy_set_effective_context",
    "proxy_set_property",
    "proxy_set_tick_period_milliseconds",
];

/// Those without which a request cannot be guarded: to find out which rule it is for, and to overwrite
/// its fields. Where one of them traps in nginx, the request has left before anything could be done.
const OF_THE_GUARD: [&str; 5] = [
    "proxy_get_header_map_pairs",
    "proxy_get_header_map_value",
    "proxy_get_property",
    "proxy_replace_header_map_value",
    "proxy_set_property",
];

/// Those that a filter which asks an upstream calls only while it is configured, or not at all in this
/// kind of gateway.
fn not_in_requests(kind: Kind) -> Vec<&'static str> {
    let mut functions = vec![
        "proxy_call_foreign_function",
        "proxy_set_tick_period_milliseconds",
    ];
    match kind.is_nginx() {
        // A removal does not reach the upstream there, and no other context can be entered.
        true => functions.extend([
            "proxy_remove_header_map_value",
            "proxy_set_effective_context",
        ]),
        false => functions.extend(["proxy_get_property", "proxy_set_property"]),
    }
    functions
}

/// Where a trap is put in.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// Answers come, to requests that wait.
    Answers,
    /// The answer comes that there is no such secret.
    Refusal,
    /// A request comes, while others wait.
    Request,
    /// A tick, with polls and what waits too long.
    Tick,
}

const MOMENTS: [Moment; 4] = [
    Moment::Answers,
    Moment::Refusal,
    Moment::Request,
    Moment::Tick,
];

fn filter(kind: Kind, by_function: bool) -> Value {
    let resolver = match by_function {
        true => json!({ "host_function": true }),
        false => json!({ "upstream": "resolver:1", "timeout_ms": 1000 }),
    };
    let mut rule = json!({ "request": {
        "set": { "headers": { "authorization": "Bearer {vault://files/token}" } },
        "add": { "headers": { "x-added": "{vault://files/token}" } },
        "append": { "headers": { "x-appended": "{vault://files/token}" } },
        "replace": { "querystring": { "key": "{vault://files/token}" } },
    }});
    if !kind.is_nginx() {
        rule["request"]["remove"] = json!({ "headers": ["x-removed"] });
    }
    let missing = json!({
        "match": { "path_prefix": "/missing" },
        "request": { "set": { "headers": { "authorization": "{vault://files/missing}" } } },
    });
    json!({ "resolver": resolver, "rules": [missing, rule] })
}

fn own(path: &str) -> Request {
    Request::get(path)
        .header("authorization", "Bearer mine")
        .header("x-appended", "mine-too")
        .header("x-removed", "mine-as-well")
}

fn start(kind: Kind) -> Result<Harness> {
    let setup = Harness::setup(kind, 1)?
        .plugin(Harness::plugin(&filter(kind, false).to_string()))
        .upstream("resolver:1", Upstream::ByHand);
    Harness::start(setup, 1)
}

fn value(reference: &str) -> Option<&'static str> {
    reference.contains("token").then_some("ours")
}

fn trap(function: &str) -> Fault {
    Fault::HostTrap {
        function: function.to_owned(),
    }
}

fn traps(harness: &mut Harness) -> usize {
    let calls = harness.gateway().calls().iter();
    calls.filter(|call| call.trapped).count()
}

/// An answer from here, or in each field the right credential or nothing.
fn assert_closed(seen: &Seen, what: &str) {
    let Seen::Upstream(received) = seen else {
        return;
    };
    let dump = received.dump();
    let is_one_of = |name: &str, expected: &[&[&str]]| {
        let values = received.header_values(name);
        let found = expected.iter().any(|expected| values == *expected);
        assert!(found, "{what}: {name} is {values:?} in {dump}");
    };
    is_one_of("authorization", &[&["Bearer ours"], &[""]]);
    is_one_of("x-added", &[&["ours"], &[""]]);
    is_one_of("x-appended", &[&["mine-too", "ours"], &["", "ours"], &[""]]);
    assert!(!dump.contains("key=mine"), "{what}: {dump}");
    assert!(!dump.contains("vault://"), "{what}: {dump}");
}

/// The right credential in every field.
fn assert_right(seen: Seen, what: &str) -> Result<()> {
    let received = seen.upstream().with_context(|| what.to_owned())?;
    let dump = received.dump();
    let values = |name: &str| received.header_values(name);
    assert_eq!(values("authorization"), ["Bearer ours"], "{what}: {dump}");
    assert_eq!(values("x-added"), ["ours"], "{what}: {dump}");
    assert_eq!(values("x-appended"), ["mine-too", "ours"], "{what}: {dump}");
    assert_eq!(received.path, "/?key=ours", "{what}: {dump}");
    Ok(())
}

/// nginx has let it through before it could be guarded: nothing of ours is in it.
fn assert_without_ours(seen: &Seen, what: &str) {
    if let Seen::Upstream(received) = seen {
        let dump = received.dump();
        assert!(
            !dump.contains("vault://") && !dump.contains("ours"),
            "{what}: {dump}"
        );
    }
}

/// Whatever trapped, later requests get the right credential, and nothing traps any more.
fn assert_serves_again(harness: &mut Harness, what: &str) -> Result<()> {
    harness.gateway().clear_faults();
    let before = traps(harness);
    // A VM that died is replaced a second later at the earliest.
    harness.gateway().advance(Duration::from_secs(1));
    let mut seen = Seen::Reset;
    for _ in 0..3 {
        let stream = harness.begin(&own("/?key=mine"));
        harness.answer_calls(value)?;
        seen = harness.finish_or_reset(stream)?;
        harness.gateway().advance(Duration::from_millis(200));
        harness.answer_calls(value)?;
    }
    assert_right(seen, what)?;
    assert_eq!(traps(harness), before, "{what}: it traps on");
    assert_eq!(*harness.gateway().worker_state(0), WorkerState::Running);
    Ok(())
}

/// Has a function trap at a moment while three requests wait; says whether it did.
fn trap_at(kind: Kind, moment: Moment, function: &str) -> Result<bool> {
    let what = format!("{kind:?}, {moment:?}, {function}");
    let mut harness = start(kind)?;
    let mut streams: Vec<StreamId> = Vec::new();
    for _ in 0..3 {
        streams.push(harness.begin(&own("/?key=mine")));
    }
    let mut refused = None;
    let mut in_trap = None;
    match moment {
        Moment::Answers => {
            harness.gateway().inject(trap(function));
            harness.answer_calls(value)?;
        }
        Moment::Refusal => {
            refused = Some(harness.begin(&own("/missing")));
            harness.gateway().inject(trap(function));
            harness.answer_calls(|_| None)?;
        }
        Moment::Request => {
            harness.gateway().inject(trap(function));
            in_trap = Some(harness.begin(&own("/?key=mine")));
        }
        Moment::Tick => {
            harness.gateway().inject(trap(function));
            harness.gateway().advance(Duration::from_millis(2400));
        }
    }
    let has_trapped = traps(&mut harness) > 0;
    assert!(traps(&mut harness) <= 1, "{what}");
    for stream in streams {
        assert_closed(&harness.finish_or_reset(stream)?, &what);
    }
    if let Some(stream) = refused
        && let Seen::Upstream(received) = harness.finish_or_reset(stream)?
    {
        let values = received.header_values("authorization");
        assert_eq!(values, [""], "{what}: {}", received.dump());
    }
    if let Some(stream) = in_trap {
        let seen = harness.finish_or_reset(stream)?;
        match OF_THE_GUARD.contains(&function) && kind.is_nginx() {
            true => assert_without_ours(&seen, &what),
            false => assert_closed(&seen, &what),
        }
    }
    assert_serves_again(&mut harness, &what)?;
    Ok(has_trapped)
}

fn every_function_traps_at_every_moment(kind: Kind) -> Result<()> {
    let never = not_in_requests(kind);
    for function in FUNCTIONS {
        let mut has_trapped = false;
        for moment in MOMENTS {
            has_trapped |= trap_at(kind, moment, function)?;
        }
        assert_ne!(has_trapped, never.contains(&function), "{function}");
    }
    Ok(())
}

#[test]
fn as_envoy_every_function_traps_at_every_moment() -> Result<()> {
    every_function_traps_at_every_moment(Kind::HarnessEnvoy)
}

#[test]
fn as_nginx_every_function_traps_at_every_moment() -> Result<()> {
    every_function_traps_at_every_moment(Kind::HarnessNginx)
}

/// What the filter calls while it is configured, the last only once a VM in nginx.
const WHILE_CONFIGURED: [&str; 5] = [
    "proxy_get_buffer_bytes",
    "proxy_get_current_time_nanoseconds",
    "proxy_get_property",
    "proxy_log",
    "proxy_set_tick_period_milliseconds",
];

/// The gateway does not start, or says that its workers did not.
#[test]
fn a_trap_while_the_gateway_starts_is_said_there() -> Result<()> {
    for function in WHILE_CONFIGURED {
        for profile in [
            Profile::Envoy,
            Profile::Nginx(NginxOptions::kong()),
            Profile::Nginx(NginxOptions::plain()),
        ] {
            let kind = match profile.is_nginx() {
                true => Kind::HarnessNginx,
                false => Kind::HarnessEnvoy,
            };
            let setup = Harness::setup(kind, 1)?
                .profile(profile.clone())
                .plugin(Harness::plugin(&filter(kind, false).to_string()))
                .inject(trap(function));
            match (setup.start(), profile) {
                (Err(LoadError::Refused { reason, .. }), _) => {
                    assert!(reason.contains(function), "{reason}");
                }
                (Ok(gateway), Profile::Nginx(_)) => {
                    let state = gateway.worker_state(0);
                    assert!(
                        matches!(state, WorkerState::Exited(_)),
                        "{function}: {state:?}"
                    );
                }
                (Ok(_), Profile::Envoy) => panic!("{function}: it started"),
                (Err(error), _) => panic!("{function}: {error}"),
            }
        }
    }
    Ok(())
}

/// The change fails; what waits gets its credential in Envoy, where only the canary has died, and is
/// let through guarded in nginx, where the instance is another one; the configuration is the old one.
#[test]
fn a_trap_in_a_change_of_configuration_leaves_the_old_one() -> Result<()> {
    for kind in [Kind::HarnessEnvoy, Kind::HarnessNginx] {
        for function in WHILE_CONFIGURED {
            let what = format!("{kind:?}, {function}");
            let mut harness = start(kind)?;
            let waiting: Vec<StreamId> =
                (0..3).map(|_| harness.begin(&own("/?key=mine"))).collect();
            harness.gateway().inject(trap(function));
            let new = json!({ "resolver": { "upstream": "resolver:1" },
                "request": { "set": { "headers": { "x-new": "new" } } } });
            let changed = harness.gateway().reconfigure(0, new.to_string());
            let ticks = function == "proxy_set_tick_period_milliseconds";
            if kind.is_nginx() && ticks {
                // Set once and never again.
                changed?;
                continue;
            }
            assert!(changed.is_err(), "{what}");
            harness.answer_calls(value)?;
            for stream in waiting {
                let seen = harness.finish_or_reset(stream)?;
                match kind.is_nginx() {
                    true => assert_closed(&seen, &what),
                    false => assert_right(seen, &what)?,
                }
            }
            assert_serves_again(&mut harness, &what)?;
        }
    }
    Ok(())
}

/// A gateway in which the resolver is a function of the host, or a trap in its place.
fn by_function(kind: Kind, options: NginxOptions) -> Result<Harness> {
    let answer = |_: &ForeignCaller, _: &str, question: &[u8]| {
        let question: Value = serde_json::from_slice(question).map_err(|_| Status::BadArgument)?;
        let references = question["references"]
            .as_array()
            .ok_or(Status::BadArgument)?;
        let results: Vec<Value> = references
            .iter()
            .map(|_| {
                json!({ "secret": { "value": { "text": "ours" }, "revision": "1",
                "lifetime": { "fresh_for": 300, "usable_for": 3600, "stale": false } } })
            })
            .collect();
        Ok(json!({ "results": results }).to_string().into_bytes())
    };
    let mut setup = Harness::setup(kind, 1)?
        .plugin(Harness::plugin(&filter(kind, true).to_string()))
        .foreign(Arc::new(answer));
    if kind.is_nginx() {
        setup = setup.profile(Profile::Nginx(options));
    }
    Harness::start(setup, 1)
}

#[test]
fn a_host_function_that_traps_once_leaves_the_request_guarded() -> Result<()> {
    for kind in [Kind::HarnessEnvoy, Kind::HarnessNginx] {
        let what = format!("{kind:?}");
        let options = NginxOptions {
            foreign_functions: true,
            ..NginxOptions::kong()
        };
        let mut harness = by_function(kind, options)?;
        let function = "proxy_call_foreign_function";
        harness.gateway().inject(trap(function));
        let stream = harness.begin(&own("/?key=mine"));
        assert_closed(&harness.finish_or_reset(stream)?, &what);
        assert_eq!(traps(&mut harness), 1, "{what}");
        assert_serves_again(&mut harness, &what)?;
        // In a tick, with the values in memory. They are gone with the VM.
        harness.gateway().inject(trap(function));
        harness.gateway().advance(Duration::from_secs(2));
        assert_eq!(traps(&mut harness), 2, "{what}");
        assert_serves_again(&mut harness, &what)?;
    }
    Ok(())
}

/// A configuration that asks a function of Kong, where every call of one traps: each request leaves
/// with its fields overwritten, and no tick traps, since each such trap would double the ticks.
#[test]
fn a_host_function_in_kong_opens_nothing_and_traps_in_no_tick() -> Result<()> {
    let mut harness = by_function(Kind::HarnessNginx, NginxOptions::kong())?;
    for count in 1..=3 {
        harness.gateway().advance(Duration::from_secs(5));
        let stream = harness.begin(&own("/?key=mine"));
        let seen = harness.finish_or_reset(stream)?;
        assert!(matches!(seen, Seen::Upstream(_)), "{seen:?}");
        assert_closed(&seen, "in Kong");
        assert_eq!(traps(&mut harness), count);
    }
    harness.gateway().forget_history();
    harness.gateway().advance(Duration::from_secs(1));
    let ticks = harness.gateway().calls_of(Callback::Tick).len();
    assert_eq!(ticks, 5, "one timer");
    assert_eq!(traps(&mut harness), 0);
    Ok(())
}
