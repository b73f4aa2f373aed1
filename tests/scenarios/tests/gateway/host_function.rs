//! A host that has our function in it: the filter asks through `proxy_call_foreign_function`, with
//! the same bytes and the same outcomes as over HTTP, and the call never blocks.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use vaultref_contract::wire::{FailureKind, RESOLVE_FUNCTION};
use vaultref_harness::{ForeignCaller, NginxOptions, Profile, Status};
use vaultref_host::config;
use vaultref_host::embed::ForeignFunction;
use vaultref_host::environment::Environment;
use vaultref_host::policy::Access;
use vaultref_host::resolver::Resolver;
use vaultref_scenarios::client::Request;
use vaultref_scenarios::gate::Gate;
use vaultref_scenarios::ports;
use vaultref_scenarios::upstream::{Reply, Upstream};
use vaultref_scenarios::wait;
use vaultref_scenarios::world::{Harness, Kind, Seen};

use crate::closed::kv2_answer;

/// The resolver inside the embedder, with files that are fresh for a second.
struct Embedder {
    runtime: Runtime,
    secrets: ForeignFunction,
    /// What the function has answered, reference by reference.
    answers: Arc<Mutex<Vec<Value>>>,
    dir: TempDir,
}

impl Embedder {
    fn new() -> Result<Self> {
        // Nobody listens there.
        Self::with_vault_at(ports::free()?)
    }

    fn with_vault_at(vault: SocketAddr) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let configuration = json!({
            "vaults": [
                { "name": "fs", "prefix": "files", "config": { "prefix": dir.path(), "ttl": 1 } },
                { "name": "hcv", "prefix": "away", "config": {
                    "host": "127.0.0.1", "port": vault.port(), "token": "unused", "kv": "v2",
                    "ttl": 1, "neg_ttl": 1,
                }},
            ],
            "clients": [{
                "name": "guest", "peer": { "uid": 0 },
                "allow": ["files/*", "away/*"], "deny": ["files/private*"],
            }],
        });
        write(dir.path(), "token", "ours")?;
        write(dir.path(), "private", "not for guests")?;
        write(dir.path(), "object", r#"{"number":7}"#)?;
        let environment = Arc::new(Environment::new([]));
        let config = config::parse(&configuration.to_string(), &environment)?;
        let client = config.clients.iter().next().context("a client")?;
        let access = Access::Client(Arc::clone(client));
        let runtime = Runtime::new()?;
        let resolver = Resolver::new(config.vaults, 7, runtime.handle().clone());
        Ok(Self {
            secrets: ForeignFunction::new(resolver, access),
            runtime,
            answers: Arc::default(),
            dir,
        })
    }

    /// A gateway whose foreign functions are ours.
    fn gateway(&self, kind: Kind, configuration: &Value) -> Result<Harness> {
        let (secrets, runtime) = (self.secrets.clone(), self.runtime.handle().clone());
        let answers = Arc::clone(&self.answers);
        let functions = move |caller: &ForeignCaller, name: &str, arguments: &[u8]| {
            if name != RESOLVE_FUNCTION {
                return Err(Status::NotFound);
            }
            let mut finished = secrets.finished_reads();
            let caller = caller.clone();
            runtime.spawn(async move {
                if finished.changed().await.is_ok() {
                    caller.notify(0, []);
                }
            });
            let reply = secrets.call(arguments);
            let read: Value = serde_json::from_slice(reply.expose()).unwrap_or_default();
            let results = read["results"].as_array().cloned();
            lock(&answers).extend(results.unwrap_or_else(|| vec![read]));
            Ok(reply.expose().to_vec())
        };
        let mut setup = Harness::setup(kind, 1)?
            .plugin(Harness::plugin(&configuration.to_string()))
            .foreign(Arc::new(functions));
        if kind.is_nginx() {
            setup = setup.profile(Profile::Nginx(NginxOptions::plain()));
        }
        Harness::start(setup, 1)
    }
}

