//! A configuration that changes while the daemon runs, a flush, and readiness: the real daemon.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use vaultref_scenarios::client::{Address, Connection, Request};
use vaultref_scenarios::daemon::Daemon;
use vaultref_scenarios::openbao::{KV2_MOUNT, OpenBao, ROOT_TOKEN};
use vaultref_scenarios::{paths, ports, wait};

const TOKEN: &str = "{vault://files/token}";

fn put(folder: &Path, name: &str, text: &str) -> Result<()> {
    let new = folder.join("new");
    fs::write(&new, text)?;
    Ok(fs::rename(&new, folder.join(name))?)
}

/// What the daemon says: the text, the kind of failure, or the kind of refusal.
fn outcome(daemon: &Daemon, reference: &str) -> Result<String> {
    let answer: Value = serde_json::from_str(&daemon.resolve(&[reference])?.text())?;
    let found = [
        "/results/0/secret/value/text",
        "/results/0/failure/kind",
        "/refusal/kind",
    ]
    .into_iter()
    .find_map(|pointer| answer.pointer(pointer)?.as_str());
    Ok(found.with_context(|| answer.to_string())?.to_owned())
}

fn becomes(daemon: &Daemon, reference: &str, expected: &str) -> Result<()> {
    wait::until_true(expected, wait::SOON, || {
        outcome(daemon, reference).is_ok_and(|outcome| outcome == expected)
    })
    .with_context(|| format!("{:?}\n{}", outcome(daemon, reference), log(daemon)))
}

fn log(daemon: &Daemon) -> String {
    daemon
        .process()
        .map(|process| process.log())
        .unwrap_or_default()
}

fn says(daemon: &Daemon, line: &str) -> Result<()> {
    daemon.process()?.wait_for_line(line, wait::SOON).map(drop)
}

fn vault(folder: &Path) -> Value {
    json!({ "name": "fs", "prefix": "files", "config": { "prefix": folder, "ttl": 3600 } })
}

#[test]
fn a_changed_configuration_is_taken_over_and_a_bad_one_changes_nothing() -> Result<()> {
    let (one, two) = (tempfile::tempdir()?, tempfile::tempdir()?);
    put(one.path(), "token", "first")?;
    put(two.path(), "token", "second")?;
    let mut daemon = Daemon::with_vaults(&json!([vault(one.path())]))?.started()?;
    let socket = daemon.socket();
    let listen = json!([{ "unix": socket }]);
    assert_eq!(outcome(&daemon, TOKEN)?, "first");
    // One connection lasts through all of it.
    let mut open = Connection::open(&socket.as_path().into())?;
    let mut over_open = || -> Result<u16> {
        let ask = json!({ "references": [TOKEN], "known": [], "wait_ms": 2000 });
        open.send(&Request::post("/v1/resolve", ask.to_string()).bytes())?;
        Ok(open.response()?.status)
    };
    assert_eq!(over_open()?, 200);

    // A vault that changes takes its entries with it, although they would be fresh for an hour.
    daemon.write_config(&json!({ "vaults": [vault(two.path())], "listen": listen }))?;
    becomes(&daemon, TOKEN, "second")?;

    // An error changes nothing and says so.
    daemon.write_config(&json!({ "vaults": [{ "name": "fs", "confg": {} }], "listen": listen }))?;
    says(&daemon, "the configuration before stays in force")?;
    assert!(log(&daemon).contains("confg"), "{}", log(&daemon));
    assert_eq!(outcome(&daemon, TOKEN)?, "second");

    // One that is removed makes its references fail clearly.
    daemon.write_config(&json!({ "vaults": [], "listen": listen }))?;
    becomes(&daemon, TOKEN, "unknown-vault")?;

    // A client that is no longer one is refused from the next call on.
    let uid = nix::unistd::getuid().as_raw();
    let client =
        |uid: u32| json!([{ "name": "edge", "peer": { "uid": uid }, "allow": ["files/*"] }]);
    let served = json!({ "vaults": [vault(two.path())], "listen": listen, "clients": client(uid) });
    daemon.write_config(&served)?;
    becomes(&daemon, TOKEN, "second")?;
    let refused =
        json!({ "vaults": [vault(two.path())], "listen": listen, "clients": client(uid + 1) });
    assert_eq!(over_open()?, 200, "it is served while its client is one");
    daemon.write_config(&refused)?;
    becomes(&daemon, TOKEN, "unauthorized")?;
    assert_eq!(over_open()?, 401, "also on the connection that was open");

    // A listener comes; the other one stays.
    let port = ports::free()?;
    daemon.write_config(&json!({
        "vaults": [vault(two.path())],
        "listen": [{ "unix": socket }, format!("tcp://{port}")],
    }))?;
    wait::until_true("the new listener", wait::SOON, || {
        Address::from(port).accepts()
    })?;
    becomes(&daemon, TOKEN, "second")?;
    assert!(!log(&daemon).contains("second"));
    daemon.stop()
}

