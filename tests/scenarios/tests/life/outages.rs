//! A vault that is there and gives nothing: a front before a real OpenBao fails as it is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use vaultref_scenarios::front::{Front, pass_on};
use vaultref_scenarios::openbao::{KV2_MOUNT, OpenBao};
use vaultref_scenarios::upstream::{Received, Reply};

use crate::bed::{Bed, Lost, put};

/// What becomes of a read in place of the real answer.
type Fault = Arc<dyn Fn(&Received) -> Reply + Send + Sync>;

/// OpenBao behind a front.
pub(crate) struct Fronted {
    pub(crate) bao: OpenBao,
    _front: Front,
    fault: Arc<Mutex<Option<Fault>>>,
    pub(crate) bed: Bed,
}

impl Fronted {
    pub(crate) fn new() -> Result<Self> {
        let bao = OpenBao::start()?;
        put(&bao, 0)?;
        let reader = bao.create_reader("edge", &["secret/data"])?;
        let fault: Arc<Mutex<Option<Fault>>> = Arc::default();
        let told = Arc::clone(&fault);
        let front = Front::interfering(bao.address(), move |received| {
            let fault = told.lock().ok()?.clone()?;
            received.path.contains("/data/").then(|| fault(received))
        })?;
        let mut config = bao.vault_config(KV2_MOUNT, "v2", &reader);
        config["port"] = json!(front.address().port());
        let bed = Bed::start(config, |plan| plan)?;
        Ok(Self {
            bao,
            _front: front,
            fault,
            bed,
        })
    }

    pub(crate) fn set(&self, fault: Option<Fault>) {
        *self.fault.lock().expect("whole") = fault;
    }
}

#[test]
fn an_outage_of_any_kind_loses_no_request_while_a_usable_value_is_there() -> Result<()> {
    let mut fronted = Fronted::new()?;
    let real = fronted.bao.address();
    let faults: Vec<(&str, Fault)> = vec![
        (
            "500",
            Arc::new(|_| Reply::status(500).body("{\"errors\":[]}")),
        ),
        (
            "429 with `retry-after`",
            Arc::new(|_| Reply::status(429).header("retry-after", "1")),
        ),
        (
            "an answer that is no JSON",
            Arc::new(|_| Reply::status(200).body("<html>")),
        ),
        (
            "half an answer",
            Arc::new(move |received| pass_on(received, real).cut_short()),
        ),
        ("the connection is closed", Arc::new(|_| Reply::raw(""))),
        (
            "it hangs",
            Arc::new(|_| Reply::status(200).after(Duration::from_secs(3600))),
        ),
    ];
    for (what, fault) in faults {
        let mut lost = Lost::default();
        let before = fronted.bed.put(&fronted.bao)?;
        let load = fronted.bed.load()?;
        fronted.bed.until_sent(before)?;
        let failures = fronted.bed.failures();
        fronted.set(Some(fault));
        fronted.bed.put(&fronted.bao)?;
        fronted.bed.only_stale(before, failures)?;
        let says = fronted.bed.says();
        ensure!(
            says.contains("stays in use") && says.contains("unavailable"),
            "{what}: {says}"
        );
        fronted.bed.over();
        fronted.set(None);
        let fresh = fronted.bed.until_fresh()?;
        lost.none_of(load, what, &fronted.bed)?;
        lost.show(what, "the old value", &says, Some(fresh));
    }
    fronted.bed.only_values()
}

#[test]
fn a_slow_answer_is_late_and_costs_no_request() -> Result<()> {
    let mut fronted = Fronted::new()?;
    let real = fronted.bao.address();
    let mut lost = Lost::default();
    let load = fronted.bed.load()?;
    fronted.bed.until_sent(0)?;
    fronted.set(Some(Arc::new(move |received| {
        pass_on(received, real).after(Duration::from_millis(1500))
    })));
    fronted.bed.over();
    fronted.bed.put(&fronted.bao)?;
    let fresh = fronted.bed.until_fresh()?;
    lost.none_of(load, "slow", &fronted.bed)?;
    lost.show(
        "each answer takes 1.5 s",
        "the old value, then the new",
        &fronted.bed.says(),
        Some(fresh),
    );
    fronted.bed.only_values()
}

/// A real seal, which takes the vault's memory of tokens along until it is opened again.
#[test]
fn a_vault_that_is_sealed_is_bridged_until_it_is_opened() -> Result<()> {
    let bao = OpenBao::start()?;
    put(&bao, 0)?;
    let reader = bao.create_reader("edge", &["secret/data"])?;
    let mut bed = Bed::start(bao.vault_config(KV2_MOUNT, "v2", &reader), |plan| plan)?;
    let mut lost = Lost::default();
    let load = bed.load()?;
    bed.until_sent(0)?;
    bao.seal()?;
    bed.only_stale(0, 0)?;
    let says = bed.says();
    bao.unseal()?;
    bed.over();
    bed.put(&bao)?;
    let fresh = bed.until_fresh()?;
    lost.none_of(load, "sealed", &bed)?;
    lost.show("sealed (OpenBao)", "the old value", &says, Some(fresh));
    bed.only_values()
}
