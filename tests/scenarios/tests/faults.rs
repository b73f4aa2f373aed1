//! Outages of a vault while a real Envoy is under load: what a request carries meanwhile, and that
//! none is lost while there is a value that may be used.
//!
//! The vault is a real OpenBao behind a front that fails as told; the value's ttl is one second, so
//! that each outage outlasts it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vaultref_scenarios::client::Request;
use vaultref_scenarios::daemon::Daemon;
use vaultref_scenarios::envoy::{Envoy, WasmFilter};
use vaultref_scenarios::front::{Front, pass_on};
use vaultref_scenarios::load::{Load, Report, Running};
use vaultref_scenarios::openbao::{KV2_MOUNT, OpenBao};
use vaultref_scenarios::upstream::{Received, Reply, Upstream};
use vaultref_scenarios::world::{Kind, Plan, World};
use vaultref_scenarios::{paths, wait};

/// What becomes of a read in place of the real answer.
type Fault = Arc<dyn Fn(&Received) -> Reply + Send + Sync>;

/// Envoy with two workers, the daemon, and OpenBao behind the front.
struct Bed {
    bao: OpenBao,
    _front: Front,
    fault: Arc<Mutex<Option<Fault>>>,
    world: World,
}

impl Bed {
    fn new() -> Result<Self> {
        let bao = OpenBao::start()?;
        bao.put(KV2_MOUNT, "stripe", &json!({ "token": "value-0" }))?;
        let reader = bao.create_reader("edge", &["secret/data"])?;
        let fault: Arc<Mutex<Option<Fault>>> = Arc::default();
        let told = Arc::clone(&fault);
        let front = Front::interfering(bao.address(), move |received| {
            let fault = told.lock().ok()?.clone()?;
            received.path.contains("/data/").then(|| fault(received))
        })?;
        let mut config = bao.vault_config(KV2_MOUNT, "v2", &reader);
        config["port"] = json!(front.address().port());
        config["ttl"] = json!(1);
        config["neg_ttl"] = json!(1);
        config["timeout"] = json!(2);
        let header = "Bearer {vault://payments/stripe/token}";
        let filter = json!({ "request": { "set": { "headers": { "authorization": header } } } });
        let mut world = Plan::new(Kind::Envoy, filter)
            .vault(json!({ "name": "hcv", "prefix": "payments", "config": config }))
            .tallying("authorization")
            .quiet()
            .start()?;
        world.until_every_vm_has_answers()?;
        Ok(Self {
            bao,
            _front: front,
            fault,
            world,
        })
    }

    fn parts(&self) -> Result<(&Envoy, &Upstream)> {
        self.world.envoy().context("a real Envoy")
    }

    fn set(&self, fault: Option<Fault>) {
        *self.fault.lock().expect("whole") = fault;
    }

    fn load(&self, seconds: u64) -> Result<Running> {
        let (envoy, _) = self.parts()?;
        let load = Load::on(envoy.address(), "/").connections(8);
        load.duration(Duration::from_secs(seconds)).start()
    }

    /// How many requests reached the upstream with this value.
    fn count(&self, number: usize) -> Result<u64> {
        let (_, upstream) = self.parts()?;
        let tally = upstream.tally();
        let value = format!("Bearer value-{number}");
        Ok(tally.get(&value).copied().unwrap_or(0))
    }

    fn put(&self, number: usize) -> Result<()> {
        let value = json!({ "token": format!("value-{number}") });
        self.bao.put(KV2_MOUNT, "stripe", &value).map(drop)
    }

    fn until_sent(&self, number: usize) -> Result<()> {
        let before = self.count(number)?;
        wait::until_true(
            &format!("value {number} at the upstream"),
            wait::SOON,
            || self.count(number).is_ok_and(|count| count > before + 100),
        )
    }

    /// Nothing but what may be sent has been sent.
    fn only_values(&self, numbers: usize) -> Result<()> {
        let (_, upstream) = self.parts()?;
        for value in upstream.tally().keys() {
            let known = (0..=numbers).any(|number| *value == format!("Bearer value-{number}"));
            ensure!(known, "the upstream got {value:?}");
        }
        Ok(())
    }
}

fn clean(load: Running, what: &str) -> Result<Report> {
    let report = load.finish()?;
    ensure!(report.is_clean(), "{what}: {report:?}");
    Ok(report)
}