#[test]
fn a_hangup_reads_the_file_although_it_is_the_same() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut daemon = Daemon::with_vaults(&json!([vault(folder.path())]))?.started()?;
    daemon.process()?.signal(nix::sys::signal::Signal::SIGHUP)?;
    says(&daemon, "the configuration was taken over")?;
    daemon.stop()
}

/// A server with a certificate of the one CA, a vault that knows the other, until its file is changed.
#[test]
fn a_file_that_a_field_names_is_taken_up_on_a_hangup() -> Result<()> {
    let (right, wrong) = (OpenBao::start_tls()?, OpenBao::start_tls()?);
    right.put(KV2_MOUNT, "app", &json!({ "token": "ours" }))?;
    let ca = tempfile::NamedTempFile::new()?;
    fs::copy(wrong.ca_file(), ca.path())?;
    let mut config = right.vault_config(KV2_MOUNT, "v2", ROOT_TOKEN);
    config["protocol"] = json!("https");
    config["port"] = json!(right.tls_address()?.port());
    config["ca_cert"] = json!(ca.path());
    config["neg_ttl"] = json!(1);
    let vaults = json!([{ "name": "hcv", "prefix": "safe", "config": config }]);
    let mut daemon = Daemon::with_vaults(&vaults)?
        .env("SECRET", "of another")
        .started()?;
    let other = "{vault://env/secret}";
    let reference = "{vault://safe/app/token}";
    assert_eq!(outcome(&daemon, reference)?, "unavailable");
    assert_eq!(outcome(&daemon, other)?, "of another");
    let reads = |daemon: &Daemon| -> Result<bool> {
        let metrics = daemon.send(&Request::get("/metrics"))?.text();
        Ok(metrics.contains("vaultref_reads_total{vault=\"env\",outcome=\"ok\"} 1\n"))
    };
    fs::copy(right.ca_file(), ca.path())?;
    daemon.process()?.signal(nix::sys::signal::Signal::SIGHUP)?;
    becomes(&daemon, reference, "ours")?;
    // The other vault says the same, and so it keeps what it has.
    assert_eq!(outcome(&daemon, other)?, "of another");
    assert!(reads(&daemon)?);
    daemon.stop()
}

/// As Kubernetes changes a volume: the file is a link through `..data`, which is put in place anew.
#[test]
fn a_volume_of_kubernetes_is_taken_over_when_its_link_is_swapped() -> Result<()> {
    let home = tempfile::tempdir()?;
    let (one, two) = (tempfile::tempdir()?, tempfile::tempdir()?);
    put(one.path(), "token", "first")?;
    put(two.path(), "token", "second")?;
    let mut daemon = Daemon::with_vaults(&json!([]))?;
    let configured =
        |folder| json!({ "vaults": [vault(folder)], "listen": [{ "unix": daemon.socket() }] });
    let (first, second) = (configured(one.path()), configured(two.path()));
    swap(home.path(), "..2026_01_01", &first)?;
    symlink("..data/vaultref.yaml", home.path().join("vaultref.yaml"))?;
    daemon = daemon
        .with_config_file(home.path().join("vaultref.yaml"))
        .started()?;
    assert_eq!(outcome(&daemon, TOKEN)?, "first");
    swap(home.path(), "..2026_01_02", &second)?;
    becomes(&daemon, TOKEN, "second")?;
    daemon.stop()
}

fn swap(volume: &Path, version: &str, config: &Value) -> Result<()> {
    fs::create_dir(volume.join(version))?;
    fs::write(
        volume.join(version).join("vaultref.yaml"),
        config.to_string(),
    )?;
    symlink(version, volume.join("..new"))?;
    Ok(fs::rename(volume.join("..new"), volume.join("..data"))?)
}

