//! How long a change takes to every worker of an Envoy under load: a new value in OpenBao, a changed
//! file, a flush, a read ahead of its time.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vaultref_scenarios::client::Request;
use vaultref_scenarios::front::Front;
use vaultref_scenarios::load::{Load, Running};
use vaultref_scenarios::openbao::{KV2_MOUNT, OpenBao};
use vaultref_scenarios::rotation::Rotation;
use vaultref_scenarios::world::{Kind, Plan, World};

/// What is asked is asked of a quiet machine; a test has neighbours, who may stop everything for a while.
/// So one of a few may be late.
const TRIES: usize = 5;

/// A rule with two values of one object, which belong together.
fn pair(vault: &str) -> Value {
    let of = |key: &str| format!("{{vault://{vault}/{key}}}");
    json!({ "request": { "set": { "headers": { "x-user": of("user"), "x-password": of("password") } } } })
}

fn object(number: usize) -> Value {
    json!({ "user": format!("user-{number}"), "password": format!("password-{number}") })
}

fn sent(number: usize) -> String {
    format!("user-{number},password-{number}")
}

struct Bed {
    world: World,
    load: Running,
}

impl Bed {
    fn start(plan: Plan) -> Result<Self> {
        let plan = plan.tallying("x-user").tallying("x-password");
        let mut world = plan.quiet().start()?;
        world.until_every_vm_has_answers()?;
        let (envoy, _) = world.envoy().context("a real Envoy")?;
        let load = Load::on(envoy.address(), "/").connections(8);
        let load = load.duration(Duration::from_secs(120)).start()?;
        Ok(Self { world, load })
    }

    fn of_bao(bao: &OpenBao, terms: &Value) -> Result<Self> {
        bao.put(KV2_MOUNT, "login", &object(0))?;
        let reader = bao.create_reader("edge", &["secret/data"])?;
        let mut config = bao.vault_config(KV2_MOUNT, "v2", &reader);
        for (name, value) in terms.as_object().context("terms")? {
            config[name] = value.clone();
        }
        let vault = json!({ "name": "hcv", "prefix": "payments", "config": config });
        Self::start(Plan::new(Kind::Envoy, pair("payments/login")).vault(vault))
    }

    /// Changes the pair so many times.
    fn rotate(&self, write: impl Fn(usize) -> Result<()>) -> Result<Vec<Rotation>> {
        let (_, upstream) = self.world.envoy().context("a real Envoy")?;
        let rotations = (1..=TRIES).map(|number| {
            let values = (&*sent(number - 1), &*sent(number));
            Rotation::measure(upstream, values, || write(number))
        });
        rotations.collect()
    }

    /// Ends the load: no request was lost, and none had the user of one time and the password of another.
    fn end(self) -> Result<()> {
        let (envoy, _) = self.world.envoy().context("a real Envoy")?;
        for worker in 0..2 {
            let connections = envoy.stats(&format!("worker_{worker}.downstream_cx_active"))?;
            ensure!(
                connections.values().sum::<u64>() > 0,
                "{worker}: {connections:?}"
            );
        }
        let report = self.load.stop()?;
        ensure!(report.is_clean(), "{report:?}\n{}", self.world.log());
        let (_, upstream) = self.world.envoy().context("a real Envoy")?;
        for value in upstream.tally().keys() {
            ensure!(
                (0..=TRIES).any(|number| *value == sent(number)),
                "the upstream got {value:?}"
            );
        }
        Ok(())
    }
}

/// All but one are over in time; prints them.
#[expect(
    clippy::print_stdout,
    reason = "it tells what it saw, with --nocapture"
)]
fn all_within(what: &str, bound: Duration, rotations: &[Rotation]) -> Result<()> {
    let seconds = |time: fn(&Rotation) -> Duration| {
        let mut times: Vec<f64> = rotations.iter().map(|of| time(of).as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        times
    };
    let (first, last) = (seconds(|of| of.first_new), seconds(|of| of.last_old));
    println!("{what}: first new {first:.2?} s, last old {last:.2?} s");
    let late = last
        .iter()
        .filter(|time| **time > bound.as_secs_f64())
        .count();
    ensure!(late <= 1, "{what}: more than {bound:?}: {last:?}");
    Ok(())
}

#[test]
fn a_new_value_in_openbao_is_with_every_worker_a_second_after_its_ttl() -> Result<()> {
    let bao = OpenBao::start()?;
    let bed = Bed::of_bao(&bao, &json!({ "ttl": 2 }))?;
    let rotations = bed.rotate(|number| bao.put(KV2_MOUNT, "login", &object(number)).map(drop))?;
    all_within("OpenBao, ttl 2 s", Duration::from_secs(3), &rotations)?;
    bed.end()
}

#[test]
fn a_changed_file_is_with_every_worker_in_a_second_and_a_half() -> Result<()> {
    let plan = Plan::new(Kind::Envoy, pair("files/login"))
        .terms(json!({ "ttl": 3600 }))
        .file("login", object(0).to_string());
    let bed = Bed::start(plan)?;
    let rotations =
        bed.rotate(|number| bed.world.write_secret("login", object(number).to_string()))?;
    all_within("a file, ttl 1 h", Duration::from_millis(1500), &rotations)?;
    bed.end()
}

#[test]
fn what_is_flushed_is_with_every_worker_within_a_second() -> Result<()> {
    let bao = OpenBao::start()?;
    let bed = Bed::of_bao(&bao, &json!({ "ttl": 3600 }))?;
    let rotations = bed.rotate(|number| {
        bao.put(KV2_MOUNT, "login", &object(number))?;
        let answer = Request::post("/v1/flush", "").send(bed.world.daemon_socket().as_path())?;
        ensure!(answer.status == 200, "{}", answer.dump());
        Ok(())
    })?;
    all_within("a flush, ttl 1 h", Duration::from_secs(1), &rotations)?;
    bed.end()
}

/// The read itself is seen at a front: the time counts from there.
#[test]
fn what_the_daemon_has_read_ahead_of_time_is_with_every_worker_within_a_second() -> Result<()> {
    let bao = OpenBao::start()?;
    bao.put(KV2_MOUNT, "login", &object(0))?;
    let front = Front::of(bao.address())?;
    let reader = bao.create_reader("edge", &["secret/data"])?;
    let mut config = bao.vault_config(KV2_MOUNT, "v2", &reader);
    config["port"] = json!(front.address().port());
    config["ttl"] = json!(6);
    let vault = json!({ "name": "hcv", "prefix": "payments", "config": config });
    let bed = Bed::start(Plan::new(Kind::Envoy, pair("payments/login")).vault(vault))?;
    let (_, upstream) = bed.world.envoy().context("a real Envoy")?;
    let mut rotations = Vec::new();
    for number in 1..=2 {
        let reads = front.count("/v1/secret/data/login");
        bao.put(KV2_MOUNT, "login", &object(number))?;
        front.wait_for("/v1/secret/data/login", reads + 1)?;
        let values = (&*sent(number - 1), &*sent(number));
        let rotation = Rotation::measure(upstream, values, || Ok(()))?;
        rotations.push(rotation);
    }
    all_within("a read ahead of time", Duration::from_secs(1), &rotations)?;
    bed.end()
}
