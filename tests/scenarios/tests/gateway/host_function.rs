//! A host that has our function in it: the filter asks through `proxy_call_foreign_function`, with
//! the same bytes and the same outcomes as over HTTP, and the call never blocks.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use vaultref_contract::wire::RESOLVE_FUNCTION;
use vaultref_harness::{ForeignCaller, NginxOptions, Profile, Status};
use vaultref_host::config;
use vaultref_host::embed::ForeignFunction;
use vaultref_host::environment::Environment;
use vaultref_host::policy::Access;
use vaultref_host::resolver::Resolver;
use vaultref_scenarios::client::Request;
use vaultref_scenarios::ports;
use vaultref_scenarios::upstream::{Reply, Upstream};
use vaultref_scenarios::wait;
use vaultref_scenarios::world::{Harness, Kind};

/// The resolver inside the embedder, with files that are fresh for a second.
struct Embedder {
    runtime: Runtime,
    secrets: ForeignFunction,
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
            dir,
        })
    }

    /// A gateway whose foreign functions are ours.
    fn gateway(&self, kind: Kind, configuration: &Value) -> Result<Harness> {
        let (secrets, runtime) = (self.secrets.clone(), self.runtime.handle().clone());
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
            Ok(secrets.call(arguments).expose().to_vec())
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

fn write(dir: &Path, name: &str, content: &str) -> Result<()> {
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

/// A vault that answers nobody until `open` is dropped.
fn gated_vault(open: Receiver<()>) -> Result<Upstream> {
    let gate = Mutex::new(open);
    Upstream::answering(move |_| {
        // Ends with an error when the other end is dropped: from then on at once.
        let _ = gate.lock().map(|gate| gate.recv());
        let body = json!({
            "request_id": "", "lease_id": "", "lease_duration": 0, "renewable": false,
            "data": {
                "data": { "token": "ours" },
                "metadata": {
                    "created_time": "2026-01-01T00:00:00Z", "deletion_time": "",
                    "destroyed": false, "version": 1,
                },
            },
        });
        Reply::status(200)
            .header("content-type", "application/json")
            .body(body.to_string())
    })
}

/// Pending, then a secret, without a tick and without a callout.
#[test]
fn a_pending_request_is_woken_when_its_value_has_come() -> Result<()> {
    let (open, gate) = mpsc::channel();
    let vault = gated_vault(gate)?;
    let embedder = Embedder::with_vault_at(vault.address())?;
    let configuration = json!({
        "resolver": { "host_function": true },
        "rules": [rule("/", "Bearer {vault://away/app/token}")],
    });
    let mut harness = embedder.gateway(Kind::HarnessEnvoy, &configuration)?;
    let stream = harness.begin(&own("/"));
    let outcome = harness.gateway().outcome(stream);
    assert!(outcome.is_waiting(), "nothing blocks, but: {outcome:?}");
    drop(open);
    // Woken by the host, not by a tick: the filter's clock stands still.
    harness
        .gateway()
        .run_until(|gateway| !gateway.outcome(stream).is_waiting(), wait::SOON)?;
    let seen = harness.finish(stream)?;
    assert!(seen.has_authorization("Bearer ours"), "{seen:?}");
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

    write(embedder.dir.path(), "token", "newer")?;
    wait::until_true("the newer value", wait::SOON, || {
        harness.tick();
        let seen = harness.send(&own("/"));
        seen.is_ok_and(|seen| seen.has_authorization("Bearer newer"))
    })
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
    }
    let seen = harness.send(&own("/"))?;
    assert!(seen.has_authorization("Bearer ours"), "{seen:?}");
    assert!(!harness.log().contains("not for guests"));
    Ok(())
}

/// nginx wakes no request that has no call of its own, so what is pending is refused there.
#[test]
fn in_nginx_what_is_pending_is_refused_and_served_later() -> Result<()> {
    let (open, gate) = mpsc::channel();
    let vault = gated_vault(gate)?;
    let embedder = Embedder::with_vault_at(vault.address())?;
    let configuration = json!({
        "resolver": { "host_function": true },
        "rules": [rule("/", "Bearer {vault://away/app/token}")],
    });
    let mut harness = embedder.gateway(Kind::HarnessNginx, &configuration)?;
    let seen = harness.send(&own("/"))?;
    assert!(seen.has_status(503), "{seen:?}");
    drop(open);
    wait::until_true("the value", wait::SOON, || {
        harness.gateway().advance(Duration::from_millis(200));
        harness
            .send(&own("/"))
            .is_ok_and(|seen| seen.has_authorization("Bearer ours"))
    })?;
    Ok(())
}
