//! A gateway that takes new configurations while it is under load.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use vaultref_scenarios::daemon::Daemon;
use vaultref_scenarios::envoy::{Envoy, WasmFilter};
use vaultref_scenarios::load::Load;
use vaultref_scenarios::upstream::Upstream;
use vaultref_scenarios::{paths, wait};

#[test]
fn envoy_takes_new_configurations_under_load_and_loses_no_request() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("token"), "ours")?;
    let files = json!({ "name": "fs", "prefix": "files", "config": { "prefix": folder.path() } });
    let daemon = Daemon::with_vaults(&json!([files]))?.started()?;
    let upstream = Upstream::tallying(&["authorization"])?;
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
    let load = load.duration(Duration::from_secs(60)).start()?;
    for number in 1..6 {
        envoy.replace_filters(vec![filter(number)?])?;
        let value = format!("Bearer {number} ours");
        wait::until_true(&value, wait::SOON, || upstream.tally().contains_key(&value))?;
    }
    let report = load.stop()?;
    ensure!(report.is_clean(), "{report:?}");
    println!(
        "| five configurations of Envoy over LDS | the value of the configuration in force | – | 0 of {} | – |",
        report.requests
    );
    let tally = upstream.tally();
    let known = |value: &String| (0..6).any(|number| *value == format!("Bearer {number} ours"));
    ensure!(tally.keys().all(known), "{tally:?}");
    Ok(())
}
