//! The fixtures themselves, on the real servers: a scenario is worth no more than
//! what it stands on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vaultref_scenarios::client::{Address, Connection, Request};
use vaultref_scenarios::envoy::{Envoy, WasmFilter};
use vaultref_scenarios::load::Load;
use vaultref_scenarios::openbao::{KV2_MOUNT, OpenBao};
use vaultref_scenarios::process::Program;
use vaultref_scenarios::upstream::{Reply, Upstream};
use vaultref_scenarios::{paths, ports, wait};

#[test]
fn a_client_sends_what_it_is_told_and_the_upstream_sees_it() -> Result<()> {
    let upstream = Upstream::answering(|request| {
        Reply::status(if request.path == "/missing" { 404 } else { 200 })
            .header("x-echo", &request.method)
            .body("body")
    })?;
    let request = Request::post("/p?q=1", "abc")
        .header("X-Twice", "one")
        .header("x-twice", b"\xff\xfe");
    let response = request.send(upstream.address())?;
    assert_eq!(
        (response.status, response.header("x-echo"), response.text()),
        (200, Some("POST".into()), "body".into())
    );

    let received = upstream.last()?;
    assert_eq!(
        (
            received.method.as_str(),
            received.path.as_str(),
            received.body.as_slice()
        ),
        ("POST", "/p?q=1", b"abc".as_slice())
    );
    let twice: Vec<_> = received
        .headers
        .iter()
        .filter(|(name, _)| name == "x-twice")
        .map(|(_, value)| value.clone())
        .collect();
    assert_eq!(twice, [b"one".to_vec(), b"\xff\xfe".to_vec()]);
    assert_eq!(
        Request::get("/missing").send(upstream.address())?.status,
        404
    );

    // Piece by piece, and the answer still comes after the sending half is closed.
    let mut connection = Connection::open(&Address::Tcp(upstream.address()))?;
    let bytes = Request::post("/slow", "rest").bytes();
    let (first, second) = bytes.split_at(20);
    connection.send(first)?;
    connection.send(second)?;
    connection.half_close()?;
    assert_eq!(connection.response()?.status, 200);
    upstream.wait_for(3)
}

