//! Values are wiped when they go: a look into the daemon's memory.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vaultref_scenarios::client::Request;
use vaultref_scenarios::daemon::Daemon;
use vaultref_scenarios::wait;

const TOKEN: &str = "{vault://files/token}";

fn put(folder: &Path, name: &str, text: &str) -> Result<()> {
    let new = folder.join("new");
    fs::write(&new, text)?;
    Ok(fs::rename(&new, folder.join(name))?)
}

/// Nothing else in the daemon's memory is like it.
fn value(number: u32) -> String {
    format!("kQ7-{number}-nobody-else-says-this-9xZ")
}

fn asked(daemon: &Daemon, reference: &str) -> Result<String> {
    let answer: Value = serde_json::from_str(&daemon.resolve(&[reference])?.text())?;
    let result = &answer["results"][0];
    let text = result
        .pointer("/secret/value/text")
        .or(result.pointer("/failure/kind"));
    let text = text.and_then(Value::as_str);
    Ok(text.context("an outcome")?.to_owned())
}

fn becomes(daemon: &Daemon, expected: &str) -> Result<()> {
    wait::until_true(expected, wait::SOON, || {
        asked(daemon, TOKEN).is_ok_and(|got| got == expected)
    })
}

fn is_wiped(daemon: &Daemon, number: u32, why: &str) -> Result<()> {
    let copies = || daemon.process()?.copies_of(value(number).as_bytes());
    wait::until(
        &format!("no copy of a value that was {why}"),
        wait::SOON,
        || Ok((copies()? == 0).then_some(())),
    )
    .with_context(|| format!("{:?} copies", copies()))
}

#[test]
fn a_value_that_was_replaced_dropped_evicted_or_whose_vault_went_is_nowhere_in_memory() -> Result<()>
{
    let folder = tempfile::tempdir()?;
    put(folder.path(), "token", &value(0))?;
    let vault = |ttl: u32| {
        let config = json!({ "prefix": folder.path(), "ttl": ttl, "neg_ttl": 1 });
        json!({ "name": "fs", "prefix": "files", "config": config })
    };
    let mut daemon = Daemon::with_vaults(&json!([vault(3600)]))?.started()?;
    ensure!(asked(&daemon, TOKEN)? == value(0));
    ensure!(
        daemon.process()?.copies_of(value(0).as_bytes())? > 0,
        "else nothing is shown by this"
    );

    put(folder.path(), "token", &value(1))?;
    becomes(&daemon, &value(1))?;
    is_wiped(&daemon, 0, "replaced")?;

    fs::remove_file(folder.path().join("token"))?;
    becomes(&daemon, "not-found")?;
    is_wiped(&daemon, 1, "dropped")?;

    put(folder.path(), "token", &value(2))?;
    becomes(&daemon, &value(2))?;
    // More than the cache takes, of other objects.
    for number in 0..70 {
        put(
            folder.path(),
            &format!("large-{number}"),
            &"x".repeat(1_000_000),
        )?;
        let large = asked(&daemon, &format!("{{vault://files/large-{number}}}"))?;
        ensure!(large.len() == 1_000_000);
    }
    is_wiped(&daemon, 2, "evicted")?;

    put(folder.path(), "token", &value(3))?;
    becomes(&daemon, &value(3))?;
    let listen = json!([{ "unix": daemon.socket() }]);
    daemon.write_config(&json!({ "vaults": [], "listen": listen }))?;
    becomes(&daemon, "unknown-vault")?;
    is_wiped(&daemon, 3, "of a vault that went")?;
    ensure!(daemon.send(&Request::get("/healthz"))?.status == 200);
    daemon.stop()
}
