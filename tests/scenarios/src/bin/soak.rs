//! `make soak`: a gateway under load for a long time while the secret changes again and again, and
//! the daemon is killed now and then. Memory and descriptors are to stay flat, and no request is to be
//! lost.
//!
//! It also measures a rotation: from the write to the first request with the new value, and to the
//! last one with the old, against the vault's ttl.
#![allow(clippy::print_stdout, reason = "a measurement prints")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::json;
use vaultref_scenarios::load::Load;
use vaultref_scenarios::openbao::{KV2_MOUNT, OpenBao};
use vaultref_scenarios::process::Held;
use vaultref_scenarios::rotation::Rotation;
use vaultref_scenarios::world::{Kind, Plan, World};

/// The ttl of the vault that is rotated.
const TTL: Duration = Duration::from_secs(2);

/// How much memory a process may gain after its first quarter, for each of: the allocator's caches,
/// and what it needs at its most.
const SLACK: u64 = 8 * 1024;

/// Puts a gateway under load and changes what it sends.
#[derive(Parser)]
struct Arguments {
    /// How long, in seconds.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// How many connections send requests.
    #[arg(long, default_value_t = 16)]
    connections: u32,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let bao = OpenBao::start()?;
    let reader = bao.create_reader("edge", &["secret/data"])?;
    let mut config = bao.vault_config(KV2_MOUNT, "v2", &reader);
    config["ttl"] = json!(TTL.as_secs());
    put(&bao, 0)?;
    let header = "Bearer {vault://payments/stripe/token}";
    let filter = json!({ "request": { "set": { "headers": { "authorization": header } } } });
    let mut world = Plan::new(Kind::Envoy, filter)
        .vault(json!({ "name": "hcv", "prefix": "payments", "config": config }))
        .tallying("authorization")
        .quiet()
        .start()?;
    world.until_every_vm_has_answers()?;
    println!(
        "Envoy with two workers, the daemon and OpenBao: {} s of load on {} connections\n",
        arguments.seconds, arguments.connections
    );
    let load = {
        let (envoy, _) = world.envoy().context("a real Envoy")?;
        Load::on(envoy.address(), "/")
            .connections(arguments.connections)
            .duration(Duration::from_secs(arguments.seconds))
            .start()?
    };
    let start = Instant::now();
    let mut started = start;
    let mut rotations = Vec::new();
    let mut samples = Vec::new();
    println!("    time   daemon KiB  fds   Envoy KiB  fds   rotation: first new, last old");
    while load.is_on()? && start.elapsed().as_secs() + 10 < arguments.seconds {
        let number = rotations.len() + 1;
        let rotation = rotate(&world, &bao, number)?;
        let sample = Sample::of(&world)?;
        println!(
            "{:>6} s   {}   {:>5.2} s, {:.2} s",
            start.elapsed().as_secs(),
            sample.row(),
            rotation.first_new.as_secs_f64(),
            rotation.last_old.as_secs_f64(),
        );
        samples.push(sample);
        rotations.push(rotation);
        // Killed, not stopped, a few times at first: what is in the filter's memory bridges that.
        if number % 10 == 0 && start.elapsed().as_secs() < arguments.seconds / 3 {
            world.daemon().kill();
            world.daemon().start()?;
            started = Instant::now();
            println!("             the daemon was killed and started");
            samples.clear();
        }
    }
    let report = load.finish()?;
    let slowest = rotations.iter().map(|rotation| rotation.last_old).max();
    let slowest = slowest.context("no rotation")?;
    println!(
        "\n{} requests, {:.0} a second, p99 {:?}; not answered well: {}, cut off: {}",
        report.requests, report.per_second, report.p99, report.bad_status, report.socket_errors
    );
    println!(
        "{} rotations; the last request with an old value at most {:.2} s after the write (ttl {} s)",
        rotations.len(),
        slowest.as_secs_f64(),
        TTL.as_secs()
    );
    let cpu = world.daemon_process()?.cpu_time()?.as_secs_f64();
    let since = started.elapsed().as_secs_f64();
    println!(
        "CPU of the daemon since it was started last: {:.1} ms a second",
        1000.0 * cpu / since
    );
    warnings(&world.log());
    ensure!(
        report.is_clean(),
        "requests were lost: {report:?}\n{}",
        world.log()
    );
    flat(&samples)?;
    println!("memory and descriptors are flat");
    Ok(())
}

/// What the daemon had to complain about: why a rotation took longer than others, say.
fn warnings(log: &str) {
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ")).collect();
    println!("warnings of the daemon: {}", lines.len());
    lines
        .iter()
        .take(20)
        .for_each(|line| println!("    {line}"));
}

fn put(bao: &OpenBao, number: usize) -> Result<()> {
    let value = json!({ "token": format!("value-{number}") });
    bao.put(KV2_MOUNT, "stripe", &value).map(drop)
}

fn rotate(world: &World, bao: &OpenBao, number: usize) -> Result<Rotation> {
    let (_, upstream) = world.envoy().context("a real Envoy")?;
    let value = |number: usize| format!("Bearer value-{number}");
    let values = (&*value(number - 1), &*value(number));
    Rotation::measure(upstream, values, || put(bao, number))
}

/// What the processes hold at one moment.
#[derive(Clone, Copy)]
struct Sample {
    daemon: Held,
    envoy: Held,
}

impl Sample {
    fn of(world: &World) -> Result<Self> {
        let (envoy, _) = world.envoy().context("a real Envoy")?;
        Ok(Self {
            daemon: world.daemon_process()?.held()?,
            envoy: envoy.process().held()?,
        })
    }

    fn row(&self) -> String {
        let Self { daemon, envoy } = self;
        format!(
            "{:>10} {:>4}  {:>10} {:>4}",
            daemon.memory, daemon.descriptors, envoy.memory, envoy.descriptors
        )
    }
}

type Measure = fn(&Sample) -> u64;

/// Compares the last quarter with the second one: by then all that is needed was needed once.
fn flat(samples: &[Sample]) -> Result<()> {
    let quarter = samples.len() / 4;
    if quarter == 0 {
        return Ok(());
    }
    let early = &samples[quarter..quarter * 2];
    let late = &samples[samples.len() - quarter..];
    let most = |samples: &[Sample], of: Measure| samples.iter().map(of).max();
    let checks: [(&str, Measure, u64); 4] = [
        ("the daemon's memory", |sample| sample.daemon.memory, SLACK),
        ("Envoy's memory", |sample| sample.envoy.memory, SLACK),
        (
            "the daemon's descriptors",
            |sample| sample.daemon.descriptors,
            4,
        ),
        ("Envoy's descriptors", |sample| sample.envoy.descriptors, 4),
    ];
    for (what, of, slack) in checks {
        let (before, after) = (most(early, of), most(late, of));
        ensure!(
            after <= before.map(|before| before + slack),
            "{what} grew: {before:?}, {after:?}"
        );
    }
    Ok(())
}