#[test]
fn a_flush_has_values_read_anew() -> Result<()> {
    let mut daemon = Daemon::with_vaults(&json!([]))?
        .env("SECRET", "ours")
        .started()?;
    assert_eq!(outcome(&daemon, "{vault://env/secret}")?, "ours");
    assert_eq!(outcome(&daemon, "{vault://env/none}")?, "not-found");
    let flush = |arguments: &[&str]| -> Result<(Option<i32>, String)> {
        let output = Command::new(paths::vaultref()?)
            .args(["flush", "--config"])
            .arg(daemon.config_file())
            .args(arguments)
            .output()?;
        let text = [output.stdout, output.stderr].concat();
        Ok((
            output.status.code(),
            String::from_utf8_lossy(&text).into_owned(),
        ))
    };
    assert_eq!(flush(&["--all"])?, (Some(0), "2 objects\n".to_owned()));
    assert_eq!(flush(&["env/secret"])?.1, "1 objects\n");
    assert_eq!(flush(&["--vault", "env"])?.1, "2 objects\n");
    assert_eq!(flush(&["--vault", "nowhere"])?.0, Some(2));
    assert_eq!(flush(&[])?.0, Some(2));
    assert_eq!(flush(&["--socket", "/nonexistent", "--all"])?.0, Some(5));
    daemon.stop()
}

#[test]
fn it_is_ready_when_what_is_to_be_prefetched_is_there() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let files = json!({ "name": "fs", "prefix": "files", "config": { "prefix": folder.path(), "neg_ttl": 1 } });
    let mut daemon = Daemon::configured(
        |socket| json!({ "vaults": [files], "listen": [{ "unix": socket }], "prefetch": [TOKEN] }),
    )?
    .started()?;
    let status = |path: &str| {
        daemon
            .send(&Request::get(path))
            .map(|response| response.status)
    };
    assert_eq!(status("/healthz")?, 200);
    assert_eq!(status("/readyz")?, 503);
    put(folder.path(), "token", "ours")?;
    wait::until_true("readiness", wait::SOON, || {
        status("/readyz").is_ok_and(|status| status == 200)
    })?;
    assert_eq!(outcome(&daemon, TOKEN)?, "ours");
    daemon.stop()
}

#[test]
fn metrics_name_vaults_and_objects_and_no_value() -> Result<()> {
    let folder = tempfile::tempdir()?;
    put(folder.path(), "token", "hunter2")?;
    let port = ports::free()?;
    let mut daemon = Daemon::configured(|socket| {
        json!({
            "vaults": [vault(folder.path())],
            "listen": [{ "unix": socket }, format!("tcp://{port}")],
            "clients": [
                { "name": "edge", "tokens": ["edge-token"], "allow": ["files/*"] },
                { "name": "prometheus", "tokens": ["scrape-token"], "metrics": true },
            ],
        })
    })?
    .started()?;
    let bearer = |path: &str, token: &str| {
        let token = format!("Bearer {token}");
        Request::get(path)
            .header("authorization", &token)
            .send(port)
    };
    let ask =
        json!({ "references": [TOKEN, "{vault://files/none}"], "known": [], "wait_ms": 2000 });
    let asked = Request::post("/v1/resolve", ask.to_string())
        .header("authorization", "Bearer edge-token")
        .send(port)?;
    assert_eq!(asked.status, 200);
    assert_eq!(bearer("/metrics", "edge-token")?.status, 403);
    assert_eq!(Request::get("/metrics").send(port)?.status, 401);
    let ours = daemon.send(&Request::get("/metrics"))?.text();
    let scraped = bearer("/metrics", "scrape-token")?.text();
    for text in [&ours, &scraped] {
        for line in [
            "vaultref_reads_total{vault=\"files\",outcome=\"ok\"} 1",
            "vaultref_reads_total{vault=\"files\",outcome=\"not-found\"} 1",
            "vaultref_answers_total{vault=\"files\",outcome=\"fresh\"} 1",
            "vaultref_read_duration_seconds_count{vault=\"files\",outcome=\"ok\"} 1",
            "vaultref_cache_objects 2",
            "vaultref_cache_failures 1",
            "vaultref_circuit_open{vault=\"files\"} 0",
            "vaultref_object_stale_seconds{vault=\"files\",object=\"token\",version=\"\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(!text.contains("hunter2"));
    }
    daemon.stop()
}
