//! The stand-in, read by CyberArk's own client: what that takes for Conjur may stand for it.

use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use vaultref_scenarios::conjur::{ACCOUNT, Conjur, LOGIN};
use vaultref_scenarios::paths;

fn read(conjur: &Conjur, api_key: &str, ids: &[&str]) -> Result<Value> {
    let output = Command::new(paths::conjur_client()?)
        .arg(paths::root().join("tests/scenarios/clients/conjur.py"))
        .arg(format!("http://{}", conjur.address()))
        .args([ACCOUNT, LOGIN, api_key])
        .args(ids)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the client failed: {said}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn cyberarks_client_logs_in_and_reads() -> Result<()> {
    let conjur = Conjur::start()?;
    let ids = [
        "prod/db password",
        "research+development",
        "sales&marketing,a",
    ];
    for id in ids {
        conjur.put(id, b"one");
        conjur.put(id, id.as_bytes());
    }
    let told = read(&conjur, &conjur.api_key(), &ids[..2])?;
    assert_eq!(
        told,
        json!({
            "one": {
                "prod/db password": "cHJvZC9kYiBwYXNzd29yZA==",
                "research+development": "cmVzZWFyY2grZGV2ZWxvcG1lbnQ=",
            },
            "batch": {
                "prod/db password": "prod/db password",
                "research+development": "research+development",
            },
            "version_1": "b25l",
        })
    );
    assert_eq!(conjur.logins(), 1);
    // A comma is the end of an id there, for the client as for the server.
    let told = read(&conjur, &conjur.api_key(), &ids)?;
    assert_eq!(told["one"][ids[2]], json!("c2FsZXMmbWFya2V0aW5nLGE="));
    assert_eq!(told["batch"], json!(404));
    Ok(())
}

#[test]
fn cyberarks_client_is_refused_as_by_conjur() -> Result<()> {
    let conjur = Conjur::start()?;
    conjur.put("good", b"one");
    conjur.put("forbidden", b"one");
    conjur.forbid("forbidden");
    conjur.put("hidden", b"one");
    conjur.hide("hidden");
    conjur.declare("empty");
    let told = read(
        &conjur,
        &conjur.api_key(),
        &["good", "forbidden", "hidden", "empty", "none"],
    )?;
    let one = json!({ "good": "b25l", "forbidden": 403, "hidden": 404, "empty": 404, "none": 404 });
    assert_eq!(told["one"], one);
    assert_eq!(told["batch"], json!(403));
    let told = read(&conjur, "another key", &["good"])?;
    assert_eq!(
        told,
        json!({ "one": { "good": 401 }, "batch": 401, "version_1": 401 })
    );
    assert_eq!(conjur.logins(), 1);
    Ok(())
}