impl Embedder {
    /// How many of the function's answers are such.
    fn answered(&self, is_such: impl Fn(&Value) -> bool) -> usize {
        let answers = lock(&self.answers);
        answers.iter().filter(|answer| is_such(answer)).count()
    }

    fn has_answered(&self, is_such: impl Fn(&Value) -> bool) -> bool {
        self.answered(is_such) > 0
    }
}

fn failure(answer: &Value) -> Option<&str> {
    answer["failure"]["kind"].as_str()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
    let new = dir.join("new");
    fs::write(&new, content)?;
    Ok(fs::rename(new, dir.join(name))?)
}

fn rule(path: &str, reference: &str) -> Value {
    json!({
        "match": { "path_prefix": path },
        "request": { "set": { "headers": { "authorization": reference } } },
    })
}

fn own(path: &str) -> Request {
    Request::get(path).header("authorization", "Bearer mine")
}

/// A vault that answers nobody while the gate is closed.
fn gated_vault(gate: &Gate) -> Result<Upstream> {
    let gate = gate.clone();
    Upstream::answering(move |_| {
        gate.pass();
        kv2_answer(&json!({ "token": "ours" }))
    })
}

/// Pending, then a secret, without a tick and without a callout.
#[test]
fn a_pending_request_is_woken_when_its_value_has_come() -> Result<()> {
    let gate = Gate::closed();
    let vault = gated_vault(&gate)?;
    let embedder = Embedder::with_vault_at(vault.address())?;
    let configuration = json!({
        "resolver": { "host_function": true },
        "rules": [rule("/", "Bearer {vault://away/app/token}")],
    });
    let mut harness = embedder.gateway(Kind::HarnessEnvoy, &configuration)?;
    let stream = harness.begin(&own("/"));
    let outcome = harness.gateway().outcome(stream);
    assert!(outcome.is_waiting(), "nothing blocks, but: {outcome:?}");
    assert!(embedder.has_answered(|answer| failure(answer) == Some("pending")));
    assert!(!embedder.has_answered(|answer| answer["secret"].is_object()));
    gate.open();
    // Woken by the host, not by a tick: the filter's clock stands still.
    harness
        .gateway()
        .run_until(|gateway| !gateway.outcome(stream).is_waiting(), wait::SOON)?;
    let seen = harness.finish(stream)?;
    assert!(seen.has_authorization("Bearer ours"), "{seen:?}");
    assert!(embedder.has_answered(|answer| answer["secret"]["value"]["text"] == "ours"));
    assert!(
        harness.gateway().callouts().is_empty(),
        "a callout was made"
    );
    Ok(())
}

/// A secret, then unchanged with each poll, then another secret.
#[test]
fn a_changed_value_comes_with_a_poll_and_an_unchanged_one_costs_little() -> Result<()> {
    let embedder = Embedder::new()?;
    let configuration = json!({
        "resolver": { "host_function": true },
        "rules": [rule("/", "Bearer {vault://files/token}")],
    });
    let mut harness = embedder.gateway(Kind::HarnessEnvoy, &configuration)?;
    let seen = harness.send(&own("/"))?;
    assert!(seen.has_authorization("Bearer ours"), "{seen:?}");
    let asked = |harness: &mut Harness| harness.gateway().host_calls("proxy_call_foreign_function");
    let before = asked(&mut harness);
    for _ in 0..10 {
        harness.tick();
        let seen = harness.send(&own("/"))?;
        assert!(seen.has_authorization("Bearer ours"), "{seen:?}");
    }
    let polls = asked(&mut harness) - before;
    assert!((1..=4).contains(&polls), "{polls} polls in two seconds");
    let unchanged = embedder.answered(|answer| answer["unchanged"]["usable_for"].is_u64());
    assert!(unchanged >= 1, "the value came anew with each poll");
    let secrets = embedder.answered(|answer| answer["secret"].is_object());
    assert_eq!(secrets, 1, "the value came more than once");

    write(embedder.dir.path(), "token", "newer")?;
    wait::until_true("the newer value", wait::SOON, || {
        harness.tick();
        let seen = harness.send(&own("/"));
        seen.is_ok_and(|seen| seen.has_authorization("Bearer newer"))
    })
}