#[test]
fn an_upstream_may_cut_its_answer_short() -> Result<()> {
    let upstream =
        Upstream::answering(|_| Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"))?;
    let error = Request::get("/")
        .send(upstream.address())
        .map(drop)
        .err()
        .context("a short answer was taken for a whole one")?;
    ensure!(format!("{error:#}").contains("4 of 9"), "{error:#}");
    Ok(())
}

#[test]
fn envoy_sends_requests_on_through_a_wasm_filter() -> Result<()> {
    let upstream = Upstream::start()?;
    let envoy = Envoy::setup()
        .concurrency(2)
        .filter(
            WasmFilter::new(paths::guest("sdk-constant-header")?)
                .text("unused")
                .host_env("PATH"),
        )
        .upstream(upstream.address())
        .start()?;
    let request = Request::get("/")
        .header("authorization", "Bearer of-the-client")
        .header("authorization", "twice");
    assert_eq!(envoy.send(&request)?.status, 200);
    assert_eq!(
        upstream.last()?.header("authorization").as_deref(),
        Some("Bearer bench-value-0123456789abcdef")
    );
    assert_eq!(envoy.stat("http.ingress.downstream_rq_2xx")?, 1);
    Ok(())
}

#[test]
fn envoy_takes_and_refuses_filters_by_lds() -> Result<()> {
    let upstream = Upstream::start()?;
    let mut envoy = Envoy::setup()
        .over_lds()
        .upstream(upstream.address())
        .start()?;
    envoy.send(&Request::get("/"))?;
    assert_eq!(upstream.last()?.header("authorization"), None);

    let bare = WasmFilter::new(paths::guest("bare-constant-header")?)
        .structure(&json!({ "unused": true }));
    envoy.replace_filters(vec![bare.into()])?;
    wait::until("the header of the new filter", wait::SOON, || {
        envoy.send(&Request::get("/"))?;
        Ok(upstream.last()?.header("authorization"))
    })?;

    let missing = WasmFilter::new("/nonexistent.wasm");
    let error = envoy
        .replace_filters(vec![missing.into()])
        .err()
        .context("a filter without a file was taken")?;
    ensure!(format!("{error:#}").contains("refused"), "{error:#}");
    envoy.send(&Request::get("/"))?;
    assert_eq!(
        upstream.last()?.header("authorization").as_deref(),
        Some("Bearer bench-value-0123456789abcdef")
    );
    Ok(())
}

#[test]
fn envoy_says_what_is_wrong_with_a_configuration() -> Result<()> {
    Envoy::setup().validate()?;
    let wrong = || {
        Envoy::setup().filter(json!({ "name": "no.such.filter", "typed_config": { "@type": "type.googleapis.com/no.Such" } }))
    };
    for error in [wrong().validate().err(), wrong().start().map(drop).err()] {
        let error = format!("{:#}", error.context("a wrong configuration was taken")?);
        ensure!(error.contains("no.Such"), "{error}");
    }
    Ok(())
}

#[test]
fn load_is_counted_at_both_ends() -> Result<()> {
    let upstream = Upstream::tallying(&["x-load"])?;
    let envoy = Envoy::setup().upstream(upstream.address()).start()?;
    let before = envoy.process().cpu_time()?;
    let report = Load::on(envoy.address(), "/")
        .connections(4)
        .duration(Duration::from_secs(1))
        .header("x-load", "yes")
        .run()?;
    ensure!(report.is_clean(), "{report:?}");
    // wrk cuts its connections at the end, with one request each on the way.
    let counted = upstream.tally().get("yes").copied().unwrap_or(0);
    ensure!(
        (report.requests..=report.requests + 4).contains(&counted),
        "{counted} of {}",
        report.requests
    );
    ensure!(
        envoy.process().cpu_time()? > before,
        "no CPU time was counted"
    );
    Ok(())
}

#[test]
fn openbao_keeps_versions_namespaces_and_policies() -> Result<()> {
    let mut bao = OpenBao::start()?;
    assert_eq!(
        bao.put(KV2_MOUNT, "team/app", &json!({ "token": "one" }))?,
        1
    );
    assert_eq!(
        bao.put(KV2_MOUNT, "team/app", &json!({ "token": "two" }))?,
        2
    );
    assert_eq!(bao.get(KV2_MOUNT, "team/app")?, json!({ "token": "two" }));
    bao.delete(KV2_MOUNT, "team/app")?;
    let deleted = bao.call("GET", "secret/data/team/app", None)?;
    assert_eq!(
        (deleted.status, deleted.json()?["data"]["data"].clone()),
        (404, Value::Null)
    );
    bao.destroy(KV2_MOUNT, "team/app", 1)?;
    bao.purge(KV2_MOUNT, "team/app")?;

    bao.mount_kv("old", 1)?;
    bao.put_v1("old", "app", &json!({ "token": "v1" }))?;
    assert_eq!(bao.get_v1("old", "app")?, json!({ "token": "v1" }));
    bao.delete_v1("old", "app")?;

    bao.put(KV2_MOUNT, "team/app", &json!({ "token": "three" }))?;
    bao.put(KV2_MOUNT, "other/app", &json!({ "token": "other" }))?;
    let token = bao.create_reader("team", &["secret/data/team"])?;
    let read = |path: &str| -> Result<u16> {
        Ok(Request::get(format!("/v1/secret/data/{path}"))
            .header("x-vault-token", &token)
            .send(bao.address())?
            .status)
    };
    assert_eq!((read("team/app")?, read("other/app")?), (200, 403));
    bao.revoke_token(&token)?;
    assert_eq!(read("team/app")?, 403);

    bao.create_namespace("tenant")?;
    bao.use_namespace(Some("tenant"));
    bao.mount_kv("own", 2)?;
    bao.put("own", "app", &json!({ "token": "tenant" }))?;
    assert_eq!(bao.get("own", "app")?, json!({ "token": "tenant" }));
    bao.use_namespace(None);
    assert_eq!(bao.call("GET", "own/data/app", None)?.status, 404);
    Ok(())
}

#[test]
fn openbao_is_sealed_hangs_and_comes_back() -> Result<()> {
    let bao = OpenBao::start()?;
    bao.put(KV2_MOUNT, "app", &json!({ "token": "kept" }))?;
    bao.seal()?;
    assert_eq!(bao.call("GET", "secret/data/app", None)?.status, 503);
    bao.unseal()?;
    assert_eq!(bao.get(KV2_MOUNT, "app")?, json!({ "token": "kept" }));

    bao.process().freeze()?;
    let mut connection = Connection::open(&Address::Tcp(bao.address()))?;
    connection.send(&Request::get("/v1/sys/health").bytes())?;
    bao.process().thaw()?;
    assert_eq!(connection.response()?.status, 200);
    Ok(())
}

#[test]
fn openbao_speaks_tls_with_a_ca_of_its_own() -> Result<()> {
    let bao = OpenBao::start_tls()?;
    bao.put(KV2_MOUNT, "app", &json!({ "token": "over-tls" }))?;
    let read = |ca: &Path| {
        Command::new(paths::bao()?)
            .args(["kv", "get", "-field=token", "secret/app"])
            .env("BAO_ADDR", format!("https://{}", bao.tls_address()?))
            .env("BAO_CACERT", ca)
            .env("BAO_TOKEN", "root")
            .output()
            .context("bao kv get")
    };
    let output = read(&bao.ca_file())?;
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "over-tls",
        "{output:?}"
    );
    let stranger = tempfile::tempdir()?;
    fs::write(stranger.path().join("ca.pem"), "")?;
    ensure!(
        !read(&stranger.path().join("ca.pem"))?.status.success(),
        "a server without a known CA was trusted"
    );
    Ok(())
}

