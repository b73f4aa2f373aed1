//! What is done with an upstream's answer: a value that it refuses is read anew, and no more often than
//! the daemon wants to; a secret that it repeats does not reach the client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use vaultref_scenarios::client::{Request, Response};
use vaultref_scenarios::upstream::{Received, Reply, Upstream};
use vaultref_scenarios::wait;
use vaultref_scenarios::world::{Kind, Plan, World};

use crate::closed::kv2_answer;
use crate::in_every_gateway;

in_every_gateway!(
    a_client_that_provokes_refusals_does_not_have_the_backend_read,
    a_value_that_the_upstream_refuses_is_read_anew,
    secrets_that_the_upstream_repeats_are_masked,
    the_file_without_the_callback_refuses_both,
);

const OLDER: &str = "the-older-token";
const NEWER: &str = "the-newer-token";

/// Answers as the client asks for it, and says in many places what it got.
fn reflect(received: &Received) -> Reply {
    let value = |name: &str| received.header_values(name).join(",");
    let status = value("x-status").parse().unwrap_or(200);
    let own = value("authorization");
    let token = own.rsplit(' ').next().unwrap_or_default();
    Reply::status(status)
        .header("x-echo", &own)
        .header(
            "www-authenticate",
            format!("Bearer error=\"{token} is not {token}\""),
        )
        .header(
            "location",
            format!("https://elsewhere.example{}", received.path),
        )
        .header("set-cookie", "first=1")
        .header("set-cookie", format!("token={token}"))
        .header("set-cookie", "third=3")
        .header("x-basic", value("x-basic"))
        .body("upstream\n")
}

/// Takes this token alone.
fn only_the_newer(received: &Received) -> Reply {
    match received.header_values("authorization").join("").as_str() {
        "Bearer the-newer-token" => Reply::status(200),
        _ => Reply::status(401),
    }
}

fn bearer() -> Value {
    json!({ "request": { "set": { "headers": { "authorization": "Bearer {vault://files/token}" } } } })
}

fn refreshing() -> Value {
    let mut filter = bearer();
    filter["refresh_on_status"] = json!([401]);
    filter
}

/// A server with one secret, which changes when it is told to, and a count of how often it is asked.
struct Vault {
    server: Upstream,
    reads: Arc<AtomicUsize>,
    is_newer: Arc<AtomicBool>,
}

impl Vault {
    fn start() -> Result<Self> {
        let reads = Arc::new(AtomicUsize::new(0));
        let is_newer = Arc::new(AtomicBool::new(false));
        let server = Upstream::answering({
            let (reads, is_newer) = (Arc::clone(&reads), Arc::clone(&is_newer));
            move |request| {
                if request.path.contains("/edge") {
                    reads.fetch_add(1, Ordering::SeqCst);
                }
                kv2_answer(&match is_newer.load(Ordering::SeqCst) {
                    false => json!({ "token": OLDER }),
                    true => json!({ "token": NEWER }),
                })
            }
        })?;
        Ok(Self {
            server,
            reads,
            is_newer,
        })
    }

    /// A gateway whose rule has this secret, which holds for an hour: nothing but the upstream's
    /// refusal has it read.
    fn world(&self, kind: Kind, answer: fn(&Received) -> Reply) -> Result<World> {
        let mut filter = refreshing();
        filter["request"]["set"]["headers"]["authorization"] =
            json!("Bearer {vault://kv/edge/token}");
        let mut world = Plan::new(kind.with_every_callback(), filter)
            .vault(json!({ "name": "hcv", "prefix": "kv", "config": {
                "host": "127.0.0.1", "port": self.server.address().port(), "kv": "v2",
                "token": "token-of-nobody", "ttl": 3600,
            }}))
            .answering(answer)
            .start()?;
        world.keep(OLDER);
        world.keep(NEWER);
        world.until_every_vm_has_answers()?;
        Ok(world)
    }
}

fn a_value_that_the_upstream_refuses_is_read_anew(kind: Kind) -> Result<()> {
    let vault = Vault::start()?;
    let mut world = vault.world(kind, only_the_newer)?;
    vault.is_newer.store(true, Ordering::SeqCst);
    let (seen, response) = world.exchange(&Request::get("/"))?;
    assert!(
        seen.has_authorization(&format!("Bearer {OLDER}")),
        "{seen:?}"
    );
    assert_eq!(response.status, 401);
    let is_taken = |response: &Response| response.status == 200;
    world.eventually_exchange("the newer token", &Request::get("/"), is_taken)?;
    let log = world.log();
    assert!(
        log.contains("the upstream answered 401") && log.contains("'kv'"),
        "{log}"
    );
    assert!(log.contains("an upstream refused the value"), "{log}");
    Ok(())
}