/// A reference that comes with the request, and one with a parameter; the host's policy stands behind
/// the rule's list.
#[test]
fn what_a_request_brings_is_asked_of_the_host() -> Result<()> {
    for kind in [Kind::HarnessEnvoy, Kind::HarnessNginx] {
        let embedder = Embedder::new()?;
        let configuration = json!({
            "resolver": { "host_function": true },
            "request": { "set": { "headers": { "authorization": "{vault://files/$(header:x-name)}" } } },
            "resolve": { "headers": ["x-key"], "allow": ["files/*"] },
        });
        let mut harness = embedder.gateway(kind, &configuration)?;
        let named = |name: &str| own("/").header("x-name", name);
        let request = named("token").header("x-key", "Key {vault://files/token}");
        wait::until_true("both values", wait::SOON, || {
            harness.tick();
            let seen = harness.send(&request);
            let is_whole = |seen: &Seen| match seen {
                Seen::Upstream(got) => got.header("x-key").as_deref() == Some("Key ours"),
                _ => false,
            };
            seen.is_ok_and(|seen| seen.has_authorization("ours") && is_whole(&seen))
        })?;
        let denied = || embedder.has_answered(|answer| failure(answer) == Some("denied"));
        assert!(!denied());
        // In nginx nothing waits for what is pending, so it takes more than one.
        wait::until_true("a denial", wait::SOON, || {
            harness.tick();
            let seen = harness.send(&named("private"));
            assert!(seen.is_ok_and(|seen| seen.has_status(503)));
            denied()
        })?;
    }
    Ok(())
}

/// A value that is no text, whole and within another.
#[test]
fn bytes_come_as_they_are() -> Result<()> {
    let embedder = Embedder::new()?;
    write(embedder.dir.path(), "octets", b"\xff\xfe\x80 raw")?;
    let configuration = json!({
        "resolver": { "host_function": true },
        "request": { "set": { "headers": { "x-octets": "<{vault://files/octets}>" } } },
    });
    let mut harness = embedder.gateway(Kind::HarnessEnvoy, &configuration)?;
    let got = harness.send(&own("/"))?.upstream()?;
    let value = got.headers.iter().find(|(name, _)| name == "x-octets");
    assert_eq!(
        value.map(|(_, value)| &value[..]),
        Some(&b"<\xff\xfe\x80 raw>"[..])
    );
    let encoded = STANDARD.encode(b"\xff\xfe\x80 raw");
    assert!(embedder.has_answered(|answer| answer["secret"]["value"]["bytes"] == *encoded));
    Ok(())
}

/// A value that bridges an outage says so, to whoever holds it already and to whoever asks first.
#[test]
fn a_stale_value_is_served_and_called_so() -> Result<()> {
    let is_away = Arc::new(AtomicBool::new(false));
    let vault = Upstream::answering({
        let is_away = Arc::clone(&is_away);
        move |_| match is_away.load(Ordering::SeqCst) {
            true => Reply::status(503),
            false => kv2_answer(&json!({ "token": "ours" })),
        }
    })?;
    let embedder = Embedder::with_vault_at(vault.address())?;
    let configuration = json!({
        "resolver": { "host_function": true },
        "rules": [rule("/", "Bearer {vault://away/app/token}")],
    });
    let mut harness = embedder.gateway(Kind::HarnessEnvoy, &configuration)?;
    let seen = harness.send(&own("/"))?;
    assert!(seen.has_authorization("Bearer ours"), "{seen:?}");
    let is_stale = |answer: &Value, kind: &str| match kind {
        "secret" => answer["secret"]["lifetime"]["stale"] == true,
        _ => answer["unchanged"]["stale"] == true,
    };
    assert!(!embedder.has_answered(|answer| is_stale(answer, "secret")));
    assert!(!embedder.has_answered(|answer| is_stale(answer, "unchanged")));
    is_away.store(true, Ordering::SeqCst);
    wait::until("a stale value", wait::SOON, || {
        harness.tick();
        let seen = harness.send(&own("/"))?;
        assert!(seen.has_authorization("Bearer ours"), "{seen:?}");
        let is_told = embedder.has_answered(|answer| is_stale(answer, "unchanged"));
        Ok(is_told.then_some(()))
    })?;
    let mut later = embedder.gateway(Kind::HarnessEnvoy, &configuration)?;
    let seen = later.send(&own("/"))?;
    assert!(seen.has_authorization("Bearer ours"), "{seen:?}");
    assert!(embedder.has_answered(|answer| is_stale(answer, "secret")));
    Ok(())
}

