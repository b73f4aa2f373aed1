//! A daemon that may have few descriptors, or little memory.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use vaultref_scenarios::client::{Address, Connection, Request};
use vaultref_scenarios::daemon::Daemon;
use vaultref_scenarios::openbao::{KV2_MOUNT, OpenBao};
use vaultref_scenarios::wait;

use crate::bed::{Bed, LONG_ENOUGH, Lost, put};

/// Somebody takes every connection that there is and more. Those that are open go on being served, values
/// go on being read; and once they are given back, newcomers are served as well.
#[test]
fn a_daemon_out_of_descriptors_goes_on_and_recovers() -> Result<()> {
    let bao = OpenBao::start()?;
    put(&bao, 0)?;
    let reader = bao.create_reader("edge", &["secret/data"])?;
    let config = bao.vault_config(KV2_MOUNT, "v2", &reader);
    let mut bed = Bed::start(config, |plan| plan.limit("nofile=64"))?;
    let mut lost = Lost::default();
    let load = bed.load()?;
    bed.until_sent(0)?;
    let socket = Address::from(bed.world.daemon().socket().as_path());
    let greedy: Vec<Connection> = (0..120)
        .filter_map(|_| Connection::open(&socket).ok())
        .collect();
    ensure!(
        greedy.len() > 64,
        "more than the daemon may have: {}",
        greedy.len()
    );
    bed.over();
    bed.put(&bao)?;
    let fresh = bed.until_fresh()?;
    let held = bed.world.daemon_process()?.held()?.descriptors;
    ensure!(held < 64, "{held} descriptors");
    bed.only(1, LONG_ENOUGH)?;
    drop(greedy);
    let health = Request::get("/healthz");
    wait::until_true("service for newcomers", wait::SOON, || {
        bed.world
            .daemon()
            .send(&health)
            .is_ok_and(|answer| answer.status == 200)
    })?;
    lost.none_of(load, "out of descriptors", &bed)?;
    let what = "64 descriptors, and 120 connections of somebody else";
    let log = bed.daemon_log();
    ensure!(log.contains("takes fewer connections"), "{log}");
    let log = "at start: the daemon takes fewer connections";
    lost.show(what, "the old value, then the new", log, Some(fresh));
    bed.only_values()
}

/// Values of 400 MB in all, and more than the cache of 64 MiB takes, in a process that may not have as
/// much: it would end if something were kept. (What counts for the limit are also the stacks of its threads,
/// and the pools in which the allocator keeps what was freed; both would be by the machine's cores.)
#[test]
fn a_daemon_with_little_memory_serves_more_than_it_can_keep() -> Result<()> {
    const SIZE: usize = 1_000_000;
    const COUNT: usize = 80;
    const ROUNDS: usize = 5;
    let folder = tempfile::tempdir()?;
    for number in 0..COUNT {
        let filling = char::from(b'a' + u8::try_from(number % 26)?);
        let content = format!("{number}:{}", filling.to_string().repeat(SIZE));
        std::fs::write(folder.path().join(format!("large-{number}")), content)?;
    }
    let files = json!({ "name": "fs", "prefix": "files", "config": { "prefix": folder.path(), "ttl": 3600 } });
    let mut daemon = Daemon::with_vaults(&json!([files]))?
        .env("TOKIO_WORKER_THREADS", "2")
        .env("MALLOC_ARENA_MAX", "2")
        .limit(&format!("data={}", 280 << 20))
        .started()?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        for number in 0..COUNT {
            let answer = daemon
                .resolve(&[&format!("{{vault://files/large-{number}}}")])?
                .text();
            let answer: Value = serde_json::from_str(&answer)?;
            let text = answer
                .pointer("/results/0/secret/value/text")
                .and_then(Value::as_str);
            let start = format!("{number}:");
            ensure!(
                text.is_some_and(|text| text.starts_with(&start)),
                "large-{number} is another"
            );
        }
        rounds.push(daemon.process()?.held()?);
    }
    let metrics = daemon.send(&Request::get("/metrics"))?.text();
    let bytes = metrics
        .lines()
        .find_map(|line| line.strip_prefix("vaultref_cache_bytes "));
    let bytes: u64 = bytes.unwrap_or_default().parse()?;
    ensure!(bytes <= 64 << 20, "{bytes} bytes in the cache");
    let most: Vec<u64> = rounds.iter().map(|held| held.most_memory / 1024).collect();
    println!(
        "| 280 MiB of memory at most (`RLIMIT_DATA`), {COUNT} values of 1 MB each, {ROUNDS} times | each value | nothing | 0 of {} | – |\nresident after each round, at most: {most:?} MiB; in the cache {bytes} bytes",
        ROUNDS * COUNT
    );
    daemon.stop()
}

/// The same for many small things that are not there: what is remembered of them is bounded.
#[test]
fn what_is_not_there_is_remembered_within_bounds() -> Result<()> {
    let env = json!({ "name": "env", "config": { "rate_limit": 0 } });
    let mut daemon = Daemon::with_vaults(&json!([env]))?.started()?;
    let mut most = Vec::new();
    for round in 0..6 {
        for batch in 0..3 {
            let names: Vec<String> = (0..1000)
                .map(|number| format!("{{vault://env/none-{round}-{batch}-{number}}}"))
                .collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            ensure!(daemon.resolve(&names)?.status == 200);
        }
        most.push(daemon.process()?.held()?.memory / 1024);
    }
    let metrics = daemon.send(&Request::get("/metrics"))?.text();
    let failures = metrics
        .lines()
        .find_map(|line| line.strip_prefix("vaultref_cache_failures "));
    let failures: u64 = failures.unwrap_or_default().parse()?;
    ensure!(failures <= 2000, "{failures}");
    ensure!(most[5] <= most[1] + 32, "it grew: {most:?} MiB");
    ensure!(daemon.process()?.ended()?.is_none());
    daemon.stop()
}