#[test]
fn a_process_that_ends_early_is_an_error_with_its_log() -> Result<()> {
    let process = Program::new("a failing server", "/bin/sh".into())
        .args(["-c", "echo the cause >&2; exit 3"])
        .spawn()?;
    let error = process
        .wait_for_line("ready", wait::START)
        .map(drop)
        .err()
        .context("it was taken for ready")?;
    let error = format!("{error:#}");
    ensure!(
        error.contains("the cause") && error.contains("exit status: 3"),
        "{error}"
    );
    Ok(())
}

/// The helper of the next test: starts a server and ends without dropping anything.
#[test]
fn starts_a_server_and_is_killed() -> Result<()> {
    let Ok(file) = std::env::var("VAULTREF_TEST_ORPHAN") else {
        return Ok(());
    };
    let process = Program::new("sleep", "/bin/sleep".into())
        .arg("600")
        .spawn()?;
    fs::write(&file, process.id().to_string())?;
    nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL)?;
    Ok(())
}

#[test]
fn a_server_dies_with_the_test_that_started_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("pid");
    let status = Command::new(std::env::current_exe()?)
        .args(["--exact", "starts_a_server_and_is_killed"])
        .env("VAULTREF_TEST_ORPHAN", &file)
        .output()?
        .status;
    ensure!(!status.success(), "the helper was not killed");
    let pid: u32 = fs::read_to_string(&file)?.parse()?;
    wait::until_true("the end of the orphan", wait::SOON, || {
        // Gone, or a zombie that nobody has reaped yet.
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    })
}

#[test]
fn a_server_outlives_the_thread_that_started_it() -> Result<()> {
    let start = || {
        Program::new("sleep", "/bin/sleep".into())
            .arg("600")
            .spawn()
    };
    let process = std::thread::spawn(start)
        .join()
        .map_err(|_| anyhow::anyhow!("the thread panicked"))??;
    // Its parent-death signal is for the death of the process; the thread is gone.
    assert_eq!(process.ended()?, None);
    process.signal(nix::sys::signal::Signal::SIGTERM)?;
    let status = process.wait_for_end(wait::SOON)?;
    ensure!(
        status.to_string().contains("15"),
        "ended by {status} and not by our signal"
    );
    Ok(())
}

#[test]
fn a_server_dies_when_it_is_dropped() -> Result<()> {
    let process = Program::new("sleep", "/bin/sleep".into())
        .arg("600")
        .spawn()?;
    let path = format!("/proc/{}", process.id());
    assert!(Path::new(&path).exists());
    drop(process);
    assert!(!Path::new(&path).exists());
    Ok(())
}

#[test]
fn a_taken_port_is_tried_again_elsewhere() -> Result<()> {
    let mut attempts = 0;
    let value = ports::retry_when_taken(|| {
        attempts += 1;
        ensure!(attempts > 2, "bind: Address already in use");
        Ok(attempts)
    })?;
    assert_eq!(value, 3);
    let error = ports::retry_when_taken::<()>(|| anyhow::bail!("another cause"));
    assert!(error.is_err());
    Ok(())
}