#[test]
fn every_kind_of_failure_ends_in_503_and_a_line_in_the_log() -> Result<()> {
    let embedder = Embedder::new()?;
    let failures = [
        ("/denied", "{vault://files/private}", "denied"),
        (
            "/invalid-reference",
            "{vault://files/token?prefix=x}",
            "invalid-reference",
        ),
        (
            "/key-not-found",
            "{vault://files/object/none}",
            "key-not-found",
        ),
        ("/not-found", "{vault://files/none}", "not-found"),
        ("/unavailable", "{vault://away/app/key}", "unavailable"),
        ("/unknown-vault", "{vault://nowhere/x}", "unknown-vault"),
        ("/wrong-type", "{vault://files/object/number}", "wrong-type"),
    ];
    let mut rules: Vec<Value> = failures
        .iter()
        .map(|(path, reference, _)| rule(path, reference))
        .collect();
    rules.push(rule("/", "Bearer {vault://files/token}"));
    let configuration = json!({ "resolver": { "host_function": true }, "rules": rules });
    let mut harness = embedder.gateway(Kind::HarnessEnvoy, &configuration)?;
    for (path, _, kind) in failures {
        let seen = harness.send(&own(path))?;
        assert!(seen.has_status(503), "{kind}: {seen:?}");
        let log = harness.log();
        assert!(
            log.contains(&format!(": {kind};")),
            "{kind} is not in\n{log}"
        );
        let answered = embedder.answered(|answer| failure(answer) == Some(kind));
        assert!(answered > 0, "the function never answered {kind}");
    }
    // Pending is what all are until they have been looked for.
    let mut kinds: Vec<_> = failures.iter().map(|(_, _, kind)| *kind).collect();
    kinds.push("pending");
    kinds.sort_unstable();
    let mut all = FailureKind::ALL.map(FailureKind::name);
    all.sort_unstable();
    assert_eq!(kinds, all, "a kind is not tried");
    assert!(embedder.has_answered(|answer| failure(answer) == Some("pending")));
    let seen = harness.send(&own("/"))?;
    assert!(seen.has_authorization("Bearer ours"), "{seen:?}");
    assert!(!harness.log().contains("not for guests"));
    Ok(())
}

/// nginx wakes no request that has no call of its own, so what is pending is refused there.
#[test]
fn in_nginx_what_is_pending_is_refused_and_served_later() -> Result<()> {
    let gate = Gate::closed();
    let vault = gated_vault(&gate)?;
    let embedder = Embedder::with_vault_at(vault.address())?;
    let configuration = json!({
        "resolver": { "host_function": true },
        "rules": [rule("/", "Bearer {vault://away/app/token}")],
    });
    let mut harness = embedder.gateway(Kind::HarnessNginx, &configuration)?;
    let seen = harness.send(&own("/"))?;
    assert!(seen.has_status(503), "{seen:?}");
    gate.open();
    wait::until_true("the value", wait::SOON, || {
        harness.gateway().advance(Duration::from_millis(200));
        harness
            .send(&own("/"))
            .is_ok_and(|seen| seen.has_authorization("Bearer ours"))
    })?;
    Ok(())
}