fn a_client_that_provokes_refusals_does_not_have_the_backend_read(kind: Kind) -> Result<()> {
    let vault = Vault::start()?;
    let mut world = vault.world(kind, reflect)?;
    let before = vault.reads.load(Ordering::SeqCst);
    let refused = Request::get("/").header("x-status", "401");
    let asked = |world: &World| world.log().matches("the upstream answered 401").count();
    let reads = || vault.reads.load(Ordering::SeqCst) - before;
    // Until the filter has asked some times in each VM, and the value is old enough to be read anew
    // (`min_ttl`, a second); the daemon's limit is ten seconds.
    let start = std::time::Instant::now();
    while asked(&world) < 6 || reads() == 0 {
        assert!(start.elapsed() < wait::SOON, "{}", world.log());
        let (_, response) = world.exchange(&refused)?;
        assert_eq!(response.status, 401);
        world.pass_time();
    }
    let limit = usize::try_from(start.elapsed().as_secs() / 10)? + 1;
    let read = reads();
    assert!(read <= limit, "{read} reads, {limit} allowed");
    Ok(())
}

fn secrets_that_the_upstream_repeats_are_masked(kind: Kind) -> Result<()> {
    let rule = |path: &str, request: Value| json!({ "match": { "path_prefix": path }, "request": request });
    let filter = json!({
        "response": { "redact_headers": true },
        "rules": [
            rule("/bearer", bearer()["request"].clone()),
            rule("/query", json!({ "set": {
                "querystring": { "key": "{vault://files/odd}" },
                "headers": { "authorization": "{vault://files/short}" },
            } })),
            json!({
                "match": { "path_prefix": "/brought" },
                "resolve": { "headers": ["authorization"], "allow": ["files/*"] },
            }),
            json!({
                "match": { "path_prefix": "/of" },
                "request": { "set": { "headers": { "authorization": "Bearer {vault://files/$(path:2)}" } } },
                "resolve": { "allow": ["files/*"] },
            }),
            json!({
                "match": { "path_prefix": "/basic" },
                "basic_auth": { "username": "ada", "password": "{vault://files/token}" },
            }),
        ],
    });
    let plan = Plan::new(kind.with_every_callback(), filter)
        .file("token", "the-token-1")
        .file("odd", "odd/secret &+ok")
        .file("short", "seven77")
        .file("ada", "key-of-ada")
        .answering(reflect);
    if kind.is_nginx() {
        let mut world = plan.start()?;
        let log = world.log();
        assert!(
            log.contains("/response/redact_headers: not on this gateway"),
            "{log}"
        );
        assert!(world.send(&Request::get("/bearer"))?.has_status(503));
        return Ok(());
    }
    let mut world = plan.start()?;
    // The first waits for its value, the others have it.
    for _ in 0..4 {
        let (seen, response) = world.exchange(&Request::get("/bearer/x?a=b"))?;
        assert!(seen.has_authorization("Bearer the-token-1"), "{seen:?}");
        assert_eq!(response.header("x-echo").as_deref(), Some("Bearer ***"));
        let expected = "Bearer error=\"*** is not ***\"";
        assert_eq!(
            response.header("www-authenticate").as_deref(),
            Some(expected)
        );
        let expected = ["first=1", "token=***", "third=3"];
        let cookies = response.headers.iter();
        let cookies = cookies.filter(|(name, _)| name == "set-cookie");
        let cookies: Vec<_> = cookies
            .map(|(_, value)| String::from_utf8_lossy(value))
            .collect();
        assert_eq!(cookies, expected);
        assert_eq!(response.text(), "upstream\n");

        let (seen, response) = world.exchange(&Request::get("/query?a=b"))?;
        let path = seen.upstream()?.path;
        assert!(path.contains("key=odd%2Fsecret%20%26%2Bok"), "{path}");
        let location = response.header("location").context("location")?;
        assert_eq!(location, "https://elsewhere.example/query?a=b&key=***");
        // Too short to be told from what stands there by chance.
        assert_eq!(response.header("x-echo").as_deref(), Some("seven77"));

        let (_, response) = world.exchange(&Request::get("/basic"))?;
        assert_eq!(response.header("x-echo").as_deref(), Some("Basic ***"));

        // A reference that the request brought, and one that is made of its path.
        let brought = Request::get("/brought").header("authorization", "{vault://files/token}");
        for request in [brought, Request::get("/of/ada")] {
            let (seen, response) = world.exchange(&request)?;
            let got = seen
                .upstream()?
                .header("authorization")
                .context("a header")?;
            assert!(
                got.ends_with("the-token-1") || got.ends_with("key-of-ada"),
                "{got}"
            );
            let echo = response.header("x-echo").context("an echo")?;
            assert_eq!(echo.trim_start_matches("Bearer "), "***");
        }

        let own = Request::get("/none").header("authorization", "Bearer the-token-1");
        let (_, response) = world.exchange(&own)?;
        assert_eq!(
            response.header("x-echo").as_deref(),
            Some("Bearer the-token-1"),
            "no rule"
        );
        world.pass_time();
    }
    assert!(
        world.log().contains("the upstream repeats a secret"),
        "{}",
        world.log()
    );
    Ok(())
}

fn the_file_without_the_callback_refuses_both(kind: Kind) -> Result<()> {
    if kind.is_nginx() {
        return Ok(());
    }
    let mut redacting = bearer();
    redacting["response"] = json!({ "redact_headers": true });
    for filter in [redacting, refreshing()] {
        let started = Plan::new(kind, filter).quiet().start();
        let error = format!("{:#}", started.err().context("it starts")?);
        assert!(error.contains("use vaultref.wasm"), "{error}");
    }
    Ok(())
}
