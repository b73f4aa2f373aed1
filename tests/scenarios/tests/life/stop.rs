//! A daemon that is asked to end: what is open is answered, nobody else is let in, no socket stays.

use std::thread;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::json;
use vaultref_scenarios::client::{Address, Connection, Request};
use vaultref_scenarios::daemon::Daemon;
use vaultref_scenarios::front::{Front, pass_on};
use vaultref_scenarios::gate::Gate;
use vaultref_scenarios::openbao::{KV2_MOUNT, OpenBao, ROOT_TOKEN};
use vaultref_scenarios::{ports, wait};

use crate::bed::put;

#[test]
fn a_request_that_waits_for_a_slow_read_is_answered_and_newcomers_are_refused() -> Result<()> {
    let bao = OpenBao::start()?;
    put(&bao, 0)?;
    let gate = Gate::closed();
    let (door, real) = (gate.clone(), bao.address());
    let front = Front::interfering(real, move |received| {
        if received.path.contains("/data/") {
            door.pass();
        }
        Some(pass_on(received, real))
    })?;
    let mut config = bao.vault_config(KV2_MOUNT, "v2", ROOT_TOKEN);
    config["port"] = json!(front.address().port());
    let port = ports::free()?;
    let mut daemon = Daemon::configured(|socket| {
        json!({
            "vaults": [{ "name": "hcv", "prefix": "payments", "config": config }],
            "listen": [{ "unix": socket }, format!("tcp://{port}")],
        })
    })?
    .started()?;
    let socket = daemon.socket();
    let idle = Connection::open(&socket.as_path().into())?;
    let ask = json!({
        "references": ["{vault://payments/stripe/token}"], "known": [], "wait_ms": 20_000,
    });
    let ask = Request::post("/v1/resolve", ask.to_string());
    let asking = thread::spawn({
        let socket = socket.clone();
        move || ask.send(socket.as_path())
    });
    wait::until_true("a read that waits", wait::SOON, || gate.waiting() == 1)?;
    daemon.process()?.signal(Signal::SIGTERM)?;
    wait::until_true("the socket to go", wait::SOON, || !socket.exists())?;
    ensure!(
        !Address::from(port).accepts(),
        "nor is anybody let in there"
    );
    ensure!(
        daemon.process()?.ended()?.is_none() && !asking.is_finished(),
        "it waits for who is open"
    );
    gate.open();
    let answer = asking.join().expect("no panic")?;
    ensure!(
        answer.status == 200 && answer.text().contains("value-0"),
        "{}",
        answer.dump()
    );
    let status = daemon.process()?.wait_for_end(wait::SOON)?;
    ensure!(status.success(), "{status}");
    drop(idle);
    let left = std::fs::read_dir(daemon.dir()).context("its folder")?;
    let left: Vec<_> = left
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .collect();
    ensure!(left == ["vaultref.yaml"], "{left:?}");
    daemon.stop()
}

/// Who never finishes does not keep it from ending.
#[test]
fn an_end_has_a_bound() -> Result<()> {
    let mut daemon = Daemon::with_vaults(&json!([]))?.started()?;
    let mut slow = Connection::open(&daemon.socket().as_path().into())?;
    slow.send(b"POST /v1/resolve HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{")?;
    // It was seen once another is answered that came later.
    ensure!(daemon.send(&Request::get("/healthz"))?.status == 200);
    daemon.process()?.signal(Signal::SIGTERM)?;
    let status = daemon.process()?.wait_for_end(wait::SOON)?;
    ensure!(status.success(), "{status}");
    ensure!(!daemon.socket().exists());
    daemon.stop()
}