#[test]
fn an_outage_of_any_kind_loses_no_request_while_a_usable_value_is_there() -> Result<()> {
    let bed = Bed::new()?;
    let real = bed.bao.address();
    let faults: Vec<(&str, Fault)> = vec![
        (
            "500",
            Arc::new(|_| Reply::status(500).body("{\"errors\":[]}")),
        ),
        (
            "sealed",
            Arc::new(|_| Reply::status(503).body("{\"errors\":[\"Vault is sealed\"]}")),
        ),
        (
            "429",
            Arc::new(|_| Reply::status(429).header("retry-after", "1")),
        ),
        ("no JSON", Arc::new(|_| Reply::status(200).body("<html>"))),
        (
            "a half answer",
            Arc::new(move |received| pass_on(received, real).cut_short()),
        ),
        ("closed", Arc::new(|_| Reply::raw(""))),
        (
            "hanging",
            Arc::new(|_| Reply::status(200).after(Duration::from_secs(3600))),
        ),
        (
            "slow",
            Arc::new(move |received| pass_on(received, real).after(Duration::from_millis(1500))),
        ),
    ];
    for (number, (what, fault)) in faults.into_iter().enumerate() {
        let slow = what == "slow";
        let load = bed.load(6)?;
        bed.until_sent(number)?;
        bed.set(Some(fault));
        bed.put(number + 1)?;
        if slow {
            // Late, but it comes.
            bed.until_sent(number + 1)?;
        } else {
            // The ttl is over long before the load is.
            clean(load, what)?;
            assert_eq!(bed.count(number + 1)?, 0, "{what}: it was not to be had");
            bed.set(None);
            let load = bed.load(8)?;
            bed.until_sent(number + 1)?;
            clean(load, &format!("after {what}"))?;
            continue;
        }
        bed.set(None);
        clean(load, what)?;
    }
    bed.only_values(8)
}

#[test]
fn what_is_forbidden_or_gone_ends_at_once_or_after_its_grace() -> Result<()> {
    let mut bed = Bed::new()?;
    let request = Request::get("/");
    for (code, errors) in [(403, "permission denied"), (404, "")] {
        let body = if errors.is_empty() {
            json!({ "errors": [] })
        } else {
            json!({ "errors": [errors] })
        };
        let body = body.to_string();
        bed.set(Some(Arc::new(move |_| Reply::status(code).body(&body))));
        bed.world
            .eventually("a refusal", &request, |seen| seen.has_status(503))?;
        bed.set(None);
        bed.world
            .eventually("service", &request, |seen| !seen.has_status(503))?;
    }
    bed.only_values(0)
}

#[test]
fn a_daemon_that_is_killed_and_started_under_load_loses_no_request() -> Result<()> {
    let mut bed = Bed::new()?;
    let load = bed.load(10)?;
    bed.until_sent(0)?;
    for number in 1..4 {
        bed.world.daemon().kill();
        bed.put(number)?;
        bed.until_sent(number - 1)?;
        bed.world.daemon().start()?;
        bed.until_sent(number)?;
    }
    clean(load, "the daemon was killed three times")?;
    bed.only_values(3)
}

#[test]
fn envoy_takes_new_configurations_under_load_and_loses_no_request() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("token"), "ours")?;
    let files = json!({ "name": "fs", "prefix": "files", "config": { "prefix": folder.path() } });
    let daemon = Daemon::with_vaults(&json!([files]))?.started()?;
    let upstream = Upstream::tallying("authorization")?;
    let filter = |number: usize| -> Result<Value> {
        let header = format!("Bearer {number} {{vault://files/token}}");
        let filter = json!({
            "resolver": { "upstream": "vaultref" },
            "request": { "set": { "headers": { "authorization": header } } },
        });
        let filter = WasmFilter::new(paths::module("vaultref-envoy.wasm")?).json(&filter);
        Ok(filter.failure_policy("FAIL_RELOAD").into())
    };
    let mut envoy = Envoy::setup()
        .concurrency(2)
        .over_lds()
        .filter(filter(0)?)
        .resolver(daemon.socket().as_path())
        .upstream(upstream.address())
        .start()?;
    let load = Load::on(envoy.address(), "/").connections(8);
    let load = load.duration(Duration::from_secs(10)).start()?;
    for number in 1..6 {
        envoy.replace_filters(vec![filter(number)?])?;
        let value = format!("Bearer {number} ours");
        wait::until_true(&value, wait::SOON, || upstream.tally().contains_key(&value))?;
    }
    clean(load, "five configurations")?;
    let tally = upstream.tally();
    let known = |value: &String| (0..6).any(|number| *value == format!("Bearer {number} ours"));
    ensure!(tally.keys().all(known), "{tally:?}");
    Ok(())
}
